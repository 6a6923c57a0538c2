//! A frame that a limit holds back while the driver changes its mind: it is judged by what is in
//! force when it is delivered (NET-CVQ-03, NET-CVQ-19, NET-HDR-21).

use net_device::rate_limiter::{Group, RateLimiterConfig};
use net_device::{Features, now_ns};
use tests::testbed::{HOUR_MS, RINGS, Rig, body, frame, frame_limit, frame_to};

const OTHER: [u8; 6] = [0x02, 0, 0, 0, 0, 9];

/// TCP over IPv4 in segments of 1000 bytes.
fn segments() -> Vec<u8> {
    let mut bytes = frame(3000, 7);
    bytes[..12].copy_from_slice(&[1, 1, 54, 0, 0xe8, 3, 34, 0, 16, 0, 0, 0]);
    bytes
}

/// A device within a budget of one frame, which is used up, and a frame that waits for the next.
fn holding(without: Features, held: Vec<u8>) -> (Rig, Group) {
    let limit = frame_limit(1, HOUR_MS).expect("a limit");
    let group = Group::new(&limit).expect("it is usable");
    let mut rig = Rig::built(Rig::config(1), |builder| {
        builder.limit_groups(Some(group.clone()), None)
    });
    rig.start(without);
    assert_eq!(rig.command(0, 0, &[1]), 0, "promiscuous");
    rig.post(0, &[4096; 8]);
    rig.networks[0].wire.inject(frame(60, 1));
    rig.networks[0].wire.inject(held);
    assert_eq!(rig.receive(0, 1).len(), 1);
    rig.networks[0].wait_drained();
    (rig, group)
}

/// Lifts the limit under the running device, or with its workers stopped; what comes until a last
/// frame does.
fn released(mut rig: Rig, group: &Group, stop: bool) -> Vec<Vec<u8>> {
    if stop {
        rig.device.pause().expect("the device pauses");
    }
    let lifted = RateLimiterConfig::default();
    group.update(now_ns(), &lifted).expect("no limit is usable");
    if stop {
        rig.device.resume().expect("the device resumes");
    }
    let last = frame(70, 9);
    rig.networks[0].wire.inject(last.clone());
    let mut seen = Vec::new();
    while seen.last().map(|it: &Vec<u8>| body(it) == body(&last)) != Some(true) {
        seen.extend(rig.receive(0, 1));
    }
    seen
}

#[test]
fn held_segments_after_offloads_were_switched_off_are_not_delivered_as_such() {
    for without in RINGS {
        for stop in [false, true] {
            let (mut rig, group) = holding(without, segments());
            assert_eq!(rig.command(5, 0, &0u64.to_le_bytes()), 0);
            let seen = released(rig, &group, stop);
            assert!(seen.iter().all(|it| it[1] == 0), "gso_type");
        }
    }
}

#[test]
fn a_held_frame_that_the_filter_no_longer_passes_is_not_delivered() {
    for without in RINGS {
        for stop in [false, true] {
            let (mut rig, group) = holding(without, frame_to(OTHER, 64, 1));
            assert_eq!(rig.command(0, 0, &[0]), 0, "not promiscuous any more");
            let seen = released(rig, &group, stop);
            assert_eq!(seen.len(), 1, "the last one alone");
        }
    }
}

#[test]
fn a_held_frame_that_is_still_wanted_comes() {
    for without in RINGS {
        for stop in [false, true] {
            let (rig, group) = holding(without, segments());
            let seen = released(rig, &group, stop);
            assert_eq!(body(&seen[0]), body(&segments()));
            assert_eq!((seen.len(), seen[0][1]), (2, 1));
        }
    }
}
