//! The engines and rings against a scripted driver: one file per story, every story for every ring
//! layout.

mod checksum;
mod coalesce;
mod ctrl;
mod differential;
mod dirty;
mod discard;
mod hostile;
mod in_order;
mod memory;
mod model;
mod packed;
mod pieces;
mod rig;
mod rings;
mod rx;
mod rx_direct;
mod rx_held;
mod rx_limits;
mod rx_segments;
mod rx_settle;
mod segments;
mod split;
mod tags;
mod tx;
mod tx_segments;
