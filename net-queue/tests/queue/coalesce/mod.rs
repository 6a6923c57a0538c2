//! Frames of one flow that leave as one.

mod copies;
mod drain;
mod held;
mod hostile;
mod model;
mod passed_over;
mod refused;
mod rules;

use std::sync::mpsc::{Sender, channel};

use net_queue::capture::{Capture, FrameTap};
use net_queue::header::{HDR_LEN, HdrSize, NetHdr, TxRules, gso};
use net_queue::ring::RingConfig;
use net_queue::testing::packets::{Packet, Sums, on_the_wire};
use net_queue::testing::{LimitCall, Random};
use net_queue::{GroupEnd, Offloads, Stop, TxConfig, TxEngine};

use crate::rig::{TxRig, every_ring};

/// All that a group can be.
pub(crate) const ALL: Offloads = Offloads::CSUM
    .union(Offloads::TSO4)
    .union(Offloads::TSO6)
    .union(Offloads::USO4)
    .union(Offloads::USO6);

/// A queue that coalesces.
pub(crate) fn rig(config: RingConfig, coalesce: Offloads) -> TxRig {
    let mut rig = TxRig::with(config, HdrSize::Base, ALL);
    let terms = TxConfig {
        coalesce,
        ..TxConfig::new(TxRules::new(ALL))
    };
    rig.engine = TxEngine::new(rig.guest.device(), terms, rig.counters.clone());
    rig
}

/// Makes each packet a chain, all of them available at once.
pub(crate) fn post(rig: &mut TxRig, packets: &[Packet]) {
    for packet in packets {
        let bytes = packet.bytes();
        let pieces = rig.guest.memory().cut(&bytes, &[]);
        rig.guest.add(&pieces);
    }
    rig.guest.publish();
}

/// All frames as they are on the wire.
pub(crate) fn wire(sent: &[Vec<u8>]) -> Vec<Vec<u8>> {
    sent.iter().flat_map(|sent| on_the_wire(sent)).collect()
}

/// Those frames as they should be.
pub(crate) fn expected(packets: &[Packet]) -> Vec<Vec<u8>> {
    let bytes: Vec<_> = packets.iter().map(Packet::bytes).collect();
    wire(&bytes)
}

/// A stream of `count` packets of `len` bytes that begins with `first`, and a shorter one.
pub(crate) fn stream(first: &Packet, count: usize, last: usize) -> Vec<Packet> {
    let payload = |n: usize, len| Random::new(n as u64).bytes(len);
    let len = first.payload.len();
    let mut packets: Vec<_> = (0..count)
        .map(|n| first.after(n, &payload(n, len)))
        .collect();
    if last > 0 {
        packets.push(first.after(count, &payload(count, last)));
    }
    packets
}

/// One packet of each kind.
pub(crate) fn kinds(payload: &[u8]) -> Vec<Packet> {
    let mut kinds = Vec::new();
    for (tcp, v6) in [(false, false), (false, true), (true, false), (true, true)] {
        for tags in [0, 1, 3] {
            for sums in [Sums::Partial, Sums::Complete] {
                let packet = if tcp {
                    Packet::tcp(payload)
                } else {
                    Packet::udp(payload)
                };
                kinds.push(Packet {
                    v6,
                    tags,
                    sums,
                    ..packet
                });
            }
        }
    }
    kinds
}

#[test]
fn frames_of_a_flow_leave_as_one_and_are_cut_to_what_they_were() {
    every_ring(64, |config| {
        for first in kinds(&[0; 700]) {
            let mut rig = rig(config, ALL);
            let packets = stream(&first, 9, 33);
            post(&mut rig, &packets);
            let sent = rig.drain();
            assert_eq!(sent.len(), 1, "{first:?}");
            assert_eq!(wire(&sent), expected(&packets), "{first:?}");
            let ids: Vec<_> = rig.guest.poll_all();
            assert_eq!(ids.len(), if config.in_order { ids.len() } else { 10 });
            assert_eq!(rig.guest.in_flight(), 0);
            let stats = rig.counters.stats();
            assert_eq!((stats.groups, stats.grouped, stats.frames), (1, 10, 10));
            let bytes: usize = expected(&packets).iter().map(Vec::len).sum();
            assert_eq!(stats.bytes, bytes as u64);
            // As the driver left them, whatever the group has.
            let partial = if first.sums == Sums::Partial { 10 } else { 0 };
            assert_eq!(stats.needs_csum, partial);
            assert_eq!(stats.group_ends(GroupEnd::Last), 1);
        }
    });
}

#[test]
fn a_group_has_the_header_that_the_kernel_wants() {
    let mut rig = rig(crate::rig::ring(net_queue::ring::Layout::Split, 8), ALL);
    let packets = stream(&Packet::udp(&[0; 100]), 3, 0);
    post(&mut rig, &packets);
    let sent = rig.drain();
    let mut raw = [0; HDR_LEN];
    raw.copy_from_slice(&sent[0][..HDR_LEN]);
    let len = (sent[0].len() - HDR_LEN) as u32;
    let header = NetHdr::check_tx(&raw.into(), len, TxRules::new(ALL)).expect("it passes");
    assert_eq!((header.gso_type(), header.gso_size()), (gso::UDP_L4, 100));
    assert_eq!((header.hdr_len(), header.csum_start()), (42, 34));
}

#[test]
fn nothing_is_merged_of_a_kind_that_is_off() {
    for (on, merged) in [
        (Offloads::empty(), [4, 4, 4, 4]),
        (Offloads::USO4, [1, 4, 4, 4]),
        (Offloads::USO6, [4, 1, 4, 4]),
        (Offloads::TSO4, [4, 4, 1, 4]),
        (Offloads::TSO6, [4, 4, 4, 1]),
        (Offloads::ECN | Offloads::UFO, [4, 4, 4, 4]),
    ] {
        for (first, count) in kinds(&[0; 700]).iter().step_by(6).zip(merged) {
            let mut rig = rig(crate::rig::ring(net_queue::ring::Layout::Split, 8), on);
            let packets = stream(first, 4, 0);
            post(&mut rig, &packets);
            let sent = rig.drain();
            assert_eq!(sent.len(), count, "{on:?} {first:?}");
            assert_eq!(wire(&sent), expected(&packets));
        }
    }
}

/// Interleaved flows: each in its order, each in groups.
#[test]
fn flows_side_by_side_each_leave_as_one() {
    every_ring(256, |config| {
        for (flows, most) in [(2, 2), (4, 4), (8, 8), (16, 110)] {
            let mut rig = rig(config, ALL);
            let streams: Vec<_> = (0..flows)
                .map(|flow| Packet {
                    ports: (4000, 5000 + flow),
                    ..Packet::udp(&[flow as u8; 400])
                })
                .map(|first| stream(&first, 12, 0))
                .collect();
            let packets: Vec<_> = (0..12)
                .flat_map(|n| streams.iter().map(move |stream| stream[n].clone()))
                .collect();
            post(&mut rig, &packets);
            let sent = rig.drain();
            assert!(sent.len() <= most, "{flows}: {}", sent.len());
            let sent = wire(&sent);
            for stream in &streams {
                let expected = expected(stream);
                let flow = |frame: &&Vec<u8>| frame[34..38] == expected[0][34..38];
                let of_flow: Vec<_> = sent.iter().filter(flow).cloned().collect();
                assert_eq!(of_flow, expected, "{flows}");
            }
            assert_eq!(sent.len(), packets.len());
            rig.guest.poll_all();
            assert_eq!(rig.guest.in_flight(), 0);
        }
    });
}

/// Eight groups, of which seven took none of the last 32 frames, or nearly as many.
#[test]
fn a_group_makes_room_for_another_flow_once_it_is_idle() {
    every_ring(64, |config| {
        for (more, evicted, sent) in [(24, 0, 10), (25, 1, 9)] {
            let mut rig = rig(config, ALL);
            let flow = |port| Packet {
                ports: (port, 9),
                ..Packet::udp(&[7; 40])
            };
            let mut packets: Vec<_> = (0..8).map(flow).collect();
            packets.extend(stream(&flow(0), 1 + more, 0).split_off(1));
            packets.extend(stream(&flow(8), 2, 0));
            post(&mut rig, &packets);
            assert_eq!(rig.drain().len(), sent, "{more}");
            let ends = rig.counters.stats().group_ends(GroupEnd::Evicted);
            assert_eq!(ends, evicted, "{more}");
        }
    });
}

/// A frame whose flow cannot be told overtakes nothing; nor does a large one.
#[test]
fn other_frames_keep_their_place() {
    every_ring(32, |config| {
        let packets = stream(&Packet::tcp(&[5; 300]), 6, 0);
        let arp = [vec![0; HDR_LEN + 12], vec![8, 6], vec![1; 46]].concat();
        let fragment = Packet {
            fragment: 0x2000,
            sums: Sums::Complete,
            ..Packet::udp(&[1; 100])
        };
        let jumbo = packets[0].after(6, &[7; 5000]);
        for other in [arp, fragment.bytes(), jumbo.bytes()] {
            let mut rig = rig(config, ALL);
            let all: Vec<_> = packets[..3].iter().map(Packet::bytes).collect();
            let rest: Vec<_> = packets[3..].iter().map(Packet::bytes).collect();
            let all = [all, vec![other], rest].concat();
            for bytes in &all {
                let pieces = rig.guest.memory().cut(bytes, &[]);
                rig.guest.add(&pieces);
            }
            rig.guest.publish();
            let sent = rig.drain();
            assert_eq!(sent.len(), 3);
            assert_eq!(wire(&sent), wire(&all));
            assert_eq!(rig.counters.stats().group_ends(GroupEnd::Order), 1);
        }
    });
}

/// A frame behind which nothing lies goes straight, and leaves no trace of groups.
#[test]
fn a_frame_alone_is_sent_as_it_lies() {
    every_ring(8, |config| {
        let mut rig = rig(config, ALL);
        for packet in stream(&Packet::udp(&[3; 1000]), 5, 0) {
            post(&mut rig, std::slice::from_ref(&packet));
            assert_eq!(rig.drain(), [packet.bytes()]);
            rig.guest.poll_all();
        }
        let stats = rig.counters.stats();
        assert_eq!(stats.frames, 5);
        assert!(GroupEnd::ALL.iter().all(|end| stats.group_ends(*end) == 0));
    });
}

#[test]
fn a_group_is_bounded_by_frames_and_by_bytes() {
    for (first, count, groups) in [
        (Packet::udp(&[1; 20]), 200, 2),
        (Packet::tcp(&[1; 20]), 200, 2),
        (Packet::udp(&[1; 1472]), 100, 3),
        (Packet::tcp(&[1; 1448]), 46, 2),
        (
            Packet {
                v6: true,
                ..Packet::tcp(&[1; 4000])
            },
            17,
            2,
        ),
    ] {
        let mut rig = rig(crate::rig::ring(net_queue::ring::Layout::Split, 512), ALL);
        let packets = stream(&first, count, 0);
        post(&mut rig, &packets);
        let sent = rig.drain();
        assert_eq!(sent.len(), groups);
        assert!(sent.iter().all(|sent| sent.len() <= HDR_LEN + 14 + 65535));
        assert_eq!(wire(&sent), expected(&packets));
        assert!(rig.counters.stats().group_ends(GroupEnd::Full) > 0);
    }
}

/// More chains than an engine keeps.
#[test]
fn a_long_run_is_sent_in_parts() {
    every_ring(1024, |config| {
        let mut rig = rig(config, ALL);
        let tail = stream(&Packet::tcp(&[2; 10]), 1, 0);
        let acks = (0..600).map(|n| Packet {
            ports: (1, 2),
            ..Packet::tcp(&[]).after(n, &[])
        });
        let packets: Vec<_> = tail.into_iter().chain(acks).collect();
        post(&mut rig, &packets);
        let mut sent = wire(&rig.drain());
        let mut expected = expected(&packets);
        sent.sort();
        expected.sort();
        assert_eq!(sent, expected);
        rig.guest.poll_all();
        assert_eq!(rig.guest.in_flight(), 0);
    });
}

/// The limiter sees frames, and what it holds back is not in a group.
#[test]
fn limits_are_charged_by_the_frame() {
    every_ring(32, |config| {
        let mut rig = rig(config, ALL);
        rig.limit = net_queue::testing::ScriptedLimit::holding_after(5, 77);
        let packets = stream(&Packet::udp(&[9; 500]), 8, 0);
        post(&mut rig, &packets);
        let outcome = rig.run();
        assert!(matches!(outcome.stop, Stop::Limited(77)));
        assert_eq!(outcome.frames, 5);
        let sent = rig.wire.take_sent();
        assert_eq!((sent.len(), wire(&sent)), (1, expected(&packets[..5])));
        let taken = |call: &&LimitCall| {
            matches!(
                call,
                LimitCall::Take {
                    bytes: 542,
                    granted: true,
                    ..
                }
            )
        };
        assert_eq!(rig.limit.calls.iter().filter(taken).count(), 5);
        assert_eq!(wire(&rig.drain()), expected(&packets[5..]));
        assert!(
            !rig.limit
                .calls
                .iter()
                .any(|call| matches!(call, LimitCall::Refund(_)))
        );
    });
}

/// Remembers what it is shown.
struct Shown(Sender<Vec<u8>>);

impl FrameTap for Shown {
    fn frame(&mut self, bytes: &[u8]) {
        self.0.send(bytes.to_vec()).expect("the test listens");
    }
}

#[test]
fn a_capture_shows_each_frame() {
    for first in kinds(&[0; 700]) {
        let mut rig = rig(crate::rig::ring(net_queue::ring::Layout::Packed, 16), ALL);
        let packets = stream(&first, 5, 33);
        post(&mut rig, &packets);
        let (sender, shown) = channel();
        let mut backend = Capture::new(rig.backend, Shown(sender));
        let budget = crate::rig::PLENTY;
        rig.engine.run(&mut backend, &mut rig.limit, 0, budget);
        assert_eq!(rig.wire.take_sent().len(), 1);
        let partial = packets.iter().cloned().map(|packet| Packet {
            sums: Sums::Partial,
            ..packet
        });
        let expected: Vec<_> = partial
            .map(|packet| packet.bytes()[HDR_LEN..].to_vec())
            .collect();
        let shown: Vec<_> = shown.try_iter().collect();
        assert_eq!(shown, expected);
    }
}
