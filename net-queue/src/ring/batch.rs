//! Used chains on their way to the driver, and how many of them one used element can stand for.

use crate::ring::Chain;

/// A used element, and the chains that it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element {
    /// The last chain's id.
    pub(super) id: u16,
    /// Bytes written to the last chain.
    pub(super) written: u32,
    /// How many chains.
    pub(super) chains: u16,
    /// Their descriptors in the ring.
    pub(super) slots: u16,
}

/// Collects chains into elements.
///
/// Without `VIRTIO_F_IN_ORDER` an element stands for one chain. With it, the driver knows the order, and takes every
/// chain up to the last as used in full (VQ-SPL-20, VQ-PKD-15). So an element may go on only behind a full chain.
#[derive(Debug)]
pub(super) struct Batch {
    in_order: bool,
    open: Option<Element>,
    /// The last chain of `open` was used in full.
    full: bool,
}

impl Batch {
    pub(super) fn new(in_order: bool) -> Self {
        Self {
            in_order,
            open: None,
            full: false,
        }
    }

    /// Adds a used chain; returns an element that is complete.
    #[inline]
    pub(super) fn add(&mut self, chain: Chain, written: u32) -> Option<Element> {
        let mut element = Element {
            id: chain.id(),
            written,
            chains: 1,
            slots: chain.slots(),
        };
        if !self.in_order {
            return Some(element);
        }
        let mut complete = self.open.take();
        if self.full
            && let Some(open) = complete.take()
        {
            element.chains += open.chains;
            element.slots += open.slots;
        }
        self.open = Some(element);
        self.full = written == chain.room();
        complete
    }

    /// The element that is left.
    #[inline]
    pub(super) fn take(&mut self) -> Option<Element> {
        self.open.take()
    }
}
