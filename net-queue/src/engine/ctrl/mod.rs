//! The control queue: bytes a driver wrote, the command they mean, the answer it gets.
//!
//! Whatever the descriptors, a command is one string of bytes, copied once out of guest memory
//! (NET-CVQ-02, NET-CVQ-32); [`Command::parse`] turns it into a value that can no longer be
//! malformed. What a command does, and whether the driver negotiated it, is decided by its
//! executor. VirtIO 1.4 §5.1.9.5, checklist group F.

mod command;
mod engine;
mod notf_coal;
mod reply;
mod rss;
mod stats;

pub use command::{Command, CommandError, MAX_MACS, MAX_PAIRS, RxMode, VlanId};
pub use engine::{CommandHandler, CtrlEngine, MAX_COMMAND};
pub use notf_coal::NotificationCoalescing;
pub use reply::{Ack, Reply};
pub use rss::{HashConfig, RssConfig};
pub use stats::{StatsRequest, StatsRequests, StatsTypes};
