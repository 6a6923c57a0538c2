//! Time that a frame waits for buffers that the driver may never post.

/// Time that a received frame waits for more buffers while the driver posts none (ns). Longer than
/// any driver takes that has some; with fewer than the frame needs it would stop reception for
/// ever.
const PATIENCE_NS: u64 = 1_000_000_000;

/// Bounds the wait of a frame that needs more buffers than there are.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    missing: Option<usize>,
    until: u64,
}

impl Patience {
    /// Records what is `missing` after the queue has run, and whether the driver got any frame
    /// meanwhile.
    pub(crate) fn update(
        &mut self,
        missing: Option<usize>,
        progress: bool,
        now: impl FnOnce() -> u64,
    ) {
        if missing.is_some() && (progress || missing != self.missing) {
            self.until = now().saturating_add(PATIENCE_NS);
        }
        self.missing = missing;
    }

    pub(crate) fn is_over(&self, now: impl FnOnce() -> u64) -> bool {
        self.missing.is_some() && now() >= self.until
    }

    /// Time at which it is over, if a frame waits.
    pub(crate) fn deadline(&self) -> Option<u64> {
        self.missing.map(|_| self.until)
    }
}
