//! net-device
pub mod config;
pub mod features;
pub mod mac;
pub mod seccomp;
