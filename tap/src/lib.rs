//! Linux TAP devices for a virtual machine monitor: open, configure, attach queues, move frames.
//!
//! A [`Tap`] is one queue of one interface and owns one file descriptor. The layers, top-down:
//!
//! | module | knows |
//! |---|---|
//! | `open` | [`TapOptions`]: by name or template, N queues; existing or created; [`Tap::from_fds`] |
//! | `tap` | [`Tap`]: the owned descriptor, header framing, queue attach/detach, the data path |
//! | `probe` | which offloads this kernel takes |
//! | `gso_probe` | [`gso_report`]: which of them it does right |
//! | `filter` | [`FilterProgram`]: frames that are dropped by a program in the kernel |
//! | `ebpf` | instructions of such programs |
//! | `steering` | [`SteeringProgram`]: the queue of each frame, chosen by a program in the kernel |
//! | `ifconfig` | the interface around the queues: MTU, MAC, addresses, up/down, carrier |
//! | `monitor` | [`LinkMonitor`]: what becomes of the interface, told by the kernel |
//! | `error` | [`Error`] and [`Differences`]: what went wrong and what to do about it |
//! | `sys` | every system call, and the `unsafe` (of which `gso_probe` makes one call) |
//! | `name` | names that the kernel accepts for an interface |
//! | `offload` | [`Offloads`]: segmentation and checksum work that may be left undone |
//!
//! # Frames
//!
//! Opened here or handed in, a `Tap` starts in the same state: no packet information, a
//! little-endian virtio-net header of [`VNET_HEADER_LEN`] bytes before every frame, no offloads, no
//! programs, non-blocking, close-on-exec. One read or write moves exactly one frame:
//!
//! | call | condition | result |
//! |---|---|---|
//! | any | interface deleted | `EBADFD`: this tap is gone for good |
//! | write | interface down | `EIO`: drop the frame |
//! | write | header inconsistent with the frame, or shorter than header + 14 | `EINVAL`: drop the frame |
//! | write | send buffer full ([`Tap::set_send_buffer`]) | `WouldBlock`: wait for writable |
//! | read | nothing queued | `WouldBlock`: wait for readable |
//! | read | room for the header but not the frame | the frame is cut **silently**; the rest is lost |
//! | read | no room for the header | `EINVAL`, and the frame is lost |
//!
//! So a reader makes sure of its room first, and a writer never passes on less than a header and
//! an Ethernet header: not every kernel refuses such a runt safely.
//!
//! # What belongs to a queue and what to the interface
//!
//! Header size, byte order, offloads, MAC and MTU are of the **whole interface**: setting them
//! through one queue sets them for all. Attachment is of one queue. Send buffer size is of the
//! interface, its accounting of each queue.
//!
//! # What existed before is not overwritten
//!
//! An interface that was there before keeps its MAC, MTU and addresses: [`TapOptions`] applies
//! these only to an interface it created, and [`Tap::was_created`] tells which it is. The setters
//! on [`Tap`] do as they are told, so call them on an existing interface only when asked to.
//!
//! # System calls and the capability each needs
//!
//! "net admin" is `CAP_NET_ADMIN` in the user namespace that owns the network namespace, so a new
//! user and network namespace gives all of it without root. Opening `/dev/net/tun` itself needs
//! only its file mode.
//!
//! | request | on | used by | needs |
//! |---|---|---|---|
//! | `TUNSETIFF` | queue | [`TapOptions::open`] | net admin; none for the owner of an existing tap |
//! | `TUNGETIFF` | queue | opening, [`Tap::from_fds`], [`Tap::name`], queue state | none |
//! | `TUNATTACHFILTER`, `TUNDETACHFILTER` | queue | opening, [`Tap::from_fds`]: to see through an ambiguous flag | none |
//! | `TUNSETQUEUE` | queue | [`Tap::attach_queue`], [`Tap::detach_queue`] | none |
//! | `TUNSETVNETHDRSZ`, `TUNGETVNETHDRSZ` | queue | [`Tap::set_vnet_header_len`], [`Tap::vnet_header_len`] | none |
//! | `TUNSETVNETLE` | queue | [`Tap::set_little_endian`] | none |
//! | `TUNSETOFFLOAD` | queue | [`Tap::set_offloads`], [`Tap::probe_offloads`] | none |
//! | `TUNSETSTEERINGEBPF` | queue | [`Tap::set_steering`], opening, [`Tap::from_fds`] | none |
//! | `TUNSETFILTEREBPF` | queue | [`Tap::set_filter`], opening, [`Tap::from_fds`] | none |
//! | `bpf` | | [`SteeringProgram::load`], [`FilterProgram::load`] | `CAP_BPF`, the first one `CAP_PERFMON` too, in the first user namespace |
//! | `TUNSETSNDBUF` | queue | [`Tap::set_send_buffer`] | none |
//! | `TUNSETPERSIST` | queue | [`Tap::set_persist`] | none |
//! | `TUNSETCARRIER` | queue | [`Tap::set_carrier`] | none |
//! | `SIOCGIFHWADDR`, `SIOCSIFHWADDR` | queue | [`Tap::mac`], [`Tap::set_mac`] | none |
//! | `SIOCGIFHWADDR` | socket | is the interface in this namespace? | none |
//! | `SIOCGIFINDEX` | socket | [`Tap::if_index`] | none |
//! | `SIOCGIFMTU` | socket | [`Tap::mtu`] | none |
//! | `SIOCGIFADDR`, `SIOCGIFNETMASK` | socket | [`Tap::set_ipv4`], to leave what is set already | none |
//! | `SIOCGIFFLAGS` | socket | [`Tap::is_up`] | none |
//! | `SIOCETHTOOL` (`GLINK`, `GDRVINFO`) | socket | [`Tap::carrier`], explaining a refusal | none |
//! | `SIOCSIFMTU` | socket | [`Tap::set_mtu`] | net admin |
//! | `SIOCSIFFLAGS` | socket | [`Tap::up`], [`Tap::down`] | net admin |
//! | `SIOCSIFADDR`, `SIOCSIFNETMASK` | socket | [`Tap::set_ipv4`], [`Tap::add_ipv6`] | net admin |
//! | `SIOCBRADDBR`, `SIOCBRADDIF` | socket | [`gso_report`], in a network namespace of its own | net admin there |
//!
//! Settings that hold already are not made again, so the owner of a tap that is up needs no
//! capability. Descriptors of a macvtap's device are taken as well; it refuses `TUNATTACHFILTER`,
//! `TUNSETPERSIST` and `TUNSETCARRIER`, and does not say whether a queue is attached.
//!
//! Requests on a queue work wherever the interface lives. Requests on a socket find it by name in
//! the caller's network namespace; when it lives in another one they are refused with
//! [`Error::OtherNamespace`] rather than done to a namesake.
//!
//! # Example
//!
//! ```no_run
//! use tap::{Offloads, TapOptions};
//!
//! # fn main() -> Result<(), tap::Error> {
//! // Two queues of a new interface, named by the kernel from the template.
//! let taps = TapOptions::new("vmtap%d")
//!     .queues(2)
//!     .mtu(1500)
//!     .ipv4([10, 0, 0, 1].into(), 24)
//!     .up()
//!     .open()?;
//! println!("opened {}", taps[0].name()?);
//!
//! // Offer what this kernel can take, then set what the driver accepted.
//! let possible = taps[0].probe_offloads()?;
//! taps[0].set_offloads(possible & (Offloads::CSUM | Offloads::TSO4))?;
//!
//! // The second queue gets no flows until the driver asks for it.
//! taps[1].detach_queue()?;
//!
//! let mut frame = [0; 1526];
//! match taps[0].read(&mut frame) {
//!     Ok(length) => println!("{length} bytes, header included"),
//!     Err(error) => println!("nothing yet: {error}"),
//! }
//! # Ok(())
//! # }
//! ```

mod ebpf;
mod error;
mod filter;
mod gso_probe;
mod ifconfig;
mod monitor;
mod name;
mod offload;
mod open;
mod probe;
mod steering;
mod sys;
mod tap;

pub use crate::error::{Differences, Error};
pub use crate::filter::{DroppedFrames, FILTER_ADDRESSES, FilterProgram, FilterRules, Verdict};
pub use crate::gso_probe::{
    GsoFault, GsoOutcome, GsoPath, GsoReport, GsoTrial, NotTried, ThisKernel, gso_report,
};
pub use crate::monitor::{LinkMonitor, LinkState};
pub use crate::name::NameFault;
pub use crate::offload::Offloads;
pub use crate::open::TapOptions;
pub use crate::steering::{STEERING_INPUT, STEERING_QUEUES, SteeringProgram, SteeringRules};
pub use crate::sys::MAX_QUEUES;
pub use crate::tap::{Tap, VNET_HEADER_LEN};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
