//! Hashes of received frames. VirtIO 1.4 §5.1.9.4.5 (NET-MQ-16).

use std::sync::Arc;

use super::{Arrived, RxPath};
use crate::hash::{FrameHash, FrameHasher, HASHED_HEAD, USUAL_HEAD};
use crate::memory::guard::MemoryFault;

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
            && let Some(head) = self.bounce.chunk_at(header)
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
        if frame.direct == 0 {
            let frame = self.bounce[..frame.len].get(header..).unwrap_or_default();
            return Ok(hasher.hash(frame));
        }
        let len = frame.len.saturating_sub(header);
        let mut head = [0; USUAL_HEAD];
        self.copy_out(frame, header, &mut head[..len.min(USUAL_HEAD)])?;
        if let Some(hash) = hasher.hash_usual(&head, len) {
            return Ok(hash);
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
}
