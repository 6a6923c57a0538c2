//! The descriptor-chain RX/TX engine of a virtio-net queue pair. VirtIO 1.4 §2.6-2.8, §5.1.9.
//!
//! Frames travel one way, and ownership moves with them:
//!
//! ```text
//!   TX   driver ring --pop--> Chain + pieces --header copied once, checked--> Gather --send--> backend
//!                     <-- push_used(chain, 0) ...  publish() once a batch -> interrupt?
//!   RX   driver ring --pop--> RxPool --room--> Scatter <--recv-- backend
//!                     <-- push_used(chain, n) ...  publish() once a batch -> interrupt?
//!   CTL  driver ring --pop--> bytes copied once --parse--> Command --execute--> ack
//! ```
//!
//! - [`GuestRam`] resolves guest memory once; [`ring`] has the virtqueues over it.
//! - [`TxEngine`], [`RxEngine`] and [`CtrlEngine`] move what is there and return why they stopped. They do no I/O
//!   of their own: no file descriptor, no thread, no clock, no log line, and no heap allocation per frame.
//! - [`FrameBackend`] carries frames, [`Limit`] says when, [`Admit`] says which. The caller passes time and a
//!   [`Budget`], and turns the reason to stop into polling, a timer or an interrupt.
//!
//! The driver is hostile. Everything it can change is fetched once into private memory and checked there; what it
//! gets wrong costs a frame ([`DropCause`]) or its queue ([`QueueFault`]), never more. `unsafe` lives in `memory`
//! (guest bytes) and `ring::layout` (ring words) alone.

mod backend;
mod counters;
mod csum;
pub mod ctrl;
pub mod decorate;
mod fault;
pub mod hdr;
mod memory;
mod offload;
mod packet;
pub mod ring;
mod rx;
mod rx_pool;
#[cfg(feature = "test-utils")]
pub mod testing;
mod tx;

pub use backend::{
    Admit, Budget, Caps, FrameBackend, Limit, LinkConfig, Outcome, RecvError, SendError, Unlimited,
};
pub use counters::QueueCounters;
pub use ctrl::{CtrlEngine, CtrlStop, Handler};
pub use fault::{DropCause, QueueFault};
pub use memory::guard::MemoryFault;
pub use memory::guest_ram::{
    Access, AccessPlatform, BadAddress, DirtyLog, GuestRam, RamError, ReadError, TranslateError,
};
pub use memory::segment::{Gather, IoVec, MAX_SEGMENTS, Scatter};
pub use memory::{SharedBytes, guard};
pub use offload::Offloads;
pub use rx::{RxConfig, RxEngine, RxStop};
pub use tx::{MAX_FRAME, TxEngine, TxStop};

// Bytes that a driver posts are added up in `usize`: at most 1023 chains of at most `u32::MAX` each.
const _: () = assert!(usize::BITS >= 64, "net-queue needs a 64-bit host");

impl Limit for rate_limiter::Limiter {
    fn take(&mut self, now: u64, bytes: u64) -> Result<(), u64> {
        rate_limiter::Limiter::take(self, now, bytes, 1).map_err(|deadline| deadline.ns())
    }

    fn force(&mut self, now: u64, bytes: u64) {
        rate_limiter::Limiter::force(self, now, bytes, 1);
    }

    fn refund(&mut self, bytes: u64) {
        rate_limiter::Limiter::refund(self, bytes, 1);
    }

    fn idle(&mut self, now: u64) {
        rate_limiter::Limiter::idle(self, now);
    }
}
