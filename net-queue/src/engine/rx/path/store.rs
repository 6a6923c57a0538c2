//! The way of a checked frame into the driver's buffers.
//!
//! Code for what frames usually take is compiled into the path of each: a call, a loop over
//! segments or a jump through a table would be fetched, and foretold, anew behind each system
//! call.

use super::{Arrived, Received, RxPath};
use crate::counters::Offload;
use crate::drop_cause::DropCause;
use crate::header::{HDR_LEN, HdrSize, NetHdr};
use crate::memory::guard::MemoryFault;
use crate::ring::Ring;

/// Bytes of a header up to the end of its hash.
const HASHED: usize = HDR_LEN + 8;

impl RxPath {
    /// Puts `frame` with its checked header into the pool's chains, which have room for it.
    #[inline(always)]
    pub(super) fn store<R: Ring>(
        &mut self,
        ring: &mut R,
        received: Received,
        mut header: NetHdr,
    ) -> Result<(), DropCause> {
        let len = received.frame.len;
        self.offload = Offload::of(header);
        if self.config.merge {
            header.set_num_buffers(self.pool.span(len) as u16);
        }
        let written = self.write(received, header);
        if written.is_err() {
            self.pool.waste(ring, len);
        }
        written.map_err(DropCause::from)
    }

    /// Copies what is still in the bounce buffer of `frame`, and its header, into the pool's
    /// chains.
    #[inline(always)]
    fn write(&mut self, received: Received, header: NetHdr) -> Result<(), MemoryFault> {
        let frame = received.frame;
        let in_one = match frame.direct {
            0 => self.pool.poke_front(&self.bounce[..frame.len]),
            _ => None,
        };
        match in_one {
            Some(copied) => copied?,
            None => self.write_parts(frame)?,
        }
        // Not by a match, of which the compiler makes a jump through a table.
        if self.config.size == HdrSize::Base {
            self.pool.put_header(header.to_bytes())
        } else if self.config.size == HdrSize::HashReport {
            self.write_hash_header(received, header)
        } else {
            self.write_odd_header(received, header)
        }
    }

    /// Copies what is in the bounce buffer of a frame that takes several segments, or of which a
    /// part is in them already.
    #[inline(never)]
    fn write_parts(&mut self, frame: Arrived) -> Result<(), MemoryFault> {
        let Arrived { len, direct } = frame;
        self.pool.poke(direct, &self.bounce[..len - direct])?;
        Ok(())
    }

    /// Writes the header of `frame` with its hash.
    #[inline]
    fn write_hash_header(&mut self, received: Received, header: NetHdr) -> Result<(), MemoryFault> {
        let hash = match received.hash {
            Some(hash) => hash,
            None => self.hash_of(received.frame)?,
        };
        self.pool.put_header_with(header.to_bytes(), hash.to_wire())
    }

    /// Writes the header of `frame` for a legacy driver, or with the fields of a tunnel.
    #[inline(never)]
    fn write_odd_header(&mut self, received: Received, header: NetHdr) -> Result<(), MemoryFault> {
        let written = if self.config.size == HdrSize::Legacy {
            self.pool.poke(0, &header.to_legacy_bytes())
        } else {
            self.write_hash_header(received, header)?;
            let raw = header.to_raw(HdrSize::Tunnel);
            self.pool.poke(HASHED, &raw.as_bytes()[HASHED..])
        };
        written.map(|_| ())
    }
}
