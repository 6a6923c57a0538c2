//! The memory table and the dirty log, changed while rings run.

use std::sync::Arc;

use net_device::GuestRam;
use vhost::vhost_user::message::VhostUserVirtioFeatures;

use super::{Session, SessionError};
use crate::protocol::dirty_log::{DirtyBitmap, DirtyPages};
use crate::protocol::memory_table::MemoryTable;
use crate::protocol::vring::{State, Vring};

impl Session<'_> {
    /// Bitmap in which written pages are marked, while they are to be.
    pub(super) fn logging(&self) -> Option<&DirtyBitmap> {
        self.log
            .as_ref()
            .filter(|_| self.has(VhostUserVirtioFeatures::LOG_ALL))
    }

    /// Replaces the bitmap.
    ///
    /// # Errors
    /// It has no bit for some of the memory, whose pages would not be copied.
    pub(super) fn set_log(&mut self, bitmap: DirtyBitmap) -> Result<(), SessionError> {
        check_log(&bitmap, &self.memory)?;
        self.log = Some(bitmap);
        if self.logging().is_some() {
            self.renew_memory()
        } else {
            Ok(())
        }
    }

    /// The table as the device takes it, with the dirty log that is in force.
    pub(super) fn ram(&self, table: &MemoryTable) -> Result<Option<GuestRam>, SessionError> {
        let Some(memory) = table.guest_memory()? else {
            return Ok(None);
        };
        let ram = self.behind_iommu(GuestRam::new(memory)?);
        let Some(bitmap) = self.logging() else {
            return Ok(Some(ram));
        };
        let layout = self.layout();
        let used_rings = self
            .rings
            .iter()
            .filter_map(|ring| ring.used_ring(layout, table))
            .collect();
        Ok(Some(ram.with_dirty_log(Some(Arc::new(DirtyPages::new(
            bitmap.clone(),
            used_rings,
            Arc::clone(&self.interrupts) as _,
        ))))))
    }

    /// Lets the device see the dirty log as it is now.
    pub(super) fn renew_memory(&mut self) -> Result<(), SessionError> {
        self.set_memory(self.memory.clone())
    }

    /// Puts another table in force, which says nothing of translations that are known.
    pub(super) fn change_memory(&mut self, table: MemoryTable) -> Result<(), SessionError> {
        let table = table.behind(self.iommu().cloned());
        if self.memory.is_behind_iotlb() {
            for index in 0..self.rings.len() {
                self.halt(index, State::Held)?;
            }
            self.iotlb.iter().for_each(|iotlb| iotlb.clear());
        }
        self.set_memory(table)
    }

    /// Puts another table in the place of the one that is in use. Rings go on running; one whose
    /// place in guest memory is another now stops for that time. The old mappings go with the last
    /// worker that used them.
    fn set_memory(&mut self, table: MemoryTable) -> Result<(), SessionError> {
        // A front-end starts rings with logging on before it has a log for them, so one that is
        // left from another migration is not a reason to refuse.
        if let Some(log) = self.logging()
            && self.rings.iter().any(|ring| ring.state() == State::Running)
        {
            check_log(log, &table)?;
        }
        let mut moved = Vec::new();
        for (index, ring) in self
            .rings
            .iter()
            .enumerate()
            .filter(|(_, ring)| ring.state() == State::Running)
        {
            let addrs = ring
                .guest_addrs(&table)
                .map_err(|_| SessionError::MemoryInUse)?;
            if self.iommu().is_some() || ring.guest_addrs(&self.memory).ok() != Some(addrs) {
                moved.push(index);
            }
        }
        let ram = self.ram(&table)?;
        for index in moved {
            self.halt(index, State::Held)?;
        }
        // Without any region the device keeps the old memory, in which no ring runs.
        if let Some(ram) = ram.filter(|_| self.activated)
            && let Err(error) = self.device.set_memory(ram)
        {
            // Some rings may be in the new memory and some in the old one.
            self.deactivate();
            self.rings.iter_mut().for_each(Vring::failed);
            return Err(error.into());
        }
        self.memory = table;
        self.apply_targets()
    }
}

/// Checks that `log` has a bit for each page of `table`.
fn check_log(log: &DirtyBitmap, table: &MemoryTable) -> Result<(), SessionError> {
    let end = table.end();
    if log.covers(end) {
        Ok(())
    } else {
        Err(SessionError::ShortLog(end))
    }
}
