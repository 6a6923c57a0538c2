//! Backends around backends: what they add costs the engines no branch.

mod capture;

pub use capture::{Capture, FrameTap};
