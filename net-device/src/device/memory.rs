//! Guest memory of a device: as its driver may use it, as it changes, and whether writes to it are
//! marked.

use net_queue::{GuestRam, RamError};
use vm_memory::{GuestMemoryAtomic, GuestMemoryBackend, GuestMemoryRegion};

use super::NetDevice;
use super::memory_map::MemoryMap;
use super::states::State;
use crate::error::{MemoryChangeError, WorkerError};
use crate::features::Features;
use crate::lifecycle::Lifecycle;

impl NetDevice {
    /// Guest memory as the device may use it under the negotiated features (NET-FEAT-11); `None`:
    /// the driver's addresses are to be translated, and there is nobody to do it.
    pub(super) fn view(&self, memory: &GuestRam) -> Option<GuestRam> {
        let memory = memory.with_dirty_switch(self.dirty_switch.clone());
        if !self.acked.contains(Features::VIRTIO_F_ACCESS_PLATFORM) {
            return Some(memory);
        }
        let platform = self.platform.clone()?;
        Some(memory.with_access_platform(platform))
    }

    /// Moves every queue over to changed guest memory, between two frames. The old mapping is not
    /// used any more, by any queue, whatever the result is. A queue whose ring the driver broke
    /// stays broken.
    ///
    /// # Errors
    /// A running queue is not in the new memory, or the host cannot let it go on. All queues have
    /// stopped, no memory is held, and the device needs a reset: until then every call that would
    /// use a queue fails with the same reason.
    pub fn set_memory(&mut self, memory: GuestRam) -> Result<(), MemoryChangeError> {
        self.replace_memory(Ok(memory))
    }

    /// Lets go of mappings that are gone: to be called by the owner of an
    /// [`AccessPlatform`](crate::AccessPlatform) for each range of the driver's addresses that it
    /// does not translate any more, or to another place, before it tells the driver so. When this
    /// returns no worker uses what was translated before; received frames that wait for buffers are
    /// delivered as far as there are any, the rest is dropped (`rx_drop_stopped`).
    ///
    /// Rings in the range are looked up again and go on in their new place. A queue whose ring has
    /// none stands still, and the device needs a reset; other queues go on.
    ///
    /// Workers stop for it, all of them and whatever the range is: an owner that knows that nothing
    /// of a range was translated since the last call need not make this one.
    ///
    /// # Errors
    /// The host cannot let the workers go on: they stand still, and the device needs a reset. No
    /// mapping is used.
    pub fn mappings_removed(&mut self, addr: u64, len: u64) -> Result<(), WorkerError> {
        match &mut self.state {
            State::Running(active) => {
                active.forget_mappings(addr, len);
                active.run_or_fail()
            }
            State::Paused(active, _) => {
                active.forget_mappings(addr, len);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Has every queue look again at chains of which a translation was awaited: to be called by the
    /// owner of an [`AccessPlatform`](crate::AccessPlatform) that said
    /// [`Awaited`](net_queue::TranslateError::Awaited), once it knows more. Stops nobody.
    pub fn mappings_added(&self) {
        if let State::Running(active) = &self.state {
            active.wake();
        }
    }

    fn replace_memory(
        &mut self,
        memory: Result<GuestRam, RamError>,
    ) -> Result<(), MemoryChangeError> {
        self.state.active::<MemoryChangeError>()?;
        let running = self.lifecycle() == Lifecycle::Running;
        let moved = memory
            .map_err(MemoryChangeError::from)
            .and_then(|memory| self.view(&memory).ok_or(MemoryChangeError::NoPlatform))
            .and_then(|ram| {
                let active = self.state.active::<MemoryChangeError>()?;
                active.rebind(ram)?;
                if running {
                    active.run()?;
                }
                Ok(())
            });
        if let Err(error) = &moved {
            self.end_without_memory(error);
        }
        moved
    }

    /// Makes `memory` the map that [`NetDevice::memory_changed`] reads, for a VMM that keeps its
    /// memory in one place and replaces it there when regions are plugged or unplugged.
    ///
    /// An activation brings its own view of it: `GuestRam::new(memory.memory().into_inner())`.
    pub fn follow_memory<M>(&mut self, memory: GuestMemoryAtomic<M>)
    where
        M: GuestMemoryBackend + Send + Sync + 'static,
        <M::R as GuestMemoryRegion>::B: 'static,
    {
        self.memory = Some(MemoryMap::new(memory));
    }

    /// Moves every queue over to the map of [`NetDevice::follow_memory`] as it is now, as
    /// [`NetDevice::set_memory`] does. When this returns, no worker uses a region that is not in
    /// the map any more, and it can be unmapped.
    ///
    /// Before an activation there is nothing to move.
    ///
    /// # Errors
    /// As for [`NetDevice::set_memory`], also when the map itself cannot be used; or there is no
    /// map to follow.
    pub fn memory_changed(&mut self) -> Result<(), MemoryChangeError> {
        let map = self.memory.as_ref().ok_or(MemoryChangeError::NoMap)?;
        if matches!(self.lifecycle(), Lifecycle::Inactive | Lifecycle::Restored) {
            return Ok(());
        }
        let memory = map.read();
        self.replace_memory(memory)
    }

    /// Switches dirty marks on or off: whether what the device writes to guest memory is told to
    /// the bitmaps of its regions, or to the [`DirtyLog`](crate::DirtyLog) that was set on it.
    ///
    /// They are on until a VMM switches them off, since one that does not know of this call may
    /// read its bitmaps at any time, and memory without bitmaps or log has nothing to mark anyway.
    /// A VMM whose memory has bitmaps and that reads them only during a migration calls this with
    /// `false` once, or [`stop_dirty_log`](crate::Migratable::stop_dirty_log) after each migration;
    /// ring work is then as fast as without bitmaps. The switch is the VMM's: a reset of the device
    /// leaves it as it is.
    ///
    /// After `true` every worker has been stopped between two frames: what the device wrote before
    /// is there to be copied when this returns, and all that it writes later is marked.
    ///
    /// A thread that does not have the device uses
    /// [`DeviceHandle::set_dirty_logging`](crate::DeviceHandle::set_dirty_logging).
    ///
    /// # Errors
    /// The host cannot let the workers go on: they stand still, and the device needs a reset. Marks
    /// are on.
    pub fn set_dirty_logging(&mut self, on: bool) -> Result<(), WorkerError> {
        self.dirty_switch.set(on);
        match &mut self.state {
            State::Running(active) if on => {
                // A worker that is lost writes nothing any more.
                let _ = active.park();
                active.run_or_fail()
            }
            _ => Ok(()),
        }
    }

    /// Returns whether what the device writes is marked.
    #[must_use]
    pub fn is_dirty_logging(&self) -> bool {
        self.dirty_switch.is_on()
    }
}
