//! Large frames of a driver over a network that takes none: they arrive in segments.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;

use net_device::net_queue::testing::LargeFrame;
use net_device::{Features, NetDevice};
use tests::testbed::{RINGS, Rig, frame, pause, resume, socket_port, wait_readable};

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
