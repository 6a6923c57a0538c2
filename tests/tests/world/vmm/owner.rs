//! Actions of a VMM on its device while a guest runs.

use net_device::{Cursor, Snapshot, Snapshottable, VirtioDevice};
use snapshot::state::QueueLayout;
use tests::testbed::chain;

use super::Vmm;
use crate::fault::Fault;
use crate::plant::lock;
use crate::suspension::StoppedBy;

impl Vmm {
    /// Shows the driver a link that is up or down.
    pub(crate) fn set_link(&mut self, up: bool) {
        self.link_up = up;
        self.device.set_link(up);
        self.hear_owner();
        let mut plant = lock(&self.plant);
        let queues = plant.queues.iter_mut();
        queues.for_each(|queue| queue.outgoing.link_changes(up));
    }

    /// Has the guest announced to the network, now and in rounds to come.
    pub(crate) fn announce(&mut self) {
        lock(&self.plant).restored = true;
        self.device.announce();
        self.hear_owner();
    }

    /// Does the next round of an announcement, if it is time for one.
    pub(crate) fn continue_announcement(&mut self) {
        self.device.continue_announcement();
        self.hear_owner();
    }

    pub(crate) fn pause(&mut self) -> Result<(), String> {
        self.device.pause().map_err(|error| chain(&error))?;
        lock(&self.plant).stopped_by.vmm = true;
        self.hear_owner();
        Ok(())
    }

    pub(crate) fn resume(&mut self) -> Result<(), String> {
        lock(&self.plant).stopped_by.vmm = false;
        self.device.resume().map_err(|error| chain(&error))?;
        self.hear_owner();
        Ok(())
    }

    /// The driver suspends the device, as its transport lets it. By then it has been told of all
    /// that was done.
    pub(crate) fn suspend(&mut self) -> Result<(), String> {
        let before = std::mem::take(&mut lock(&self.plant).stopped_by);
        self.device.suspend().map_err(|error| chain(&error))?;
        let mut plant = lock(&self.plant);
        plant.stopped_by = StoppedBy {
            driver: true,
            ..before
        };
        if !plant.failing {
            plant.are_told()?;
        }
        drop(plant);
        self.hear_owner();
        Ok(())
    }

    /// The driver lets the device go on that it has suspended.
    pub(crate) fn unsuspend(&mut self) -> Result<(), String> {
        lock(&self.plant).stopped_by.driver = false;
        self.device.unsuspend().map_err(|error| chain(&error))?;
        self.hear_owner();
        Ok(())
    }

    /// The guest's memory lies elsewhere from now on.
    pub(crate) fn move_memory(&mut self) -> Result<(), String> {
        let memory = self.memory();
        self.device
            .set_memory(memory)
            .map_err(|error| chain(&error))?;
        self.hear_owner();
        Ok(())
    }

    /// Has the device mark what it writes, or not.
    pub(crate) fn set_marks(&mut self, on: bool) -> Result<(), String> {
        let done = self.device.set_dirty_logging(on);
        self.hear_owner();
        done.map_err(|error| chain(&error))
    }

    pub(crate) fn stop_queue(&mut self, index: u16) -> Result<(), String> {
        let stopped = self
            .device
            .stop_queue(index)
            .map_err(|error| chain(&error))?;
        self.stopped
            .insert(index, stopped.ok_or("a queue did not run")?);
        lock(&self.plant).queue_stops();
        self.meet_workers();
        Ok(())
    }

    /// The driver resets a queue, as its transport lets it.
    pub(crate) fn reset_queue(&mut self, index: u16) -> Result<(), String> {
        self.device
            .reset_queue(index)
            .map_err(|error| chain(&error))?;
        self.stopped.insert(index, Cursor::default());
        let mut plant = lock(&self.plant);
        plant.queue_stops();
        plant.reset.insert(index);
        drop(plant);
        self.meet_workers();
        Ok(())
    }

    /// Starts a stopped queue where it stood, or `anew`.
    pub(crate) fn start_queue(&mut self, index: u16, anew: bool) -> Result<(), String> {
        let cursor = self.stopped.remove(&index).unwrap_or_default();
        lock(&self.plant).unsteady = !self.stopped.is_empty();
        lock(&self.plant).reset.remove(&index);
        let setup = self.setup(index, if anew { Cursor::default() } else { cursor });
        lock(&self.plant).stopped_by.discards = true;
        let started = self.device.start_queue(setup);
        lock(&self.plant).stopped_by.discards = false;
        started.map_err(|error| chain(&error))?;
        self.meet_workers();
        Ok(())
    }

    pub(crate) fn reset(&mut self) {
        lock(&self.plant).stopped_by = StoppedBy::default();
        self.device.reset();
        self.workers.clear();
        self.stopped.clear();
        lock(&self.plant).reset.clear();
        lock(&self.plant).restored = false;
        let mut plant = lock(&self.plant);
        plant.unsteady = false;
        plant.life += 1;
        plant.device_ends();
        plant.limits_stop();
    }

    /// Saves the paused device, and goes on, paused, in another one: other descriptors, other
    /// mappings, and whatever was on its way to the old one is lost.
    pub(crate) fn migrate(&mut self) -> Result<(), String> {
        let mut file = Vec::new();
        let snapshot = self.device.snapshot().map_err(|error| chain(&error))?;
        snapshot
            .write_to(&mut file)
            .map_err(|error| chain(&error))?;
        let state = snapshot.open().map_err(|error| chain(&error))?;
        lock(&self.plant).check_saved(&state.limiters)?;
        self.dropped = self.dropped();
        let next = Self::make_device(&self.plant, &self.profile, &self.clock);
        drop(std::mem::replace(&mut self.device, next));
        self.workers.clear();
        {
            let mut plant = lock(&self.plant);
            plant.life += 1;
            plant.forget_notifications();
            plant.device_ends();
        }
        lock(&self.plant).restored = true;
        self.device.set_link(self.link_up);
        let snapshot = Snapshot::read_from(&mut file.as_slice()).map_err(|error| chain(&error))?;
        let snapshot = self.misplace(snapshot)?;
        self.device
            .restore(snapshot)
            .map_err(|error| chain(&error))?;
        self.activate()
    }

    /// Moves the position of a queue in what is restored, if that is the fault of this world.
    fn misplace(&self, snapshot: Snapshot) -> Result<Snapshot, String> {
        let mut plant = lock(&self.plant);
        let step = match plant.fault {
            Some(Fault::EarlyCursor) => u16::MAX,
            Some(Fault::LateCursor) => 1,
            _ => return Ok(snapshot),
        };
        let mut state = snapshot.open().map_err(|error| chain(&error))?;
        let queue = plant.random.below(state.queues.len() as u64) as usize;
        let queue = &mut state.queues[queue];
        if queue.layout == QueueLayout::Split {
            queue.avail = queue.avail.wrapping_add(step);
            queue.used = queue.used.map(|used| used.wrapping_add(step));
        } else {
            let at = queue.avail.wrapping_add(step);
            queue.avail = if at < queue.size { at } else { queue.avail };
            queue.used = Some(queue.avail);
        }
        Snapshot::seal(&state).map_err(|error| chain(&error))
    }
}
