//! Tables that change while frames arrive.

use super::*;
use flows::flow;
use tests::testbed::Interrupting;

const PAIRS: u16 = 4;
const FLOWS: u16 = 64;
const ROUNDS: u16 = 60;

/// Two tables, of which one entry in two is the same.
fn tables() -> [Vec<u16>; 2] {
    let first: Vec<u16> = (0..16).map(|entry| entry % PAIRS).collect();
    let second = (0..16).map(|entry| (entry + entry / 4 % 2 * (1 + entry % 3)) % PAIRS);
    [first, second.collect()]
}

/// Flow and round of a received frame.
fn number(frame: &[u8]) -> (u16, u16) {
    let word = |behind: usize| {
        let at = frame.len() - behind;
        u16::from_be_bytes([frame[at], frame[at + 1]])
    };
    (word(4), word(2))
}

/// Sends `ROUNDS` frames of each flow, of each flow always through the same port.
fn send(wires: &[net_queue::testing::Wire]) {
    for round in 0..ROUNDS {
        for number in 0..FLOWS {
            let payload = [number.to_be_bytes(), round.to_be_bytes()].concat();
            let bytes = flow(number).with(&payload).bytes();
            wires[usize::from(number % PAIRS)].inject(bytes);
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_change_of_the_table_loses_and_reorders_nothing_of_flows_that_stay_net_mq_08() {
    let tables = tables();
    let total = usize::from(FLOWS) * usize::from(ROUNDS);
    let mut rig = running(PAIRS, 4096, F::empty());
    let set = |rig: &mut Rig, table: &[u16]| {
        let config = rss_config(0x1ff, 0, table, PAIRS, &KEY);
        assert_eq!(rig.command(MQ, RSS_CONFIG, &config), OK);
    };
    set(&mut rig, &tables[0]);
    for pair in 0..PAIRS {
        rig.post(pair, &vec![128; total.min(4000)]);
    }
    let networks = rig.networks.iter();
    let wires: Vec<_> = networks.map(|network| network.wire.clone()).collect();
    let mut changes = 0;
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| send(&wires));
        while !sender.is_finished() || changes < 20 {
            changes += 1;
            set(&mut rig, &tables[changes % 2]);
        }
    });
    let mut landed = Vec::new();
    let (irq, queues) = (rig.irq.clone(), &mut rig.queues);
    irq.wait_until("all frames to arrive", || {
        for pair in 0..PAIRS {
            let queue = queues.get_mut(&(2 * pair)).expect("it was laid out");
            queue.look(usize::MAX, Interrupting::Yes);
            for used in std::mem::take(&mut queue.used) {
                let (flow, round) = number(&queue.ring.bytes(&used));
                landed.push((flow, round, pair));
            }
        }
        landed.len() == total
    });
    let mut stayed = 0;
    for number in 0..FLOWS {
        let frames = landed.iter().filter(|(flow, ..)| *flow == number);
        let frames: Vec<_> = frames.map(|(_, round, pair)| (*round, *pair)).collect();
        let queues = tables.each_ref().map(|table| flow(number).queue(table));
        if queues[0] == queues[1] {
            stayed += 1;
            let expected: Vec<_> = (0..ROUNDS).map(|round| (round, queues[0])).collect();
            assert_eq!(frames, expected, "flow {number}");
        } else {
            assert_eq!(frames.len(), usize::from(ROUNDS), "flow {number}");
            assert!(frames.iter().all(|(_, pair)| queues.contains(pair)));
        }
    }
    assert!(
        (10..FLOWS).contains(&stayed),
        "some stay and some move: {stayed}"
    );
}
