//! The used elements of a ring as they lie in memory, for tests of what one of them stands for.

use crate::ring::Layout;
use crate::testing::{GuestRing, PackedFields, SplitFields};

impl GuestRing {
    /// Fills the used ring of a fresh ring, so that [`GuestRing::used_elements`] can tell what the
    /// device writes.
    pub fn poison_used(&self) {
        let config = self.config();
        if config.layout == Layout::Split {
            let len = 8 * usize::from(config.size);
            let at = SplitFields::of(&config).used_element(0);
            self.memory().write(at, &vec![0xff; len]);
        }
    }

    /// The elements that the device wrote in the ring's first lap, as (id, length), in the order
    /// they lie: a view that knows nothing of batches. A split ring was poisoned before.
    #[must_use]
    pub fn used_elements(&self) -> Vec<(u16, u32)> {
        let (memory, config) = (self.memory(), self.config());
        match config.layout {
            Layout::Split => {
                let fields = SplitFields::of(&config);
                let at = (0..config.size).map(|slot| fields.used_element(slot));
                let read = at.map(|at| (memory.load::<u32>(at), memory.load::<u32>(at + 4)));
                let written = read.filter(|(id, _)| *id != u32::MAX);
                written.map(|(id, len)| (id as u16, len)).collect()
            }
            Layout::Packed => {
                let fields = PackedFields::of(&config);
                let used =
                    |slot: &u16| memory.load::<u16>(fields.desc_flags(*slot)) & 0x8080 == 0x8080;
                let read = |slot| {
                    let at = fields.desc(slot);
                    (memory.load::<u16>(at + 12), memory.load::<u32>(at + 8))
                };
                (0..config.size).filter(used).map(read).collect()
            }
        }
    }
}
