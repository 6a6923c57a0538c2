//! One open group: frames of a flow behind the headers of the first.

use super::outlet::Outlet;
use super::rules::{self, Candidate, HEADERS, MAX_FRAMES, MAX_PACKET};
use super::staged_frame::StagedFrame;
use crate::backend::{FrameBackend, SendError};
use crate::counters::{GroupEnd, Offload};
use crate::drop_cause::DropCause;
use crate::engine::limit::Limit;
use crate::header::group::{Group, LAST_ONLY, TCP_FLAGS};
use crate::header::packet::{Family, Packet};
use crate::header::{HDR_MAX, MAX_FRAME, NetHdr};
use crate::memory::bounce_buffer::{BounceBuffer, COPYBREAK};
use crate::memory::guard::MemoryFault;
use crate::memory::iovec::{Gather, HostSlice};
use crate::offload::Offloads;

// A frame has its bit in a group's note of partial checksums.
const _: () = assert!(MAX_FRAMES <= u128::BITS as usize);

/// State of a group on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It takes further frames.
    Open,
    /// All at once; the backend had no room yet.
    Sealed,
    /// Frame by frame, since the backend refused it; this one is the next.
    Singly(usize),
}

/// Answer of a group to a frame of its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// It holds the frame, and takes further ones.
    Open,
    /// It holds the frame and is to be sent for this cause.
    Complete(GroupEnd),
    /// The frame is not in it.
    No,
}

impl Joined {
    /// Nothing for a frame that is not in the group; otherwise the cause to send it, if there is
    /// one.
    pub(super) fn end(self) -> Option<Option<GroupEnd>> {
        match self {
            Self::Open => Some(None),
            Self::Complete(end) => Some(Some(end)),
            Self::No => None,
        }
    }
}

/// Frames of one flow in a buffer: as they came as long as there is one, or in the shape of one.
#[derive(Debug)]
pub(super) struct OpenGroup {
    buffer: BounceBuffer,
    /// Bytes of the virtio-net header.
    header: usize,
    /// Bytes of header and frame.
    len: usize,
    shape: Group,
    /// A bit for each frame that came with a partial checksum, the first in the lowest.
    partial: u128,
    /// The sums of the first frame were looked at.
    checked: bool,
    /// The first frame's virtio-net header.
    first: NetHdr,
    /// Bits by which a frame is known to repeat the first one, once a second has joined.
    repeated: Option<[u8; HEADERS]>,
    phase: Phase,
}

impl OpenGroup {
    pub(super) fn new(header: usize) -> Self {
        let packet = Packet {
            family: Family::V4,
            tcp: false,
            fragment: false,
            ip: 0,
            transport: 0,
            payload: 0,
        };
        Self {
            buffer: BounceBuffer::new(HDR_MAX + MAX_FRAME),
            header,
            len: 0,
            shape: Group {
                packet,
                size: 0,
                frames: 0,
                id_step: 0,
            },
            partial: 0,
            checked: false,
            first: NetHdr::PLAIN,
            repeated: None,
            phase: Phase::Open,
        }
    }

    /// Offload that the group needs.
    pub(super) fn kind(&self) -> Offloads {
        rules::kind(&self.shape.packet)
    }

    /// Opens the group with `frame`, whose buffer changes places with this one's.
    ///
    /// # Errors
    /// The guest's memory cannot be read.
    #[inline]
    pub(super) fn open(
        &mut self,
        frame: &mut StagedFrame<'_>,
        candidate: &Candidate,
    ) -> Result<(), MemoryFault> {
        frame.move_to(&mut self.buffer)?;
        self.len = frame.len;
        self.shape = Group {
            packet: candidate.packet,
            size: frame.frame_len() - candidate.packet.payload,
            frames: 1,
            id_step: 0,
        };
        self.partial = u128::from(frame.is_partial());
        self.checked = false;
        self.first = frame.header;
        self.repeated = None;
        self.phase = Phase::Open;
        Ok(())
    }

    /// Takes `frame` into the group if it may follow what is there.
    ///
    /// # Errors
    /// The guest's memory cannot be read. The group is what it was.
    pub(super) fn join(
        &mut self,
        frame: &mut StagedFrame<'_>,
        candidate: &Candidate,
    ) -> Result<Joined, MemoryFault> {
        let (packet, shape, head) = (&candidate.packet, &mut self.shape, frame.head());
        let payload = frame.frame_len() - packet.payload;
        let (group, room) = self.buffer.split_at_mut(self.len);
        let first = &group[self.header..];
        let follows = self.phase == Phase::Open
            && *packet == shape.packet
            && payload <= shape.size
            && rules::same_headers(first, head, packet)
            && rules::is_next(first, head, shape);
        let Some(step) = rules::id_step(first, head, shape).filter(|_| follows) else {
            return Ok(Joined::No);
        };
        if !self.checked {
            let (head, payload) = first.split_at(packet.payload);
            self.checked = if self.partial & 1 != 0 {
                rules::partial_sums_agree(head, payload.len(), packet)
            } else {
                rules::complete_sums_agree(head, payload, packet)
            };
        }
        let partial = frame.is_partial();
        if !self.checked || partial && !rules::partial_sums_agree(head, payload, packet) {
            return Ok(Joined::No);
        }
        let room = &mut room[..payload];
        frame.copy_payload(packet.payload, room)?;
        if !partial && !rules::complete_sums_agree(head, room, packet) {
            frame.take_back(room);
            return Ok(Joined::No);
        }
        let flags = packet.transport + TCP_FLAGS;
        let flags = if packet.tcp { head[flags] } else { 0 };
        if self.partial & 1 != 0 && self.repeated.is_none() {
            self.repeated = Some(rules::repeated_bits(packet));
        }
        Ok(self.add(payload, partial, step, flags))
    }

    /// Takes `frame` into the group if it repeats the first one but for what counts up. This is
    /// what [`Self::join`] finds out about most frames, by less work and without the frame's flow.
    ///
    /// # Errors
    /// As for [`Self::join`].
    #[inline]
    pub(super) fn join_repeat(&mut self, frame: &StagedFrame<'_>) -> Result<Joined, MemoryFault> {
        let (shape, head) = (&self.shape, frame.head());
        let (packet, payload) = (shape.packet, shape.size);
        let first = &self.buffer[self.header..];
        let (Some(bits), Some(headers), Some(own)) =
            (&self.repeated, frame.headers(), first.first_chunk())
        else {
            return Ok(Joined::No);
        };
        let repeats = self.phase == Phase::Open
            && frame.header == self.first
            && frame.frame_len() == packet.payload + payload
            && rules::same_bits(own, headers, bits)
            && rules::is_next(first, head, shape)
            && rules::repeats_ipv4_sum(first, head, &packet);
        let Some(step) = rules::id_step(first, head, shape).filter(|_| repeats) else {
            return Ok(Joined::No);
        };
        let room = &mut self.buffer[self.len..self.len + payload];
        frame.copy_payload(packet.payload, room)?;
        let flags = packet.transport + TCP_FLAGS;
        let flags = if packet.tcp { head[flags] } else { 0 };
        Ok(self.add(payload, true, step, flags))
    }

    /// Counts a frame whose payload was copied behind the group; `flags` are those of TCP.
    #[inline]
    fn add(&mut self, payload: usize, partial: bool, step: u16, flags: u8) -> Joined {
        let (header, shape) = (self.header, &mut self.shape);
        self.len += payload;
        self.partial |= u128::from(partial) << shape.frames;
        shape.frames += 1;
        shape.id_step = step;
        let packet = &shape.packet;
        if packet.tcp {
            self.buffer[header + packet.transport + TCP_FLAGS] |= flags;
        }
        if payload < shape.size || flags & LAST_ONLY != 0 {
            Joined::Complete(GroupEnd::Last)
        } else if shape.frames == MAX_FRAMES
            || self.len - header - packet.ip + shape.size > MAX_PACKET
        {
            Joined::Complete(GroupEnd::Full)
        } else {
            Joined::Open
        }
    }

    /// Sends what the group holds; returns whether it was refused although its frames are taken.
    ///
    /// # Errors
    /// The backend takes nothing now, or any more: what has not left stays.
    pub(super) fn send<B, L>(&mut self, out: &mut Outlet<'_, B, L>) -> Result<bool, SendError>
    where
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
    {
        if self.phase == Phase::Open {
            self.seal();
        }
        let mut refused = false;
        if self.phase == Phase::Sealed {
            let (frames, bytes) = (self.shape.frames as u64, self.bytes());
            let buffer = HostSlice::of_buffer(&mut self.buffer[..self.len]).io();
            let mut gather = Gather::new(std::slice::from_ref(&buffer), self.header, self.len);
            if frames > 1 {
                gather = gather.with_group(&self.shape);
            }
            match out.send(&gather, frames, bytes, Offload::default()) {
                Ok(()) => {
                    let partial = u64::from(self.partial.count_ones());
                    out.add_requests(Offload::checksum(true), partial, bytes);
                    if frames > 1 {
                        out.counters.add_group(frames);
                    }
                }
                Err(SendError::Refused) if frames > 1 => {
                    out.counters.add_group_refused();
                    self.phase = Phase::Singly(0);
                }
                Err(error) => self.drop_or_keep(out, error, 0..self.shape.frames)?,
            }
        }
        if let Phase::Singly(next) = self.phase {
            refused = self.send_singly(out, next)?;
        }
        Ok(refused)
    }

    /// Makes several frames one. A frame alone stays as it is.
    fn seal(&mut self) {
        self.phase = Phase::Sealed;
        if self.shape.frames > 1 {
            self.shape.seal(&mut self.buffer[self.header..self.len]);
            self.shape
                .header()
                .write_to(&mut self.buffer[..self.header]);
        }
    }

    /// Sends the frames from `next` on one by one; returns whether one of them passed.
    #[cold]
    fn send_singly<B, L>(
        &mut self,
        out: &mut Outlet<'_, B, L>,
        next: usize,
    ) -> Result<bool, SendError>
    where
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
    {
        let mut passed = false;
        let mut single = [0; COPYBREAK];
        for index in next..self.shape.frames {
            self.phase = Phase::Singly(index);
            let group = HostSlice::of_buffer(&mut self.buffer[..self.len]).io();
            let group = Gather::new(std::slice::from_ref(&group), self.header, self.len);
            let group = group.with_group(&self.shape);
            let sent = match group.copy_frame(index, &mut single) {
                Ok(len) => {
                    let single = HostSlice::of_buffer(&mut single[..len]).io();
                    let single = Gather::new(std::slice::from_ref(&single), self.header, len);
                    let offload = Offload::checksum(self.partial >> index & 1 != 0);
                    out.send(&single, 1, (len - self.header) as u64, offload)
                }
                Err(MemoryFault) => Err(SendError::Memory),
            };
            match sent {
                Ok(()) => passed = true,
                Err(error) => self.drop_or_keep(out, error, index..index + 1)?,
            }
        }
        Ok(passed)
    }

    /// Counts frames as dropped that will never be sent.
    ///
    /// # Errors
    /// They may be, or nothing will be any more.
    #[cold]
    fn drop_or_keep<B, L>(
        &self,
        out: &mut Outlet<'_, B, L>,
        error: SendError,
        frames: std::ops::Range<usize>,
    ) -> Result<(), SendError>
    where
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
    {
        let cause = match error {
            SendError::Refused => DropCause::Refused,
            SendError::Memory => MemoryFault.into(),
            SendError::WouldBlock | SendError::Dead(_) => return Err(error),
        };
        for index in frames {
            out.drop_frame(cause, self.frame_len(index));
        }
        Ok(())
    }

    /// Number of its frames that have not left.
    pub(super) fn left(&self) -> usize {
        match self.phase {
            Phase::Singly(next) => self.shape.frames - next,
            Phase::Open | Phase::Sealed => self.shape.frames,
        }
    }

    /// Bytes of one of its frames.
    fn frame_len(&self, index: usize) -> u64 {
        let payload = self.shape.payload(index, self.len - self.header);
        (self.shape.packet.payload + payload.len()) as u64
    }

    /// Bytes of all its frames, each with its headers.
    fn bytes(&self) -> u64 {
        let headers = self.shape.packet.payload * (self.shape.frames - 1);
        (self.len - self.header + headers) as u64
    }
}

#[cfg(test)]
mod tests;
