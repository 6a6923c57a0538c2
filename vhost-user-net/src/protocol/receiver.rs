//! Messages received in a process of their own, which may hang instead of the daemon.
//!
//! A front-end may pass any descriptor, and whoever receives it has to close it. For a file of a
//! FUSE mount that is a request to the process that serves the mount (FLUSH), and whoever waits for
//! the answer cannot be killed; for a TCP socket it may be a wait until the peer has everything.
//! So a small process receives the messages of one front-end and passes on only what can be closed
//! without asking anybody. The daemon never has any other descriptor.
//!
//! ```text
//!   front-end ---- socket ----> receiver --- SOCK_SEQPACKET ---> daemon      messages, one at a time
//!       ^                                <-------- go ---------    |
//!       +-------------------------- replies -----------------------+
//! ```
//!
//! Receivers are children of a [`ReceiverParent`], which the daemon makes at its start: a process
//! without threads, guest memory or a device, whose children begin without a program to load.
//!
//! For each "go" the receiver takes one message, passes it on, closes what it has of it, and says
//! "ready". Only then does the daemon act on the message. So at most one message with descriptors
//! is under way, and a receiver that is not ready within [`READY_WITHIN`] ends the connection.
//!
//! | descriptor | passed on | why |
//! |---|---|---|
//! | file in tmpfs or hugetlbfs | as it is | the kernel alone closes it |
//! | eventfd, pipe | as it is | likewise |
//! | connected Unix stream socket | with its receiving side shut and emptied | what waits in it would be closed with it, and may be any descriptor |
//! | any other | as `/dev/null` | the session refuses that as it would have refused the other |

use std::time::Duration;

mod link;
mod packet;
mod parent;
mod process;
#[cfg(test)]
mod tests;

pub use self::link::Link;
pub use self::parent::{Receiver, ReceiverParent};

/// Time in which a receiver has to close what it does not pass on.
pub const READY_WITHIN: Duration = Duration::from_secs(1);
