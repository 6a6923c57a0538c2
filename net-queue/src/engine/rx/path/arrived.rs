//! A frame at hand.

use crate::hash::FrameHash;

/// A frame that was received: `len` bytes with its header. The first `direct` of them lie in the
/// pool's chains, the rest in the bounce buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived {
    pub(super) len: usize,
    pub(super) direct: usize,
    /// Its hash, if steering has asked for it in this turn. A frame that waits is hashed again, by
    /// what is in force then.
    pub(super) hash: Option<FrameHash>,
}

impl Arrived {
    /// A frame whose hash nobody has asked for.
    #[inline(always)]
    pub(super) const fn new(len: usize, direct: usize) -> Self {
        Self {
            len,
            direct,
            hash: None,
        }
    }
}
