//! The check whether a driver may see a frame, and the changes that make it one which the driver
//! takes.

use super::{Arrived, RxPath};
use crate::drop_cause::DropCause;
use crate::engine::frame_filter::FrameFilter;
use crate::engine::rx::config::HEAD;
use crate::header::checksum;
use crate::header::packet::{self, HEADERS, LINK_HEADERS, Transport};
use crate::header::{ETH_HDR_LEN, HDR_LEN, HdrError, HdrSize, NetHdr, RawHdr, RxRules, gso};
use crate::memory::guard::MemoryFault;
use crate::offload::Offloads;

/// Bytes that a checksum is taken of at once.
const SUMMED: usize = 512;

impl RxPath {
    /// Decides whether the driver may see `frame`, and with which header.
    ///
    /// A part that was received directly is read back from where the backend put it. The driver
    /// could change it meanwhile, and would deceive nobody but itself.
    #[inline(always)]
    pub(super) fn check(
        &mut self,
        frame: Arrived,
        filter: Option<&dyn FrameFilter>,
    ) -> Result<NetHdr, DropCause> {
        let header = self.config.size.bytes();
        let frame_len = frame.len.checked_sub(header).ok_or(DropCause::TooShort)?;
        // By value, so that it stays in registers: bytes that were stored and are loaded as words
        // are waited for. `num_buffers`, in whose place a legacy header has bytes of the frame, is
        // none that a backend says.
        let raw = match self.bounce.first_chunk() {
            Some(base) if frame.direct == 0 => RawHdr::from(*base),
            _ => self.header_of(frame)?,
        };
        let checked = match NetHdr::check_rx(&raw, frame_len as u32, self.rules) {
            Ok(checked) => checked,
            Err(error) => self.adapt(frame, raw, error)?,
        };
        let gso_type = checked.gso_type();
        let too_long = self.config.mtu.is_some_and(|mtu| {
            frame_len > usize::from(mtu) + ETH_HDR_LEN as usize && gso_type == gso::NONE
        });
        if too_long || gso_type == gso::UDP_L4 {
            self.look_behind_tags(frame, checked, too_long)?;
        }
        if let Some(filter) = filter {
            self.ask(frame, filter)?;
        }
        Ok(checked)
    }

    /// Reads the header of a frame that was received directly back. Not a part of what short frames
    /// go through, where each line of code counts.
    #[inline(never)]
    pub(super) fn header_of(&self, frame: Arrived) -> Result<RawHdr, DropCause> {
        if frame.direct >= HDR_LEN
            && self.config.size != HdrSize::Legacy
            && let Some(base) = self.pool.header()
        {
            return Ok(RawHdr::from(base?));
        }
        let mut base = [0; HDR_LEN];
        self.copy_out(frame, 0, &mut base[..self.config.size.base_bytes()])?;
        Ok(RawHdr::from(base))
    }

    pub(super) fn ask(&self, frame: Arrived, filter: &dyn FrameFilter) -> Result<(), DropCause> {
        let header = self.config.size.bytes();
        let mut head = [0; HEAD];
        let head = &mut head[..(frame.len - header).min(HEAD)];
        self.copy_out(frame, header, head)?;
        if filter.admit(head) {
            Ok(())
        } else {
            Err(DropCause::Filtered)
        }
    }

    /// Decides what depends on where the packet begins; `long` is a frame above the MTU, if it has
    /// no VLAN tag.
    #[cold]
    fn look_behind_tags(
        &self,
        frame: Arrived,
        checked: NetHdr,
        long: bool,
    ) -> Result<(), DropCause> {
        let header = self.config.size.bytes();
        let mut head = [0; LINK_HEADERS];
        let head = &mut head[..(frame.len - header).min(LINK_HEADERS)];
        self.copy_out(frame, header, head)?;
        checked.check_family(packet::ethertype(head), self.rules)?;
        // The MTU is the packet's, and tags are none of it.
        let packet = (frame.len - header).saturating_sub(packet::link_len(head));
        if long && packet > usize::from(self.config.mtu.unwrap_or(u16::MAX)) {
            return Err(DropCause::Mtu);
        }
        Ok(())
    }

    /// Makes of a frame that the driver cannot take one that it can, if that is possible.
    #[cold]
    #[inline(never)]
    fn adapt(&mut self, frame: Arrived, raw: RawHdr, error: HdrError) -> Result<NetHdr, DropCause> {
        match error {
            HdrError::CsumNotNegotiated => self.complete_checksum(frame, &raw),
            HdrError::GsoWithoutCsum => self.begin_checksum(frame, raw, self.rules),
            HdrError::GsoTunnel => self.check_tunnel(frame),
            error => Err(error.into()),
        }
    }

    /// Checks the header of a frame in a tunnel, all of it.
    fn check_tunnel(&self, frame: Arrived) -> Result<NetHdr, DropCause> {
        let mut raw = RawHdr::new(self.config.size);
        self.copy_out(frame, 0, raw.as_mut_bytes())?;
        let frame_len = frame.len - self.config.size.bytes();
        Ok(NetHdr::check_rx(&raw, frame_len as u32, self.rules)?)
    }

    /// Makes the checksum of a frame partial that is to be segmented and was verified by somebody:
    /// a driver gets none of the former without `NEEDS_CSUM`. Its header as it is then.
    /// (NET-HDR-22, NET-HDR-23)
    pub(super) fn begin_checksum(
        &mut self,
        frame: Arrived,
        raw: RawHdr,
        rules: RxRules,
    ) -> Result<NetHdr, DropCause> {
        let header = self.config.size.bytes();
        let frame_len = frame.len - header;
        let mut head = [0; HEADERS];
        let head = &mut head[..frame_len.min(HEADERS)];
        self.copy_out(frame, header, head)?;
        let transport =
            Transport::of(head, frame_len, raw.gso_type()).ok_or(HdrError::GsoWithoutCsum)?;
        let raw = transport.make_partial(raw);
        let checked = NetHdr::check_rx(&raw, frame_len as u32, rules)?;
        self.copy_in(frame, header + transport.field(), &transport.pseudo)?;
        // It may be looked at again, if it has to wait.
        self.copy_in(frame, 0, &raw.as_bytes()[..self.config.size.base_bytes()])?;
        Ok(checked)
    }

    /// Copies out what lies `skip` bytes behind the start of `frame`'s header, and is all there.
    pub(super) fn copy_out(
        &self,
        frame: Arrived,
        skip: usize,
        dst: &mut [u8],
    ) -> Result<(), MemoryFault> {
        let mut done = 0;
        if skip < frame.direct {
            let count = dst.len().min(frame.direct - skip);
            done = self.pool.peek(skip, &mut dst[..count])?;
        }
        let rest = &mut dst[done..];
        let from = (skip + done).saturating_sub(frame.direct);
        rest.copy_from_slice(&self.bounce[from..][..rest.len()]);
        Ok(())
    }

    /// Completes the checksum of a frame for a driver that takes no partial one; its header as it
    /// is then. (NET-HDR-20)
    fn complete_checksum(&mut self, frame: Arrived, raw: &RawHdr) -> Result<NetHdr, DropCause> {
        let header = self.config.size.bytes();
        let frame_len = (frame.len - header) as u32;
        let partial = NetHdr::check_rx(raw, frame_len, RxRules::new(Offloads::CSUM))?;
        let mut sum = checksum::Sum::default();
        let mut at = header + usize::from(partial.csum_start());
        let mut piece = [0; SUMMED];
        while at < frame.len {
            let piece = &mut piece[..SUMMED.min(frame.len - at)];
            self.copy_out(frame, at, piece)?;
            sum.add(piece);
            at += piece.len();
        }
        self.copy_in(frame, header + checksum::field(partial), &sum.checksum())?;
        // It may be looked at again, if it has to wait.
        self.copy_in(frame, 0, &[0; HDR_LEN][..self.config.size.base_bytes()])?;
        let plain = RawHdr::from([0; HDR_LEN]);
        Ok(NetHdr::check_rx(&plain, frame_len, self.rules)?)
    }

    /// Copies `src` to `skip` bytes behind the start of `frame`'s header.
    fn copy_in(&mut self, frame: Arrived, skip: usize, src: &[u8]) -> Result<(), MemoryFault> {
        let (direct, rest) = src.split_at(src.len().min(frame.direct.saturating_sub(skip)));
        self.pool.poke(skip, direct)?;
        let to = (skip + direct.len()).saturating_sub(frame.direct);
        self.bounce[to..][..rest.len()].copy_from_slice(rest);
        Ok(())
    }
}
