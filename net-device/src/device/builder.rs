//! Construction of a device.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use net_queue::header::HDR_LEN;
use net_queue::{AccessPlatform, DirtySwitch, FrameBackend};
use rate_limiter::Group;
use tap::{FilterProgram, SteeringProgram, Tap};
use vmm_sys_util::eventfd::EventFd;

use super::NetDevice;
use super::announce_rounds::Rounds;
use super::host_link::HostLink;
use super::limit_groups::LimitGroups;
use super::states::State;
use crate::active::DetachedResources;
use crate::active::threads::WorkerThreads;
use crate::clock::{Clock, MonotonicClock};
use crate::config::{MIN_MTU, NetConfig, TapConfig};
use crate::error::NewError;
use crate::events::{Events, Observer};
use crate::features::Features;
use crate::loaded_program::LoadedProgram;
use crate::port::link::{OpenLink, common_caps};
use crate::port::{HostInterface, Link, Port};
use crate::shared::config_space::ConfigSpace;
use crate::shared::control_budget::ControlBudget;
use crate::shared::device_status::DeviceStatus;
use crate::shared::kernel_programs::{KernelPrograms, LoadedPrograms};
use crate::worker::queue_pair::QueuePairResources;
use crate::worker::thread::ThreadHook;

type Decorator<'a> = Box<dyn FnMut(usize, Box<dyn FrameBackend>) -> Box<dyn FrameBackend> + 'a>;

/// Builds a [`NetDevice`]: all that is settled for the whole life of a device, beyond its
/// configuration. Made by [`NetDevice::builder`]; one of the `build` methods finishes it.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use net_device::{NetConfig, NetDevice, TapConfig, ThreadInfo};
/// # use vmm_sys_util::eventfd::EventFd;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let exit = EventFd::new(0)?;
/// let device = NetDevice::builder(NetConfig::default())
///     .exit_event(exit.try_clone()?)
///     .thread_hook(Arc::new(|thread: &ThreadInfo<'_>| {
///         println!("{} is thread {}", thread.name, thread.tid);
///         Ok(())
///     }))
///     .build_on_tap(&TapConfig::default())?;
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct NetDeviceBuilder<'a> {
    config: NetConfig,
    exit_event: Option<EventFd>,
    observer: Option<Arc<dyn Observer>>,
    decorators: Vec<Decorator<'a>>,
    limit_groups: LimitGroups,
    platform: Option<Arc<dyn AccessPlatform>>,
    threads: WorkerThreads,
    early_threads: bool,
    open_link: Option<OpenLink>,
    programs: LoadedPrograms,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for NetDeviceBuilder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetDeviceBuilder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl NetDevice {
    /// Begins a device with this configuration.
    pub fn builder<'a>(config: NetConfig) -> NetDeviceBuilder<'a> {
        NetDeviceBuilder {
            threads: WorkerThreads::new(config.seccomp),
            config,
            exit_event: None,
            observer: None,
            decorators: Vec::new(),
            limit_groups: LimitGroups::default(),
            platform: None,
            early_threads: false,
            open_link: None,
            programs: LoadedPrograms::default(),
            clock: Arc::new(MonotonicClock),
        }
    }

    /// Makes a device on a tap, see [`NetDeviceBuilder::build_on_tap`].
    ///
    /// # Errors
    /// As there.
    pub fn from_tap_name(config: NetConfig, tap: &TapConfig) -> Result<Self, NewError> {
        Self::builder(config).build_on_tap(tap)
    }

    /// Makes a device on open taps, see [`NetDeviceBuilder::build_on_taps`].
    ///
    /// # Errors
    /// As there.
    pub fn from_taps(config: NetConfig, taps: Vec<Tap>) -> Result<Self, NewError> {
        Self::builder(config).build_on_taps(taps)
    }

    /// Makes a device on tap descriptors, see [`NetDeviceBuilder::build_on_tap_fds`].
    ///
    /// # Errors
    /// As there.
    pub fn from_tap_fds(config: NetConfig, fds: &[BorrowedFd<'_>]) -> Result<Self, NewError> {
        Self::builder(config).build_on_tap_fds(fds)
    }

    /// Makes a device on ports of any kind, see [`NetDeviceBuilder::build_on_ports`].
    ///
    /// # Errors
    /// As there.
    pub fn from_ports(config: NetConfig, ports: Vec<Port>) -> Result<Self, NewError> {
        Self::builder(config).build_on_ports(ports)
    }
}

impl<'a> NetDeviceBuilder<'a> {
    /// Event to signal when a worker panics.
    pub fn exit_event(mut self, event: EventFd) -> Self {
        self.exit_event = Some(event);
        self
    }

    /// Observer of the device's lifecycle events.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Decorator around each pair's backend; of several the last one is the outermost.
    pub fn decorate_backends(
        mut self,
        decorate: impl FnMut(usize, Box<dyn FrameBackend>) -> Box<dyn FrameBackend> + 'a,
    ) -> Self {
        self.decorators.push(Box::new(decorate));
        self
    }

    /// Budgets that the device shares with others: each frame also takes from the group of its
    /// direction, if there is one, and waits for it. The order is queue, device (see
    /// [`LimitScope`](crate::LimitScope)), group.
    pub fn limit_groups(mut self, rx: Option<Group>, tx: Option<Group>) -> Self {
        self.limit_groups = LimitGroups { rx, tx };
        self
    }

    /// Way to open the link again once a port of it is gone, as that of a tap that was deleted; it
    /// is told which interface the link had. A reset and an activation look for lost ports then,
    /// and so does [`NetDevice::reopen_lost_ports`]. Decorators of the builder are not applied
    /// again: see [`Link::map`].
    ///
    /// ```no_run
    /// # use net_device::{NetConfig, NetDevice, TapConfig, port::Link};
    /// # let (config, tap) = (NetConfig::default(), TapConfig::default());
    /// let (again, name) = (config.clone(), tap.name.clone());
    /// let device = NetDevice::builder(config)
    ///     .reopen_with(move |lost| {
    ///         let name = lost.map(|lost| lost.name.clone()).or(name.clone());
    ///         Link::on_tap(&again, &TapConfig { name, ..TapConfig::default() })
    ///     })
    ///     .build_on_tap(&tap)?;
    /// # Ok::<(), net_device::NewError>(())
    /// ```
    pub fn reopen_with(
        mut self,
        open: impl FnMut(Option<&HostInterface>) -> Result<Link, NewError> + Send + 'static,
    ) -> Self {
        self.open_link = Some(Box::new(open));
        self
    }

    /// Program by which the kernel chooses the queue of each frame, instead of one that the device
    /// loads itself, which takes CAP_BPF and CAP_PERFMON. One with rules counts with
    /// [`rss`](NetConfig::rss) alone, any with [`kernel_steering`](NetConfig::kernel_steering) and
    /// several pairs. A link that does not take it fails the build.
    pub fn steering_program(mut self, program: LoadedProgram<SteeringProgram>) -> Self {
        self.programs.steering = Some(program);
        self
    }

    /// Program by which the kernel drops frames, instead of one that the device loads itself, which
    /// takes CAP_BPF. Counts with [`kernel_filter`](NetConfig::kernel_filter) alone. A link that
    /// does not take it fails the build.
    ///
    /// ```no_run
    /// # use net_device::tap::FilterProgram;
    /// # use net_device::{LoadedProgram, NetConfig, NetDevice, TapConfig};
    /// # use std::os::fd::OwnedFd;
    /// // Whoever may load it has sent the descriptors of `FilterProgram::load`.
    /// fn device(
    ///     program: OwnedFd,
    ///     rules: OwnedFd,
    /// ) -> Result<NetDevice, Box<dyn std::error::Error>> {
    ///     let program = FilterProgram::from_fds(program, rules)?;
    ///     Ok(NetDevice::builder(NetConfig::default())
    ///         .filter_program(LoadedProgram::WithRules(program))
    ///         .build_on_tap(&TapConfig::default())?)
    /// }
    /// ```
    pub fn filter_program(mut self, program: LoadedProgram<FilterProgram>) -> Self {
        self.programs.filter = Some(program);
        self
    }

    /// Clock of the device's limits and deadlines, instead of the kernel's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Translation of the driver's addresses. It can be set later as well, for the next activation.
    pub fn access_platform(mut self, platform: Arc<dyn AccessPlatform>) -> Self {
        self.platform = Some(platform);
        self
    }

    /// Hook that each worker thread calls when it starts, before it confines itself: for its CPU,
    /// its priority, its cgroup or a list of threads. A hook that fails or panics fails the start.
    pub fn thread_hook(mut self, hook: Arc<dyn ThreadHook>) -> Self {
        self.threads.setup.hook = Some(hook);
        self
    }

    /// Device without threads: once it is activated, an event loop of the VMM drives its
    /// [workers](NetDevice::event_workers).
    pub fn event_loop(mut self) -> Self {
        self.threads.event_loop = true;
        self
    }

    /// System calls that worker threads may make beyond their list, with any arguments: those that
    /// a VMM's interrupt, observer or backends need. See [`seccomp`](crate::seccomp).
    pub fn more_system_calls(mut self, calls: &[i64]) -> Self {
        self.threads.setup.more_calls.extend(calls);
        self
    }

    /// Starts all worker threads as the device is made, and keeps them for all activations: for a
    /// VMM whose own seccomp filter forbids later what a thread takes to start. Without this,
    /// threads start with the first queue of their pair and end with a reset. A device in an event
    /// loop has none either way.
    pub fn start_threads_early(mut self) -> Self {
        self.early_threads = true;
        self
    }

    /// Opens a tap, one queue for each pair, and makes a device on it. An interface that exists
    /// keeps its addresses and MTU; a new one gets those of `tap` and the configuration's MTU.
    ///
    /// # Errors
    /// The configuration is unusable, or the tap cannot be opened as asked.
    pub fn build_on_tap(self, tap: &TapConfig) -> Result<NetDevice, NewError> {
        self.config.validate()?;
        let link = Link::on_tap(&self.config, tap)?;
        self.build_on_link(link)
    }

    /// Makes a device on taps that are open, one queue of one interface for each pair.
    ///
    /// # Errors
    /// The configuration is unusable, or the number of taps is not the number of pairs.
    pub fn build_on_taps(self, taps: Vec<Tap>) -> Result<NetDevice, NewError> {
        let link = Link::on_taps(&self.config, taps)?;
        self.build_on_link(link)
    }

    /// Makes a device on a link of any kind.
    ///
    /// # Errors
    /// The configuration is unusable, or the number of ports is not the number of pairs.
    pub fn build_on_link(self, link: Link) -> Result<NetDevice, NewError> {
        let mut device = self.build_on_ports(link.ports)?;
        device.host = link.host;
        device.host_link = HostLink::new(link.monitor);
        Ok(device)
    }

    /// Makes a device on tap descriptors, one for each pair. Each is duplicated, so the caller's
    /// stay valid, for example over a reboot of the guest.
    ///
    /// # Errors
    /// As for [`NetDeviceBuilder::build_on_taps`], or a descriptor is not a tap with a virtio-net
    /// header; the error says what differs.
    pub fn build_on_tap_fds(self, fds: &[BorrowedFd<'_>]) -> Result<NetDevice, NewError> {
        let own = fds
            .iter()
            .map(BorrowedFd::try_clone_to_owned)
            .collect::<Result<_, _>>();
        self.build_on_taps(Tap::from_fds(own.map_err(NewError::Duplicate)?)?)
    }

    /// Makes a device on ports of any kind, one for each pair.
    ///
    /// # Errors
    /// The configuration is unusable, or the number of ports is not the number of pairs.
    pub fn build_on_ports(mut self, ports: Vec<Port>) -> Result<NetDevice, NewError> {
        self.config.validate()?;
        let pairs = usize::from(self.config.queue_pairs);
        if ports.len() != pairs {
            return Err(NewError::Ports {
                ports: ports.len(),
                pairs,
            });
        }
        if self.config.memory_fault_handler {
            net_queue::guard::install().map_err(NewError::MemoryFaultHandler)?;
        }
        let caps = common_caps(&ports);
        let follows_mtu = self.config.mtu.is_none();
        // A smaller one cannot be told to a driver (NET-CFG-07).
        let link_mtu = caps.mtu.filter(|mtu| *mtu >= MIN_MTU);
        self.config.mtu = self.config.mtu.or(link_mtu);
        let offered = Features::offered(caps.tx, caps.rx, &self.config);
        let has_control = offered.contains(Features::VIRTIO_NET_F_CTRL_VQ);
        let detached = self.resources(ports, has_control)?;
        let config = self.config;
        let events = Arc::new(Events::new(&config.id, self.observer));
        let filtered = detached.kernel.dropped();
        let status = DeviceStatus::new(events, self.exit_event, 2 * pairs + 1);
        let status = Arc::new(status.counting(filtered));
        Ok(NetDevice {
            queue_sizes: vec![config.queue_size; 2 * pairs + usize::from(has_control)],
            space: Arc::new(ConfigSpace::new(&config, offered)),
            status,
            follows_mtu,
            control_budget: Arc::new(ControlBudget::new(config.control_limit)),
            counters: (0..=2 * pairs).map(|_| Arc::default()).collect(),
            platform: self.platform,
            dirty_switch: DirtySwitch::default(),
            memory: None,
            host: None,
            host_link: HostLink::default(),
            rounds: Rounds::default(),
            driver_mtu: None,
            limit_groups: self.limit_groups,
            open_link: self.open_link,
            clock: self.clock,
            acked: Features::empty(),
            refused: false,
            written_mac: None,
            state: State::Inactive(detached),
            offered,
            config,
        })
    }

    /// Resources that the device keeps over all activations.
    fn resources(
        &mut self,
        ports: Vec<Port>,
        has_control: bool,
    ) -> Result<DetachedResources, NewError> {
        let count = ports.len();
        let (rx, tx) = self.limit_groups.budgets(&self.config, &self.clock);
        let limits = rx.limiters(count)?.into_iter().zip(tx.limiters(count)?);
        let mut pairs = Vec::with_capacity(count);
        let mut controls = Vec::with_capacity(count);
        for (pair, (port, limit)) in ports.into_iter().zip(limits).enumerate() {
            let backend = self.decorators.iter_mut();
            let backend = backend.fold(port.backend, |inner, decorate| decorate(pair, inner));
            pairs.push(QueuePairResources {
                backend,
                hdr_len: HDR_LEN,
                rx_limit: limit.0,
                tx_limit: limit.1,
            });
            controls.push(port.control);
        }
        let mut threads = std::mem::take(&mut self.threads);
        if self.early_threads && !threads.event_loop {
            let started = threads.spawn_all(&self.config.id, count as u16, has_control);
            started.map_err(NewError::Spawn)?;
        }
        let programs = std::mem::take(&mut self.programs);
        Ok(DetachedResources {
            kernel: KernelPrograms::load(&self.config, programs, &controls)?,
            pairs,
            controls,
            threads,
        })
    }
}
