//! Groups that a backend has no room for.

use net_queue::testing::Answer;
use net_queue::testing::packets::Packet;
use net_queue::{DropCause, Stop};

use super::{ALL, expected, post, rig, stream, wire};
use crate::rig::{PLENTY, every_ring};

fn flow(port: u16) -> Packet {
    Packet {
        ports: (4000, port),
        ..Packet::udp(&[port as u8; 300])
    }
}

/// Packets of several flows in turn.
pub(super) fn interleaved(flows: u16, each: usize) -> Vec<Packet> {
    let streams: Vec<_> = (0..flows)
        .map(|port| stream(&flow(port), each, 0))
        .collect();
    (0..each)
        .flat_map(|n| streams.iter().map(move |stream| stream[n].clone()))
        .collect()
}

#[test]
fn a_group_waits_for_the_backend_and_its_chains_with_it() {
    every_ring(32, |config| {
        let mut rig = rig(config, ALL);
        let packets = stream(&flow(1), 6, 0);
        post(&mut rig, &packets);
        rig.wire
            .script_send([Answer::WouldBlock, Answer::WouldBlock]);
        for _ in 0..2 {
            let outcome = rig.engine.run(&mut rig.backend, &mut rig.limit, 0, PLENTY);
            assert!(matches!(outcome.stop, Stop::Backend));
            assert_eq!((outcome.frames, outcome.interrupt), (0, false));
            assert_eq!(rig.guest.poll_all(), []);
        }
        // More of the flow comes meanwhile.
        let more: Vec<_> = (6..9).map(|n| packets[0].after(n, &[8; 300])).collect();
        post(&mut rig, &more);
        let sent = rig.drain();
        assert_eq!(sent.len(), 2);
        assert_eq!(wire(&sent), expected(&[packets, more].concat()));
        rig.guest.poll_all();
        assert_eq!(rig.guest.in_flight(), 0);
        let stats = rig.counters.stats();
        assert_eq!((stats.frames, stats.groups, stats.grouped), (9, 2, 9));
    });
}

/// Whichever send finds no room, every frame leaves once, and each flow in its order.
#[test]
fn nothing_is_lost_sent_twice_or_out_of_order_wherever_the_backend_blocks() {
    every_ring(64, |config| {
        let mut packets = interleaved(3, 9);
        packets.push(packets[0].after(9, &[1; 10]));
        packets.push(Packet::tcp(&[]));
        packets.extend(interleaved(10, 2).into_iter().map(|packet| Packet {
            source: 77,
            ..packet
        }));
        let total = {
            let mut rig = rig(config, ALL);
            post(&mut rig, &packets);
            rig.drain().len()
        };
        for blocked in 0..total {
            let mut rig = rig(config, ALL);
            post(&mut rig, &packets);
            rig.wire.script_send((0..=blocked).map(|n| {
                if n == blocked {
                    Answer::WouldBlock
                } else {
                    Answer::Pass
                }
            }));
            let outcome = rig.engine.run(&mut rig.backend, &mut rig.limit, 0, PLENTY);
            assert!(matches!(outcome.stop, Stop::Backend), "{blocked}");
            let mut sent = rig.wire.take_sent();
            sent.extend(rig.drain());
            let sent = wire(&sent);
            for packet in &packets {
                let of = |packet: &Packet| (packet.source, packet.ports, packet.tcp);
                let stream: Vec<_> = packets
                    .iter()
                    .filter(|other| of(other) == of(packet))
                    .cloned()
                    .collect();
                let expected = expected(&stream);
                let key =
                    |frame: &Vec<u8>| (frame[23], frame[26..30].to_vec(), frame[34..38].to_vec());
                let flow: Vec<_> = sent
                    .iter()
                    .filter(|frame| key(frame) == key(&expected[0]))
                    .cloned()
                    .collect();
                assert_eq!(flow, expected, "{blocked}");
            }
            assert_eq!(sent.len(), packets.len());
            rig.guest.poll_all();
            assert_eq!(rig.guest.in_flight(), 0);
            assert_eq!(rig.counters.stats().frames, packets.len() as u64);
        }
    });
}

#[test]
fn held_frames_are_dropped_one_by_one_with_the_rest_of_the_ring() {
    every_ring(32, |config| {
        let mut rig = rig(config, ALL);
        post(&mut rig, &interleaved(2, 5));
        rig.wire.script_send([Answer::Pass, Answer::WouldBlock]);
        let blocked = rig.engine.run(&mut rig.backend, &mut rig.limit, 0, PLENTY);
        assert!(matches!(blocked.stop, Stop::Backend));
        assert_eq!((rig.counters.frames(), rig.wire.take_sent().len()), (5, 1));
        post(&mut rig, &stream(&flow(1), 3, 0));
        let outcome = rig.engine.discard(DropCause::LinkDown, PLENTY);
        assert!(matches!(outcome.stop, Stop::Driver));
        assert_eq!(rig.dropped_for(DropCause::LinkDown), 8);
        rig.guest.poll_all();
        assert_eq!(rig.guest.in_flight(), 0);
        post(&mut rig, &stream(&flow(1), 2, 0));
        assert_eq!(rig.drain().len(), 1);
    });
}

#[test]
fn a_backend_that_is_gone_says_so_and_keeps_what_it_did_not_take() {
    every_ring(32, |config| {
        let mut rig = rig(config, ALL);
        post(&mut rig, &interleaved(2, 5));
        rig.wire.script_send([Answer::Dead]);
        let outcome = rig.engine.run(&mut rig.backend, &mut rig.limit, 0, PLENTY);
        assert!(matches!(outcome.stop, Stop::Dead(_)));
        assert_eq!(rig.guest.poll_all(), []);
        assert_eq!(rig.counters.dropped(), 0);
    });
}
