//! A guest that goes on in another device: what survives, and which states are refused.

mod lifecycle;
mod migration;
mod rejection;

use net_device::net_queue::Offloads;
use net_device::rate_limiter::{RateLimiterConfig, TokenBucketConfig};
use net_device::{Features, Snapshottable};
use snapshot::{MigrateError, NetState, Snapshot};
use tests::testbed::{Rig, body, chain, frame, pause};

type F = Features;

const OK: u8 = 0;
const ERR: u8 = 1;
/// Somebody else.
const OTHER: [u8; 6] = [0x02, 0, 0, 0, 0, 9];
/// Receive offloads in the bits of GUEST_OFFLOADS_SET.
const CSUM: u64 = 1 << 1;

/// `tokens` of one kind now, and as many again after an hour.
fn hourly(tokens: u64) -> TokenBucketConfig {
    TokenBucketConfig {
        size: tokens,
        one_time_burst: None,
        refill_time: 3_600_000,
    }
}

/// At most `count` frames.
fn frames(count: u64) -> Option<RateLimiterConfig> {
    Some(RateLimiterConfig {
        ops: Some(hourly(count)),
        ..RateLimiterConfig::default()
    })
}

/// A device on `pairs` pairs whose driver runs.
fn running(pairs: u16, without: Features) -> Rig {
    let mut rig = Rig::new(Rig::config(pairs));
    rig.start(without);
    rig
}

/// The state of the device of `rig`, which is paused.
fn taken(rig: &mut Rig) -> Snapshot {
    rig.device.snapshot().expect("it is paused")
}

/// The same, opened.
fn state(rig: &mut Rig) -> NetState {
    taken(rig).open().expect("it was just sealed")
}

/// State that a file holds of the device of `rig`, which is paused.
fn file(rig: &mut Rig) -> Vec<u8> {
    let mut file = Vec::new();
    taken(rig).write_to(&mut file).expect("it has room");
    file
}

/// Restores the device of `rig` from what is read from a file.
fn restore(rig: &mut Rig, mut file: &[u8]) -> Result<(), MigrateError> {
    let snapshot = Snapshot::read_from(&mut file).map_err(MigrateError::Receive)?;
    rig.device.restore(snapshot)
}

/// Seals `state` and restores the device of `rig` from it.
fn restore_state(rig: &mut Rig, state: &NetState) -> Result<(), MigrateError> {
    let snapshot = Snapshot::seal(state).expect("no list is too long");
    rig.device.restore(snapshot)
}

/// A device made alike that was restored from the file.
fn alike(rig: &Rig, file: &[u8]) -> Rig {
    let mut next = Rig::new(rig.device.config().clone());
    if let Err(error) = restore(&mut next, file) {
        panic!("{}", chain(&error));
    }
    next
}

/// The guest of `rig` in another device, which is activated and paused.
fn migrated(mut rig: Rig) -> Rig {
    pause(&mut rig);
    let file = file(&mut rig);
    let next = alike(&rig, &file);
    let mut next = rig.move_to(next);
    next.activate();
    next
}

/// `count` frames in each direction of pair 0, one by one.
fn exchange(rig: &mut Rig, count: u64, seed: u64) {
    for number in seed..seed + count {
        rig.send(0, &frame(100, number));
        let sent = rig.networks[0].wait_sent(1);
        assert_eq!(sent.len(), 1);
        assert_eq!(body(&sent[0]), body(&frame(100, number)));
        rig.wait_used(1, 1);
        rig.post(0, &[2048]);
        rig.networks[0].wire.inject(frame(90, number));
        let seen = rig.receive(0, 1);
        assert_eq!(body(&seen[0]), body(&frame(90, number)));
    }
}

/// The receive offloads that the link of pair 0 was last programmed to.
fn programmed(rig: &Rig) -> Offloads {
    let links = rig.networks[0].wire.links();
    links.last().expect("it was configured").rx
}
