//! Receive chains taken ahead of the frames that will fill them.
//!
//! The segments of all pooled chains lie side by side, so one `readv` can fill several chains:
//!
//! ```text
//!   segments  . . . [a0 a1][b0][c0 c1 c2] . . .      posted  (a, 2 segments) (b, 1) (c, 3)
//!                 ^start               ^end        room    bytes of all of them
//! ```
//!
//! A frame takes chains from the front; what is not taken can be given back from the rear.

use std::mem;

use crate::drop_cause::DropCause;
use crate::header::HDR_LEN;
use crate::memory::guard::MemoryFault;
use crate::memory::guest_ram::GuestRam;
use crate::memory::iovec::{
    IoVec, MAX_SEGMENTS, copy_from, copy_into, copy_to_front, header_at_front, put_front,
    put_front_with,
};
use crate::ring::{BufferRules, Chain, Direction, PoppedChain, Ring};

/// Segments in the pool: one system call's worth, less the one for what does not fit.
const MOST_SEGMENTS: usize = MAX_SEGMENTS - 1;
/// Twice that is allocated, so that the segments are moved to the front once in many frames.
const ALLOCATED: usize = 2 * MAX_SEGMENTS;

/// Bytes that overwrite frames which are not delivered.
static ZEROS: [u8; 512] = [0; 512];

/// A chain in the pool.
#[derive(Debug)]
struct Posted {
    chain: Chain,
    segments: usize,
}

impl Posted {
    /// Placeholder of one that was taken.
    const GONE: Self = Self {
        chain: Chain::NONE,
        segments: 0,
    };

    /// Bytes of all its segments.
    #[inline]
    fn len(&self) -> usize {
        self.chain.writable_len() as usize
    }
}

/// A chain that was refused when it was looked at.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) chain: Chain,
    pub(crate) cause: DropCause,
}

/// Result of [`RxPool::pull`].
#[derive(Debug)]
pub(crate) enum Pull {
    /// One more chain is in the pool.
    Added,
    /// The ring has none.
    Empty,
    /// The pool has no space for the segments of the next one.
    Full,
    /// The next one cannot be used but must wait for its turn: chains go back in the order they
    /// came, or else those before it could not be given back unused.
    Blocked,
    /// The next one cannot be used, and is the first.
    Refused(Refused),
}

/// Pool of receive chains.
#[derive(Debug)]
pub(crate) struct RxPool {
    segments: Vec<IoVec>,
    posted: Vec<Posted>,
    /// The first of `posted` that is still here.
    first: usize,
    /// The first of `segments` that belongs to it.
    start: usize,
    writable_len: usize,
    ram: GuestRam,
}

impl RxPool {
    pub(crate) fn new(ram: GuestRam) -> Self {
        Self {
            // One more, so that the segment behind the pool always has a slot.
            segments: Vec::with_capacity(ALLOCATED + 1),
            posted: Vec::with_capacity(ALLOCATED),
            first: 0,
            start: 0,
            writable_len: 0,
            ram,
        }
    }

    /// Bytes of all chains together.
    #[inline]
    pub(crate) fn writable_len(&self) -> usize {
        self.writable_len
    }

    /// The chains, first come first.
    #[inline]
    fn chains(&self) -> &[Posted] {
        &self.posted[self.first..]
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.first == self.posted.len()
    }

    /// Descriptors of the ring that are out of the driver's reach while the pool is as it is: those
    /// of all its chains, and those too few for one more chain like the last.
    pub(crate) fn descriptors(&self) -> usize {
        let descriptors = |posted: &Posted| usize::from(posted.chain.descriptors());
        let last = self.chains().last().map_or(0, descriptors);
        self.chains().iter().map(descriptors).sum::<usize>() + last.saturating_sub(1)
    }

    /// Takes one more chain from `ring`. Chains below `least` bytes are refused.
    #[inline(always)]
    pub(crate) fn pull<R: Ring>(&mut self, ring: &mut R, least: usize) -> Pull {
        if self.posted.len() - self.first == MOST_SEGMENTS {
            return Pull::Full;
        }
        self.make_space();
        let rules = BufferRules {
            direction: Direction::Writable,
            most_segments: self.start + MOST_SEGMENTS,
        };
        let Some(PoppedChain { chain, content }) = ring.pop(&mut self.segments, rules) else {
            return Pull::Empty;
        };
        let segments = match content {
            Ok(buffers) if chain.writable_len() as usize >= least => buffers.writable(),
            Ok(buffers) => {
                self.cut(self.segments.len() - buffers.writable());
                return self.not_pulled(ring, chain, DropCause::TooShort);
            }
            Err(cause) => return self.not_pulled(ring, chain, cause),
        };
        self.writable_len += chain.writable_len() as usize;
        self.posted.push(Posted { chain, segments });
        Pull::Added
    }

    /// Deals with a chain that cannot be used.
    #[cold]
    fn not_pulled<R: Ring>(&mut self, ring: &mut R, chain: Chain, cause: DropCause) -> Pull {
        if self.is_empty() {
            return Pull::Refused(Refused { chain, cause });
        }
        ring.undo_pop(chain);
        if cause == DropCause::Segments {
            Pull::Full
        } else {
            Pull::Blocked
        }
    }

    fn cut(&mut self, len: usize) {
        self.segments.truncate(len);
    }

    /// Moves what is here to the front when the next chain might not find space behind it.
    #[inline]
    fn make_space(&mut self) {
        if self.is_empty() {
            // The front is what the cache still has.
            self.posted.clear();
            self.cut(0);
            (self.first, self.start) = (0, 0);
        } else if self.start.max(self.first) + MOST_SEGMENTS > ALLOCATED {
            self.move_to_front();
        }
    }

    #[cold]
    fn move_to_front(&mut self) {
        self.posted.drain(..self.first);
        self.segments.drain(..self.start);
        (self.first, self.start) = (0, 0);
    }

    /// Segments and bytes of the first chains that together reach `want` bytes, or of all.
    #[inline]
    pub(crate) fn front(&self, want: usize) -> (usize, usize) {
        let (mut segments, mut len) = (0, 0usize);
        for posted in self.chains() {
            segments += posted.segments;
            len += posted.len();
            if len >= want {
                break;
            }
        }
        (segments, len)
    }

    /// Calls `f` with the first `count` segments and, behind them, `extra`.
    #[inline]
    pub(crate) fn with_segments<T>(
        &mut self,
        count: usize,
        extra: IoVec,
        f: impl FnOnce(&[IoVec]) -> T,
    ) -> T {
        if count == 0 {
            return f(&[extra]);
        }
        let (start, end) = (self.start, self.start + count);
        if end == self.segments.len() {
            self.segments.push(extra);
            let result = f(&self.segments[start..]);
            self.segments.pop();
            return result;
        }
        let kept = mem::replace(&mut self.segments[end], extra);
        let result = f(&self.segments[start..=end]);
        self.segments[end] = kept;
        result
    }

    /// Copies out what lies `skip` bytes behind the pool's front.
    #[inline]
    pub(crate) fn peek(&self, skip: usize, dst: &mut [u8]) -> Result<usize, MemoryFault> {
        copy_from(&self.segments[self.start..], skip, dst)
    }

    /// Copies `src` to `skip` bytes behind the pool's front.
    #[inline]
    pub(crate) fn poke(&mut self, skip: usize, src: &[u8]) -> Result<usize, MemoryFault> {
        copy_into(&self.segments[self.start..], skip, src)
    }

    /// Copies `src` to the pool's front, if the first segment has room for all of it.
    #[inline(always)]
    pub(crate) fn poke_front(&mut self, src: &[u8]) -> Option<Result<(), MemoryFault>> {
        copy_to_front(&self.segments[self.start..], src)
    }

    /// Overwrites the pool's first `len` bytes with zeros and tells the dirty log of them:
    /// something was written there that is for nobody.
    #[cold]
    pub(crate) fn scrub(&mut self, len: usize) {
        let len = len.min(self.writable_len);
        for at in (0..len).step_by(ZEROS.len()) {
            // Memory that cannot be written now may be so in part: go on behind it.
            let _ = self.poke(at, &ZEROS[..ZEROS.len().min(len - at)]);
        }
        if self.ram.tracks_writes() {
            self.mark(self.segments.len() - self.start, len);
        }
    }

    /// Returns the base header at the pool's front, unless it lies in several segments.
    #[inline]
    pub(crate) fn header(&self) -> Option<Result<[u8; HDR_LEN], MemoryFault>> {
        header_at_front(&self.segments[self.start..])
    }

    /// Writes a header to the pool's front.
    #[inline(always)]
    pub(crate) fn put_header(&mut self, header: [u8; HDR_LEN]) -> Result<(), MemoryFault> {
        put_front(&self.segments[self.start..], header)
    }

    /// Writes a header and what a longer one has behind it.
    #[inline(always)]
    pub(crate) fn put_header_with(
        &mut self,
        header: [u8; HDR_LEN],
        more: [u8; 8],
    ) -> Result<(), MemoryFault> {
        put_front_with(&self.segments[self.start..], header, more)
    }

    /// Number of chains that a frame of `len` bytes with its header takes.
    #[inline]
    pub(crate) fn span(&self, len: usize) -> usize {
        let mut sum = 0usize;
        let mut count = 0;
        for posted in self.chains() {
            count += 1;
            sum += posted.len();
            if sum >= len {
                break;
            }
        }
        count
    }

    #[inline]
    fn take_first(&mut self) -> Option<Posted> {
        let posted = self.posted.get_mut(self.first)?;
        self.first += 1;
        Some(mem::replace(posted, Posted::GONE))
    }

    /// Marks the chains that hold the first `len` bytes used. (NET-RX-04, NET-RX-08)
    #[inline(always)]
    pub(crate) fn commit<R: Ring>(&mut self, ring: &mut R, mut len: usize) {
        while len > 0 {
            let Some(posted) = self.take_first() else {
                break;
            };
            let written = len.min(posted.len());
            if self.ram.tracks_writes() {
                self.mark(posted.segments, written);
            }
            self.start += posted.segments;
            self.writable_len -= posted.len();
            len -= written;
            let last = len == 0 || self.is_empty();
            ring.push_part(posted.chain, written as u32, last);
        }
    }

    /// Gives back with nothing in them the chains that a frame of `len` bytes would take: their
    /// memory cannot be written, and would fail every frame to come. Some of it may have been
    /// written.
    #[cold]
    pub(crate) fn waste<R: Ring>(&mut self, ring: &mut R, mut len: usize) {
        self.scrub(len);
        while len > 0 {
            let Some(posted) = self.take_first() else {
                break;
            };
            if self.ram.tracks_writes() {
                self.mark(posted.segments, posted.len());
            }
            self.start += posted.segments;
            self.writable_len -= posted.len();
            len = len.saturating_sub(posted.len());
            ring.push_used(posted.chain, 0);
        }
    }

    #[cold]
    #[inline(never)]
    fn mark(&self, segments: usize, mut written: usize) {
        for segment in &self.segments[self.start..self.start + segments] {
            if written == 0 {
                break;
            }
            let count = segment.len().min(written);
            self.ram.mark_segment(segment, count);
            written -= count;
        }
    }

    /// Marks every chain used with nothing in it.
    pub(crate) fn discard<R: Ring>(&mut self, ring: &mut R) {
        while let Some(posted) = self.take_first() {
            ring.push_used(posted.chain, 0);
        }
        self.reset();
    }

    /// Gives every chain back to the ring as if none had been taken.
    pub(crate) fn give_back<R: Ring>(&mut self, ring: &mut R) {
        while !self.is_empty()
            && let Some(posted) = self.posted.pop()
        {
            ring.undo_pop(posted.chain);
        }
        self.reset();
    }

    fn reset(&mut self) {
        self.writable_len = 0;
        self.make_space();
    }
}
