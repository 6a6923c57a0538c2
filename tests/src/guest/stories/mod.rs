//! Checks with real guests, one named scenario each.

mod bridge;
mod control;
mod lifecycle;
mod reload;
mod router;
mod testpmd;
mod traffic;
mod transfer;

use super::{Assets, Guest, Lab, Machine, Result, Setup};
use Machine::{Qemu, UserMode};

/// A named check.
#[derive(Debug, Clone, Copy)]
pub struct Story {
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
    Lab(Setup, fn(&mut Lab) -> Result<String>),
    /// Daemons and guests that the story starts itself.
    Own(fn(&Assets) -> Result<String>),
}

impl Story {
    /// Whether the story needs the daemon.
    #[must_use]
    pub const fn needs_daemon(&self) -> bool {
        !matches!(self.body, Body::Alone(..))
    }

    /// Runs the story; the text says what was seen.
    ///
    /// # Errors
    /// Why it failed.
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
            Body::Lab(setup, body) => {
                let mut lab = Lab::open(assets, setup)?;
                let seen = body(&mut lab).map_err(|error| lab.explain(&error))?;
                lab.close()?;
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
) -> Story {
    Story {
        name,
        machine: Some(machine),
        body: Body::Alone(machine, body),
    }
}

const fn lab(
    name: &'static str,
    machine: Machine,
    options: &'static [&'static str],
    body: fn(&mut Lab) -> Result<String>,
) -> Story {
    Story {
        name,
        machine: Some(machine),
        body: Body::Lab(Setup { machine, options }, body),
    }
}

const fn own(
    name: &'static str,
    machine: Option<Machine>,
    body: fn(&Assets) -> Result<String>,
) -> Story {
    Story {
        name,
        machine,
        body: Body::Own(body),
    }
}

/// All stories, in the order in which they are told: each builds on what those before have shown.
pub const STORIES: &[Story] = &[
    alone("uml without a device", UserMode, lifecycle::shell),
    lab(
        "uml features and address",
        UserMode,
        &["--mtu", "1400"],
        control::features,
    ),
    lab(
        "uml split rings",
        UserMode,
        &["--no-ring-packed"],
        control::split_rings,
    ),
    lab("uml packed rings", UserMode, &[], control::packed_rings),
    lab("uml ping both ways", UserMode, &[], transfer::ping),
    lab("uml tcp both ways", UserMode, &[], transfer::tcp),
    lab(
        "uml tcp from the guest's own client",
        UserMode,
        &[],
        transfer::guest_client,
    ),
    lab(
        "uml bytes come back as they were sent",
        UserMode,
        &[],
        transfer::echo,
    ),
    lab(
        "uml segmentation offload off and on",
        UserMode,
        &[],
        control::segmentation,
    ),
    lab("uml udp", UserMode, &[], transfer::udp),
    lab("uml small frames", UserMode, &[], transfer::small_frames),
    lab("uml ipv6", UserMode, &[], transfer::ipv6),
    lab(
        "uml jumbo frames",
        UserMode,
        &["--mtu", "9000"],
        transfer::jumbo,
    ),
    lab(
        "uml two queue pairs",
        UserMode,
        &["--queue-pairs", "2"],
        control::queue_pairs,
    ),
    lab("uml promiscuous mode", UserMode, &[], control::promiscuous),
    lab("uml change of address", UserMode, &[], control::address),
    lab("uml two guests on a bridge", UserMode, &[], bridge::plain),
    lab("uml vlan between two guests", UserMode, &[], bridge::vlan),
    lab(
        "uml link of the guest down and up",
        UserMode,
        &[],
        control::guest_link,
    ),
    lab(
        "uml link of the tap down and up",
        UserMode,
        &[],
        control::tap_link,
    ),
    lab("uml 20000 pings", UserMode, &[], transfer::many_pings),
    lab(
        "uml capture",
        UserMode,
        &["--pcap", "FOLDER/net.pcap"],
        transfer::capture,
    ),
    lab(
        "uml next guest on the same daemon",
        UserMode,
        &[],
        lifecycle::next_guest,
    ),
    lab(
        "uml driver reloaded under traffic",
        UserMode,
        &[],
        reload::five_times,
    ),
    lab(
        "uml daemon killed under load",
        UserMode,
        &[],
        lifecycle::crash,
    ),
    lab(
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
    own(
        "testpmd frames of every length come back as they were sent",
        None,
        testpmd::every_length,
    ),
    alone("qemu without a device", Qemu, lifecycle::shell),
    lab(
        "qemu ping and tcp both ways",
        Qemu,
        &[],
        transfer::ping_and_tcp,
    ),
    lab(
        "qemu driver reloaded under traffic",
        Qemu,
        &[],
        reload::five_times,
    ),
];
