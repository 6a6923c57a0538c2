//! Frames that wait for buffers or for a limit, frames that another card verified, and buffers of
//! odd shapes.

use net_device::{Features, NetConfig};
use net_queue::header::{HDR_LEN, flags, gso};
use net_queue::testing::{Random, Shape};
use tests::testbed::{HOUR_MS, RINGS, Rig, body, frame, frame_limit, pause, resume};

type F = Features;

/// Bytes of Linux' mergeable buffers.
const BUFFER: usize = 1526;

/// A TCP frame of `len` bytes over IPv4 that is to be segmented, with these `flags`.
fn large(len: usize, flags: u8, seed: u64) -> Vec<u8> {
    let mut bytes = frame(len, seed);
    let packet = &mut bytes[HDR_LEN + 14..];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&((len - 14) as u16).to_be_bytes());
    packet[6..8].fill(0);
    packet[9] = 6;
    packet[32] = 0x50;
    bytes[..2].copy_from_slice(&[flags, gso::TCPV4]);
    bytes[4..6].copy_from_slice(&1448u16.to_le_bytes());
    if flags & flags::NEEDS_CSUM != 0 {
        bytes[6..10].copy_from_slice(&[34, 0, 16, 0]);
    }
    bytes
}

#[test]
fn frame_gets_the_buffers_that_it_lacks_one_at_a_time() {
    for without in RINGS {
        let mut rig = Rig::running(without);
        let mut random = Random::new(7);
        for round in 0..20 {
            let len = 3000 + random.below(17_000) as usize;
            let bytes = large(len, flags::NEEDS_CSUM, round);
            let need = (HDR_LEN + len).div_ceil(BUFFER);
            let first = random.below(need as u64) as usize;
            rig.post(0, &vec![BUFFER; first]);
            rig.networks[0].wire.inject(bytes.clone());
            for _ in first..need {
                rig.post(0, &[BUFFER]);
            }
            let got = rig.receive(0, 1);
            assert_eq!(body(&got[0]), body(&bytes), "{without:?} round {round}");
        }
        assert_eq!(rig.counter("rx_drop_no_room"), 0);
    }
}

#[test]
fn frame_that_never_gets_enough_buffers_does_not_stop_reception() {
    for without in RINGS {
        let mut rig = Rig::running(without);
        rig.post(0, &[BUFFER; 4]);
        rig.networks[0]
            .wire
            .inject(large(20_000, flags::NEEDS_CSUM, 1));
        for seed in 0..4 {
            rig.networks[0].wire.inject(frame(100, seed));
        }
        for (seed, got) in (0..4).zip(rig.receive(0, 4)) {
            assert_eq!(body(&got), body(&frame(100, seed)), "{without:?}");
        }
        assert_eq!(rig.counter("rx_drop_no_room"), 1);
    }
}

#[test]
fn verified_large_frame_passes_in_both_directions() {
    for without in RINGS {
        let mut rig = Rig::running(without);
        for flags in [0, flags::DATA_VALID] {
            let bytes = large(8000, flags, 1);
            let changed = HDR_LEN + 50;
            rig.send(0, &bytes);
            let sent = rig.networks[0].wait_sent(1).remove(0);
            rig.post(0, &[4096; 2]);
            rig.networks[0].wire.inject(bytes.clone());
            let received = rig.receive(0, 1).remove(0);
            for got in [sent, received] {
                assert_eq!(got[..2], [flags::NEEDS_CSUM, gso::TCPV4]);
                assert_eq!(got[6..10], [34, 0, 16, 0]);
                assert_eq!(got[HDR_LEN..changed], bytes[HDR_LEN..changed]);
                assert_eq!(got[changed + 2..], bytes[changed + 2..]);
            }
        }
    }
}

/// A driver that took one frame, and has another one held by the limit.
fn holding(without: F, bytes: &[u8]) -> Rig {
    let config = NetConfig {
        rx_limit: frame_limit(1, HOUR_MS),
        ..Rig::config(1)
    };
    let mut rig = Rig::new(config);
    rig.start(without);
    rig.post(0, &[4096; 8]);
    rig.networks[0].wire.inject(frame(60, 1));
    rig.networks[0].wire.inject(bytes);
    rig.receive(0, 1);
    rig.networks[0].wait_drained();
    rig
}

/// NET-HDR-21, NET-CVQ-03, NET-CVQ-19
#[test]
fn segments_held_by_the_limit_do_not_reach_a_driver_that_switched_them_off() {
    for without in RINGS {
        for paused in [false, true] {
            let mut rig = holding(without, &large(3000, flags::NEEDS_CSUM, 7));
            assert_eq!(rig.command(5, 0, &0u64.to_le_bytes()), 0);
            if paused {
                pause(&mut rig);
                resume(&mut rig);
            }
            rig.device.set_limits(None, None).expect("a limit goes");
            rig.networks[0].wire.inject(frame(70, 2));
            loop {
                let got = rig.receive(0, 1).remove(0);
                assert_eq!(got[..2], [0, gso::NONE], "{without:?}");
                if body(&got) == body(&frame(70, 2)) {
                    break;
                }
            }
            assert_eq!(rig.counter("rx_segmented"), 1);
        }
    }
}

#[test]
fn header_lies_in_a_buffer_of_its_own_or_in_many() {
    for without in RINGS {
        for shape in [Shape::Direct, Shape::Indirect] {
            let mut rig = Rig::running(without | F::VIRTIO_NET_F_MRG_RXBUF);
            for (seed, first) in (0..).zip([1usize, 5, 10, 11, 12, 13, 26]) {
                let out = frame(60 + 130 * seed as usize, seed);
                let cuts = [first, first.max(HDR_LEN)];
                let pieces = rig.memory.cut(&out, &cuts);
                rig.queue(1).ring.add_as(shape, &pieces);
                rig.queue(1).publish();
                assert_eq!(body(&rig.networks[0].wait_sent(1)[0]), body(&out));
                rig.wait_used(1, 1);
                let mut room: Vec<_> = (0..first).map(|_| rig.memory.room(1)).collect();
                room.push(rig.memory.room(1518));
                rig.queue(0).ring.add_as(shape, &room);
                rig.queue(0).publish();
                rig.networks[0].wire.inject(out.clone());
                let used = rig.wait_used(0, 1).remove(0);
                assert_eq!(used.len as usize, out.len());
                assert_eq!(body(&rig.queue(0).ring.bytes(&used)), body(&out));
            }
        }
    }
}

#[test]
fn lengths_of_merged_buffers_add_up() {
    for without in RINGS {
        for size in [128usize, BUFFER, 4096] {
            let mut rig = Rig::running(without);
            for total in [1usize, 2, 3, 6].map(|count| size * count) {
                for total in [total - 1, total, total + 1] {
                    let len = total - HDR_LEN;
                    let bytes = frame(len, total as u64);
                    let need = total.div_ceil(size);
                    rig.post(0, &vec![size; need]);
                    rig.networks[0].wire.inject(bytes.clone());
                    let got = rig.receive(0, 1).remove(0);
                    assert_eq!(usize::from(got[10]), need);
                    assert_eq!(body(&got), body(&bytes), "{without:?} {size} {total}");
                }
            }
        }
    }
}
