//! The other side of every seam, scripted, for tests (feature `test-utils`).
//!
//! ```text
//!   GuestRing  a driver of either layout, over TestMemory   <-- engines -->   ScriptedBackend, steered by its Wire
//!                                                                             ScriptedLimit, NullBackend
//! ```
//!
//! A test is told as the driver's story: it adds chains, publishes, lets an engine run, polls what
//! was used. What a well-behaved device must never do (use a chain twice, or one that was never
//! posted) panics in here, so every test checks it. These tools panic on misuse; they are not for a
//! device.

mod backend;
mod command;
mod descriptor;
mod elements;
mod guest_ring;
mod holes;
mod large_frame;
mod limit;
mod memory;
mod null;
mod packed;
pub mod packets;
mod random;
mod split;
mod taken;
#[cfg(feature = "weak-memory")]
pub mod weak_memory;

#[cfg(debug_assertions)]
pub use crate::memory::kill_switch::{is_killed, kill_after, revive};
pub use backend::{Answer, ScriptedBackend, Wire};
pub use command::command_bytes;
pub use descriptor::{Interrupts, RawDesc};
pub use guest_ring::{At, GuestRing, Shape, Used};
pub use holes::{Hole, HoledMemory};
pub use large_frame::LargeFrame;
pub use limit::{LimitCall, ScriptedLimit};
pub use memory::{DirtyRanges, POISON, Piece, TestMemory};
pub use null::NullBackend;
pub use packed::PackedFields;
pub use random::Random;
pub use split::SplitFields;
pub use taken::TakenChain;

use crate::ring::Layout;

/// Every layout that there is a ring and a driver for.
pub const LAYOUTS: [Layout; 2] = [Layout::Split, Layout::Packed];
