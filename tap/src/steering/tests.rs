//! The program against a reference, over frames of all kinds.

use super::layout::{self, INPUT, QUEUES};
use super::program::program;
use crate::ebpf::machine::{self, Noise, Skb};

const KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];
const UNCLASSIFIED: u32 = 1000;
const ALL_TYPES: u32 = 0x3f;

/// The 32 bits of the key from bit `at` on.
fn window(at: usize) -> u32 {
    let bit = |at: usize| KEY.get(at / 8).map_or(0, |byte| byte >> (7 - at % 8) & 1);
    (at..at + 32).fold(0, |sum, at| sum << 1 | u32::from(bit(at)))
}

fn toeplitz(input: &[u8]) -> u32 {
    let set = (0..input.len() * 8).filter(|at| input[at / 8] >> (7 - at % 8) & 1 == 1);
    set.fold(0, |sum, at| sum ^ window(at))
}

/// A map whose set of rules `in_force` is the one for `types`; the other one is of no use.
fn map(in_force: usize, types: u32) -> Vec<u32> {
    let mut map = vec![u32::MAX; layout::ALL];
    map[0] = in_force as u32;
    let rules = &mut map[layout::HEADER + in_force * layout::RULES..][..layout::RULES];
    rules[layout::TYPES] = types;
    rules[layout::UNCLASSIFIED] = UNCLASSIFIED;
    for entry in 0..QUEUES {
        rules[layout::TABLE + entry] = entry as u32;
    }
    for byte in 0..INPUT {
        for half in 0..2 {
            for value in 0..16 {
                let set = (0..4).filter(|bit| value >> (3 - bit) & 1 == 1);
                let sum = set.fold(0, |sum, bit| sum ^ window(byte * 8 + half * 4 + bit));
                rules[layout::row(byte, half) + value] = sum;
            }
        }
    }
    map
}

/// The queue of a frame: what it is hashed by, as long as it is one of `types`.
fn reference(types: u32, frame: &[u8]) -> u32 {
    let mut at = 12;
    let word = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    let mut tags = 0;
    while tags < 3 && matches!(word(at), Some(0x8100 | 0x88a8)) {
        (at, tags) = (at + 4, tags + 1);
    }
    let packet = frame.get(at + 2..).unwrap_or_default();
    let (addresses, protocol, transport, types) = match (word(at), packet) {
        (Some(0x0800), [first @ 0x45..=0x4f, ..]) if packet.len() >= 20 => {
            let whole = packet[6] & 0x3f == 0 && packet[7] == 0;
            let protocol = if whole { packet[9] } else { 0 };
            let len = usize::from(first & 15) * 4;
            (&packet[12..20], protocol, packet.get(len..), types)
        }
        (Some(0x86dd), [0x60..=0x6f, ..]) if packet.len() >= 40 => {
            (&packet[8..40], packet[6], packet.get(40..), types >> 3)
        }
        _ => return UNCLASSIFIED,
    };
    let transport = transport.unwrap_or_default();
    let ports = match protocol {
        6 if types & 2 != 0 && transport.len() >= 20 => &transport[..4],
        17 if types & 4 != 0 && transport.len() >= 8 => &transport[..4],
        _ if types & 1 == 0 => return UNCLASSIFIED,
        _ => &[],
    };
    toeplitz(&[addresses, ports].concat()) % QUEUES as u32
}

/// A frame that is mostly as it should be.
fn frame(noise: &mut Noise) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..12).map(|_| noise.below(256) as u8).collect();
    for _ in 0..noise.one_of(&[0, 0, 0, 1, 2, 3, 4]) {
        frame.extend(noise.one_of(&[[0x81, 0], [0x88, 0xa8]]));
        frame.extend([0, 5]);
    }
    let v6 = noise.below(2) == 1;
    frame.extend(if v6 { [0x86, 0xdd] } else { [8, 0] });
    let header = frame.len();
    frame.extend((0..100).map(|_| noise.below(256) as u8));
    let protocol = noise.one_of(&[6, 6, 17, 17, 1, 44, 0]);
    if v6 {
        (frame[header], frame[header + 6]) = (0x60, protocol);
    } else {
        frame[header] = noise.one_of(&[0x45, 0x45, 0x46, 0x4f, 0x44]);
        frame[header + 9] = protocol;
        let fragment = noise.one_of(&[[0, 0], [0x40, 0], [0x20, 0], [0, 1], [0x80, 0]]);
        frame[header + 6..header + 8].copy_from_slice(&fragment);
    }
    // Cut anywhere, some of them.
    let len = noise.one_of(&[usize::MAX, 0]).min(frame.len());
    let len = if len == 0 {
        noise.below(frame.len())
    } else {
        len
    };
    frame.truncate(len);
    frame
}

#[test]
fn any_frame_gets_the_queue_of_the_reference() {
    let program = program(7);
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut maps = [map(0, 0), map(1, 0)];
    let mut hashed = 0;
    for round in 0..2000 {
        let types = noise.one_of(&[ALL_TYPES, ALL_TYPES, 0x01, 0x12, 0x24, 0x36, 0x09, 0]);
        let map = &mut maps[round & 1];
        map[layout::HEADER + (round & 1) * layout::RULES + layout::TYPES] = types;
        let frame = frame(&mut noise);
        let expected = reference(types, &frame);
        let queue = machine::run(&program, map, &Skb::plain(&frame));
        assert_eq!(queue, u64::from(expected), "{types:#x} {frame:x?}");
        hashed += u32::from(expected != UNCLASSIFIED);
    }
    assert!((500..1500).contains(&hashed), "{hashed} were hashed");
}

#[test]
fn published_vectors_choose_by_their_lowest_bits() {
    // 66.9.149.187:2794 to 161.142.100.80:1766 and its hash by addresses alone.
    let mut frame = vec![0; 12];
    frame.extend([8, 0, 0x45]);
    frame.extend([0; 8]);
    frame.extend([6, 0, 0, 66, 9, 149, 187, 161, 142, 100, 80]);
    frame.extend([0x0a, 0xea, 0x06, 0xe6]);
    frame.extend([0; 16]);
    let program = program(7);
    let queue = |types| machine::run(&program, &mut map(0, types), &Skb::plain(&frame));
    assert_eq!(queue(ALL_TYPES), 0x51cc_c178 % QUEUES as u64);
    assert_eq!(queue(1), 0x323e_8fc2 % QUEUES as u64);
    assert_eq!(queue(4), u64::from(UNCLASSIFIED));
}

#[test]
fn the_map_is_named_by_its_descriptor() {
    let with = |map| {
        let insns = program(map);
        insns
            .iter()
            .filter(|insn| insn.immediate == map)
            .map(|insn| insn.code)
            .collect::<Vec<_>>()
    };
    assert_eq!(with(12_345), [crate::ebpf::LD_IMM64]);
}
