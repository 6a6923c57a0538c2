//! Receive: frames that are for another queue of the device, and those that come from one.

use std::collections::VecDeque;
use std::sync::Arc;

use net_queue::hash::{FrameHash, FrameHasher, HashTypes};
use net_queue::header::HDR_LEN;
use net_queue::testing::packets::{Packet, Sums};
use net_queue::{Budget, Destination, DropCause, FrameFilter, FrameSteering, MAX_FRAME, Stop};

use crate::rig::{PLENTY, RxRig, SINGLE, every_ring};

/// A table of three entries, and the frames of other queues.
#[derive(Default)]
struct Device {
    hashes: Vec<(FrameHash, Destination)>,
    /// Passed to this queue, or kept for it.
    arrived: VecDeque<Vec<u8>>,
    /// Passes itself on to this queue while the frame of this number is looked at.
    late: Option<(usize, Vec<u8>)>,
    looked_at: std::cell::Cell<usize>,
    passed: Vec<(u16, Vec<u8>)>,
    full: bool,
}

impl FrameSteering for Device {
    fn destination(&self, hash: FrameHash) -> Destination {
        self.looked_at.set(self.looked_at.get() + 1);
        let found = self.hashes.iter().find(|(known, _)| *known == hash);
        found.map_or(Destination::Here, |(_, to)| *to)
    }

    fn pass(&mut self, to: Destination, frame: &[u8]) -> bool {
        match to {
            _ if self.full => return false,
            Destination::Here => self.arrived.push_back(frame.to_vec()),
            Destination::Queue(queue) => self.passed.push((queue, frame.to_vec())),
            Destination::Nowhere => panic!("nothing is passed nowhere"),
        }
        true
    }

    fn take(&mut self, room: &mut [u8]) -> Option<usize> {
        if let Some((after, _)) = &self.late
            && self.looked_at.get() >= *after
        {
            self.arrived
                .extend(self.late.take().map(|(_, frame)| frame));
        }
        let frame = self.arrived.pop_front()?;
        let len = frame.len().min(room.len());
        room[..len].copy_from_slice(&frame[..len]);
        Some(frame.len())
    }
}

/// Source ports of frames for this queue, for queue 3, and for one that does not run.
const OWN: u16 = 1;
const OTHER: u16 = 2;
const GONE: u16 = 3;

/// A frame behind its header.
fn from(port: u16) -> Vec<u8> {
    let packet = Packet {
        ports: (port, 9),
        sums: Sums::Complete,
        ..Packet::udp(&[port as u8; 40])
    };
    packet.bytes()
}

fn hasher() -> Arc<FrameHasher> {
    Arc::new(FrameHasher::new(HashTypes::all(), &[0x6d; 40]))
}

/// A queue, and the device around it.
fn steered(ring: net_queue::ring::RingConfig) -> (RxRig, Device) {
    let mut rig = RxRig::new(ring, SINGLE);
    rig.engine.set_hasher(Some(hasher()));
    let of = |port| hasher().hash(&from(port)[HDR_LEN..]);
    let device = Device {
        hashes: vec![
            (of(OWN), Destination::Here),
            (of(OTHER), Destination::Queue(3)),
            (of(GONE), Destination::Nowhere),
            (FrameHash::NONE, Destination::Queue(3)),
        ],
        ..Device::default()
    };
    (rig, device)
}

fn run(rig: &mut RxRig, device: &mut Device) -> Stop {
    let (engine, backend) = (&mut rig.engine, &mut rig.backend);
    let done = engine.run_steered(backend, &mut rig.limit, None, device, 0, PLENTY);
    done.stop
}

/// Frames that were delivered, without their headers.
fn delivered(rig: &mut RxRig) -> Vec<Vec<u8>> {
    let frames = std::iter::from_fn(|| rig.take_frame());
    frames.map(|(_, frame, _)| frame).collect()
}

fn without_header(frame: Vec<u8>) -> Vec<u8> {
    frame[HDR_LEN..].to_vec()
}

/// NET-MQ-07, NET-MQ-08.
#[test]
fn frames_go_where_the_table_says() {
    every_ring(64, |ring| {
        let (mut rig, mut device) = steered(ring);
        for _ in 0..8 {
            rig.post(&[2000]);
        }
        for port in [OTHER, OWN, GONE, OTHER, OWN] {
            rig.wire.inject(from(port));
        }
        rig.wire.inject(vec![0; HDR_LEN + 5]);
        assert!(matches!(run(&mut rig, &mut device), Stop::Backend));
        assert_eq!(
            delivered(&mut rig),
            [from(OWN), from(OWN)].map(without_header)
        );
        assert_eq!(device.passed, [(3, from(OTHER)), (3, from(OTHER))]);
        let stats = rig.counters.stats();
        assert_eq!((stats.steered, stats.frames), (2, 2));
        assert_eq!(rig.counters.drops(DropCause::Stopped), 1);
        assert_eq!(rig.counters.drops(DropCause::TooShort), 1);
    });
}

#[test]
fn frames_of_others_come_first_and_are_asked_for_again_in_time() {
    every_ring(64, |ring| {
        let (mut rig, mut device) = steered(ring);
        for _ in 0..60 {
            rig.post(&[2000]);
        }
        device.arrived.push_back(from(7));
        device.late = Some((5, from(8)));
        for _ in 0..40 {
            rig.wire.inject(from(OWN));
        }
        assert!(matches!(run(&mut rig, &mut device), Stop::Backend));
        let ports: Vec<_> = delivered(&mut rig)
            .iter()
            .map(|frame| frame[frame.len() - 1])
            .collect();
        assert_eq!(ports.len(), 42);
        assert_eq!(ports[0], 7);
        // The backend's turn is 32 frames long.
        assert_eq!(ports.iter().position(|port| *port == 8), Some(33));
        // What comes while the backend has none is not left standing.
        device.late = Some((0, from(9)));
        assert!(matches!(run(&mut rig, &mut device), Stop::Backend));
        rig.wire.inject(from(OWN));
        device.late = Some((device.looked_at.get() + 1, from(9)));
        assert!(matches!(run(&mut rig, &mut device), Stop::Backend));
        let rest: Vec<_> = delivered(&mut rig)
            .iter()
            .map(|frame| frame[frame.len() - 1])
            .collect();
        assert_eq!(rest, [9, OWN as u8, 9]);
    });
}

#[test]
fn a_queue_without_buffers_keeps_no_frame_of_others_waiting() {
    every_ring(64, |ring| {
        let (mut rig, mut device) = steered(ring);
        for port in [OTHER, OWN, GONE, OTHER] {
            rig.wire.inject(from(port));
        }
        rig.wire.inject(vec![0; HDR_LEN + 5]);
        rig.wire.inject(vec![0; 70_000]);
        assert!(matches!(run(&mut rig, &mut device), Stop::Driver));
        let one = Budget {
            frames: 1,
            ..PLENTY
        };
        let stop = rig
            .engine
            .distribute(&mut rig.backend, None, &mut device, one);
        assert!(matches!(stop, Stop::Budget));
        assert_eq!(device.passed, [(3, from(OTHER))]);
        let stop = rig
            .engine
            .distribute(&mut rig.backend, None, &mut device, PLENTY);
        assert!(matches!(stop, Stop::Backend));
        assert_eq!(device.passed, [(3, from(OTHER)), (3, from(OTHER))]);
        assert_eq!(device.arrived, [from(OWN)], "kept for this queue");
        assert_eq!(rig.counters.stats().steered, 2);
        for cause in [DropCause::Stopped, DropCause::TooShort, DropCause::TooLong] {
            assert_eq!(rig.counters.drops(cause), 1, "{cause:?}");
        }
        for _ in 0..2 {
            rig.post(&[2000]);
        }
        assert!(matches!(run(&mut rig, &mut device), Stop::Backend));
        assert_eq!(delivered(&mut rig), [without_header(from(OWN))]);
    });
}

#[test]
fn the_longest_frame_is_passed_on_and_a_longer_one_is_not() {
    every_ring(64, |ring| {
        let (mut rig, mut device) = steered(ring);
        let longest = vec![0; HDR_LEN + MAX_FRAME];
        rig.wire.inject(longest.clone());
        rig.wire.inject(vec![0; HDR_LEN + MAX_FRAME + 1]);
        let stop = rig
            .engine
            .distribute(&mut rig.backend, None, &mut device, PLENTY);
        assert!(matches!(stop, Stop::Backend));
        assert_eq!(rig.counters.drops(DropCause::TooLong), 1);
        assert!(device.passed == [(3, longest)]);
    });
}

#[test]
fn a_frame_for_which_another_queue_has_no_room_is_dropped_by_its_cause() {
    every_ring(64, |ring| {
        let (mut rig, mut device) = steered(ring);
        device.full = true;
        for port in [OTHER, OWN] {
            rig.wire.inject(from(port));
        }
        let stop = rig
            .engine
            .distribute(&mut rig.backend, None, &mut device, PLENTY);
        assert!(matches!(stop, Stop::Backend));
        assert_eq!(rig.counters.drops(DropCause::SteeringFull), 1);
        assert_eq!(rig.counters.drops(DropCause::NoRoom), 1);
        rig.post(&[2000]);
        rig.wire.inject(from(OTHER));
        assert!(matches!(run(&mut rig, &mut device), Stop::Backend));
        assert_eq!(rig.counters.drops(DropCause::SteeringFull), 2);
        assert_eq!(rig.counters.stats().steered, 0);
    });
}

/// A filter that wants nothing.
struct Nothing;

impl FrameFilter for Nothing {
    fn admit(&self, _: &[u8]) -> bool {
        false
    }
}

#[test]
fn what_the_filter_does_not_want_is_passed_to_nobody() {
    every_ring(64, |ring| {
        let (mut rig, mut device) = steered(ring);
        rig.wire.inject(from(OTHER));
        let stop = rig
            .engine
            .distribute(&mut rig.backend, Some(&Nothing), &mut device, PLENTY);
        assert!(matches!(stop, Stop::Backend));
        rig.post(&[2000]);
        rig.wire.inject(from(OTHER));
        let (engine, backend) = (&mut rig.engine, &mut rig.backend);
        engine.run_steered(
            backend,
            &mut rig.limit,
            Some(&Nothing),
            &mut device,
            0,
            PLENTY,
        );
        assert_eq!(rig.counters.drops(DropCause::Filtered), 2);
        assert!(device.passed.is_empty());
    });
}

#[test]
fn frames_of_others_are_discarded_by_their_cause() {
    every_ring(64, |ring| {
        let (mut rig, mut device) = steered(ring);
        device.arrived.extend([from(1), from(2), from(3)]);
        rig.engine.discard_steered(&mut device, DropCause::LinkDown);
        assert_eq!(rig.counters.drops(DropCause::LinkDown), 3);
        assert!(device.arrived.is_empty());
    });
}
