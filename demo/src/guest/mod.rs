//! An embedded guest: an independent driver and an independent TCP/IP stack, in this process.
//!
//! A device is proved by a driver that somebody else wrote. This guest is the `virtio-drivers`
//! crate under the `smoltcp` stack, run by one ordinary thread against any
//! [`VirtioDevice`](net_device::VirtioDevice), with no virtual machine around it:
//!
//! ```text
//!   Guest      smoltcp interface and sockets, and the loop: step, then rest
//!   Phy        smoltcp's receive and transmit tokens over the driver
//!   Driver     virtio-drivers' network driver; frames live in guest memory, none is copied
//!   Transport  status, features, queues and config space -> VirtioDevice; doorbells, interrupt
//!   Arena      guest physical memory, in pages, shared by every guest of the process
//! ```
//!
//! Frames travel down by move: a [`DmaBuf`](hal::DmaBuf) belongs to the stack, or to the driver, or
//! is lent to the device, and only in the first case can its bytes be reached.
//!
//! All unsafe code is in [`hal`]: the driver crate asks for raw pointers, and this is where they
//! are made and kept valid.

pub mod arena;
pub mod hal;
pub mod interrupt;
mod lines;
mod pages;
mod phy;
mod stack;
mod transport;
mod transport_error;

pub use arena::{Arena, ArenaError};
pub use hal::{Driver, DriverError, QUEUE_SIZE};
pub use interrupt::GuestInterrupt;
pub use stack::{Guest, GuestConfig, GuestError, Turn};
pub use transport::SharedDevice;
pub use transport_error::TransportError;

#[cfg(test)]
mod tests;
