//! Workers: what moves frames and executes commands, and where they run.
//!
//! ```text
//!   handle       a worker as its device holds it: parked here, or running in
//!   event_loop     - a VMM's event loop, or
//!   thread         - a thread of the device
//!   queue_pair, control_queue    the two kinds of workers
//!   turn         what a worker does, and says that it waits for
//!   idle         what it does before it waits
//!   epoll        waiting
//! ```

pub(crate) mod control_queue;
pub(crate) mod epoll;
pub(crate) mod event_loop;
pub(crate) mod handle;
pub(crate) mod idle;
mod patience;
pub(crate) mod queue_pair;
pub(crate) mod thread;
pub(crate) mod turn;
