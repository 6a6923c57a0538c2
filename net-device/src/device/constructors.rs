//! The ways to make a device: from a tap name, from taps, from tap descriptors, from ports of any kind.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use net_queue::{Caps, Offloads};
use tap::{Tap, TapOptions};

use super::NetDevice;
use super::limit_groups::LimitGroups;
use super::states::State;
use crate::active::DetachedResources;
use crate::active::threads::WorkerThreads;
use crate::config::MacAddr;
use crate::config::{MIN_MTU, NetConfig, TapConfig};
use crate::error::NewError;
use crate::events::Events;
use crate::features::Features;
use crate::port::tap_port;
use crate::port::{HostInterface, Port};
use crate::shared::config_space::ConfigSpace;
use crate::shared::control_budget::ControlBudget;
use crate::shared::device_status::DeviceStatus;
use crate::worker::queue_pair::QueuePairResources;

impl NetDevice {
    /// Opens a tap, one queue for each pair, and makes a device on it. An interface that exists keeps its
    /// addresses and MTU; a new one gets those of `tap` and the configuration's MTU.
    ///
    /// # Errors
    /// The configuration is unusable, or the tap cannot be opened as asked.
    pub fn from_tap_name(config: NetConfig, tap: &TapConfig) -> Result<Self, NewError> {
        config.validate()?;
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
        Self::from_taps(config, options.open()?)
    }

    /// Makes a device on taps that are open, one queue of one interface for each pair.
    ///
    /// # Errors
    /// The configuration is unusable, or the number of taps is not the number of pairs.
    pub fn from_taps(config: NetConfig, taps: Vec<Tap>) -> Result<Self, NewError> {
        let multi_queue = taps.len() > 1;
        let host = taps.first().and_then(|tap| {
            let mac = MacAddr::from(tap.mac().ok()?);
            Some(HostInterface {
                name: tap.name().ok()?,
                mac,
            })
        });
        let ports = taps
            .into_iter()
            .map(|tap| tap_port(tap, multi_queue))
            .collect::<Result<_, _>>()?;
        let mut device = Self::from_ports(config, ports)?;
        device.host = host;
        Ok(device)
    }

    /// Makes a device on tap descriptors, one for each pair. Each is duplicated, so the caller's stay valid, for
    /// example over a reboot of the guest.
    ///
    /// # Errors
    /// As for [`NetDevice::from_taps`], or a descriptor is not a tap with a virtio-net header; the error says what
    /// differs.
    pub fn from_tap_fds(config: NetConfig, fds: &[BorrowedFd<'_>]) -> Result<Self, NewError> {
        let own = fds
            .iter()
            .map(BorrowedFd::try_clone_to_owned)
            .collect::<Result<_, _>>();
        Self::from_taps(config, Tap::from_fds(own.map_err(NewError::Duplicate)?)?)
    }

    /// Makes a device on ports of any kind, one for each pair.
    ///
    /// # Errors
    /// The configuration is unusable, or the number of ports is not the number of pairs.
    pub fn from_ports(mut config: NetConfig, ports: Vec<Port>) -> Result<Self, NewError> {
        config.validate()?;
        let pairs = usize::from(config.queue_pairs);
        if ports.len() != pairs {
            return Err(NewError::Ports {
                ports: ports.len(),
                pairs,
            });
        }
        if config.memory_fault_handler {
            net_queue::guard::install().map_err(NewError::MemoryFaultHandler)?;
        }
        let caps = common_caps(&ports);
        let follows_mtu = config.mtu.is_none();
        // A smaller one cannot be told to a driver (NET-CFG-07).
        config.mtu = config.mtu.or(caps.mtu.filter(|mtu| *mtu >= MIN_MTU));
        let offered = Features::offered(caps.tx, caps.rx, &config);
        let limit_groups = LimitGroups::default();
        let (rx, tx) = limit_groups.budgets(&config);
        let limits = rx.limiters(pairs)?.into_iter().zip(tx.limiters(pairs)?);
        let mut detached = DetachedResources {
            pairs: Vec::with_capacity(pairs),
            controls: Vec::with_capacity(pairs),
            threads: WorkerThreads::new(config.seccomp),
        };
        for (Port { backend, control }, (rx_limit, tx_limit)) in ports.into_iter().zip(limits) {
            let resources = QueuePairResources {
                backend,
                rx_limit,
                tx_limit,
            };
            detached.pairs.push(resources);
            detached.controls.push(control);
        }
        let control = usize::from(offered.contains(Features::VIRTIO_NET_F_CTRL_VQ));
        Ok(Self {
            queue_sizes: vec![config.queue_size; 2 * pairs + control],
            space: Arc::new(ConfigSpace::new(&config, offered)),
            status: Arc::new(DeviceStatus::new(Arc::new(Events::new(&config.id)))),
            follows_mtu,
            control_budget: Arc::new(ControlBudget::new(config.control_limit)),
            counters: (0..=2 * pairs).map(|_| Arc::default()).collect(),
            platform: None,
            host: None,
            driver_mtu: None,
            limit_groups,
            acked: Features::empty(),
            state: State::Inactive(detached),
            offered,
            config,
        })
    }
}

/// What all ports can do; the smallest MTU.
fn common_caps(ports: &[Port]) -> Caps {
    let all = Caps {
        tx: Offloads::all(),
        rx: Offloads::all(),
        mtu: None,
        multi_queue: true,
    };
    ports
        .iter()
        .map(|port| port.backend.caps())
        .fold(all, |all, one| Caps {
            tx: all.tx & one.tx,
            rx: all.rx & one.rx,
            mtu: all.mtu.into_iter().chain(one.mtu).min(),
            multi_queue: all.multi_queue && one.multi_queue,
        })
}
