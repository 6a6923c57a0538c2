//! Requests about the configuration space.

use net_device::VirtioDevice;
use net_device::config::MIN_MTU;
use vhost::vhost_user::message::VhostUserConfig;

use super::{Session, SessionError};
use crate::protocol::vring::State;
use crate::protocol::wire::Answer;

impl Session<'_> {
    /// NET_SET_MTU: what the front-end tells the driver, which it may have from elsewhere than from
    /// the device.
    pub(super) fn set_mtu(&mut self, asked: u64) -> Result<(), SessionError> {
        let mtu = u16::try_from(asked).ok().filter(|mtu| *mtu >= MIN_MTU);
        let mtu = mtu.ok_or(SessionError::Mtu(asked))?;
        if self.device.driver_mtu() != Some(mtu) {
            if self.rings.iter().any(|ring| ring.state() == State::Running) {
                return Err(SessionError::Mtu(asked));
            }
            self.deactivate();
            self.device.set_driver_mtu(Some(mtu));
        }
        self.apply_targets()
    }

    pub(super) fn read_config(&self, config: &VhostUserConfig) -> Answer {
        let mut data = vec![0; config.size as usize];
        self.device.read_config(u64::from(config.offset), &mut data);
        Answer::Config(config.offset, data)
    }
}
