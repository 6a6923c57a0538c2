//! The links that a device can be plugged into.

mod tap;

pub use tap::tap_port;
