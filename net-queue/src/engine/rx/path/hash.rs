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
    ///
    /// A part that was received directly is read back from where the backend put it. The driver
    /// could change it meanwhile, and would deceive nobody but itself.
    #[inline(never)]
    pub(super) fn hash_of(&self, frame: Arrived) -> Result<FrameHash, MemoryFault> {
        let Some(hasher) = &self.hasher else {
            return Ok(FrameHash::NONE);
        };
        let header = self.config.size.bytes();
        let len = frame.len.saturating_sub(header);
        let mut copy;
        let head = if frame.direct == 0 {
            // The buffer goes on behind the frame.
            self.bounce[header..].first_chunk()
        } else {
            copy = [0; USUAL_HEAD];
            self.copy_out(frame, header, &mut copy[..len.min(USUAL_HEAD)])?;
            Some(&copy)
        };
        match head.and_then(|head| hasher.hash_usual(head, len)) {
            Some(hash) => Ok(hash),
            None => self.look_closer(hasher, frame),
        }
    }

    /// The same for a frame of which more than its first bytes may count.
    #[cold]
    fn look_closer(&self, hasher: &FrameHasher, frame: Arrived) -> Result<FrameHash, MemoryFault> {
        let header = self.config.size.bytes();
        let mut head = [0; HASHED_HEAD];
        let len = frame.len.saturating_sub(header).min(HASHED_HEAD);
        let head = &mut head[..len];
        self.copy_out(frame, header, head)?;
        Ok(hasher.hash(head))
    }

    /// Hash to be reported for frames that begin with `head`.
    pub(super) fn hash_of_head(&self, head: &[u8]) -> FrameHash {
        let hasher = self.hasher.as_ref();
        hasher.map_or(FrameHash::NONE, |hasher| hasher.hash(head))
    }

    /// Writes the header of `frame` where it is not the base: that of a legacy driver, or one with
    /// the hash, and the fields of a tunnel.
    pub(super) fn write_odd_header(
        &mut self,
        frame: Arrived,
        header: NetHdr,
    ) -> Result<(), MemoryFault> {
        if self.config.size == HdrSize::Legacy {
            return self.pool.put_header(&header.to_legacy_bytes());
        }
        let hash = match frame.hash {
            Some(hash) => hash,
            None => self.hash_of(frame)?,
        };
        let base = header.to_bytes();
        self.pool.put_header(&base)?;
        // Twelve bytes again, which are stored from two registers: the last four of them once more,
        // and the hash.
        let ([.., a, b, c, d], [e, f, g, h, i, j, k, l]) = (base, hash.to_wire());
        let part = [a, b, c, d, e, f, g, h, i, j, k, l];
        self.pool.put_header_part(HASHED - part.len(), &part)?;
        if self.config.size == HdrSize::Tunnel {
            let raw = header.to_raw(HdrSize::Tunnel);
            self.pool.poke(HASHED, &raw.as_bytes()[HASHED..])?;
        }
        Ok(())
    }
}
