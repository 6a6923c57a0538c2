//! The ports of one link.

use net_queue::{Caps, FrameBackend, Offloads};
use tap::{LinkMonitor, Tap, TapOptions};

use super::{GsoPolicy, HostInterface, Port, tap_port};
use crate::config::{MacAddr, NetConfig, TapConfig};
use crate::error::NewError;

/// A link of a device: a port for each pair, and the host's end.
#[derive(Debug)]
pub struct Link {
    /// The ports, by pair.
    pub ports: Vec<Port>,
    /// Interface of the host that the link ends at, if it is one.
    pub host: Option<HostInterface>,
    /// Listener to the kernel's news of that interface, if it lies in this network namespace.
    pub monitor: Option<LinkMonitor>,
}

/// Opens a link like the one that ended at this interface.
pub(crate) type OpenLink = Box<dyn FnMut(Option<&HostInterface>) -> Result<Link, NewError> + Send>;

impl Link {
    /// Opens a tap, one queue for each pair of `config`. An interface that exists keeps its
    /// addresses and MTU; a new one gets those of `tap` and the configuration's MTU.
    ///
    /// # Errors
    /// The tap cannot be opened as asked.
    pub fn on_tap(config: &NetConfig, tap: &TapConfig) -> Result<Self, NewError> {
        Self::on_taps(config, Self::open_taps(config, tap)?)
    }

    /// Opens the queues of a tap as [`Link::on_tap`] does, for a process that takes them by
    /// [`Link::on_taps`].
    ///
    /// # Errors
    /// The tap cannot be opened as asked.
    pub fn open_taps(config: &NetConfig, tap: &TapConfig) -> Result<Vec<Tap>, NewError> {
        let mut options = TapOptions::new(tap.name.as_deref().unwrap_or("vmtap%d"));
        options = options.queues(usize::from(config.queue_pairs)).up();
        if let Some(mac) = tap.host_mac {
            options = options.mac(mac.bytes());
        }
        if let Some(mtu) = config.mtu {
            options = options.mtu(mtu);
        }
        if let Some(cidr) = tap.ipv4 {
            options = options.ipv4(cidr.address(), cidr.prefix());
        }
        if let Some(cidr) = tap.ipv6 {
            options = options.ipv6(cidr.address(), cidr.prefix());
        }
        Ok(options.open()?)
    }

    /// Takes taps that are open, one queue of one interface for each pair.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn on_taps(config: &NetConfig, taps: Vec<Tap>) -> Result<Self, NewError> {
        let multi_queue = taps.len() > 1;
        let host = taps.first().and_then(|tap| {
            let mac = MacAddr::from(tap.mac().ok()?);
            Some(HostInterface {
                name: tap.name().ok()?,
                mac,
            })
        });
        // Without one the driver has a carrier for ever, as in another network namespace.
        let monitor = taps.first().and_then(|tap| LinkMonitor::new(tap).ok());
        let gso = GsoPolicy::of_this_kernel(config.gso);
        let ports = taps.into_iter().map(|tap| tap_port(tap, multi_queue, gso));
        let ports = ports.collect::<Result<_, _>>()?;
        Ok(Self {
            ports,
            host,
            monitor,
        })
    }

    /// The same link with a decorator around each pair's backend.
    #[must_use]
    pub fn map(
        self,
        mut decorate: impl FnMut(usize, Box<dyn FrameBackend>) -> Box<dyn FrameBackend>,
    ) -> Self {
        let ports = self.ports.into_iter().enumerate();
        let ports = ports.map(|(pair, port)| port.map(|backend| decorate(pair, backend)));
        Self {
            ports: ports.collect(),
            host: self.host,
            monitor: self.monitor,
        }
    }
}

/// Capabilities that all ports have; the smallest MTU.
pub(crate) fn common_caps(ports: &[Port]) -> Caps {
    let all = Caps {
        tx: Offloads::all(),
        rx: Offloads::all(),
        coalesce: Offloads::all(),
        mtu: None,
        multi_queue: true,
    };
    ports
        .iter()
        .map(|port| port.backend.caps())
        .fold(all, |all, one| Caps {
            tx: all.tx & one.tx,
            rx: all.rx & one.rx,
            coalesce: all.coalesce & one.coalesce,
            mtu: all.mtu.into_iter().chain(one.mtu).min(),
            multi_queue: all.multi_queue && one.multi_queue,
        })
}
