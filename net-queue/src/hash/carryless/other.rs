//! Processors that are not asked whether they multiply without carries.

use crate::hash::types::FrameHash;
use crate::hash::usual_flow::{USUAL_HEAD, UsualKinds};

/// Not made, since there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Multiplier(());

impl Multiplier {
    /// None.
    pub(crate) fn detect() -> Option<Self> {
        None
    }

    /// Not called.
    pub(crate) fn hash(self, _: &[u64], _: &[u8]) -> u32 {
        0
    }

    /// Not called either.
    pub(crate) fn hash_usual(
        self,
        _: &UsualKinds,
        _: &[u8; USUAL_HEAD],
        _: usize,
    ) -> Option<FrameHash> {
        None
    }
}
