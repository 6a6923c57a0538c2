//! A ring without an engine: takes chains with their pieces.

use net_queue::QueueFault;
use net_queue::ring::{AnyRing, Chain, Ring};
use net_queue::testing::{Piece, TakenChain};

/// Takes the next chain; panics when its content cannot be used.
pub(crate) fn take(ring: &mut AnyRing) -> Option<(Chain, Vec<Piece>)> {
    let TakenChain { chain, content } = try_take(ring).expect("the ring is sound")?;
    Some((chain, content.expect("the chain is sound")))
}

/// Those of `pieces` that a device sees: not the empty ones.
pub(crate) fn filled(pieces: &[Piece]) -> Vec<Piece> {
    let filled = pieces.iter().filter(|piece| piece.len > 0);
    filled.copied().collect()
}

/// Takes the next chain whatever it is.
pub(crate) fn try_take(ring: &mut AnyRing) -> Result<Option<TakenChain>, QueueFault> {
    match (TakenChain::next(ring), ring.fault()) {
        (None, Some(fault)) => Err(fault),
        (taken, _) => Ok(taken),
    }
}
