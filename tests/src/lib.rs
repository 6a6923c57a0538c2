//! tests

pub mod guest;
pub mod rig;
