//! Headers that report a hash. VirtIO 1.4 §5.1.9.4.5 (NET-MQ-16).

use std::sync::Arc;

use super::{Arrived, RxPath};
use crate::hash::{FrameHash, FrameHasher, HASHED_HEAD, USUAL_HEAD};
use crate::header::{HDR_LEN, HdrSize, NetHdr};
use crate::memory::guard::MemoryFault;

/// Bytes of a header up to the end of its hash.
const HASHED: usize = HDR_LEN + 8;

impl RxPath {
    pub(in crate::engine::rx) fn set_hasher(&mut self, hasher: Option<Arc<FrameHasher>>) {
        self.hasher = hasher;
    }

    /// Hash of a frame that was received, by what is in force now.
    #[inline(always)]
    pub(super) fn hash_of(&self, frame: Arrived) -> Result<FrameHash, MemoryFault> {
        let header = self.config.size.bytes();
        // The buffer goes on behind the frame.
        if let Some(hasher) = &self.hasher
            && frame.direct == 0
            && let Some(head) = self.bounce.get(header..).and_then(<[u8]>::first_chunk)
            && let Some(hash) = hasher.hash_usual(head, frame.len.saturating_sub(header))
        {
            return Ok(hash);
        }
        self.hash_elsewhere(frame)
    }

    /// The same for a frame that lies elsewhere than in the bounce buffer, or of which more than
    /// its first bytes may count.
    ///
    /// A part that was received directly is read back from where the backend put it. The driver
    /// could change it meanwhile, and would deceive nobody but itself.
    #[inline(never)]
    fn hash_elsewhere(&self, frame: Arrived) -> Result<FrameHash, MemoryFault> {
        let Some(hasher) = &self.hasher else {
            return Ok(FrameHash::NONE);
        };
        let header = self.config.size.bytes();
        let len = frame.len.saturating_sub(header);
        if frame.direct > 0 {
            let mut head = [0; USUAL_HEAD];
            self.copy_out(frame, header, &mut head[..len.min(USUAL_HEAD)])?;
            if let Some(hash) = hasher.hash_usual(&head, len) {
                return Ok(hash);
            }
        }
        let mut head = [0; HASHED_HEAD];
        let head = &mut head[..len.min(HASHED_HEAD)];
        self.copy_out(frame, header, head)?;
        Ok(hasher.hash(head))
    }

    /// Hash to be reported for frames that begin with `head`.
    pub(super) fn hash_of_head(&self, head: &[u8]) -> FrameHash {
        let hasher = self.hasher.as_ref();
        hasher.map_or(FrameHash::NONE, |hasher| hasher.hash(head))
    }

    /// Writes the header of `frame` with its hash.
    #[inline]
    pub(super) fn write_hash_header(
        &mut self,
        frame: Arrived,
        header: NetHdr,
    ) -> Result<(), MemoryFault> {
        let hash = match frame.hash {
            Some(hash) => hash,
            None => self.hash_of(frame)?,
        };
        self.pool.put_header_with(header.to_bytes(), hash.to_wire())
    }

    /// Writes the header of `frame` for a legacy driver, or with the fields of a tunnel.
    #[inline(never)]
    pub(super) fn write_odd_header(
        &mut self,
        frame: Arrived,
        header: NetHdr,
    ) -> Result<(), MemoryFault> {
        let written = if self.config.size == HdrSize::Legacy {
            self.pool.poke(0, &header.to_legacy_bytes())
        } else {
            self.write_hash_header(frame, header)?;
            let raw = header.to_raw(HdrSize::Tunnel);
            self.pool.poke(HASHED, &raw.as_bytes()[HASHED..])
        };
        written.map(|_| ())
    }
}
