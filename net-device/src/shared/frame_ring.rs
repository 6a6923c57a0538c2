//! A bounded ring of frames from one thread to another.
//!
//! One thread pushes, one thread pops, and neither ever waits for the other: a frame that finds no
//! room is not taken.
//!
//! ```text
//!   words   . . [len a0 a1 a2][len b0][len c0 c1] . .
//!               ^head                            ^tail      both count words, and never wrap
//! ```
//!
//! A frame is copied by words, each of which is an atomic of its own. That costs about as much as a
//! plain copy, and takes no memory that two threads may not look at.

use std::sync::atomic::Ordering;

#[cfg(not(test))]
use std::sync::atomic::AtomicU64;

// In this crate's unit tests, that of a model that shows each thread whatever a CPU may show it.
#[cfg(test)]
use net_queue::testing::weak_memory::AtomicU64;

#[cfg(test)]
mod tests;

const WORD: usize = size_of::<u64>();

/// A counter in a cache line of its own: each is written by one thread.
#[derive(Debug)]
#[repr(align(64))]
struct Position(AtomicU64);

/// The ring.
#[derive(Debug)]
pub(crate) struct FrameRing {
    /// As many as a power of two.
    words: Box<[AtomicU64]>,
    /// Words that were popped, by the thread that does.
    head: Position,
    /// Words that were pushed, by the thread that does.
    tail: Position,
}

impl FrameRing {
    /// An empty ring of so many words, rounded up to a power of two.
    pub(crate) fn new(words: usize) -> Self {
        let words = 0..words.next_power_of_two();
        Self {
            words: words.map(|_| AtomicU64::new(0)).collect(),
            head: Position(AtomicU64::new(0)),
            tail: Position(AtomicU64::new(0)),
        }
    }

    /// The words from `at` on: `count` of them, of which the last may lie at the ring's beginning.
    fn run(&self, at: u64, count: usize) -> impl Iterator<Item = &AtomicU64> {
        let len = self.words.len();
        let start = at as usize & (len - 1);
        let first = count.min(len - start);
        let (front, back) = (&self.words[..count - first], &self.words[start..]);
        back[..first].iter().chain(front)
    }

    /// Copies `frame` into the ring; returns whether there was room for it.
    pub(crate) fn push(&self, frame: &[u8]) -> bool {
        let (whole, rest) = frame.as_chunks::<WORD>();
        let need = 1 + frame.len().div_ceil(WORD);
        let tail = self.tail.0.load(Ordering::Relaxed);
        // What was popped is read no more.
        let head = self.head.0.load(Ordering::Acquire);
        let used = tail.wrapping_sub(head) as usize;
        if need > self.words.len() - used {
            return false;
        }
        let mut last = [0; WORD];
        last[..rest.len()].copy_from_slice(rest);
        let len = [(frame.len() as u64).to_ne_bytes()];
        let values = len.iter().chain(whole).chain([&last]);
        for (word, value) in self.run(tail, need).zip(values) {
            word.store(u64::from_ne_bytes(*value), Ordering::Relaxed);
        }
        let tail = tail.wrapping_add(need as u64);
        self.tail.0.store(tail, Ordering::Release);
        true
    }

    /// Copies the next frame out of the ring, as much of it as there is `room` for; returns its
    /// length.
    pub(crate) fn pop(&self, room: &mut [u8]) -> Option<usize> {
        let head = self.head.0.load(Ordering::Relaxed);
        if self.tail.0.load(Ordering::Acquire) == head {
            return None;
        }
        let len = self.run(head, 1).next()?.load(Ordering::Relaxed) as usize;
        let copied = len.min(room.len());
        let (whole, rest) = room[..copied].as_chunks_mut::<WORD>();
        let mut words = self.run(head.wrapping_add(1), copied.div_ceil(WORD));
        for (value, word) in whole.iter_mut().zip(&mut words) {
            *value = word.load(Ordering::Relaxed).to_ne_bytes();
        }
        if let Some(word) = words.next() {
            let last = word.load(Ordering::Relaxed).to_ne_bytes();
            rest.copy_from_slice(&last[..rest.len()]);
        }
        let next = head.wrapping_add(1 + len.div_ceil(WORD) as u64);
        self.head.0.store(next, Ordering::Release);
        Some(len)
    }
}
