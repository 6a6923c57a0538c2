//! Configuration of a device: serde text or a builder, checked before use.

mod carrier;
mod cidr;
mod coalesce;
mod gso;
pub mod mac;
#[cfg(test)]
mod tests;

pub use carrier::Carrier;
pub use cidr::{Cidr, CidrParseError};
pub use coalesce::{Coalesce, CoalesceParseError};
pub use gso::GsoTrust;
pub use mac::MacAddr;

use crate::features::{Features, TRANSPORT};
use crate::seccomp::SeccompAction;
use rate_limiter::{RateLimiterConfig, TokenBucketConfig};
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, Ipv6Addr};
use thiserror::Error;

/// Most queue pairs: as many queues as Linux gives one tap.
pub const MAX_QUEUE_PAIRS: u16 = tap::MAX_QUEUES as u16;
/// Largest queue (VirtIO 1.4 §2.7, VQ-SPL-01).
pub const MAX_QUEUE_SIZE: u16 = 32768;
/// Longest id in bytes: as long as a snapshot can hold.
pub const MAX_ID_LEN: usize = 256;
/// Smallest MTU (VirtIO 1.4 §5.1.4.1, NET-CFG-07).
pub const MIN_MTU: u16 = 68;
/// Highest speed that is a number (VirtIO 1.4 §5.1.4.1, NET-CFG-13).
pub const MAX_SPEED_MBPS: u32 = 0x7fff_ffff;

/// Longest time for which a worker polls, in microseconds: a stop waits for it.
pub const MAX_POLL_US: u16 = 1000;

/// The limit for control commands unless another one is configured: 200 host locks at once, 100 in
/// a second.
pub const CONTROL_LIMIT: TokenBucketConfig = TokenBucketConfig {
    size: 200,
    one_time_burst: None,
    refill_time: 2000,
};

/// Scope of a limit.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LimitScope {
    /// The pairs of a device share one budget for each direction.
    #[default]
    Device,
    /// Each queue has the whole budget of its direction.
    Queue,
}

/// A virtio-net device, whatever carries its frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetConfig {
    /// Name of the device in thread names, logs and counters.
    pub id: String,
    /// MAC address of the guest; without it the driver makes one up.
    pub mac: Option<MacAddr>,
    /// Largest packet without its Ethernet header, in bytes, that the driver is told, whatever the
    /// interface has. Without it the driver is told the interface's as it is when the driver
    /// negotiates; where there is none either, it assumes 1500.
    pub mtu: Option<u16>,
    /// Link speed in Mbit/s that the driver is told (full duplex); without it none.
    pub speed_mbps: Option<u32>,
    /// Queue pairs, 1 to [`MAX_QUEUE_PAIRS`].
    pub queue_pairs: u16,
    /// Descriptors of each queue: a power of two up to [`MAX_QUEUE_SIZE`].
    pub queue_size: u16,
    /// True if guest addresses are translated by a virtual IOMMU.
    pub iommu: bool,
    /// Offers RSS: the driver says by a table which queue receives a frame. Off by default, since a
    /// driver that is offered it uses it whether or not anybody asked for that, and a flow returns
    /// to the pair which sends it then no more: the device moves it from the queue that the host
    /// chose to the one of the table.
    pub rss: bool,
    /// Lets the kernel put each frame into the queue of the driver's table, where a tap of several
    /// pairs can do that and this process may load the program for it when the device is made
    /// (`bpf`, by CAP_BPF and CAP_PERFMON or root, once; Linux 5.5). Nothing else takes a
    /// privilege, and without it the device moves frames itself. Counts with `rss` alone. On by
    /// default.
    pub kernel_steering: bool,
    /// Lets the kernel drop frames that the driver does not want, by its receive modes, addresses
    /// and VLANs, where a tap can do that and this process may load the program for it when the
    /// device is made (`bpf`, by CAP_BPF or root, once; Linux 5.5). Nothing else takes a privilege,
    /// and without it the device drops them itself. On by default; a decorator of backends that is
    /// to see all that the tap has, as a capture, wants it off.
    pub kernel_filter: bool,
    /// Offers HASH_REPORT: received frames carry their hash. Off by default, since each frame pays
    /// for it, and few drivers use it.
    pub hash_report: bool,
    /// Takes legacy drivers too, those without VIRTIO_F_VERSION_1: a transitional device. For a VMM
    /// whose transport has the legacy interface. Off by default: they are refused. A host of the
    /// other byte order than its guest cannot serve them.
    pub transitional: bool,
    /// Consequence for a worker that makes a system call it should not.
    pub seccomp: SeccompAction,
    /// True if a device puts the process's handler for SIGSEGV and SIGBUS in place, by which guest
    /// memory that is out of reach costs a frame or a queue instead of the process (see
    /// [`net_queue::guard`]). A VMM that has handlers of its own and calls
    /// [`net_queue::guard::recover`] in them switches this off.
    pub memory_fault_handler: bool,
    /// Microseconds for which a worker that has run out of frames looks for more before it sleeps,
    /// up to [`MAX_POLL_US`]: spends its CPU's time on a shorter latency.
    pub poll_us: u16,
    /// Protocols whose frames may leave several at once, where every backend takes such frames.
    pub coalesce: Coalesce,
    /// Limit for frames to the guest.
    pub rx_limit: Option<RateLimiterConfig>,
    /// Limit for frames from the guest.
    pub tx_limit: Option<RateLimiterConfig>,
    /// Scope of these limits.
    pub limit_scope: LimitScope,
    /// Limit for what control commands cost the host. A token stands for one system call under a
    /// lock of the whole host: a queue that VQ_PAIRS_SET attaches or detaches, a change by
    /// GUEST_OFFLOADS_SET, the beginning and the end of a filter in the kernel. A change of receive
    /// modes, addresses or VLANs takes a tenth of one, a command that changes nothing takes none.
    /// Without tokens the control queue waits, and no other queue does. `None` or zeros: no limit.
    pub control_limit: Option<TokenBucketConfig>,
    /// Reaction to the carrier of the interface at which the link ends.
    pub carrier: Carrier,
    /// Trust in what the kernel behind a tap does with large frames.
    pub gso: GsoTrust,
    /// Features of [`TRANSPORT`] of which the VMM's transport has its
    /// half; no other is offered. For `VIRTIO_F_RING_RESET` that is the register for the reset of a
    /// queue, and [`reset_queue`](crate::NetDevice::reset_queue) behind it; for
    /// `VIRTIO_F_NOTIFICATION_DATA` a register that takes
    /// [`NotificationData`](crate::NotificationData); for `VIRTIO_F_SUSPEND` the bit of that name
    /// in the device status, with [`suspend`](crate::NetDevice::suspend) and
    /// [`unsuspend`](crate::NetDevice::unsuspend) behind it.
    pub transport_features: Features,
    /// Features not to offer, by the names in [`OPTIONAL`](crate::features::OPTIONAL).
    pub disabled: Features,
}

impl Default for NetConfig {
    fn default() -> Self {
        Self {
            id: "net".to_owned(),
            mac: None,
            mtu: None,
            speed_mbps: None,
            queue_pairs: 1,
            queue_size: 256,
            iommu: false,
            rss: false,
            kernel_steering: true,
            kernel_filter: true,
            hash_report: false,
            transitional: false,
            seccomp: SeccompAction::default(),
            memory_fault_handler: true,
            poll_us: 0,
            coalesce: Coalesce::default(),
            rx_limit: None,
            tx_limit: None,
            limit_scope: LimitScope::default(),
            control_limit: Some(CONTROL_LIMIT),
            carrier: Carrier::default(),
            gso: GsoTrust::default(),
            transport_features: Features::empty(),
            disabled: Features::empty(),
        }
    }
}

/// Error of a configuration that no device can have.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The id is empty, longer than [`MAX_ID_LEN`] or has control characters.
    #[error("id {0:?} is empty, longer than 256 bytes or has control characters")]
    Id(String),
    /// The MAC address means a group, or none.
    #[error("{0} is {kind}; a device needs a unicast one", kind = unusable(*.0))]
    Mac(MacAddr),
    /// The MTU is below [`MIN_MTU`].
    #[error("mtu {0} is below 68")]
    Mtu(u16),
    /// The speed is above [`MAX_SPEED_MBPS`].
    #[error("speed {0} Mbit/s is above 0x7fffffff")]
    Speed(u32),
    /// Not 1 to [`MAX_QUEUE_PAIRS`] queue pairs.
    #[error("{0} queue pairs are not 1 to 256")]
    QueuePairs(u16),
    /// Not a power of two up to [`MAX_QUEUE_SIZE`].
    #[error("queue size {0} is not a power of two up to 32768")]
    QueueSize(u16),
    /// A feature is disabled that no device works without.
    #[error("features {0} cannot be disabled")]
    Mandatory(Features),
    /// A feature is asked of the transport that is not up to it.
    #[error("features {0} are not up to the transport")]
    Transport(Features),
    /// Polling for longer than [`MAX_POLL_US`].
    #[error("polling for {0} us, not at most 1000")]
    Poll(u16),
    /// Several pairs, but a feature that they need is disabled.
    #[error("several queue pairs need the disabled {0}")]
    PairsDisabled(Features),
    /// A filter of system calls is asked for, and the cargo feature `seccomp` is off.
    #[error("seccomp filters are not part of this build, only the action allow is")]
    NoSeccomp,
    /// The receive limit.
    #[error("receive limit")]
    RxLimit(#[source] rate_limiter::ConfigError),
    /// The transmit limit.
    #[error("transmit limit")]
    TxLimit(#[source] rate_limiter::ConfigError),
    /// The limit for control commands.
    #[error("control limit")]
    ControlLimit(#[source] rate_limiter::ConfigError),
}

/// Kind of an address that a station cannot have.
fn unusable(mac: MacAddr) -> &'static str {
    if mac.is_group() {
        "a multicast address"
    } else {
        "not an address"
    }
}

impl NetConfig {
    /// Starts from the defaults: one pair of 256 descriptors, no limits, everything offered but RSS
    /// and hash reports.
    pub fn builder() -> NetConfigBuilder {
        NetConfigBuilder(Self::default())
    }

    /// Checks every field.
    ///
    /// # Errors
    /// Names the first field that no device can have.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let usable = (1..=MAX_ID_LEN).contains(&self.id.len());
        if !usable || self.id.chars().any(char::is_control) {
            return Err(ConfigError::Id(self.id.clone()));
        }
        if let Some(mac) = self.mac.filter(|mac| !mac.is_station()) {
            return Err(ConfigError::Mac(mac));
        }
        if let Some(mtu) = self.mtu.filter(|mtu| *mtu < MIN_MTU) {
            return Err(ConfigError::Mtu(mtu));
        }
        if let Some(speed) = self.speed_mbps.filter(|speed| *speed > MAX_SPEED_MBPS) {
            return Err(ConfigError::Speed(speed));
        }
        if !self.queue_size.is_power_of_two() {
            return Err(ConfigError::QueueSize(self.queue_size));
        }
        if self.poll_us > MAX_POLL_US {
            return Err(ConfigError::Poll(self.poll_us));
        }
        if !cfg!(feature = "seccomp") && self.seccomp != SeccompAction::Allow {
            return Err(ConfigError::NoSeccomp);
        }
        let others = self.transport_features - TRANSPORT;
        if !others.is_empty() {
            return Err(ConfigError::Transport(others));
        }
        self.validate_pairs()?;
        let check = |limit: &Option<RateLimiterConfig>| limit.map_or(Ok(()), |it| it.validate());
        check(&self.rx_limit).map_err(ConfigError::RxLimit)?;
        check(&self.tx_limit).map_err(ConfigError::TxLimit)?;
        let control = RateLimiterConfig {
            ops: self.control_limit,
            ..RateLimiterConfig::default()
        };
        control.validate().map_err(ConfigError::ControlLimit)
    }

    fn validate_pairs(&self) -> Result<(), ConfigError> {
        if !(1..=MAX_QUEUE_PAIRS).contains(&self.queue_pairs) {
            return Err(ConfigError::QueuePairs(self.queue_pairs));
        }
        let mandatory = self.disabled - Features::optional();
        if !mandatory.is_empty() {
            return Err(ConfigError::Mandatory(mandatory));
        }
        let needed = Features::VIRTIO_NET_F_MQ | Features::VIRTIO_NET_F_CTRL_VQ;
        let missing = self.disabled & needed;
        if self.queue_pairs > 1 && !missing.is_empty() {
            return Err(ConfigError::PairsDisabled(missing));
        }
        Ok(())
    }
}

/// Builds a [`NetConfig`] field by field; each method sets the field of its name.
#[derive(Clone, Debug)]
#[must_use]
pub struct NetConfigBuilder(NetConfig);

impl NetConfigBuilder {
    /// Name of the device.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.0.id = id.into();
        self
    }

    /// Lets the device handle faults on guest memory; on by default.
    pub fn memory_fault_handler(mut self, on: bool) -> Self {
        self.0.memory_fault_handler = on;
        self
    }

    /// MAC address of the guest.
    pub fn mac(mut self, mac: impl Into<MacAddr>) -> Self {
        self.0.mac = Some(mac.into());
        self
    }

    /// MTU in bytes.
    pub fn mtu(mut self, mtu: u16) -> Self {
        self.0.mtu = Some(mtu);
        self
    }

    /// Link speed in Mbit/s.
    pub fn speed_mbps(mut self, speed: u32) -> Self {
        self.0.speed_mbps = Some(speed);
        self
    }

    /// Number of queue pairs.
    pub fn queue_pairs(mut self, pairs: u16) -> Self {
        self.0.queue_pairs = pairs;
        self
    }

    /// Descriptors of each queue.
    pub fn queue_size(mut self, size: u16) -> Self {
        self.0.queue_size = size;
        self
    }

    /// Says that guest addresses are translated by a virtual IOMMU.
    pub fn iommu(mut self, iommu: bool) -> Self {
        self.0.iommu = iommu;
        self
    }

    /// Offers RSS.
    pub fn rss(mut self, on: bool) -> Self {
        self.0.rss = on;
        self
    }

    /// Lets the kernel steer where it can.
    pub fn kernel_steering(mut self, on: bool) -> Self {
        self.0.kernel_steering = on;
        self
    }

    /// Lets the kernel drop frames that the driver does not want, where it can.
    pub fn kernel_filter(mut self, on: bool) -> Self {
        self.0.kernel_filter = on;
        self
    }

    /// Offers HASH_REPORT.
    pub fn hash_report(mut self, on: bool) -> Self {
        self.0.hash_report = on;
        self
    }

    /// Takes legacy drivers, too.
    pub fn transitional(mut self, on: bool) -> Self {
        self.0.transitional = on;
        self
    }

    /// Sets the consequence of a forbidden system call.
    pub fn seccomp(mut self, action: SeccompAction) -> Self {
        self.0.seccomp = action;
        self
    }

    /// Microseconds of polling before sleep.
    pub fn poll_us(mut self, time: u16) -> Self {
        self.0.poll_us = time;
        self
    }

    /// Protocols whose frames may leave several at once.
    pub fn coalesce(mut self, coalesce: Coalesce) -> Self {
        self.0.coalesce = coalesce;
        self
    }

    /// Limit for frames to the guest.
    pub fn rx_limit(mut self, limit: RateLimiterConfig) -> Self {
        self.0.rx_limit = Some(limit);
        self
    }

    /// Limit for frames from the guest.
    pub fn tx_limit(mut self, limit: RateLimiterConfig) -> Self {
        self.0.tx_limit = Some(limit);
        self
    }

    /// Sets the scope of the limits.
    pub fn limit_scope(mut self, scope: LimitScope) -> Self {
        self.0.limit_scope = scope;
        self
    }

    /// Limit for what control commands cost the host; `None` lifts it.
    pub fn control_limit(mut self, limit: impl Into<Option<TokenBucketConfig>>) -> Self {
        self.0.control_limit = limit.into();
        self
    }

    /// Reaction to the carrier of the host's interface.
    pub fn carrier(mut self, carrier: Carrier) -> Self {
        self.0.carrier = carrier;
        self
    }

    /// Trust in what the kernel behind a tap does with large frames.
    pub fn gso(mut self, trust: GsoTrust) -> Self {
        self.0.gso = trust;
        self
    }

    /// Features of which the transport has its half; adds to those named before.
    pub fn transport_features(mut self, features: Features) -> Self {
        self.0.transport_features |= features;
        self
    }

    /// Features not to offer; adds to those named before.
    pub fn disable(mut self, features: Features) -> Self {
        self.0.disabled |= features;
        self
    }

    /// The finished configuration.
    ///
    /// # Errors
    /// See [`NetConfig::validate`].
    pub fn build(self) -> Result<NetConfig, ConfigError> {
        self.0.validate()?;
        Ok(self.0)
    }
}

/// A tap interface to open by name. What exists already keeps its addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TapConfig {
    /// Name of the interface, or a template such as `vmtap%d`; without it the template is used.
    pub name: Option<String>,
    /// MAC address of the host's end.
    pub host_mac: Option<MacAddr>,
    /// IPv4 address of the host's end.
    pub ipv4: Option<Cidr<Ipv4Addr>>,
    /// IPv6 address of the host's end.
    pub ipv6: Option<Cidr<Ipv6Addr>>,
}
