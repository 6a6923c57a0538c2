//! HASH_REPORT: the header of each received frame.

use super::*;
use flows::{Flow, HDR, flow, hash_config};
use net_queue::testing::{LargeFrame, Random};
use tests::testbed::{GUEST_MAC, PEER_MAC, RINGS};

/// Report and value in the header of `frame`, of which nothing else is behind the base.
fn reported(frame: &[u8]) -> (u16, u32) {
    assert_eq!(frame[18..20], [0, 0], "padding");
    let value = u32::from_le_bytes([frame[12], frame[13], frame[14], frame[15]]);
    (u16::from_le_bytes([frame[16], frame[17]]), value)
}

/// Lets `frames`, each behind a header of 20 bytes, arrive at pair 0; each as the driver gets it.
fn arrive(rig: &mut Rig, frames: &[Vec<u8>], room: usize) -> Vec<Vec<u8>> {
    rig.post(0, &vec![room; frames.len() * 8]);
    for frame in frames {
        rig.networks[0].wire.inject(frame.clone());
    }
    rig.receive(0, frames.len())
}

#[test]
fn every_frame_reports_its_hash_on_every_ring_net_mq_16_net_rx_17() {
    for without in RINGS {
        let mut rig = running(1, 256, without);
        let flows: Vec<Flow> = (0..8).map(flow).collect();
        let frames: Vec<_> = flows.iter().map(Flow::bytes).collect();
        for frame in arrive(&mut rig, &frames, 512) {
            assert_eq!(reported(&frame), (0, 0), "before any command");
        }
        let config = hash_config(0x1ff, 0, &KEY);
        assert_eq!(rig.command(MQ, HASH_CONFIG, &config), OK);
        let received = arrive(&mut rig, &frames, 512);
        for (flow, bytes) in flows.iter().zip(&received) {
            assert_eq!(reported(bytes), flow.hash());
            assert_eq!(bytes[HDR..], flow.frame());
        }
        // Long ones, which are received straight into the driver's buffers, and merged ones.
        let long: Vec<_> = flows.iter().map(|flow| flow.with(&[7; 9000])).collect();
        let frames: Vec<_> = long.iter().map(Flow::bytes).collect();
        for (flow, bytes) in long.iter().zip(arrive(&mut rig, &frames, 2048)) {
            assert_eq!(reported(&bytes), flow.hash());
            assert_eq!(bytes[HDR..], flow.frame());
        }
        let mut arp = flow(0).bytes();
        arp[HDR + 12..HDR + 14].copy_from_slice(&[8, 6]);
        assert_eq!(reported(&arrive(&mut rig, &[arp], 512)[0]), (0, 0));
    }
}

#[test]
fn each_type_that_is_shown_works_by_itself_net_cfg_12() {
    let mut rig = running(1, 256, F::empty());
    for bit in 0..6_u32 {
        let config = hash_config(1 << bit, 0, &KEY);
        assert_eq!(rig.command(MQ, HASH_CONFIG, &config), OK);
        let flows: Vec<Flow> = (0..4).map(flow).collect();
        let frames: Vec<_> = flows.iter().map(Flow::bytes).collect();
        for (flow, bytes) in flows.iter().zip(arrive(&mut rig, &frames, 512)) {
            let hashes = [flow.address_hash(), flow.hash()];
            let ours = hashes
                .into_iter()
                .find(|(report, _)| *report == bit as u16 + 1);
            assert_eq!(reported(&bytes), ours.unwrap_or_default(), "{bit}");
        }
    }
}

#[test]
fn segments_that_are_cut_here_report_the_hash_of_their_flow() {
    let tso = F::VIRTIO_NET_F_GUEST_TSO4
        | F::VIRTIO_NET_F_GUEST_TSO6
        | F::VIRTIO_NET_F_GUEST_USO4
        | F::VIRTIO_NET_F_GUEST_USO6;
    let mut rig = running(1, 4096, tso);
    let config = hash_config(0x1ff, 0, &KEY);
    assert_eq!(rig.command(MQ, HASH_CONFIG, &config), OK);
    for seed in 0..8 {
        let large = LargeFrame {
            tags: 0,
            ..LargeFrame::random(&mut Random::new(seed))
        };
        let mut bytes = large.bytes();
        bytes.splice(12..12, [0xaa; 8]);
        bytes[HDR..HDR + 6].copy_from_slice(&GUEST_MAC);
        let count = large.segments(true).len();
        rig.post(0, &vec![2048; 64]);
        rig.networks[0].wire.inject(bytes.clone());
        let addresses = if large.v6 { 32 } else { 8 };
        let ip = HDR + 14;
        let at = if large.v6 { ip + 8 } else { ip + 12 };
        let mut input = bytes[at..at + addresses].to_vec();
        input.extend(&bytes[HDR + large.transport()..][..4]);
        let value = flows::toeplitz(&KEY, &input);
        for segment in rig.receive(0, count) {
            assert_eq!(reported(&segment).1, value);
            assert_eq!(segment[10..12], [1, 0]);
        }
    }
}

#[test]
fn hashes_can_be_set_with_one_pair_and_without_a_table_net_mq_15_17() {
    // With RSS the table is how it is done.
    let mut rig = running(1, 64, F::empty());
    let config = rss_config(0x1ff, 0, &[0], 1, &KEY);
    assert_eq!(rig.command(MQ, RSS_CONFIG, &config), OK);
    assert_eq!(
        reported(&arrive(&mut rig, &[flow(1).bytes()], 512)[0]),
        flow(1).hash()
    );
    // Without, reserved words mean nothing.
    let mut rig = running(1, 64, F::VIRTIO_NET_F_RSS);
    for reserved in [0, 0xff] {
        let config = hash_config(0x1ff, reserved, &KEY);
        assert_eq!(rig.command(MQ, HASH_CONFIG, &config), OK);
        let received = arrive(&mut rig, &[flow(2).bytes()], 512);
        assert_eq!(reported(&received[0]), flow(2).hash());
    }
    let bad = [
        hash_config(0x200, 0, &KEY),
        hash_config(0x1ff, 0, &[1; 41]),
        hash_config(0x1ff, 0, &KEY)[..52].to_vec(),
    ];
    for config in bad {
        assert_eq!(rig.command(MQ, HASH_CONFIG, &config), ERR);
        let received = arrive(&mut rig, &[flow(2).bytes()], 512);
        assert_eq!(reported(&received[0]), flow(2).hash());
    }
    let none = hash_config(0, 0, &[]);
    assert_eq!(rig.command(MQ, HASH_CONFIG, &none), OK);
    assert_eq!(
        reported(&arrive(&mut rig, &[flow(2).bytes()], 512)[0]),
        (0, 0)
    );
}

#[test]
fn frames_are_sent_behind_the_longer_header_too() {
    for without in RINGS {
        let mut rig = running(1, 64, without);
        let mut frame = flow(3).frame();
        frame[..6].copy_from_slice(&PEER_MAC);
        rig.send(0, &[&[0; 12][..], &[0xaa; 8], &frame].concat());
        let sent = rig.networks[0].wait_sent(1);
        // What a driver leaves in the fields of a hash does not leave its machine.
        assert_eq!(sent[0], [&[0; HDR][..], &frame].concat());
    }
}

#[test]
fn the_device_announces_behind_the_longer_header_too() {
    for without in RINGS {
        let mut rig = running(1, 64, without);
        rig.device.send_rarp(PEER_MAC.into());
        let sent = rig.networks[0].wait_sent(1);
        let (header, frame) = sent[0].split_at(HDR);
        assert_eq!(header, [0; HDR]);
        assert_eq!(frame[..12], [[0xff; 6], PEER_MAC].concat());
        assert_eq!(frame.len(), 60);
    }
}

#[test]
fn frames_of_other_queues_report_their_own_hash_behind_ones_that_were_dropped() {
    const ROUNDS: usize = 200;
    let mut rig = running(2, 256, F::empty());
    let config = rss_config(0x1ff, 0, &[0], 2, &KEY);
    assert_eq!(rig.command(MQ, RSS_CONFIG, &config), OK);
    rig.post(0, &[256; ROUNDS]);
    for number in 0..ROUNDS as u16 {
        // Hashed where it arrives, and filtered.
        let mut stranger = flow(1000 + number).bytes();
        stranger[HDR..HDR + 6].copy_from_slice(&[2, 0, 0, 0, 0, 77]);
        rig.networks[0].wire.inject(stranger);
        rig.networks[1].wire.inject(flow(number).bytes());
    }
    for (number, frame) in rig.receive(0, ROUNDS).iter().enumerate() {
        assert_eq!(reported(frame), flow(number as u16).hash(), "{number}");
    }
}
