//! Random frames of several flows: cut again, they are what they were, flow by flow.

use net_queue::ring::{Layout, RingConfig};
use net_queue::testing::Answer;
use net_queue::testing::packets::{Packet, Sums};
use net_queue::{Budget, Stop};
use proptest::prelude::*;

use super::{ALL, expected, post, rig, wire};

/// A step of one flow.
#[derive(Clone, Debug)]
struct Step {
    flow: usize,
    len: usize,
    flags: u8,
    gap: bool,
    other_window: bool,
    complete: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let flags = prop_oneof![20 => Just(0x10u8), 2 => Just(0x18), 1 => Just(0x11), 1 => any::<u8>()];
    let len = prop_oneof![12 => Just(200usize), 3 => 0..210usize, 1 => 3900..4200usize];
    let rare = || prop::bool::weighted(0.05);
    (0..10usize, len, flags, rare(), rare(), prop::bool::ANY).prop_map(
        |(flow, len, flags, gap, other_window, complete)| Step {
            flow,
            len,
            flags,
            gap,
            other_window,
            complete,
        },
    )
}

/// Packets of ten flows of all kinds, as the steps say.
fn packets(steps: &[Step]) -> Vec<Packet> {
    let mut flows: Vec<_> = (0..10)
        .map(|flow| Packet {
            tcp: flow % 2 > 0,
            v6: flow % 3 == 0,
            tags: flow % 4,
            ports: (7, 1000 + flow as u16),
            fragment: if flow % 5 == 0 { 0x4000 } else { 0 },
            options: vec![1; 4 * (flow % 3)],
            id: 0xfff0 + flow as u16,
            seq: 0xffff_f000 + flow as u32,
            ..Packet::udp(&[])
        })
        .collect();
    let mut packets = Vec::new();
    for (n, step) in steps.iter().enumerate() {
        let state = &mut flows[step.flow];
        let packet = Packet {
            payload: net_queue::testing::Random::new(n as u64).bytes(step.len),
            flags: step.flags,
            window: state.window + u16::from(step.other_window),
            sums: if step.complete {
                Sums::Complete
            } else {
                Sums::Partial
            },
            ..state.clone()
        };
        let gap = u16::from(step.gap);
        state.id = state.id.wrapping_add(1 + gap);
        state.seq = state.seq.wrapping_add(step.len as u32 + u32::from(gap));
        packets.push(packet);
    }
    packets
}

/// Frames of one flow, in order.
fn of_flow(frames: &[Vec<u8>], port: u16) -> Vec<Vec<u8>> {
    let ports = [0, 7, (port >> 8) as u8, port as u8];
    let is_of = |frame: &&Vec<u8>| {
        let tags = (0..).find(|tag| !matches!(frame[12 + 4 * tag], 0x81 | 0x88));
        let ip = 14 + 4 * tags.expect("an end of the tags");
        let start = ip + if frame[ip] >> 4 == 6 { 40 } else { 20 };
        frame[start..start + 4] == ports
    };
    frames.iter().filter(is_of).cloned().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_flow_comes_out_as_it_went_in(
        packed: bool,
        in_order: bool,
        steps in prop::collection::vec(step(), 1..120),
        budget in 1..130u32,
        blocks in prop::collection::vec(0..8u8, 0..40),
    ) {
        let layout = if packed { Layout::Packed } else { Layout::Split };
        let config = RingConfig { in_order, ..crate::rig::ring(layout, 256) };
        let mut rig = rig(config, ALL);
        let packets = packets(&steps);
        post(&mut rig, &packets);
        rig.wire.script_send(blocks.iter().map(|n| match n {
            0 => Answer::WouldBlock,
            _ => Answer::Pass,
        }));
        let budget = Budget { frames: budget, bytes: 1 << 40 };
        loop {
            let run = rig.engine.run(&mut rig.backend, &mut rig.limit, 0, budget);
            match run.stop {
                Stop::Driver => break,
                Stop::Backend | Stop::Budget => {}
                stop => panic!("{stop:?}"),
            }
        }
        let (sent, expected) = (wire(&rig.wire.take_sent()), expected(&packets));
        prop_assert_eq!(sent.len(), expected.len());
        for flow in 0..10 {
            prop_assert_eq!(of_flow(&sent, 1000 + flow), of_flow(&expected, 1000 + flow));
        }
        rig.guest.poll_all();
        prop_assert_eq!(rig.guest.in_flight(), 0);
        let stats = rig.counters.stats();
        prop_assert_eq!(stats.frames, packets.len() as u64);
        let bytes: usize = expected.iter().map(Vec::len).sum();
        prop_assert_eq!(stats.bytes, bytes as u64);
    }
}
