//! tests

pub mod guest;
