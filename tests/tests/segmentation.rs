//! Large frames of a driver over a network that takes none, and of a network for a driver that
//! takes none: they arrive in segments.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;

use net_device::net_queue::testing::LargeFrame;
use net_device::{Features, NetDevice};
use tests::testbed::{RINGS, Rig, body, frame, pause, resume, socket_port, wait_readable};

type F = Features;

/// More large frames than a socket holds.
const FRAMES: usize = 8;

fn kinds() -> Vec<LargeFrame> {
    let kinds = [(true, false), (true, true), (false, false), (false, true)];
    let large = |(tcp, v6)| LargeFrame {
        tcp,
        v6,
        payload: 60_000,
        ..LargeFrame::default()
    };
    kinds.map(large).to_vec()
}

/// A device over a socket that holds a few datagrams only.
fn over_socket() -> (Rig, UnixDatagram) {
    let (port, far) = socket_port();
    let device = NetDevice::from_ports(Rig::config(1), vec![port]).expect("one port");
    (Rig::over(device), far)
}

fn recv(far: &UnixDatagram) -> Vec<u8> {
    wait_readable(far, "the next segment");
    let mut buffer = [0; 10_000];
    let len = far.recv(&mut buffer).expect("it is readable");
    buffer[..len].to_vec()
}

#[test]
fn a_network_without_segmentation_gets_every_large_frame_in_segments() {
    for without in RINGS {
        let (mut rig, far) = over_socket();
        let large = F::VIRTIO_NET_F_HOST_TSO4
            | F::VIRTIO_NET_F_HOST_TSO6
            | F::VIRTIO_NET_F_HOST_ECN
            | F::VIRTIO_NET_F_HOST_USO;
        assert!(rig.offered().contains(large));
        assert!(!rig.offered().contains(F::VIRTIO_NET_F_HOST_UFO));
        rig.start(without);
        for large in kinds() {
            rig.send(0, &large.bytes());
            rig.send(0, &frame(60, 3));
            // The socket is full long before the last one.
            for segment in large.segments(false) {
                assert!(recv(&far) == segment);
            }
            assert!(recv(&far) == frame(60, 3));
        }
        assert_eq!(rig.counter("tx_segmented"), 4);
        assert_eq!(rig.counter("tx_frames"), 4 * 42 + 4);
    }
}

/// The chain goes back to the ring: what has left comes twice, and nothing is lost.
#[test]
fn a_frame_that_is_half_sent_when_its_queue_stops_is_sent_again() {
    for without in RINGS {
        let (mut rig, far) = over_socket();
        rig.start(without);
        let large = LargeFrame {
            payload: 60_000,
            ..LargeFrame::default()
        };
        for _ in 0..FRAMES {
            rig.send(0, &large.bytes());
        }
        let segments = large.segments(false);
        assert!(recv(&far) == segments[0]);
        pause(&mut rig);
        let mut before = 1;
        let mut buffer = [0; 10_000];
        loop {
            match far.recv(&mut buffer) {
                Ok(len) => assert!(buffer[..len] == segments[before % segments.len()]),
                Err(error) => break assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            before += 1;
        }
        assert!(
            before < FRAMES * segments.len(),
            "the socket holds them all"
        );
        resume(&mut rig);
        for _ in before / segments.len()..FRAMES {
            for segment in &segments {
                assert!(recv(&far) == *segment);
            }
        }
    }
}

/// Offloads of reception that a driver may take or not.
const TAKEN: [F; 6] = [
    F::VIRTIO_NET_F_GUEST_CSUM,
    F::VIRTIO_NET_F_GUEST_TSO4,
    F::VIRTIO_NET_F_GUEST_TSO6,
    F::VIRTIO_NET_F_GUEST_ECN,
    F::VIRTIO_NET_F_GUEST_USO4,
    F::VIRTIO_NET_F_GUEST_USO6,
];

/// Every set of them that keeps to the specification's dependencies.
fn subsets() -> impl Iterator<Item = F> {
    let of = |bits: usize| (0..6).filter(move |at| bits >> at & 1 != 0);
    let sets = (0..64).map(move |bits| of(bits).map(|at| TAKEN[at]).collect::<F>());
    sets.filter(|set| {
        let tso = F::VIRTIO_NET_F_GUEST_TSO4 | F::VIRTIO_NET_F_GUEST_TSO6;
        let csum = set.is_empty() || set.contains(F::VIRTIO_NET_F_GUEST_CSUM);
        csum && (set.intersects(tso) || !set.contains(F::VIRTIO_NET_F_GUEST_ECN))
    })
}

/// A driver without what is not in `set`.
fn without(set: F, ring: F) -> F {
    let all: F = TAKEN.into_iter().collect();
    ring | F::VIRTIO_NET_F_GUEST_UFO | all.difference(set)
}

/// Takes `count` frames, each behind its header without the number of buffers.
fn receive(rig: &mut Rig, count: usize) -> Vec<Vec<u8>> {
    let mut frames = rig.receive(0, count);
    for frame in &mut frames {
        frame[10..12].fill(0);
    }
    frames
}

#[test]
fn drivers_with_any_offloads_receive_large_frames_of_every_kind() {
    for (set, ring) in subsets().zip(RINGS.into_iter().cycle()) {
        let mut rig = Rig::running(without(set, ring));
        let partial = set.contains(F::VIRTIO_NET_F_GUEST_CSUM);
        for large in kinds() {
            let large = LargeFrame {
                payload: 5000,
                ..large
            };
            let feature = match (large.tcp, large.v6) {
                (true, false) => F::VIRTIO_NET_F_GUEST_TSO4,
                (true, true) => F::VIRTIO_NET_F_GUEST_TSO6,
                (false, false) => F::VIRTIO_NET_F_GUEST_USO4,
                (false, true) => F::VIRTIO_NET_F_GUEST_USO6,
            };
            let expected = if set.contains(feature) {
                vec![large.bytes()]
            } else {
                large.segments(partial)
            };
            // As many buffers for the whole as for its segments.
            rig.post(0, &[1600; 4]);
            rig.networks[0].wire.inject(large.bytes());
            let received = receive(&mut rig, expected.len());
            assert!(received == expected, "{set:?} {large:?}");
        }
    }
}

/// Nothing above the longest IP packet can be told in a header: such a frame is counted, whether
/// the driver would take it whole or in segments.
#[test]
fn frames_beyond_the_longest_packet_are_counted() {
    let tso = F::VIRTIO_NET_F_GUEST_CSUM | F::VIRTIO_NET_F_GUEST_TSO4;
    for set in [F::empty(), tso] {
        for ring in RINGS {
            let mut rig = Rig::running(without(set, ring));
            for payload in [65_600, 200_000] {
                let large = LargeFrame {
                    payload,
                    ..LargeFrame::default()
                };
                rig.networks[0].wire.inject(large.bytes());
            }
            rig.networks[0].wire.inject(frame(60, 1));
            rig.post(0, &[1600; 4]);
            assert!(body(&rig.receive(0, 1)[0]) == body(&frame(60, 1)));
            assert_eq!(rig.counter("rx_drop_too_long"), 2);
        }
    }
}

/// Segments for which the driver has posted no buffers when the device is saved do not go with its
/// state: each is counted, and the next device begins with a frame of its own.
#[test]
fn a_device_that_is_saved_in_the_middle_of_a_frame_counts_the_rest() {
    for ring in RINGS {
        let mut rig = Rig::running(without(F::empty(), ring));
        let large = LargeFrame {
            payload: 6000,
            ..LargeFrame::default()
        };
        rig.post(0, &[1600; 2]);
        rig.networks[0].wire.inject(large.bytes());
        let segments = large.segments(false);
        assert!(receive(&mut rig, 2) == segments[..2]);
        let next = rig.restored();
        assert_eq!(rig.counter("rx_drop_stopped"), segments.len() as u64 - 2);
        let mut next = rig.move_to(next);
        next.activate();
        resume(&mut next);
        next.post(0, &[1600]);
        next.networks[0].wire.inject(frame(60, 2));
        assert!(body(&next.receive(0, 1)[0]) == body(&frame(60, 2)));
    }
}
