//! Chains as a ring hands them out, without an engine.

use crate::drop_cause::DropCause;
use crate::memory::iovec::IoVec;
use crate::ring::{BufferRules, Chain, Direction, PoppedChain, Ring};
use crate::testing::Piece;

/// A chain and its buffers, told in the driver's addresses.
#[derive(Debug)]
pub struct TakenChain {
    /// The chain.
    pub chain: Chain,
    /// One piece for each segment of host memory (none for an empty buffer), or the cause for which
    /// they cannot be used.
    pub content: Result<Vec<Piece>, DropCause>,
}

impl TakenChain {
    /// Takes the next chain of `ring`, readable buffers in front and however many there are.
    pub fn next<R: Ring>(ring: &mut R) -> Option<Self> {
        let rules = BufferRules {
            direction: Direction::ReadableThenWritable,
            most_segments: usize::MAX,
        };
        let mut segments = Vec::new();
        let PoppedChain { chain, content } = ring.pop(&mut segments, rules)?;
        let content = content.map(|buffers| {
            let (readable, writable) = (buffers.readable(), buffers.writable());
            assert_eq!(segments.len(), readable + writable);
            let piece = |(at, segment): (usize, &IoVec)| Piece {
                addr: guest_address(ring, segment),
                len: segment.len() as u32,
                writable: at >= readable,
            };
            segments.iter().enumerate().map(piece).collect()
        });
        Some(Self { chain, content })
    }
}

fn guest_address<R: Ring>(ring: &R, segment: &IoVec) -> u64 {
    let mut ranges = ring.memory().guest_ranges(segment, segment.len());
    ranges.next().expect("a segment is guest memory").0
}
