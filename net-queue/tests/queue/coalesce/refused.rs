//! Backends that refuse groups.

use net_queue::testing::packets::{Packet, Sums};
use net_queue::testing::{Answer, LimitCall};
use net_queue::{DropCause, Offloads, Stop};

use super::{ALL, expected, kinds, post, rig, stream, wire};
use crate::rig::{PLENTY, every_ring};

/// Refused once, a kind of group is never tried again; its frames pass.
#[test]
fn frames_of_a_refused_group_are_sent_one_by_one_and_the_kind_is_off() {
    every_ring(32, |config| {
        for first in kinds(&[4; 300]) {
            let mut rig = rig(config, ALL);
            let packets = stream(&first, 5, 100);
            post(&mut rig, &packets);
            rig.wire.script_send([Answer::Refused]);
            let sent = rig.drain();
            assert_eq!(sent.len(), 6);
            assert_eq!(wire(&sent), expected(&packets));
            let partial: Vec<_> = packets
                .iter()
                .map(|packet| Packet {
                    sums: Sums::Partial,
                    ..packet.clone()
                })
                .map(|packet| packet.bytes())
                .collect();
            assert_eq!(sent, partial, "byte for byte, the sum partial");
            let kind = match (first.tcp, first.v6) {
                (true, false) => Offloads::TSO4,
                (true, true) => Offloads::TSO6,
                (false, false) => Offloads::USO4,
                (false, true) => Offloads::USO6,
            };
            assert_eq!(rig.engine.take_refused_groups(), kind);
            assert_eq!(rig.engine.take_refused_groups(), Offloads::empty());
            rig.guest.poll_all();
            post(&mut rig, &packets);
            assert_eq!(rig.drain().len(), 6);
            rig.guest.poll_all();
            let other = Packet {
                tcp: !first.tcp,
                ..first.clone()
            };
            let others = stream(&other, 5, 0);
            post(&mut rig, &others);
            assert_eq!(rig.drain().len(), 1, "other kinds are on");
            let stats = rig.counters.stats();
            assert_eq!((stats.groups_refused, stats.groups), (1, 1));
            assert_eq!((stats.frames, rig.counters.dropped()), (17, 0));
            let partial = if first.sums == Sums::Partial { 17 } else { 0 };
            assert_eq!(stats.needs_csum, partial, "as the driver left them");
            let all = [&packets[..], &packets, &others].concat();
            let bytes: usize = expected(&all).iter().map(Vec::len).sum();
            assert_eq!(stats.bytes, bytes as u64);
        }
    });
}

/// Of 4096 bytes with their headers: longer ones are in no group.
#[test]
fn the_longest_frames_of_a_refused_group_are_sent_whole() {
    every_ring(32, |config| {
        for first in kinds(&[]) {
            let payload = vec![4; 4096 - first.bytes().len()];
            let partial = Packet {
                sums: Sums::Partial,
                ..first.clone()
            };
            let [packets, partial] = [first, partial].map(|first| {
                let payload = payload.clone();
                stream(&Packet { payload, ..first }, 3, 0)
            });
            let mut rig = rig(config, ALL);
            post(&mut rig, &packets);
            rig.wire.script_send([Answer::Refused]);
            let partial: Vec<_> = partial.iter().map(Packet::bytes).collect();
            assert!(rig.drain() == partial, "byte for byte, the sum partial");
            assert_eq!(rig.counters.stats().groups_refused, 1);
        }
    });
}

/// If the frames are refused as well, it was not for the group.
#[test]
fn a_backend_that_refuses_everything_drops_each_frame() {
    every_ring(32, |config| {
        let mut rig = rig(config, ALL);
        let packets = stream(&Packet::tcp(&[4; 300]), 5, 0);
        post(&mut rig, &packets);
        rig.wire.script_send([Answer::Refused; 6]);
        assert_eq!(rig.drain().len(), 0);
        assert_eq!(rig.dropped_for(DropCause::Refused), 5);
        let refunds = rig.limit.calls.iter();
        let refunds = refunds.filter(|call| matches!(call, LimitCall::Refund(354)));
        assert_eq!(refunds.count(), 5);
        assert_eq!(rig.engine.take_refused_groups(), Offloads::empty());
        rig.guest.poll_all();
        assert_eq!(rig.guest.in_flight(), 0);
        post(&mut rig, &packets);
        assert_eq!(rig.drain().len(), 1, "it is tried again");
    });
}

/// The backend has no room in the middle of a refused group.
#[test]
fn a_refused_group_goes_on_where_it_was() {
    every_ring(32, |config| {
        let packets = stream(&Packet::udp(&[4; 300]), 5, 0);
        for passed in 0..5 {
            let mut rig = rig(config, ALL);
            post(&mut rig, &packets);
            let script = [Answer::Refused]
                .into_iter()
                .chain(vec![Answer::Pass; passed])
                .chain([Answer::WouldBlock]);
            rig.wire.script_send(script);
            let run = rig.engine.run(&mut rig.backend, &mut rig.limit, 0, PLENTY);
            assert!(matches!(run.stop, Stop::Backend));
            assert_eq!(rig.guest.poll_all(), []);
            let sent = [rig.wire.take_sent(), rig.drain()].concat();
            assert_eq!(wire(&sent), expected(&packets));
            rig.guest.poll_all();
            assert_eq!(rig.guest.in_flight(), 0);
            assert_eq!(rig.engine.take_refused_groups(), Offloads::USO4);
        }
    });
}
