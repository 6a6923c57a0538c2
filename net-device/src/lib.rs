//! net-device
pub mod config;
pub mod features;
pub mod mac;
pub mod seccomp;
pub mod space;
pub mod filter;
