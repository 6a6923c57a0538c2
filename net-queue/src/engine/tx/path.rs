//! A frame at hand: its host memory, its checked header, and how it is laid out for the backend.

use super::config::TxConfig;
use super::segmentation::state::TxSegmentation;
use crate::counters::Offload;
use crate::drop_cause::DropCause;
use crate::engine::coalesce::{CANDIDATE_HEADERS, StagedFrame};
use crate::header::checksum;
use crate::header::packet::{HEADERS, Transport};
use crate::header::{HDR_LEN, HDR_MAX, HdrError, HdrSize, MAX_FRAME, NetHdr, RawHdr, TxRules, gso};
use crate::memory::bounce_buffer::{BounceBuffer, COPYBREAK};
use crate::memory::guard::MemoryFault;
use crate::memory::iovec::{Gather, HostSlice, IoVec, MAX_SEGMENTS, copy_from};
use crate::ring::{BufferRules, Direction, PoppedChain, Ring};

/// Buffers of a transmit chain. One segment less than a system call takes: the header has one of
/// its own.
const RULES: BufferRules = BufferRules {
    direction: Direction::Readable,
    most_segments: MAX_SEGMENTS,
};

/// Frames up to this length, header included, are copied at once on the way to groups, too: what a
/// second copy costs is more than what it saves.
const COPIED_AT_ONCE: usize = 256;
const _: () = assert!(HDR_MAX + CANDIDATE_HEADERS <= COPIED_AT_ONCE);

/// Bytes of the longest frame with its header.
const LONGEST: usize = MAX_FRAME + HDR_MAX;

/// All of an engine but its ring and what it counts.
#[derive(Debug)]
pub(super) struct TxPath {
    /// Host memory of one chain. Slot 0 stays free, so that what this side has checked can stand in
    /// front of the first one without moving any.
    pub(super) iovecs: Vec<IoVec>,
    /// Their bytes.
    pub(super) len: usize,
    pub(super) size: HdrSize,
    rules: TxRules,
    /// The checked header on its way out, and a short frame behind it.
    pub(super) bounce: BounceBuffer,
    /// Frames up to this length, header included, pass through the bounce buffer as a whole.
    pub(super) whole: usize,
    /// Frames up to this length, header included, are copied at once; of others the first bytes,
    /// `front` of them.
    at_once: usize,
    front: usize,
    /// First bytes of the frame at hand that go out from the bounce buffer.
    pub(super) copied: usize,
    /// The header of the frame at hand.
    pub(super) checked: NetHdr,
    /// Requests in it as the driver wrote it.
    pub(super) offload: Offload,
    /// Segmentation of what the backend does not take, where the driver may send it.
    pub(super) segmentation: Option<Box<TxSegmentation>>,
}

impl TxPath {
    /// Under the terms of `config`, on the way to groups if frames are `coalesced`.
    pub(super) fn new(config: &TxConfig, coalesced: bool) -> Self {
        let TxConfig {
            size,
            rules,
            segmentation,
            ..
        } = *config;
        let mut iovecs = Vec::with_capacity(MAX_SEGMENTS);
        iovecs.push(IoVec::EMPTY);
        // What this side writes into a frame it writes into a copy.
        let longest = HDR_MAX + MAX_FRAME;
        let whole = if rules.completes() {
            longest
        } else {
            COPYBREAK
        };
        // The buffer of a frame becomes that of its group; a frame is cut in it.
        let room = if coalesced || !segmentation.is_empty() {
            longest
        } else {
            whole
        };
        Self {
            iovecs,
            len: 0,
            size,
            rules,
            bounce: BounceBuffer::new(room),
            whole,
            at_once: whole,
            front: size.bytes() + if coalesced { CANDIDATE_HEADERS } else { 0 },
            copied: 0,
            checked: NetHdr::PLAIN,
            offload: Offload::default(),
            segmentation: (!segmentation.is_empty())
                .then(|| Box::new(TxSegmentation::new(rules.with(segmentation)))),
        }
    }

    /// The next chain, its buffers at hand.
    #[inline(always)]
    pub(super) fn next<R: Ring>(&mut self, ring: &mut R) -> Option<PoppedChain> {
        self.iovecs.truncate(1);
        ring.pop(&mut self.iovecs, RULES)
    }

    /// Copies the header of a frame out once that has `len` bytes with it, and with it the rest of
    /// a short frame; checks the copy and sanitises it. Returns the frame's bytes. (NET-TX-02,
    /// NET-TX-11)
    #[inline]
    pub(super) fn take_in(&mut self, len: usize) -> Result<u64, DropCause> {
        if len > LONGEST {
            return Err(DropCause::TooLong);
        }
        let header = self.size.bytes();
        self.len = len;
        let frame_len = len.checked_sub(header).ok_or(DropCause::TooShort)?;
        let copied = if len <= self.at_once { len } else { self.front };
        self.copied = copied;
        // Slot 0 may still hold what was sent before.
        let bounce = &mut self.bounce[..copied];
        copy_from(&self.iovecs[1..], 0, bounce)?;
        let raw = self.raw_header();
        let mut checked = match NetHdr::check_tx(&raw, frame_len as u32, self.rules) {
            Err(HdrError::GsoWithoutCsum) => self.begin_checksum(raw, frame_len, self.rules)?,
            Err(HdrError::GsoTunnel) => self.check_tunnel(frame_len)?,
            checked => checked?,
        };
        self.offload = Offload::of(checked);
        if self.rules.completes() && checked.flags() != 0 && checked.gso_type() == gso::NONE {
            checksum::complete(&mut self.bounce[header..copied], checked);
            checked = NetHdr::PLAIN;
        }
        // A hash means nothing on transmit.
        if self.size == HdrSize::Base {
            self.bounce[..HDR_LEN].copy_from_slice(&checked.to_bytes());
        } else {
            checked.write_to(&mut self.bounce[..header]);
        }
        self.checked = checked;
        Ok(frame_len as u64)
    }

    /// The header in the bounce buffer as the driver wrote it. In place of a field that it does not
    /// have stand bytes of the frame: none that means anything on transmit (NET-TX-05).
    #[inline(always)]
    pub(super) fn raw_header(&self) -> RawHdr {
        let mut raw = [0; HDR_LEN];
        raw.copy_from_slice(&self.bounce[..HDR_LEN]);
        RawHdr::from(raw)
    }

    /// Checks the header of a frame in a tunnel, all of it.
    #[cold]
    #[inline(never)]
    fn check_tunnel(&self, frame_len: usize) -> Result<NetHdr, HdrError> {
        let mut raw = RawHdr::new(self.size);
        let bytes = raw.as_mut_bytes();
        bytes.copy_from_slice(&self.bounce[..bytes.len()]);
        NetHdr::check_tx(&raw, frame_len as u32, self.rules)
    }

    /// Makes the checksum of a frame partial that is to be segmented and has a whole one, as a
    /// router's do: its header as it is then. Only the frame's headers are copied. (NET-HDR-11)
    #[cold]
    #[inline(never)]
    pub(super) fn begin_checksum(
        &mut self,
        raw: RawHdr,
        frame_len: usize,
        rules: TxRules,
    ) -> Result<NetHdr, DropCause> {
        let header = self.size.bytes();
        let head = &mut self.bounce[header..header + frame_len.min(HEADERS)];
        if let Some(rest) = head.get_mut(self.copied - header..) {
            // What was copied and checked before is what goes out.
            copy_from(&self.iovecs[1..], self.copied, rest)?;
        }
        let transport =
            Transport::of(head, frame_len, raw.gso_type()).ok_or(HdrError::GsoWithoutCsum)?;
        let raw = transport.make_partial(raw);
        let checked = NetHdr::check_tx(&raw, frame_len as u32, rules)?;
        let field = transport.field();
        head[field..field + 2].copy_from_slice(&transport.pseudo);
        self.copied = self.copied.max(header + transport.end);
        Ok(checked)
    }

    /// Says whether the next frame is expected to join a group: where its payload goes is found out
    /// from its headers then. Copied in two parts, a frame that leaves by itself costs a hundredth
    /// more.
    #[inline]
    pub(super) fn expect_to_join(&mut self, yes: bool) {
        self.at_once = if yes { COPIED_AT_ONCE } else { self.whole };
    }

    /// Copies what is left to copy of a short frame.
    #[inline]
    pub(super) fn copy_rest(&mut self) -> Result<(), MemoryFault> {
        if self.copied < self.len && self.len <= self.whole {
            let rest = &mut self.bounce[self.copied..self.len];
            copy_from(&self.iovecs[1..], self.copied, rest)?;
            self.copied = self.len;
        }
        Ok(())
    }

    /// The frame at hand as one that may join a group: it is short.
    #[inline]
    pub(super) fn candidate(&mut self) -> StagedFrame<'_> {
        StagedFrame {
            bounce: &mut self.bounce,
            copied: &mut self.copied,
            iovecs: &self.iovecs[1..],
            len: self.len,
            size: self.size.bytes(),
            header: self.checked,
        }
    }

    /// The frame as the backend gets it, once [`Self::copy_rest`] has copied: all of it from the
    /// bounce buffer, or its first bytes from there and the rest from where the guest left it.
    #[inline]
    pub(super) fn gather(&mut self) -> Gather<'_> {
        let (header, len) = (self.size.bytes(), self.len);
        let iovecs = &mut self.iovecs;
        if len <= self.whole {
            iovecs[0] = HostSlice::of_buffer(&mut self.bounce[..len]).io();
            return Gather::new(&iovecs[..1], header, len);
        }
        let (mut left, mut at) = (self.copied, 1);
        while let Some(iovec) = iovecs.get_mut(at) {
            if iovec.len() > left {
                iovec.advance(left);
                break;
            }
            left -= iovec.len();
            at += 1;
        }
        iovecs[at - 1] = HostSlice::of_buffer(&mut self.bounce[..self.copied]).io();
        Gather::new(&iovecs[at - 1..], header, len)
    }
}
