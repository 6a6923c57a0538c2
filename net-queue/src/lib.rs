//! The descriptor-chain RX/TX engine of a virtio-net queue pair. VirtIO 1.4 §2.6-2.8, §5.1.9.
//!
//! Frames travel one way, and ownership moves with them:
//!
//! ```text
//!   TX   driver ring --pop--> Chain + segments --header copied once, checked--> Gather --send--> backend
//!                     <-- push_used(chain, 0) ...  publish() once a batch -> interrupt?
//!   RX   driver ring --pop--> RxPool --room--> Scatter <--recv-- backend
//!                     <-- push_used(chain, n) ...  publish() once a batch -> interrupt?
//!   CTL  driver ring --pop--> bytes copied once --parse--> Command --execute--> ack
//! ```
//!
//! - [`GuestRam`] resolves guest memory once; [`ring`] has the virtqueues over it.
//! - [`TxEngine`], [`RxEngine`] and [`CtrlEngine`] move what is there and return why they stopped.
//!   They do no I/O of their own: no file descriptor, no thread, no clock, no log line, and no heap
//!   allocation per frame.
//! - [`FrameBackend`] carries frames, [`Limit`] says when, [`FrameFilter`] says which,
//!   [`FrameSteering`] says where. The caller
//!   passes time and a [`Budget`], and turns the reason to stop into polling, a timer or an
//!   interrupt.
//!
//! The driver is hostile. Everything it can change is fetched once into private memory and checked
//! there; what it gets wrong costs a frame ([`DropCause`]) or its queue ([`QueueFault`]), never
//! more. `unsafe` lives in `memory` (guest bytes) and `ring::ring_memory` (ring words) alone.

pub mod backend;
mod counters;
mod drop_cause;
mod engine;
pub mod hash;
pub mod header;
mod memory;
mod offload;
mod refusal;
pub mod ring;
#[cfg(feature = "test-utils")]
pub mod testing;

pub use backend::{Caps, FrameBackend, LinkConfig, RecvError, SendError, capture};
pub use counters::{GroupEnd, QueueCounters, QueueStats};
pub use drop_cause::{DropCause, QueueFault};
pub use engine::ctrl::{self, CommandHandler, CtrlEngine};
pub use engine::{
    Budget, Destination, Engine, FrameFilter, FrameSteering, Limit, Outcome, RxConfig, RxEngine,
    Stop, TxConfig, TxEngine, Unlimited,
};
pub use header::MAX_FRAME;
pub use memory::dirty_log::{DirtyLog, DirtySwitch};
pub use memory::guard::MemoryFault;
pub use memory::guest_ram::{
    Access, AccessPlatform, BadAddress, GuestRam, RamError, ReadError, TranslateError,
};
pub use memory::iovec::{Gather, IoVec, MAX_SEGMENTS, Scatter};
pub use memory::{RawRegion, SharedBytes, guard};
pub use offload::Offloads;
pub use refusal::Refusal;

// Bytes that a driver posts are added up in `usize`: at most 1023 chains of at most `u32::MAX`
// each.
const _: () = assert!(usize::BITS >= 64, "net-queue needs a 64-bit host");

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
