//! Used chains on their way to the driver, and how many of them one used element can stand for.

use crate::ring::{Chain, RingConfig, UsedElements};

/// A used element, and the chains that it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element {
    /// The last chain's id.
    pub(super) id: u16,
    /// Bytes written to the last chain.
    pub(super) written: u32,
    /// Places of the used ring that the chains take together: one each in a split ring, their
    /// descriptors in a packed one. The ring hands out no more of them before the driver was told,
    /// so the sum is at most its size.
    pub(super) places: u16,
}

/// Collects chains into elements.
///
/// An element stands for one chain unless `VIRTIO_F_IN_ORDER` was negotiated and the ring was made
/// for [`UsedElements::PerBatch`]. Then the driver knows the order, and takes every chain up to the
/// last as used in full (VQ-SPL-20, VQ-PKD-15). So an element may go on only behind a full chain.
#[derive(Debug)]
pub(super) struct Batch {
    merges: bool,
    open: Option<Element>,
    /// The last chain of `open` was used in full.
    full: bool,
}

impl Batch {
    pub(super) fn new(config: &RingConfig) -> Self {
        Self {
            merges: config.in_order && config.used_elements == UsedElements::PerBatch,
            open: None,
            full: false,
        }
    }

    /// Adds a used chain that takes `places` places of the used ring; returns an element that is
    /// complete.
    #[inline]
    pub(super) fn add(&mut self, chain: Chain, places: u16, written: u32) -> Option<Element> {
        let mut element = Element {
            id: chain.id(),
            written,
            places,
        };
        if !self.merges {
            return Some(element);
        }
        let mut complete = self.open.take();
        if self.full
            && let Some(open) = complete.take()
        {
            element.places += open.places;
        }
        self.open = Some(element);
        self.full = written == chain.writable_len();
        complete
    }

    /// Places of the element that is not complete.
    #[inline]
    pub(super) fn open_places(&self) -> u16 {
        self.open.map_or(0, |element| element.places)
    }

    /// The element that is left.
    #[inline]
    pub(super) fn take(&mut self) -> Option<Element> {
        self.open.take()
    }
}
