//! The vhost-user protocol: one front-end's messages, and what follows from them.
//!
//! ```text
//!   front-end --- socket ---> receiver     [a process of its own, in the daemon]
//!                                  |
//!                             connection   whole messages, never a wait inside
//!                                  |
//!                                wire      bytes and descriptors -> one checked Request
//!                                  |
//!   memory_table, dirty_log <- session -> vring     the state of the conversation
//!                                  |
//!                              net_device   the device: rings, frames, workers
//!                                  |
//!   front-end <- eventfds -- interrupts
//! ```
//!
//! | module | knows |
//! |---|---|
//! | [`connection`] | one socket: messages in pieces, replies that wait |
//! | [`receiver`] | messages taken in by another process, and the descriptors that it closes |
//! | [`wire`] | the format: every request, every field checked |
//! | [`session`] | the features that a front-end has negotiated, and how the device follows |
//! | [`stall`] | rings that stand still for want of a notification |
//! | [`vring`] | one ring: its parameters, and whether it runs |
//! | `disabled_rings` | transmit rings that were disabled while they ran, and the kicks of their drivers |
//! | [`memory_table`] | the files that hold guest memory, and their addresses |
//! | [`dirty_log`] | the bitmap of written pages, for live migration |
//! | [`device_state`] | bytes of a saved device, through a pipe or a file |
//! | [`iotlb`] | where the driver's addresses lead, as the front-end tells |
//! | [`inflight`] | positions of rings in memory that outlives this process |
//! | [`interrupts`] | event descriptors from the device's workers to the front-end |

pub mod connection;
pub mod device_state;
pub mod dirty_log;
mod disabled_rings;
pub mod inflight;
pub mod interrupts;
pub mod iotlb;
pub mod memory_table;
mod message_reader;
pub mod receiver;
pub mod session;
pub mod stall;
pub mod vring;
pub mod wire;
