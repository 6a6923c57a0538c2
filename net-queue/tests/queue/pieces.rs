//! A ring without an engine: takes chains, notes their pieces, gives them back.

use net_queue::ring::{AnyRing, BufferSink, Chain, Ring};
use net_queue::testing::Piece;
use net_queue::{DropCause, GuestRam, QueueFault};

/// Notes the pieces of one chain.
#[derive(Debug, Default)]
pub(crate) struct Notes(pub(crate) Vec<Piece>);

impl BufferSink for Notes {
    fn buffer(
        &mut self,
        _: &GuestRam,
        addr: u64,
        len: u32,
        writable: bool,
    ) -> Result<(), DropCause> {
        self.0.push(Piece {
            addr,
            len,
            writable,
        });
        Ok(())
    }
}

/// Takes the next chain; panics when its content cannot be used.
pub(crate) fn take(ring: &mut AnyRing) -> Option<(Chain, Vec<Piece>)> {
    let (chain, content, pieces) = try_take(ring).expect("the ring is sound")?;
    content.expect("the chain is sound");
    Some((chain, pieces))
}

/// A chain, whether its content can be used, and its pieces.
pub(crate) type Taken = (Chain, Result<(), DropCause>, Vec<Piece>);

/// Takes the next chain whatever it is.
pub(crate) fn try_take(ring: &mut AnyRing) -> Result<Option<Taken>, QueueFault> {
    let mut notes = Notes::default();
    let popped = ring.pop(&mut notes)?;
    Ok(popped.map(|popped| (popped.chain, popped.content, notes.0)))
}
