//! Checks with real guests, one named scenario each.

mod bridge;
mod coalesce;
mod control;
mod firmware;
mod iommu;
mod killed;
mod legacy;
mod lifecycle;
mod migration;
mod moderation;
mod neighbour;
mod passt;
mod reload;
mod router;
mod steering;
mod stream;
mod testpmd;
mod traffic;
mod transfer;
mod wire;
mod xdp;

use super::metrics::ADDRESS;
use super::{Assets, Guest, Machine, Result, Setup, Testbed};
use Machine::{IommuQemu, LegacyQemu, Qemu, UserMode};

/// A named check.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its name; begins with the kind of guest.
    pub name: &'static str,
    /// Machine of the guest; `None` for a driver that is a program of the host.
    pub machine: Option<Machine>,
    body: Body,
}

#[derive(Debug, Clone, Copy)]
enum Body {
    /// A guest without a network device: the harness itself.
    Alone(Machine, fn(&mut Guest) -> Result<String>),
    /// A guest behind a daemon with these options.
    Testbed(Setup, fn(&mut Testbed) -> Result<String>),
    /// Daemons and guests that the scenario starts itself.
    Own(fn(&Assets) -> Result<String>),
}

impl Scenario {
    /// Returns whether the scenario needs the daemon.
    #[must_use]
    pub const fn needs_daemon(&self) -> bool {
        !matches!(self.body, Body::Alone(..))
    }

    /// Runs the scenario; the text says what was seen.
    ///
    /// # Errors
    /// The reason for a failure.
    pub fn run(&self, assets: &Assets) -> Result<String> {
        match self.body {
            Body::Alone(machine, body) => {
                let folder =
                    tempfile::tempdir().map_err(super::Error::io("creating a temporary folder"))?;
                let mut guest = assets.boot(machine, &[], folder.path())?;
                let seen = body(&mut guest)?;
                guest.power_off()?;
                Ok(seen)
            }
            Body::Testbed(setup, body) => {
                let mut bed = Testbed::open(assets, setup)?;
                let seen = body(&mut bed).map_err(|error| bed.explain(&error))?;
                bed.close()?;
                Ok(seen)
            }
            Body::Own(body) => body(assets),
        }
    }
}

const fn alone(
    name: &'static str,
    machine: Machine,
    body: fn(&mut Guest) -> Result<String>,
) -> Scenario {
    Scenario {
        name,
        machine: Some(machine),
        body: Body::Alone(machine, body),
    }
}

const fn bed(
    name: &'static str,
    machine: Machine,
    options: &'static [&'static str],
    body: fn(&mut Testbed) -> Result<String>,
) -> Scenario {
    Scenario {
        name,
        machine: Some(machine),
        body: Body::Testbed(Setup { machine, options }, body),
    }
}

const fn own(
    name: &'static str,
    machine: Option<Machine>,
    body: fn(&Assets) -> Result<String>,
) -> Scenario {
    Scenario {
        name,
        machine,
        body: Body::Own(body),
    }
}

/// Options of a device whose driver steers.
const STEERED: &[&str] = &[
    "--metrics",
    ADDRESS,
    "--queue-pairs",
    "4",
    "--rss",
    "--hash-report",
];

/// All scenarios, in the order in which they are told: each builds on what those before have shown.
pub const SCENARIOS: &[Scenario] = &[
    alone("uml without a device", UserMode, lifecycle::shell),
    bed(
        "uml features and address",
        UserMode,
        &["--mtu", "1400"],
        control::features,
    ),
    bed(
        "uml split rings",
        UserMode,
        &["--no-ring-packed"],
        control::split_rings,
    ),
    bed("uml packed rings", UserMode, &[], control::packed_rings),
    bed("uml ping both ways", UserMode, &[], transfer::ping),
    bed("uml tcp both ways", UserMode, &[], transfer::tcp),
    bed(
        "uml tcp from the guest's own client",
        UserMode,
        &[],
        transfer::guest_client,
    ),
    bed(
        "uml bytes come back as they were sent",
        UserMode,
        &[],
        transfer::echo,
    ),
    bed(
        "uml segmentation offload off and on",
        UserMode,
        &[],
        control::segmentation,
    ),
    bed("uml udp", UserMode, &[], transfer::udp),
    bed(
        "uml a million datagrams arrive in their order",
        UserMode,
        &["--control-path", "FOLDER/control.sock"],
        coalesce::datagrams_of_flows,
    ),
    bed(
        "uml segments of the guest's own",
        UserMode,
        &["--control-path", "FOLDER/control.sock"],
        coalesce::segments,
    ),
    bed("uml small frames", UserMode, &[], transfer::small_frames),
    bed("uml ipv6", UserMode, &[], transfer::ipv6),
    bed(
        "uml jumbo frames",
        UserMode,
        &["--mtu", "9000"],
        transfer::jumbo,
    ),
    bed(
        "uml two queue pairs",
        UserMode,
        &["--queue-pairs", "2"],
        control::queue_pairs,
    ),
    bed(
        "uml table of receive queues in the kernel",
        UserMode,
        STEERED,
        steering::kernels_tables,
    ),
    bed(
        "uml table of receive queues in the daemon",
        UserMode,
        &[
            "--metrics",
            ADDRESS,
            "--queue-pairs",
            "4",
            "--rss",
            "--hash-report",
            "--no-kernel-steering",
        ],
        steering::tables,
    ),
    bed(
        "uml table of receive queues changed under load",
        UserMode,
        STEERED,
        steering::change_under_load,
    ),
    bed(
        "uml program of the guest at its interface",
        UserMode,
        &["--metrics", ADDRESS],
        xdp::receives,
    ),
    bed(
        "uml interrupt moderation",
        UserMode,
        &["--metrics", ADDRESS],
        moderation::global,
    ),
    bed(
        "uml offloads one by one",
        UserMode,
        &["--metrics", ADDRESS],
        wire::offloads,
    ),
    bed(
        "uml filters of addresses and vlans",
        UserMode,
        &["--metrics", ADDRESS],
        wire::filters,
    ),
    bed(
        "uml change of the mtu",
        UserMode,
        &["--metrics", ADDRESS],
        wire::mtu,
    ),
    bed("uml promiscuous mode", UserMode, &[], control::promiscuous),
    bed("uml change of address", UserMode, &[], control::address),
    bed("uml two guests on a bridge", UserMode, &[], bridge::plain),
    bed("uml vlan between two guests", UserMode, &[], bridge::vlan),
    bed(
        "uml link of the guest down and up",
        UserMode,
        &[],
        control::guest_link,
    ),
    bed(
        "uml link of the tap down and up",
        UserMode,
        &[],
        control::tap_link,
    ),
    bed("uml 20000 pings", UserMode, &[], transfer::many_pings),
    bed(
        "uml capture",
        UserMode,
        &["--pcap", "FOLDER/net.pcap"],
        transfer::capture,
    ),
    bed(
        "uml next guest on the same daemon",
        UserMode,
        &[],
        lifecycle::next_guest,
    ),
    bed(
        "uml driver reloaded under traffic",
        UserMode,
        &[],
        reload::five_times,
    ),
    bed(
        "uml daemon killed under load",
        UserMode,
        &[],
        lifecycle::crash,
    ),
    bed(
        "uml gain of mergeable buffers",
        UserMode,
        &[],
        transfer::merging,
    ),
    own(
        "uml routes between two cards",
        Some(UserMode),
        router::large_tcp,
    ),
    bed(
        "uml tcp beside a hostile front-end",
        UserMode,
        &[
            "--and",
            "--socket-path",
            "FOLDER/hostile.sock",
            "--tap",
            "hostile0",
        ],
        neighbour::tcp,
    ),
    own("uml tcp through passt", Some(UserMode), passt::tcp),
    own(
        "testpmd frames of every length come back as they were sent",
        None,
        testpmd::every_length,
    ),
    alone("qemu without a device", Qemu, lifecycle::shell),
    bed(
        "qemu ping and tcp both ways",
        Qemu,
        &[],
        transfer::ping_and_tcp,
    ),
    bed(
        "qemu driver reloaded under traffic",
        Qemu,
        &[],
        reload::five_times,
    ),
    bed(
        "qemu legacy driver",
        LegacyQemu,
        &["--no-mrg-rxbuf"],
        legacy::linux,
    ),
    bed(
        "qemu legacy driver with mergeable buffers",
        LegacyQemu,
        &[],
        legacy::linux,
    ),
    own(
        "qemu firmware loads a file by DHCP and TFTP",
        Some(LegacyQemu),
        firmware::edk2,
    ),
    own(
        "qemu ipxe loads a file by DHCP and TFTP",
        None,
        firmware::ipxe,
    ),
    own(
        "qemu ipxe loads a file by DHCP and TFTP, legacy driver",
        None,
        firmware::legacy_ipxe,
    ),
    bed(
        "qemu device behind an iommu",
        IommuQemu,
        &["--iommu"],
        iommu::traffic_both_ways,
    ),
    own(
        "qemu live migration between two daemons, split rings",
        Some(Qemu),
        migration::split_rings,
    ),
    own(
        "qemu live migration between two daemons, packed rings",
        Some(Qemu),
        migration::packed_rings,
    ),
    own(
        "qemu daemon killed under a stream, connects to QEMU",
        Some(Qemu),
        killed::connecting,
    ),
    own(
        "qemu daemon killed under a stream, QEMU connects again",
        Some(Qemu),
        killed::listening,
    ),
];
