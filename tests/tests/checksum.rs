//! Partial checksums where the network or the driver does not take them: the device completes them.

use net_device::{Features, NetDevice};
use tests::testbed::{RINGS, Rig, body, frame, pause, resume, socket_port, wait_readable};

type F = Features;

const NEEDS_CSUM: u8 = 1;
/// Of a UDP datagram over IPv4: where its header and its checksum are in the frame.
const START: usize = 34;
const FIELD: usize = 40;

/// A frame of `len` bytes whose checksum is left to be completed.
fn partial(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = frame(len, seed);
    bytes[..12].copy_from_slice(&[NEEDS_CSUM, 0, 0, 0, 0, 0, 34, 0, 6, 0, 0, 0]);
    bytes
}

fn sum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|word| u64::from(word[0]) << 8 | word.get(1).copied().map_or(0, u64::from));
    (0..4).fold(words.sum::<u64>(), |sum, _| (sum & 0xffff) + (sum >> 16)) as u16
}

/// `whole` is `partial` with nothing changed but its checksum, which is right.
fn expect_completed(whole: &[u8], partial: &[u8]) {
    assert_eq!(whole[0], 0, "no flag");
    let (whole, partial) = (body(whole), body(partial));
    let words = [
        sum(&partial[START..]),
        u16::from_be_bytes([whole[FIELD], whole[FIELD + 1]]),
    ];
    assert_eq!(sum(&words.map(u16::to_be_bytes).concat()), 0xffff);
    assert_eq!(whole[..FIELD], partial[..FIELD]);
    assert_eq!(whole[FIELD + 2..], partial[FIELD + 2..]);
}

#[test]
fn a_network_without_checksum_offload_gets_whole_frames_net_hdr_03() {
    for without in RINGS {
        let (port, far) = socket_port();
        let device = NetDevice::from_ports(Rig::config(1), vec![port]).expect("one port");
        let mut rig = Rig::over(device);
        let offered = rig.offered();
        assert!(offered.contains(F::VIRTIO_NET_F_CSUM));
        assert!(!offered.contains(F::VIRTIO_NET_F_GUEST_CSUM));
        rig.start(without);
        for (seed, len) in (0..).zip([60, 61, 1514, 9000]) {
            rig.send(0, &partial(len, seed));
            wait_readable(&far, "the frame");
            let mut buffer = [0; 10_000];
            let got = far.recv(&mut buffer).expect("it is readable");
            expect_completed(&buffer[..got], &partial(len, seed));
        }
        assert_eq!(rig.counter("tx_drop_csum_not_negotiated"), 0);
    }
}

#[test]
fn a_driver_without_checksum_offload_gets_whole_frames_net_hdr_20() {
    for without in RINGS {
        let mut rig = Rig::running(without | F::VIRTIO_NET_F_GUEST_CSUM);
        for (seed, len) in (0..).zip([60, 61, 1514, 9000, 9001]) {
            rig.post(0, &[2048; 8]);
            rig.networks[0].wire.inject(partial(len, seed));
            let got = rig.receive(0, 1).remove(0);
            expect_completed(&got, &partial(len, seed));
        }
    }
}

/// Frames that the network still held when the driver switched the offload off must not be lost.
#[test]
fn an_offload_that_is_switched_off_costs_no_frame_net_cvq_19() {
    let mut rig = Rig::running(F::empty());
    rig.post(0, &[2048]);
    rig.networks[0].wire.inject(partial(300, 1));
    let got = rig.receive(0, 1).remove(0);
    assert_eq!((got[0], body(&got)), (NEEDS_CSUM, body(&partial(300, 1))));
    assert_eq!(rig.command(5, 0, &0u64.to_le_bytes()), 0);
    rig.post(0, &[2048]);
    rig.networks[0].wire.inject(partial(300, 2));
    expect_completed(&rig.receive(0, 1)[0], &partial(300, 2));
    assert_eq!(rig.counter("rx_drop_csum_not_negotiated"), 0);
}

/// The worker learns of it while it comes to rest, or afterwards.
#[test]
fn an_offload_that_is_switched_off_before_a_pause_is_off_after_it() {
    let mut rig = Rig::running(F::empty());
    rig.post(0, &[2048; 2]);
    rig.networks[0].wire.inject(frame(60, 1));
    rig.receive(0, 1);
    assert_eq!(rig.command(5, 0, &0u64.to_le_bytes()), 0);
    pause(&mut rig);
    resume(&mut rig);
    rig.networks[0].wire.inject(partial(300, 2));
    expect_completed(&rig.receive(0, 1)[0], &partial(300, 2));
}
