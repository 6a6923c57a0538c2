//! The network device as a vhost-user back-end: the protocol layers of the daemon.
pub mod connection;
pub mod log;
pub mod memory;
pub mod sys;
pub mod wire;
