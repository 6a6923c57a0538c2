//! Interrupt moderation as the guest's administrator sets it, seen by the interrupts that the
//! daemon sends for each frame.

use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use super::control::{Feature, expect_feature};
use super::traffic;
use crate::guest::error::require;
use crate::guest::metrics::{Direction, Metrics};
use crate::guest::testbed::{GUEST, HOST, NIC};
use crate::guest::{Error, Result, Testbed, datagrams};

const NOTF_COAL: Feature = (53, "NOTF_COAL");
/// Features of later drivers than these guests'.
const LATER: [Feature; 2] = [(52, "VQ_NOTF_COAL"), (50, "DEVICE_STATS")];

/// Frames of one measurement.
const FRAMES: u64 = 400;
/// Gap between two frames, so that the guest is done with one before the next comes.
const GAP: Duration = Duration::from_millis(2);

/// Values without an effect. Zero frames would mean to this driver that its interface reclaims what
/// it sent without interrupts, which it refuses to change while that is up.
const TX_OFF: &str = "tx-usecs 0 tx-frames 1";

/// Frames and interrupts of a queue during a measurement.
#[derive(Clone, Copy, Debug)]
struct Counted {
    frames: u64,
    interrupts: u64,
}

impl Counted {
    fn read(bed: &Testbed, direction: Direction) -> Result<Self> {
        let metrics = Metrics::read(bed)?;
        Ok(Self {
            frames: metrics.of(direction, "frames_total"),
            interrupts: metrics.of(direction, "interrupts_total"),
        })
    }

    fn during(
        bed: &mut Testbed,
        direction: Direction,
        action: impl FnOnce(&mut Testbed) -> Result<()>,
    ) -> Result<Self> {
        let before = Self::read(bed, direction)?;
        action(bed)?;
        let after = Self::read(bed, direction)?;
        Ok(Self {
            frames: after.frames - before.frames,
            interrupts: after.interrupts - before.interrupts,
        })
    }
}

/// Frames to the guest at a distance from each other.
fn send_slowly(_bed: &mut Testbed) -> Result<()> {
    let socket = UdpSocket::bind((HOST, 0)).map_err(Error::io("binding a socket"))?;
    for _ in 0..FRAMES {
        socket
            .send_to(b"frame", (GUEST, 9))
            .map_err(Error::io("sending a datagram"))?;
        thread::sleep(GAP);
    }
    Ok(())
}

/// Frames of the guest, sent as fast as it can.
fn send_fast(bed: &mut Testbed) -> Result<()> {
    let options = format!("--count {FRAMES} --size 64");
    datagrams::to_host(&mut bed.guest, 1, &options).map(drop)
}

pub(super) fn global(bed: &mut Testbed) -> Result<String> {
    expect_feature(&mut bed.guest, NOTF_COAL, true)?;
    for feature in LATER {
        expect_feature(&mut bed.guest, feature, false)?;
    }
    traffic::ping(&mut bed.guest)?;
    let mut seen = Vec::new();
    for frames in [0, 10, 50, 0] {
        // A time that never comes first.
        let usecs = if frames == 0 { 0 } else { 2_000_000 };
        set(
            bed,
            &format!("rx-usecs {usecs} rx-frames {frames} {TX_OFF}"),
        )?;
        let counted = Counted::during(bed, Direction::Rx, send_slowly)?;
        let outcome = format!("rx-frames {frames}: {counted:?}");
        let expected = counted.frames / frames.max(1);
        // Fewer if the guest still polls, or the host puts several frames into one batch.
        let enough = expected / 2..=expected + 1;
        require!(
            counted.frames >= FRAMES && enough.contains(&counted.interrupts),
            "{outcome}"
        );
        seen.push(outcome);
    }
    // By time alone: fewer than frames, and the guest is told of all in the end.
    set(bed, &format!("rx-usecs 20000 rx-frames 1000 {TX_OFF}"))?;
    let counted = Counted::during(bed, Direction::Rx, send_slowly)?;
    require!(
        (1..=counted.frames / 5).contains(&counted.interrupts),
        "rx-usecs 20000: {counted:?}"
    );
    seen.push(format!("rx-usecs 20000: {counted:?}"));
    traffic::ping(&mut bed.guest)?;
    set(bed, &format!("rx-usecs 0 rx-frames 0 {TX_OFF}"))?;
    let off = Counted::during(bed, Direction::Tx, send_fast)?;
    set(bed, "tx-usecs 2000000 tx-frames 64")?;
    let on = Counted::during(bed, Direction::Tx, send_fast)?;
    require!(
        on.frames >= FRAMES && on.interrupts <= on.frames / 64 + 1,
        "tx-frames 64: {on:?}, before {off:?}"
    );
    seen.push(format!("tx off: {off:?}, tx-frames 64: {on:?}"));
    set(bed, TX_OFF)?;
    traffic::ping(&mut bed.guest)?;
    Ok(seen.join("; "))
}

/// Sets coalescing in the guest, which has to show it afterwards.
fn set(bed: &mut Testbed, values: &str) -> Result<()> {
    bed.guest.expect(&format!("ethtool -C {NIC} {values}"))?;
    let report = bed.guest.expect(&format!("ethtool -c {NIC}"))?;
    let words: Vec<_> = values.split_whitespace().collect();
    for pair in words.chunks(2) {
        let shown = report.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name == pair[0]).then(|| value.trim().to_owned())
        });
        require!(
            shown.as_deref() == pair.get(1).copied(),
            "ethtool -c shows {shown:?} for {pair:?}"
        );
    }
    Ok(())
}
