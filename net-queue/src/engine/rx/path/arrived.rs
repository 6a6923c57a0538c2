//! A frame at hand.

use crate::hash::FrameHash;

/// Place of a frame that was received: `len` bytes with its header. The first `direct` of them lie
/// in the pool's chains, the rest in the bounce buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived {
    pub(super) len: usize,
    pub(super) direct: usize,
}

impl Arrived {
    #[inline(always)]
    pub(super) const fn new(len: usize, direct: usize) -> Self {
        Self { len, direct }
    }
}

/// A frame that is for this queue.
///
/// Its hash is apart from its place, which so fits into two registers wherever it is passed on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    pub(super) frame: Arrived,
    /// Its hash, if steering has asked for it in this turn. A frame that waits is hashed again, by
    /// what is in force then.
    pub(super) hash: Option<FrameHash>,
}

impl Received {
    /// A frame whose hash nobody has asked for.
    #[inline(always)]
    pub(super) const fn unhashed(frame: Arrived) -> Self {
        Self { frame, hash: None }
    }
}
