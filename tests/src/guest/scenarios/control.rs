//! Settings that the guest's administrator can change.

use super::traffic;
use crate::guest::error::require;
use crate::guest::testbed::{GUEST, HOST, MAC, NIC, TAP};
use crate::guest::{Error, Guest, Result, Testbed, host};

/// A feature bit and its name.
pub(super) type Feature = (usize, &'static str);

pub(super) const MRG_RXBUF: Feature = (15, "MRG_RXBUF");
const MTU: Feature = (3, "MTU");
const MQ: Feature = (22, "MQ");
pub(super) const ACCESS_PLATFORM: Feature = (33, "ACCESS_PLATFORM");
pub(super) const RING_PACKED: Feature = (34, "RING_PACKED");

/// Features that Linux 6.1 takes from a device that offers everything.
const FEATURES: &[Feature] = &[
    (0, "CSUM"),
    (1, "GUEST_CSUM"),
    (2, "CTRL_GUEST_OFFLOADS"),
    (5, "MAC"),
    (7, "GUEST_TSO4"),
    (8, "GUEST_TSO6"),
    (11, "HOST_TSO4"),
    (12, "HOST_TSO6"),
    MRG_RXBUF,
    (16, "STATUS"),
    (17, "CTRL_VQ"),
    (18, "CTRL_RX"),
    (19, "CTRL_VLAN"),
    (21, "GUEST_ANNOUNCE"),
    (23, "CTRL_MAC_ADDR"),
    (28, "INDIRECT_DESC"),
    (29, "EVENT_IDX"),
    (32, "VERSION_1"),
];

/// The accepted features are a string of zeros and ones in sysfs, bit 0 first.
pub(super) fn expect_feature(
    guest: &mut Guest,
    (bit, name): Feature,
    expected: bool,
) -> Result<()> {
    let bits = guest.expect(&format!("cat /sys/class/net/{NIC}/device/features"))?;
    let accepted = bits.as_bytes().get(bit) == Some(&b'1');
    require!(
        accepted == expected,
        "feature {name} is {accepted}, not {expected}: {bits}"
    );
    Ok(())
}

/// All kinds of traffic over split rings.
pub(super) fn split_rings(bed: &mut Testbed) -> Result<String> {
    rings(bed, false)
}

/// The same over packed ones.
pub(super) fn packed_rings(bed: &mut Testbed) -> Result<String> {
    rings(bed, true)
}

fn rings(bed: &mut Testbed, packed: bool) -> Result<String> {
    const LENGTH: usize = 8 << 20;
    expect_feature(&mut bed.guest, RING_PACKED, packed)?;
    traffic::ping(&mut bed.guest)?;
    traffic::echo(&mut bed.guest, LENGTH)?;
    Ok(traffic::tcp(&mut bed.guest, "")?.to_string())
}

pub(super) fn features(bed: &mut Testbed) -> Result<String> {
    for feature in FEATURES.iter().chain([&MTU]) {
        expect_feature(&mut bed.guest, *feature, true)?;
    }
    expect_feature(&mut bed.guest, MQ, false)?;
    let address = bed
        .guest
        .expect(&format!("cat /sys/class/net/{NIC}/address"))?;
    require!(address == MAC, "the address is {address}, not {MAC}");
    let mtu = bed.guest.expect(&format!("cat /sys/class/net/{NIC}/mtu"))?;
    require!(mtu == "1400", "the MTU is {mtu}");
    let carrier = bed
        .guest
        .expect(&format!("cat /sys/class/net/{NIC}/carrier"))?;
    require!(carrier == "1", "the carrier is {carrier}");
    bed.guest
        .expect(&format!("cat /sys/class/net/{NIC}/device/features"))
}

pub(super) fn segmentation(bed: &mut Testbed) -> Result<String> {
    let mut seen = Vec::new();
    for state in ["off", "on"] {
        bed.guest.expect(&format!(
            "ethtool -K {NIC} tso {state} gso {state} gro {state}"
        ))?;
        seen.push(format!("{state}: {}", traffic::tcp(&mut bed.guest, "")?));
    }
    // Turns CTRL_GUEST_OFFLOADS over as well.
    for state in ["off", "on"] {
        bed.guest.expect(&format!(
            "ethtool -K {NIC} rx-gro-hw {state} lro {state} || true"
        ))?;
        seen.push(format!(
            "receive {state}: {}",
            traffic::tcp(&mut bed.guest, "")?
        ));
    }
    Ok(seen.join("; "))
}

pub(super) fn queue_pairs(bed: &mut Testbed) -> Result<String> {
    expect_feature(&mut bed.guest, MQ, true)?;
    let mut seen = Vec::new();
    for pairs in [2, 1, 2] {
        bed.guest.expect(&format!("ethtool -L {NIC} combined {pairs} || ethtool -l {NIC} | tail -n 5 | grep -q 'Combined:.*{pairs}'"))?;
        let before = queue_packets(&mut bed.guest)?;
        let rates = traffic::tcp(&mut bed.guest, "-P 8")?;
        let after = queue_packets(&mut bed.guest)?;
        let moved: Vec<_> = after
            .iter()
            .zip(&before)
            .map(|(after, before)| after - before)
            .collect();
        require!(
            moved[..2].iter().all(|packets| *packets > 0),
            "the first pair moved {moved:?} with {pairs} pairs"
        );
        if pairs == 2 {
            require!(
                moved[2..].iter().all(|packets| *packets > 0),
                "the second pair moved {moved:?} with 2 pairs"
            );
        }
        traffic::ping(&mut bed.guest)?;
        seen.push(format!("{pairs}: {rates}, packets {moved:?}"));
    }
    Ok(seen.join("; "))
}

/// The driver's own counters: received and sent packets of the first pair, then of the second. It
/// shows those of the pairs in use.
fn queue_packets(guest: &mut Guest) -> Result<[u64; 4]> {
    let report = guest.expect(&format!("ethtool -S {NIC}"))?;
    Ok(
        ["rx_queue_0", "tx_queue_0", "rx_queue_1", "tx_queue_1"].map(|queue| {
            let name = format!("{queue}_packets: ");
            report
                .lines()
                .find_map(|line| line.trim().strip_prefix(&name)?.parse().ok())
                .unwrap_or_default()
        }),
    )
}

/// Frames to somebody else reach the guest only while it asks for them.
pub(super) fn promiscuous(bed: &mut Testbed) -> Result<String> {
    const STRANGER: &str = "192.0.2.77";
    const FRAMES: u64 = 50;
    host::run(&format!(
        "ip neigh replace {STRANGER} lladdr 02:00:00:00:00:77 dev {TAP} nud permanent"
    ))?;
    let mut seen = Vec::new();
    for (state, expected) in [("off", false), ("on", true), ("off", false)] {
        bed.guest
            .expect(&format!("ip link set {NIC} promisc {state}"))?;
        let before = received(&mut bed.guest)?;
        // Nobody answers, so the status is that of a failure.
        let _unanswered = host::run(&format!("ping -q -c {FRAMES} -i 0.005 -W 1 {STRANGER}"));
        let frames = received(&mut bed.guest)? - before;
        require!(
            (frames >= FRAMES) == expected,
            "{frames} frames came with promiscuous mode {state}, {FRAMES} were sent"
        );
        traffic::ping(&mut bed.guest)?;
        seen.push(format!("{state}: {frames} of {FRAMES}"));
    }
    Ok(seen.join(", "))
}

fn received(guest: &mut Guest) -> Result<u64> {
    let packets = guest.expect(&format!("cat /sys/class/net/{NIC}/statistics/rx_packets"))?;
    packets
        .parse()
        .map_err(|_| Error::Unexpected(format!("rx_packets is {packets}")))
}

pub(super) fn address(bed: &mut Testbed) -> Result<String> {
    const OTHER: &str = "02:00:00:00:00:33";
    for address in [OTHER, MAC, OTHER] {
        bed.guest
            .expect(&format!("ip link set {NIC} address {address}"))?;
        host::run(&format!("ip neigh flush dev {TAP}"))?;
        traffic::ping(&mut bed.guest)?;
        let learnt = host::run(&format!("ip neigh show {GUEST} dev {TAP}"))?;
        require!(
            learnt.contains(address),
            "the host learnt {learnt} instead of {address}"
        );
    }
    Ok(format!(
        "{} with {OTHER}",
        traffic::tcp(&mut bed.guest, "")?
    ))
}

pub(super) fn guest_link(bed: &mut Testbed) -> Result<String> {
    const TIMES: u32 = 5;
    for _ in 0..TIMES {
        bed.guest.expect(&format!("ip link set {NIC} down"))?;
        // Meanwhile frames arrive at the tap.
        let _unanswered = host::run(&format!("ping -q -c 5 -i 0.01 -W 1 {GUEST}"));
        bed.guest.expect(&format!("ip link set {NIC} up"))?;
        traffic::await_link()?;
        traffic::ping(&mut bed.guest)?;
    }
    Ok(format!(
        "{TIMES} times, then {}",
        traffic::tcp(&mut bed.guest, "")?
    ))
}

/// Waits until the guest's interface has a carrier, or has none.
fn await_carrier(guest: &mut Guest, on: bool) -> Result<()> {
    let wanted = u8::from(on);
    let look = "cat /sys/class/net/eth0/carrier";
    guest.expect(&format!(
        "until [ \"$({look})\" = {wanted} ]; do sleep 0.1; done"
    ))?;
    Ok(())
}

pub(super) fn tap_link(bed: &mut Testbed) -> Result<String> {
    const TIMES: u32 = 5;
    for _ in 0..TIMES {
        host::run(&format!("ip link set {TAP} down"))?;
        await_carrier(&mut bed.guest, false)?;
        let reply = bed.guest.run(&format!("ping -q -c 3 -A -W 1 {HOST}"))?;
        require!(
            reply.output.contains("100% packet loss"),
            "answers came from a tap that is down:\n{}",
            reply.output
        );
        host::run(&format!("ip link set {TAP} up"))?;
        await_carrier(&mut bed.guest, true)?;
        traffic::await_link()?;
        traffic::ping(&mut bed.guest)?;
    }
    bed.daemon.expect_alive()?;
    Ok(format!(
        "{TIMES} times, then {}",
        traffic::tcp(&mut bed.guest, "")?
    ))
}
