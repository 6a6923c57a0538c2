//! The engines and rings against a scripted driver: one file per story, every story for every ring
//! layout.

mod ahead;
mod checksum;
mod coalesce;
mod ctrl;
mod deferred;
mod differential;
mod dirty;
mod discard;
mod gso;
mod hostile;
mod in_order;
#[cfg(debug_assertions)]
mod journal;
mod kicks;
mod legacy;
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
mod rx_segmentation;
mod rx_settle;
mod small_worlds;
mod split;
mod steering;
mod tags;
mod tunnel;
mod tx;
mod tx_segmentation;
