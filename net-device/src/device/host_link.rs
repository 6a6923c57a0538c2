//! Knowledge of the host's interface.

use tap::LinkMonitor;

/// The host's interface as it was looked at last.
#[derive(Debug, Default)]
pub(super) struct HostLink {
    pub(super) monitor: Option<LinkMonitor>,
    /// The VMM looks.
    pub(super) followed: bool,
    /// MTU in bytes, as far as it is known.
    pub(super) mtu: Option<u16>,
}

impl HostLink {
    pub(super) fn new(monitor: Option<LinkMonitor>) -> Self {
        Self {
            monitor,
            ..Self::default()
        }
    }
}
