//! Errors, each with its meaning and what to do about it.

use std::{fmt, io};

use crate::name::NameFault;
use crate::sys::{MAX_QUEUES, Refused};

/// Reason why a tap could not be opened, checked or configured.
///
/// The data path ([`Tap::read`](crate::Tap::read) and its kin) returns [`io::Error`] instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name or template is not one the kernel takes.
    #[error("interface name {name:?} is not valid: {fault}")]
    Name {
        /// The name as given.
        name: String,
        /// The rule it breaks.
        fault: NameFault,
    },
    /// No queue, or more than the kernel allows, was asked for or handed in.
    #[error("{0} queues requested, but a tap has 1 to {max}", max = MAX_QUEUES)]
    QueueCount(usize),
    /// The address prefix is longer than the address.
    #[error("prefix length {prefix} is longer than the {bits} bits of the address")]
    Prefix {
        /// The prefix length as given.
        prefix: u8,
        /// The number of bits of an address of this family.
        bits: u8,
    },
    /// There is no `/dev/net/tun`, or no driver behind it.
    #[error("/dev/net/tun is missing: load the driver with `modprobe tun`")]
    NoDriver(#[source] io::Error),
    /// The file mode of `/dev/net/tun` keeps this user out.
    #[error(
        "no permission to open /dev/net/tun: run as root, or `chmod 0666 /dev/net/tun` and have \
         CAP_NET_ADMIN in the network namespace"
    )]
    DriverPermission(#[source] io::Error),
    /// `/dev/net/tun` could not be opened for another reason.
    #[error("cannot open /dev/net/tun")]
    Driver(#[source] io::Error),
    /// The caller may neither create nor attach to this tap.
    #[error(
        "no permission to use tap {name}: have CAP_NET_ADMIN in its network namespace, or own it \
         (`ip tuntap add dev {name} mode tap user <name>`)"
    )]
    Permission {
        /// The interface name or template.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A single-queue tap has its queue taken.
    #[error(
        "tap {name} is in use by another process: end that process, or choose another interface"
    )]
    Busy {
        /// The interface name.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// All queues that the kernel allows for one interface are taken.
    #[error("tap {name} has all of its {max} queues in use", max = MAX_QUEUES)]
    Full {
        /// The interface name.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The interface is of another kind than requested.
    #[error("interface {name} does not fit: {differences}")]
    Different {
        /// The interface name.
        name: String,
        /// Everything that differs.
        differences: Differences,
    },
    /// A descriptor that was handed in is not attached to any tun or tap interface.
    #[error("file descriptor {index} of those given is not a tap")]
    NotTap {
        /// Position in the list, from 0.
        index: usize,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A descriptor that was handed in belongs to another interface than the first one.
    #[error("file descriptor {index} of those given belongs to {found}, the first to {expected}")]
    OtherInterface {
        /// Position in the list, from 0.
        index: usize,
        /// The interface of this descriptor.
        found: String,
        /// The interface of the first descriptor.
        expected: String,
    },
    /// The interface cannot be reached by name from here.
    #[error("interface {name} lives in another network namespace: configure it from there")]
    OtherNamespace {
        /// Its name over there.
        name: String,
    },
    /// The interface is down, and the caller may not bring it up.
    #[error(
        "tap {name} is down: run `ip link set {name} up` before, or have CAP_NET_ADMIN in its \
         network namespace"
    )]
    Down {
        /// The interface name.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The caller lacks the capability for this change.
    #[error("{request} needs CAP_NET_ADMIN in the network namespace")]
    NeedsNetAdmin {
        /// The request that was refused.
        request: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The caller lacks a capability to load a program into the kernel.
    #[error("to load a program into the kernel takes {needs}")]
    NeedsBpf {
        /// The capabilities that it takes.
        needs: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Another system call failed.
    #[error("{request} failed")]
    Request {
        /// The request that failed.
        request: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl From<Refused> for Error {
    fn from(Refused { request, source }: Refused) -> Self {
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::NeedsNetAdmin { request, source },
            _ => Self::Request { request, source },
        }
    }
}

impl Error {
    /// The error of a program that could not be loaded, which takes the capabilities `needs`.
    pub(crate) fn of_load(refused: Refused, needs: &'static str) -> Self {
        match Self::from(refused) {
            Self::NeedsNetAdmin { source, .. } => Self::NeedsBpf { needs, source },
            other => other,
        }
    }
}

bitflags::bitflags! {
    /// Differences of an interface from what was requested; its `Display` spells all of them out.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Differences: u8 {
        /// It belongs to another driver than tun, e.g. an Ethernet card or a bridge.
        const OTHER_DRIVER = 1 << 0;
        /// It is a tun, which carries IP packets, and not a tap, which carries Ethernet frames.
        const TUN = 1 << 1;
        /// It puts packet information before each frame (`IFF_NO_PI` is clear).
        const PACKET_INFO = 1 << 2;
        /// It puts no virtio-net header before each frame (`IFF_VNET_HDR` is clear).
        const NO_VNET_HEADER = 1 << 3;
        /// It has one queue only (`IFF_MULTI_QUEUE` is clear), more were requested.
        const SINGLE_QUEUE = 1 << 4;
        /// It has several queues (`IFF_MULTI_QUEUE` is set), a plain one was requested.
        const MULTI_QUEUE = 1 << 5;
    }
}

impl Differences {
    fn phrase(self) -> &'static str {
        match self {
            Self::OTHER_DRIVER => "it is not a tap but another kind of interface",
            Self::TUN => "it is a tun, not a tap",
            Self::PACKET_INFO => "it adds packet information (IFF_NO_PI is clear)",
            Self::NO_VNET_HEADER => "it has no virtio-net header (IFF_VNET_HDR is clear)",
            Self::SINGLE_QUEUE => {
                "it is single-queue (create it with `multi_queue`, or use one queue)"
            }
            Self::MULTI_QUEUE => {
                "it is multi-queue (create it without `multi_queue`, or request multi-queue)"
            }
            _ => "it differs in an unknown way",
        }
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, difference) in self.iter().enumerate() {
            let separator = if position == 0 { "" } else { "; " };
            write!(f, "{separator}{}", difference.phrase())?;
        }
        Ok(())
    }
}
