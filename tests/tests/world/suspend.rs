//! Suspensions by the driver, at any moment, and what it sees meanwhile.

use net_device::{Features, VirtioDevice};

use crate::suspension::Frozen;
use crate::vmm::Vmm;
use crate::world::World;

impl World {
    /// The driver suspends the device, or lets it go on.
    pub(crate) fn suspend_or_go_on(&mut self) -> Result<(), String> {
        let features = Features::from_bits_retain(self.vmm.device.acked_features());
        if self.frozen.is_some() {
            self.unsuspend()
        } else if features.contains(Features::VIRTIO_F_SUSPEND) {
            self.say_and("the driver suspends the device", Vmm::suspend)?;
            self.frozen = Some(Frozen::shown_by(&self.vmm.device));
            Ok(())
        } else {
            Ok(())
        }
    }

    /// The driver lets the device go on, if it has suspended it.
    pub(crate) fn unsuspend(&mut self) -> Result<(), String> {
        self.check_frozen()?;
        if self.frozen.take().is_some() {
            self.say_and("the driver lets the device go on", Vmm::unsuspend)?;
        }
        Ok(())
    }

    /// A suspended device goes on elsewhere, and shows the same there in another generation.
    pub(crate) fn moves_frozen(&mut self) -> Result<(), String> {
        let generation = self.vmm.device.config_generation();
        self.frozen = self.frozen.map(|it| it.in_generation(generation));
        self.check_frozen()
    }

    /// A suspended device shows its driver what it has shown before.
    pub(crate) fn check_frozen(&self) -> Result<(), String> {
        let suspended = self.vmm.device.is_suspended();
        if suspended != self.frozen.is_some() {
            return Err(format!("the device is suspended: {suspended}"));
        }
        let Some(frozen) = self.frozen else {
            return Ok(());
        };
        let shown = Frozen::shown_by(&self.vmm.device);
        if shown == frozen {
            return Ok(());
        }
        Err(format!(
            "a suspended device shows {shown}, and has shown {frozen}"
        ))
    }
}
