//! The seam between reception and what a driver wants to see.

/// Decides which received frames the driver wants to see.
pub trait FrameFilter: Sync {
    /// Looks at the first bytes of a frame: 18, or all of a shorter one.
    fn admit(&self, head: &[u8]) -> bool;
}
