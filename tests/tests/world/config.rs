//! The driver's knowledge of the configuration and of the state of the device: as it was when it
//! was last interrupted for them.

use net_device::{Features, VirtioDevice};

use crate::plant::lock;
use crate::seen::Seen;
use crate::world::World;

/// Link status and announcement in the configuration space.
const LINK_UP: u16 = 1;
const ANNOUNCE: u16 = 2;

impl World {
    fn shown(&self) -> Seen {
        Seen::of(&self.vmm.device)
    }

    fn features(&self) -> Features {
        Features::from_bits_retain(self.vmm.device.acked_features())
    }

    /// The driver looks at the configuration if it was interrupted for that, or has a reason of its
    /// own; returns whether it did.
    pub(crate) fn look_at_config(&mut self) -> bool {
        let looks = {
            let mut plant = lock(&self.plant);
            let own = plant.control.as_mut();
            let own = own.is_some_and(|control| std::mem::take(&mut control.announced));
            std::mem::take(&mut plant.config_changed) | own
        };
        if looks {
            self.seen = self.shown();
            let seen = self.seen;
            self.say(|| format!("  the driver sees {seen:?}"));
            let announces = self.seen.status & ANNOUNCE != 0
                && self
                    .features()
                    .contains(Features::VIRTIO_NET_F_GUEST_ANNOUNCE);
            let mut plant = lock(&self.plant);
            if let Some(control) = &mut plant.control {
                control.announces = announces;
            }
        }
        looks
    }

    /// A driver that begins looks at everything.
    pub(crate) fn look_at_first(&mut self) {
        lock(&self.plant).config_changed = true;
        self.look_at_config();
    }

    /// The driver knows all that it has to, once the world is at rest.
    pub(crate) fn check_told(&self) -> Result<(), String> {
        let shown = self.shown();
        if shown != self.seen {
            return Err(format!(
                "the device shows {shown:?}, and its driver was told of {:?}",
                self.seen
            ));
        }
        Ok(())
    }

    /// The same of a device that works: its link is up, and it asks for nothing any more.
    pub(crate) fn check_config(&self) -> Result<(), String> {
        self.check_told()?;
        let shown = self.shown();
        let has_status = self.features().contains(Features::VIRTIO_NET_F_STATUS);
        if has_status && shown.status != LINK_UP {
            return Err(format!("the status is {:#x} at rest", shown.status));
        }
        Ok(())
    }
}
