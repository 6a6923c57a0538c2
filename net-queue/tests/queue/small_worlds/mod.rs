//! Rings of 1, 2 and 4 slots in every state, against models that follow the clauses step by step.
//!
//! A state is a cursor and what the driver has written: indices or lap bits, links, and when it
//! wants to be told. From each of them a ring is made and does one batch, in every way in which it
//! can be cut: it takes, gives back, is shown, and asks for notifications. The state that it ends
//! in is another one that is enumerated, so nothing longer is left out.

mod packed;
mod split;

use net_queue::ring::{BufferRules, Chain, Direction, Ring};
use net_queue::testing::TestMemory;
use net_queue::{IoVec, QueueFault};

const SIZES: [u16; 3] = [1, 2, 4];

/// Id in a used element that nobody has written.
const UNWRITTEN: u32 = 0xdead_beef;

const RULES: BufferRules = BufferRules {
    direction: Direction::Readable,
    most_segments: usize::MAX,
};

/// A chain that was taken. Descriptor `n` is of `1 << n` bytes, so that a length says which
/// descriptors are in it.
#[derive(Debug)]
struct Taken {
    chain: Chain,
    members: usize,
}

fn pop(ring: &mut impl Ring) -> Option<Taken> {
    let mut segments: Vec<IoVec> = Vec::new();
    let popped = ring.pop(&mut segments, RULES)?;
    Some(Taken {
        chain: popped.chain,
        members: popped.content.expect("every buffer is good").readable_len(),
    })
}

/// Takes all chains; returns them, and the fault that came behind them.
fn pop_all(ring: &mut impl Ring) -> (Vec<Taken>, Option<QueueFault>) {
    let taken = std::iter::from_fn(|| pop(ring)).collect();
    (taken, ring.fault())
}

fn members(taken: &[Taken]) -> Vec<usize> {
    taken.iter().map(|taken| taken.members).collect()
}

/// Bytes that are written to the `n`-th chain that is given back: none to the first.
fn written(n: usize) -> u32 {
    3 * n as u32
}

/// Gives back the `count` chains that were taken first, in that order or, if it is all of them, in
/// the other; then the rest as if they had not been taken.
fn give_back(ring: &mut impl Ring, mut taken: Vec<Taken>, count: usize, reversed: bool) {
    let rest = taken.split_off(count);
    if reversed {
        taken.reverse();
    }
    for taken in rest.into_iter().rev() {
        ring.undo_pop(taken.chain);
    }
    for (n, taken) in taken.into_iter().enumerate() {
        ring.push_used(taken.chain, written(n));
    }
}

/// Numbers of chains to give back of `taken` ones, and whether in reverse.
fn cuts(taken: usize) -> impl Iterator<Item = (usize, bool)> {
    let reversed = (taken > 1).then_some((taken, true));
    (0..=taken).map(|count| (count, false)).chain(reversed)
}

/// Stores the buffer of descriptor `n` at `at`, and the two halves behind it: flags and next in a
/// split ring, id and flags in a packed one.
fn store_desc(memory: &TestMemory, at: u64, n: u16, halves: [u16; 2]) {
    let addr: u64 = memory.regions()[2].0;
    memory.store(at, addr);
    memory.store(at + 8, 1_u32 << n);
    memory.store(at + 12, halves[0]);
    memory.store(at + 14, halves[1]);
}
