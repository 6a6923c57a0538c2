//! The engines and rings against a scripted driver: one file per story, every story for every ring layout.

mod rig;
mod rx;
mod rx_limits;
mod tx;
