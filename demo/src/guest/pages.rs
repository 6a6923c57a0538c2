//! Which pages of the arena are free.

use std::collections::BTreeMap;

/// A first-fit allocator of page runs; neighbours merge when they come back.
#[derive(Debug)]
pub(super) struct PageMap {
    /// First page of each free run, and its length. No two runs touch.
    free: BTreeMap<usize, usize>,
    total: usize,
}

impl PageMap {
    /// A map of `total` free pages.
    pub(super) fn new(total: usize) -> Self {
        Self {
            free: BTreeMap::from([(0, total)]),
            total,
        }
    }

    /// Takes `count` adjacent pages and returns the first, or `None` when no run is long enough.
    pub(super) fn take(&mut self, count: usize) -> Option<usize> {
        if count == 0 {
            return None;
        }
        let (&first, &len) = self.free.iter().find(|&(_, &len)| len >= count)?;
        self.free.remove(&first);
        if len > count {
            self.free.insert(first + count, len - count);
        }
        Some(first)
    }

    /// Gives `count` pages from `first` back. `false`, and no change, when one of them is free
    /// already or is not of this map.
    #[must_use]
    pub(super) fn give(&mut self, first: usize, count: usize) -> bool {
        let Some(end) = first.checked_add(count).filter(|&end| end <= self.total) else {
            return false;
        };
        let before = self
            .free
            .range(..end)
            .next_back()
            .map(|(&at, &len)| (at, at + len));
        if count == 0 || before.is_some_and(|(_, before_end)| before_end > first) {
            return false;
        }
        let after = self.free.remove(&end).unwrap_or(0);
        match before {
            Some((at, before_end)) if before_end == first => self.free.insert(at, end - at + after),
            _ => self.free.insert(first, count + after),
        };
        true
    }

    /// Pages that are free now.
    #[cfg(test)]
    pub(super) fn free_pages(&self) -> usize {
        self.free.values().sum()
    }
}

#[cfg(test)]
mod tests;
