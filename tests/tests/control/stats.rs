//! Statistics that the driver asks the device for.

use super::*;
use tests::testbed::RINGS;

const STATS: u8 = 8;
/// Types by the number of their bit, with the bytes of an entry.
pub(super) const RX: [(u8, usize); 4] = [(0, 56), (1, 40), (2, 40), (3, 24)];
const TX: [(u8, usize); 4] = [(16, 56), (17, 24), (18, 56), (19, 24)];
const CVQ: (u8, usize) = (32, 24);
const ALL: u64 = 0x1_000f_000f;

/// One entry of a request.
fn entry(queue: u16, types: u64) -> Vec<u8> {
    let mut entry = vec![0xaa; 16];
    entry[..2].copy_from_slice(&queue.to_le_bytes());
    entry[8..].copy_from_slice(&types.to_le_bytes());
    entry
}

/// Gives a command with room for `room` bytes of result; the answer and the result.
fn ask(rig: &mut Rig, command: u8, data: &[u8], room: usize) -> (u8, Vec<u8>) {
    let bytes = [&[STATS, command], data].concat();
    let pieces = [
        rig.memory.filled(&bytes),
        rig.memory.room(1),
        rig.memory.room(room),
    ];
    let used = rig.control(&pieces);
    let result = rig.memory.read(pieces[2].addr, room);
    let (told, rest) = result.split_at(used.len as usize - 1);
    assert!(rest.iter().all(|byte| *byte == 0xaa), "nothing behind it");
    (rig.memory.read(pieces[1].addr, 1)[0], told.to_vec())
}

fn query(rig: &mut Rig) -> u64 {
    let (ack, result) = ask(rig, 0, &[], 16);
    assert_eq!(ack, OK);
    u64::from_le_bytes(result.try_into().expect("one word"))
}

/// The numbers of one type for one queue.
pub(super) fn get(rig: &mut Rig, queue: u16, (number, size): (u8, usize)) -> Vec<u64> {
    let (ack, result) = ask(rig, 1, &entry(queue, 1 << number), 100);
    assert_eq!(ack, OK);
    let [low, high] = queue.to_le_bytes();
    assert_eq!(result[..8], [number, 0, low, high, 0, 0, size as u8, 0]);
    assert_eq!(result.len(), size);
    let (words, _) = result[8..].as_chunks::<8>();
    words.iter().map(|word| u64::from_le_bytes(*word)).collect()
}

/// A frame of `len` bytes with a partial checksum, and larger than a segment if `gso`.
fn offloaded(len: usize, gso: bool) -> Vec<u8> {
    let mut bytes = frame(len, 1);
    let size = if gso { [0xe8, 3] } else { [0, 0] };
    let hdr_len = if gso { 54 } else { 0 };
    bytes[..10].copy_from_slice(&[1, u8::from(gso), hdr_len, 0, size[0], size[1], 34, 0, 16, 0]);
    // TCP over IPv4.
    bytes[12 + 14] = 0x45;
    bytes[12 + 23] = 6;
    bytes[12 + 46] = 0x50;
    bytes
}

#[test]
fn statistics_count_what_passed_on_every_ring_net_cvq_27_29() {
    for without in RINGS {
        let mut rig = Rig::running(without);
        assert_eq!(query(&mut rig), ALL);
        for bytes in [frame(100, 1), offloaded(200, false), offloaded(4000, true)] {
            rig.send(0, &bytes);
        }
        rig.send(0, &[0; 5]);
        assert_eq!(rig.networks[0].wait_sent(3).len(), 3);
        rig.wait_used(1, 4);
        let mut verified = frame(100, 2);
        verified[0] = 2;
        let frames = [
            frame(100, 1),
            offloaded(200, false),
            offloaded(1900, true),
            verified,
        ];
        assert_eq!(rig.sees(&frames).len(), 4);
        let before = rig.device.handle().stats();
        let rx_basic = get(&mut rig, 0, RX[0]);
        let tx_basic = get(&mut rig, 1, TX[0]);
        let after = rig.device.handle().stats();
        for (basic, before, after) in [
            (&rx_basic, &before.rx[0], &after.rx[0]),
            (&tx_basic, &before.tx[0], &after.tx[0]),
        ] {
            assert!((before.kicks..=after.kicks).contains(&basic[0]));
            assert!((before.interrupts..=after.interrupts).contains(&basic[3]));
        }
        assert_eq!([&rx_basic[1..3], &rx_basic[4..]], [[4, 2300], [0, 0]]);
        assert_eq!([&tx_basic[1..3], &tx_basic[4..]], [[3, 4300], [1, 1]]);
        assert_eq!(get(&mut rig, 0, RX[1]), [1, 2, 1, 0]);
        assert_eq!(get(&mut rig, 0, RX[2]), [1, 1900, 0, 0]);
        assert_eq!(get(&mut rig, 0, RX[3]), [0, 0]);
        assert_eq!(get(&mut rig, 1, TX[1]), [1, 2]);
        assert_eq!(get(&mut rig, 1, TX[2]), [1, 4000, 0, 0, 1, 4000]);
        assert_eq!(get(&mut rig, 1, TX[3]), [0, 0]);
    }
}

#[test]
fn the_control_queue_counts_the_command_that_asks_net_cvq_30() {
    let mut rig = Rig::running(F::empty());
    assert_eq!(get(&mut rig, 2, CVQ), [1, 1]);
    assert_eq!(rig.command(0, 0, &[2]), ERR);
    assert_eq!(get(&mut rig, 2, CVQ), [3, 2]);
    // Twice in one request it is the same command.
    let (_, twice) = ask(&mut rig, 1, &entry(2, 1 << CVQ.0).repeat(2), 100);
    assert_eq!((twice.len(), &twice[..24]), (48, &twice[24..]));
    assert_eq!((twice[8], twice[16]), (4, 3));
}

#[test]
fn one_bad_entry_fails_the_whole_request_net_cvq_28() {
    let mut rig = Rig::new(Rig::config(2));
    rig.start(F::VIRTIO_NET_F_CSUM | F::VIRTIO_NET_F_GUEST_TSO4 | F::VIRTIO_NET_F_GUEST_TSO6);
    let gone = 1 << 2 | 1 << 17 | 1 << 18;
    assert_eq!(query(&mut rig), ALL & !gone, "what can be had");
    let types = |queue: u16| match queue {
        0 | 2 => 0x0000_000b_u64,
        1 | 3 => 0x0009_0000,
        4 => 1 << 32,
        _ => 0,
    };
    let mut refusals = 0;
    for queue in [0, 1, 2, 3, 4, 5, 6, 0x7fff, 0xffff] {
        for bit in 0..64 {
            let good = types(queue) & 1 << bit != 0;
            for bytes in [
                entry(queue, 1 << bit),
                [entry(0, 1), entry(queue, 1 << bit)].concat(),
                [entry(queue, 1 << bit), entry(1, 1 << 16)].concat(),
            ] {
                let (ack, result) = ask(&mut rig, 1, &bytes, 200);
                assert_eq!(ack, u8::from(!good), "bit {bit} of queue {queue}");
                assert_eq!(result.is_empty(), !good);
                refusals += u64::from(!good);
            }
        }
    }
    let (ack, _) = ask(&mut rig, 1, &entry(5, 0), 200);
    assert_eq!(ack, ERR, "there is no such queue");
    let all: u64 = ["value", "not_negotiated"]
        .map(|cause| rig.counter(&format!("ctrl_refused_{cause}")))
        .iter()
        .sum();
    assert_eq!(all, refusals + 1);
    // All of a queue's are as many entries.
    let (ack, result) = ask(&mut rig, 1, &entry(2, types(2)), 200);
    assert_eq!((ack, result.len()), (OK, 56 + 40 + 24));
    assert_eq!([result[0], result[56], result[96]], [0, 1, 3]);
}

#[test]
fn a_result_is_cut_to_its_room_and_a_request_is_never_cut_net_cvq_29_05() {
    let mut rig = Rig::running(F::empty());
    let request = [entry(0, 1), entry(1, 1 << 16)].concat();
    let (_, whole) = ask(&mut rig, 1, &request, 200);
    assert_eq!(whole.len(), 112);
    for room in [1, 7, 8, 55, 56, 57, 111] {
        let (ack, result) = ask(&mut rig, 1, &request, room);
        assert_eq!((ack, result.len()), (OK, room));
        assert_eq!(result[0], 0);
    }
    // Without any room the answer alone is told.
    assert_eq!(rig.command(STATS, 1, &request), OK);
    assert_eq!(rig.command(STATS, 0, &[]), OK);
    for len in (0..16).chain(17..32) {
        assert_eq!(rig.command(STATS, 1, &request[..len]), ERR, "{len} bytes");
    }
    // As many entries as are read, and one more.
    let many = entry(0, 0xf).repeat(1023);
    let (ack, result) = ask(&mut rig, 1, &many, 400_000);
    assert_eq!((ack, result.len()), (OK, 1023 * 160));
    let (ack, _) = ask(&mut rig, 1, &entry(0, 0xf).repeat(1024), 100);
    assert_eq!(ack, ERR);
}

#[test]
fn without_the_feature_there_are_no_statistics_net_feat_13() {
    let mut rig = Rig::running(F::VIRTIO_NET_F_DEVICE_STATS);
    assert_eq!(rig.command(STATS, 0, &[]), ERR);
    assert_eq!(rig.command(STATS, 1, &entry(0, 1)), ERR);
    assert_eq!(rig.counter("ctrl_refused_not_negotiated"), 2);
    let mut config = Rig::config(1);
    config.disabled = F::VIRTIO_NET_F_CTRL_VQ;
    let rig = Rig::new(config);
    assert!(!rig.offered().contains(F::VIRTIO_NET_F_DEVICE_STATS));
}
