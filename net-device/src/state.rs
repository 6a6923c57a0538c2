//! Everything about a device that its guest can tell, as live types: what a restored device goes on
//! from.

use net_queue::Offloads;
use net_queue::ring::RingConfig;
use rate_limiter::Levels;

use crate::config::MacAddr;
use crate::error::ActivateError;
use crate::features::Features;
use crate::shared::config_space::LinkStatus;
use crate::shared::notf_coal::SavedNotfCoal;
use crate::shared::rss::RssParams;
use crate::shared::rx_filter::FilterTables;
use crate::transport::QueueSetup;

#[cfg(feature = "snapshot")]
pub(crate) mod net_state;

/// State of a device beyond its configuration and its backend.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeviceState {
    pub(crate) acked: Features,
    pub(crate) mac: Option<MacAddr>,
    pub(crate) announce: bool,
    pub(crate) generation: u32,
    pub(crate) activated: bool,
    pub(crate) needs_reset: bool,
    /// The driver had suspended the device, and was shown this.
    pub(crate) suspended: Option<LinkStatus>,
    /// Offloads that the driver set by commands.
    pub(crate) offloads: Offloads,
    pub(crate) tables: FilterTables,
    pub(crate) pairs: Option<u16>,
    pub(crate) rss: Option<RssParams>,
    pub(crate) notf_coal: SavedNotfCoal,
    /// Position of every queue that ran.
    pub(crate) rings: Vec<(u16, RingConfig)>,
    /// Levels of every queue's limit.
    pub(crate) limits: Vec<(u16, Levels)>,
}

impl DeviceState {
    /// Returns whether a queue ran when it was saved.
    pub(crate) fn ran(&self, queue: u16) -> bool {
        self.rings.iter().any(|(index, _)| *index == queue)
    }

    /// Lets a queue go on from where it stood when it was saved.
    ///
    /// # Errors
    /// It did not run then, or lay elsewhere: from its start it would run over what the driver has
    /// in flight.
    pub(crate) fn resume_from(&self, setup: &mut QueueSetup) -> Result<(), ActivateError> {
        let same = |(index, ring): &&(u16, RingConfig)| {
            (*index, ring.size, ring.addrs) == (setup.index, setup.size, setup.addrs)
        };
        match self.rings.iter().find(same) {
            Some((_, ring)) => {
                setup.cursor = ring.cursor;
                Ok(())
            }
            None => Err(ActivateError::NotAsSaved(setup.index)),
        }
    }
}
