//! The device between a scripted driver and a scripted network.
//!
//! ```text
//!   Rig   driver: Queue + kick --.                       .-- Network: inject, wait_sent, what the port was told
//!         Irq <------------------+--- NetDevice + threads +
//!         TestMemory ------------'                       '-- or a real tap, in a namespace (isolated)
//! ```
//!
//! Real worker threads run here, so a test waits for events: each wait ends when a [`Doorbell`]
//! rings and the condition holds, and its limit only turns a hang into a failure that says what did
//! not happen. The driver is a strict one: it kicks only when the device asks for it, and looks at
//! its rings only when it was interrupted.

mod clock;
mod doorbell;
mod driver;
mod ending;
mod event_loop;
mod frames;
mod host;
mod irq;
mod limit;
mod namespace;
mod plain;
mod port;
pub mod process;
mod queue;
mod saved_state;
mod socket;
mod toeplitz;

pub use clock::ManualClock;
pub use doorbell::{Doorbell, bounded, wait_readable};
pub use driver::{Held, RINGS, Rig, break_ring, pause, resume};
pub use event_loop::EventLoop;
pub use frames::{BROADCAST, GUEST_MAC, PEER_MAC, body, frame, frame_to, tagged};
pub use host::{Host, without_ipv6};
pub use irq::Irq;
pub use limit::{HOUR_MS, frame_limit};
pub use namespace::{OtherNamespace, alone, chain, ip, isolated, isolated_as_root, without_bpf};
pub use plain::plain_tap;
pub use port::{Network, all_caps, port};
pub use queue::{Interrupting, Queue};
pub use saved_state::{Fill, lists, overlong, reseal};
pub use socket::socket_port;
pub use toeplitz::toeplitz;
