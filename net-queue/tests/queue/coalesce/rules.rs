//! The rules of what merges, one row each.

use net_queue::ring::Layout;
use net_queue::testing::packets::{Packet, Sums};

use super::{ALL, expected, post, rig, stream, wire};
use crate::rig::ring;

/// Change of the second of three packets of a stream.
type Change = fn(&mut Packet);

/// Identification of a packet, by its place in a stream.
type Number = fn(u16) -> u16;

/// Sends three packets, the second changed; returns how many writes that took.
fn writes(first: &Packet, change: Change) -> usize {
    let mut rig = rig(ring(Layout::Split, 16), ALL);
    let mut packets = stream(first, 3, 0);
    change(&mut packets[1]);
    post(&mut rig, &packets);
    let sent = rig.drain();
    assert_eq!(wire(&sent), expected(&packets), "changed on its way");
    sent.len()
}

fn rows(first: &Packet, rows: &[(&str, Change, usize)]) {
    for (name, change, count) in rows {
        for tags in [0, 2] {
            let first = Packet {
                tags,
                ..first.clone()
            };
            assert_eq!(writes(&first, *change), *count, "{name}, {tags} tags");
        }
    }
}

/// Fields of which a group has one for all.
const COMMON: &[(&str, Change, usize)] = &[
    ("nothing", |_| {}, 1),
    ("station", |packet| packet.station = 9, 3),
    ("traffic class", |packet| packet.tos = 1, 3),
    ("TTL", |packet| packet.ttl -= 1, 3),
    // The last of its group.
    ("shorter", |packet| packet.payload.truncate(9), 2),
    ("empty", |packet| packet.payload.clear(), 3),
    (
        "other state of the sum",
        |packet| packet.sums = Sums::Complete,
        1,
    ),
];

#[test]
fn headers_of_any_kind() {
    for v6 in [false, true] {
        for first in [Packet::udp(&[7; 200]), Packet::tcp(&[7; 200])] {
            rows(
                &Packet {
                    v6,
                    ..first.clone()
                },
                COMMON,
            );
            // Of UDP, the third is a shorter one behind the second; of TCP it is out of sequence.
            let count = if first.tcp { 3 } else { 2 };
            assert_eq!(
                writes(&first, |packet| packet.payload.push(1)),
                count,
                "longer"
            );
        }
    }
}

#[test]
fn headers_of_tcp() {
    for v6 in [false, true] {
        let first = Packet {
            v6,
            options: vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
            ..Packet::tcp(&[7; 200])
        };
        rows(
            &first,
            &[
                ("nothing", |_| {}, 1),
                ("sequence", |packet| packet.seq += 1, 3),
                ("acknowledgement", |packet| packet.ack += 1, 3),
                ("window", |packet| packet.window += 1, 3),
                ("options", |packet| packet.options[7] = 9, 3),
                ("no options", |packet| packet.options.clear(), 3),
                ("PSH", |packet| packet.flags |= 0x08, 2),
                ("FIN", |packet| packet.flags |= 0x01, 2),
                ("SYN", |packet| packet.flags |= 0x02, 3),
                ("RST", |packet| packet.flags |= 0x04, 3),
                ("no ACK", |packet| packet.flags = 0, 3),
                ("URG", |packet| packet.flags |= 0x20, 3),
                ("ECE", |packet| packet.flags |= 0x40, 3),
                ("CWR", |packet| packet.flags |= 0x80, 3),
            ],
        );
        for flags in [0x50, 0x10] {
            let first = Packet {
                flags,
                ..first.clone()
            };
            assert_eq!(writes(&first, |_| {}), 1, "flags {flags:#x} on all");
        }
        for flags in [0x18, 0x11, 0x12, 0x14, 0x30, 0x90, 0x00] {
            let first = Packet {
                flags,
                ..first.clone()
            };
            assert_eq!(writes(&first, |_| {}), 3, "flags {flags:#x} on all");
        }
    }
}

#[test]
fn identification() {
    for first in [Packet::udp(&[7; 200]), Packet::tcp(&[7; 200])] {
        let rows: &[(&str, u16, Number, usize)] = &[
            ("in steps", 0, |n| n.wrapping_sub(1), 1),
            ("in steps, atomic", 0x4000, |n| n.wrapping_sub(2), 1),
            ("constant", 0, |_| 5, 3),
            ("backwards", 0, |n| 5 - n, 3),
            ("in steps of two", 0, |n| 2 * n, 3),
            ("reserved bit", 0x8000, |n| n, 3),
        ];
        for (name, fragment, id, count) in rows {
            let mut rig = rig(ring(Layout::Split, 16), ALL);
            let mut packets = stream(&first, 3, 0);
            for (n, packet) in (0..).zip(&mut packets) {
                (packet.fragment, packet.id) = (*fragment, id(n));
            }
            post(&mut rig, &packets);
            let sent = rig.drain();
            assert_eq!(sent.len(), *count, "{name}");
            assert_eq!(wire(&sent), expected(&packets), "{name}");
        }
    }
}

/// The number of a datagram that cannot be fragmented means nothing: it is not kept.
#[test]
fn identification_of_atomic_datagrams_may_stand_still() {
    let mut rig = rig(ring(Layout::Split, 16), ALL);
    let mut packets = stream(&Packet::udp(&[7; 200]), 5, 0);
    packets.iter_mut().for_each(|packet| packet.id = 0);
    post(&mut rig, &packets);
    let sent = rig.drain();
    assert_eq!(sent.len(), 1);
    for (n, packet) in (0..).zip(&mut packets) {
        packet.id = n;
    }
    assert_eq!(wire(&sent), expected(&packets));
}

/// Bytes of a packet that say what is not so.
#[test]
fn lengths_and_sums_that_lie() {
    for sums in [Sums::Partial, Sums::Complete] {
        for first in [Packet::udp(&[7; 200]), Packet::tcp(&[7; 200])] {
            let first = Packet { sums, ..first };
            // IP's length, its checksum, the transport's checksum.
            let csum = 12 + first.transport() + if first.tcp { 16 } else { 6 };
            let mut places = vec![12 + 16, 12 + 24, csum];
            if !first.tcp {
                places.push(12 + first.transport() + 4);
            }
            for place in places {
                for which in 0..3 {
                    let mut rig = rig(ring(Layout::Split, 16), ALL);
                    let mut all: Vec<_> = stream(&first, 3, 0).iter().map(Packet::bytes).collect();
                    all[which][place] ^= 0x11;
                    for bytes in &all {
                        let pieces = rig.guest.memory().cut(bytes, &[]);
                        rig.guest.add(&pieces);
                    }
                    rig.guest.publish();
                    let sent = rig.drain();
                    let merged = if which == 1 { 3 } else { 2 };
                    assert_eq!(sent.len(), merged, "{first:?} {place} {which}");
                    assert_eq!(wire(&sent), wire(&all));
                }
            }
        }
    }
}

/// UDP over IPv4 may have no checksum; cut again, each piece would have one.
#[test]
fn datagrams_without_a_checksum() {
    let mut rig = rig(ring(Layout::Split, 16), ALL);
    let first = Packet {
        sums: Sums::Complete,
        ..Packet::udp(&[7; 200])
    };
    let mut all: Vec<_> = stream(&first, 3, 0).iter().map(Packet::bytes).collect();
    for bytes in &mut all {
        bytes[12 + 40..12 + 42].fill(0);
        let pieces = rig.guest.memory().cut(bytes, &[]);
        rig.guest.add(&pieces);
    }
    rig.guest.publish();
    let sent = rig.drain();
    assert_eq!((sent.len(), wire(&sent)), (3, wire(&all)));
}

/// Padding behind a packet is not of the packet.
#[test]
fn padded_frames() {
    let mut rig = rig(ring(Layout::Split, 16), ALL);
    let packets = stream(&Packet::udp(&[7; 5]), 3, 0);
    let mut all: Vec<_> = packets.iter().map(Packet::bytes).collect();
    for bytes in &mut all {
        // A partial checksum would be taken over the padding.
        bytes[0] = 0;
        bytes.resize(12 + 60, 0);
        let pieces = rig.guest.memory().cut(bytes, &[]);
        rig.guest.add(&pieces);
    }
    rig.guest.publish();
    assert_eq!(rig.drain().len(), 3);
}

#[test]
fn options_and_extensions_of_ip() {
    for v6 in [false, true] {
        let mut rig = rig(ring(Layout::Split, 16), ALL);
        let packets = stream(
            &Packet {
                v6,
                sums: Sums::Complete,
                ..Packet::udp(&[7; 50])
            },
            3,
            0,
        );
        let mut all = Vec::new();
        for packet in packets {
            let mut bytes = packet.bytes();
            let start = 12 + packet.transport();
            if v6 {
                bytes.splice(start..start, [17, 0, 1, 4, 0, 0, 0, 0]);
                bytes[12 + 14 + 6] = 60;
                bytes[12 + 14 + 5] += 8;
            } else {
                bytes.splice(start..start, [1, 1, 1, 0]);
                bytes[12 + 14] = 0x46;
                bytes[12 + 14 + 3] += 4;
                // Of the words that changed and were added.
                let sum = u16::from_be_bytes([bytes[36], bytes[37]]);
                let sum = u32::from(!sum) + 0x0100 + 4 + 0x0101 + 0x0100;
                let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
                bytes[36..38].copy_from_slice(&sum.to_be_bytes());
            }
            let pieces = rig.guest.memory().cut(&bytes, &[]);
            rig.guest.add(&pieces);
            all.push(bytes);
        }
        rig.guest.publish();
        assert_eq!(rig.drain(), all);
    }
}
