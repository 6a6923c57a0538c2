//! Test bed for the device: scripted drivers and real guests, and the README as a test.

pub mod datagrams;
pub mod guest;
pub mod testbed;

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
