//! A copy of guest memory as a migration makes it while the guest runs: it follows the
//! device's dirty marks and the driver's own writes, and has to be equal, byte by byte.

use std::sync::Arc;

use net_queue::testing::{DirtyRanges, TestMemory};

/// Bytes that may be compared for each step. More would take most of a world's time.
const BYTES_A_STEP: usize = 1024;
/// Bytes that are compared at once.
const PART: usize = 512;

/// A copy of guest memory, as far as the device can write there.
pub(crate) struct Ledger {
    memory: TestMemory,
    driver: Arc<DirtyRanges>,
    device: Arc<DirtyRanges>,
    copy: Vec<u8>,
    now: Vec<u8>,
    /// Steps since it was looked at.
    steps: usize,
    /// Marks are missing since it was: a switch was off.
    stale: bool,
}

impl Ledger {
    /// A copy of what `memory` holds now, whose driver tells `driver` of its writes; marks go to
    /// `device`.
    pub(crate) fn new(
        memory: &TestMemory,
        driver: Arc<DirtyRanges>,
        device: Arc<DirtyRanges>,
    ) -> Self {
        Self {
            memory: memory.clone(),
            driver,
            device,
            copy: Vec::new(),
            now: Vec::new(),
            steps: 0,
            stale: true,
        }
    }

    /// Nobody marks for a while.
    pub(crate) fn is_stale(&mut self) {
        self.stale = true;
    }

    /// Another step is over, after which the device stands still. Looks every now and then whether
    /// the copy is equal; the more there is to compare, the less often.
    ///
    /// # Errors
    /// A byte has changed, and no mark tells of it; unless it `is_lent`: it lies in a buffer that
    /// the driver gave away, and says nothing before it comes back.
    pub(crate) fn step(&mut self, is_lent: impl Fn(u64) -> bool) -> Result<(), String> {
        self.steps += 1;
        if self.steps < self.now.len() / BYTES_A_STEP {
            return Ok(());
        }
        self.steps = 0;
        let start = TestMemory::REGIONS[0].0;
        let len = (self.memory.rings_end() - start) as usize;
        self.now = self.memory.read(start, len);
        // New rings were all zero before.
        self.copy.resize(len, 0);
        let marked = [self.driver.take(), self.device.take()].concat();
        if std::mem::take(&mut self.stale) {
            self.copy.clone_from(&self.now);
            return Ok(());
        }
        for (addr, count) in marked {
            // Tables lie elsewhere, and are the driver's alone.
            let Some(from) = addr.checked_sub(start).map(|from| from as usize) else {
                continue;
            };
            if let Some(bytes) = self.now.get(from..from + count as usize) {
                self.copy[from..from + count as usize].copy_from_slice(bytes);
            }
        }
        if self.copy == self.now {
            return Ok(());
        }
        let parts = self.copy.chunks(PART).zip(self.now.chunks(PART));
        let parts = parts.zip((start..).step_by(PART));
        let changed = parts.filter(|((copy, now), _)| copy != now);
        let mut bytes = changed.flat_map(|((copy, now), at)| {
            let bytes = copy.iter().zip(now).zip(at..);
            bytes.filter_map(|((copy, now), at)| (copy != now).then_some(at))
        });
        bytes.find(|at| !is_lent(*at)).map_or(Ok(()), |at| {
            Err(format!(
                "the byte at {at:#x} has changed, and no mark tells of it"
            ))
        })
    }
}
