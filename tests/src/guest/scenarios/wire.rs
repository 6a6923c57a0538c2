//! Settings whose effect shows on the wire: offloads, filters, MTU.

use std::thread;
use std::time::{Duration, Instant};

use super::traffic;
use crate::guest::error::require;
use crate::guest::metrics::Direction::{self, Rx, Tx};
use crate::guest::metrics::Metrics;
use crate::guest::probe::{self, Probe};
use crate::guest::testbed::{GUEST, HOST, MAC, NIC, TAP};
use crate::guest::{Error, Result, Testbed, host};

/// Frames of one kind.
const FRAMES: u64 = 50;
/// Longest time that they may take through the device.
const LIMIT: Duration = Duration::from_secs(60);

/// Gain of counters while something happens.
fn gain<const N: usize>(
    bed: &mut Testbed,
    counters: [(Direction, &str); N],
    action: impl FnOnce(&mut Testbed) -> Result<()>,
) -> Result<[u64; N]> {
    let read = |bed: &Testbed| -> Result<[u64; N]> {
        let metrics = Metrics::read(bed)?;
        Ok(counters.map(|(direction, name)| metrics.of(direction, &format!("{name}_total"))))
    };
    let before = read(bed)?;
    action(bed)?;
    let after = read(bed)?;
    Ok(std::array::from_fn(|at| after[at] - before[at]))
}

/// Each offload by itself: a stream both ways makes use of it while it is on, and only then.
pub(super) fn offloads(bed: &mut Testbed) -> Result<String> {
    const LENGTH: usize = 4 << 20;
    // The guest's name, and frames that make use of it.
    let table = [
        ("tx", (Tx, "partial_checksums")),
        ("tso", (Tx, "gso_frames")),
        ("sg", (Tx, "gso_frames")),
        ("rx-gro-hw", (Rx, "gso_frames")),
    ];
    let mut seen = Vec::new();
    for (name, counter) in table {
        for (state, used) in [("off", false), ("on", true)] {
            bed.guest
                .expect(&format!("ethtool -K {NIC} {name} {state}"))?;
            // What depends on another one went off with it.
            if used {
                bed.guest
                    .expect(&format!("ethtool -K {NIC} sg on tso on"))?;
            }
            let counters = [counter, (counter.0, "frames")];
            let [uses, frames] = gain(bed, counters, |bed| traffic::echo(&mut bed.guest, LENGTH))?;
            let outcome = format!("{name} {state}: {uses} of {frames}");
            require!((uses > 0) == used, "{outcome}");
            seen.push(outcome);
        }
    }
    Ok(seen.join(", "))
}

/// Frames that somebody else on the wire sends reach the guest if its filters let them.
pub(super) fn filters(bed: &mut Testbed) -> Result<String> {
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 0x77];
    const ALL_HOSTS: [u8; 6] = [1, 0, 0x5e, 0, 0, 1];
    const GROUP: [u8; 6] = [1, 0, 0x5e, 0, 0, 0x77];
    let guest: Vec<u8> = MAC
        .split(':')
        .filter_map(|byte| u8::from_str_radix(byte, 16).ok())
        .collect();
    let guest: [u8; 6] = guest
        .try_into()
        .map_err(|_| Error::Unexpected(format!("{MAC} is not an address")))?;
    let vlan = format!("ip link add link {NIC} name {NIC}.6 type vlan id 6");
    let table: [(&str, [u8; 6], Option<u16>, bool); 14] = [
        ("true", guest, None, true),
        ("true", [0xff; 6], None, true),
        ("true", ALL_HOSTS, None, true),
        ("true", OTHER, None, false),
        ("ip link set NIC promisc on", OTHER, None, true),
        ("ip link set NIC promisc off", OTHER, None, false),
        ("true", GROUP, None, false),
        ("ifconfig NIC allmulti", GROUP, None, true),
        ("true", OTHER, None, false),
        ("ifconfig NIC -allmulti", GROUP, None, false),
        ("true", guest, Some(6), false),
        (&vlan, guest, Some(6), true),
        ("true", guest, Some(7), false),
        ("ip link del NIC.6", guest, Some(6), false),
    ];
    let probe = Probe::on(TAP, 1514)?;
    let mut seen = Vec::new();
    for (command, to, vlan, passes) in table {
        let command = command.replace("NIC", NIC);
        bed.guest.expect(&command)?;
        let [passed, filtered] = inject(bed, &probe, to, vlan)?;
        let outcome = format!("{command}: {to:x?} {vlan:?}: {passed} passed, {filtered} filtered");
        let expected = if passes { passed } else { filtered };
        let others = if passes { filtered } else { passed };
        require!(expected >= FRAMES && others < FRAMES, "{outcome}");
        seen.push(outcome);
    }
    probe.close()?;
    Ok(format!("{} settings", seen.len()))
}

/// Sends frames; how many passed and how many the device's filter dropped.
fn inject(bed: &Testbed, probe: &Probe, to: [u8; 6], vlan: Option<u16>) -> Result<[u64; 2]> {
    let mut frame = probe::frame(100, 0);
    frame[..6].copy_from_slice(&to);
    if let Some(id) = vlan {
        let tag = [[0x81, 0], id.to_be_bytes()].concat();
        frame.splice(12..12, tag);
    }
    let read = || -> Result<[u64; 2]> {
        let metrics = Metrics::read(bed)?;
        Ok([metrics.of(Rx, "frames_total"), metrics.rx_drops("filtered")])
    };
    let before = read()?;
    probe.send(&vec![frame; FRAMES as usize])?;
    let deadline = Instant::now() + LIMIT;
    loop {
        let now = read()?;
        let gained = [0, 1].map(|at| now[at] - before[at]);
        if gained.iter().sum::<u64>() >= FRAMES || Instant::now() >= deadline {
            return Ok(gained);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// The guest's frames are as long as its MTU lets them.
pub(super) fn mtu(bed: &mut Testbed) -> Result<String> {
    let mut seen = Vec::new();
    for mtu in [1500, 800, 576, 1500] {
        bed.guest.expect(&format!("ip link set {NIC} mtu {mtu}"))?;
        let counters = [(Tx, "frames"), (Tx, "bytes")];
        let [frames, bytes] = gain(bed, counters, |bed| {
            traffic::ping_host(&mut bed.guest, HOST, "-s 1472")
        })?;
        let outcome = format!("{mtu}: {frames} frames of {bytes} bytes");
        // Five requests of 1480 bytes behind the IP header, in fragments of multiples of eight.
        let fragments = 1480_u64.div_ceil((mtu - 20) / 8 * 8);
        require!(
            (5 * fragments..5 * fragments + 5).contains(&frames),
            "{outcome}"
        );
        host::run(&format!("ping -q -c 1 -W 5 -s 1472 {GUEST}"))?;
        seen.push(outcome);
    }
    Ok(seen.join(", "))
}
