//! Workers: what moves frames and executes commands, and the threads that they run in.

pub(crate) mod control_queue;
pub(crate) mod epoll;
mod patience;
pub(crate) mod queue_pair;
pub(crate) mod thread;
