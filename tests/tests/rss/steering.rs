//! Flows land where the table says.

use super::*;
use flows::{Flow, flow};
use net_device::{EventWorker, Source, WorkerEvent};
use tests::testbed::{RINGS, pause, resume};

/// Sets a table with the usual key; every type is hashed.
fn set_table(rig: &mut Rig, table: &[u16], unclassified: u16) -> u8 {
    let pairs = rig.pairs();
    let config = rss_config(0x1ff, unclassified, table, pairs, &KEY);
    rig.command(MQ, RSS_CONFIG, &config)
}

/// The first two bytes of payload of each frame that pair `pair` has got, waiting for `count`.
fn numbers(rig: &mut Rig, pair: u16, count: usize) -> Vec<u16> {
    let frames = if count == 0 {
        Vec::new()
    } else {
        rig.receive(pair, count)
    };
    let number =
        |frame: &Vec<u8>| u16::from_be_bytes([frame[frame.len() - 2], frame[frame.len() - 1]]);
    frames.iter().map(number).collect()
}

#[test]
fn a_thousand_flows_land_where_the_table_says_net_mq_08_09() {
    for without in RINGS {
        let mut rig = running(4, 1024, without);
        let table: Vec<u16> = (0..128)
            .map(|entry| [0, 1, 2, 3, 3, 1][entry % 6])
            .collect();
        assert_eq!(set_table(&mut rig, &table, 0), OK);
        let mut expected = vec![Vec::new(); 4];
        for pair in 0..4 {
            rig.post(pair, &[256; 600]);
        }
        for number in 0..1000 {
            let flow = flow(number);
            expected[usize::from(flow.queue(&table))].push(number);
            // Whichever queue of its own the host has chosen.
            let port = usize::from(number / 3 % 4);
            rig.networks[port].wire.inject(flow.bytes());
        }
        for pair in 0..4 {
            let expected = &mut expected[usize::from(pair)];
            let mut landed = numbers(&mut rig, pair, expected.len());
            landed.sort_unstable();
            assert_eq!(landed, *expected, "queue {pair}");
        }
        pause(&mut rig);
        assert!((0..4).all(|pair| rig.queue(2 * pair).ring.poll_all().is_empty()));
        assert_eq!(rig.counter("rx_frames"), 1000);
        assert_eq!(rig.counter("rx_drop_steering_full"), 0);
    }
}

#[test]
fn frames_without_a_hash_go_to_the_queue_for_them_net_mq_08() {
    let mut rig = running(3, 64, F::empty());
    // Of the hash types UDP over IPv4 alone is on.
    let config = rss_config(1 << 2, 2, &[1], 3, &KEY);
    assert_eq!(rig.command(MQ, RSS_CONFIG, &config), OK);
    for pair in 0..3 {
        rig.post(pair, &[256; 8]);
    }
    let mut arp = flow(9).bytes();
    arp[32..34].copy_from_slice(&[8, 6]);
    for bytes in [flow(0).bytes(), flow(2).bytes(), flow(3).bytes(), arp] {
        rig.networks[0].wire.inject(bytes);
    }
    rig.networks[0].wire.inject(flow(1).bytes());
    assert_eq!(numbers(&mut rig, 1, 1), [1]);
    assert_eq!(numbers(&mut rig, 2, 4), [0, 2, 3, 9]);
}

#[test]
fn bad_tables_leave_the_old_one_net_mq_11() {
    let mut rig = running(4, 64, F::empty());
    // The last pair has no receive queue.
    rig.device.stop_queue(6).expect("it runs");
    assert_eq!(set_table(&mut rig, &[2, 2], 2), OK);
    let good = rss_config(0x1ff, 1, &[1, 0, 1, 0], 4, &KEY);
    let mut no_power = good.clone();
    no_power[4] = 2;
    let mut cut_by_mask = good.clone();
    cut_by_mask[4] = 127;
    let bad = [
        no_power,
        cut_by_mask,
        rss_config(0x1ff, 1, &[0; 256], 4, &KEY),
        rss_config(0x1ff, 4, &[1], 4, &KEY),
        rss_config(0x1ff, 0x8001, &[1], 4, &KEY),
        rss_config(0x1ff, 1, &[1, 4], 4, &KEY),
        rss_config(0x1ff, 1, &[1, 0x8000], 4, &KEY),
        rss_config(0x1ff, 1, &[1, 3], 4, &KEY),
        rss_config(0x200, 1, &[1], 4, &KEY),
        rss_config(0x8000_0000, 1, &[1], 4, &KEY),
        rss_config(0x1ff, 1, &[1], 0, &KEY),
        rss_config(0x1ff, 1, &[1], 5, &KEY),
        rss_config(0x1ff, 1, &[1], 4, &[1; 41]),
        rss_config(0x1ff, 1, &[1], 4, &[1; 255]),
    ];
    rig.post(2, &[256; 40]);
    let mut number = 0;
    let mut still_there = |rig: &mut Rig| {
        number += 1;
        rig.networks[usize::from(number % 3)]
            .wire
            .inject(flow(number).bytes());
        assert_eq!(numbers(rig, 2, 1), [number]);
    };
    for config in &bad {
        assert_eq!(rig.command(MQ, RSS_CONFIG, config), ERR, "{config:?}");
        still_there(&mut rig);
    }
    for len in 0..good.len() {
        assert_eq!(
            rig.command(MQ, RSS_CONFIG, &good[..len]),
            ERR,
            "{len} bytes"
        );
    }
    still_there(&mut rig);
    assert_eq!(rig.command(MQ, RSS_CONFIG, &good), OK);
    rig.post(1, &[256; 1]);
    let ours = (0..).map(flow).find(|it| it.queue(&[1, 0, 1, 0]) == 1);
    rig.networks[0]
        .wire
        .inject(ours.expect("half of them are").bytes());
    assert_eq!(numbers(&mut rig, 1, 1).len(), 1);
}

#[test]
fn keys_of_any_length_hash_as_if_zeros_followed_net_mq_12() {
    let mut rig = running(2, 256, F::empty());
    for len in [0, 1, 39, 40] {
        let config = rss_config(0x1ff, 0, &[0], 2, &KEY[..len]);
        assert_eq!(rig.command(MQ, RSS_CONFIG, &config), OK);
        rig.post(0, &[256]);
        rig.networks[1].wire.inject(flow(0).bytes());
        let frame = &rig.receive(0, 1)[0];
        let value = u32::from_le_bytes([frame[12], frame[13], frame[14], frame[15]]);
        // Source, destination, ports.
        let expected = flows::toeplitz(&KEY[..len], &frame[46..58]);
        assert_eq!(value, expected, "{len} bytes");
    }
}

#[test]
fn the_last_command_says_who_steers_net_mq_05() {
    let mut rig = running(3, 64, F::empty());
    let attached = |rig: &Rig| {
        let networks = rig.networks.iter();
        networks
            .map(|network| network.is_attached())
            .collect::<Vec<_>>()
    };
    let lands = |rig: &mut Rig, port: usize, pair: u16, number: u16| {
        rig.post(pair, &[256]);
        rig.networks[port].wire.inject(flow(number).bytes());
        assert_eq!(numbers(rig, pair, 1), [number]);
    };
    lands(&mut rig, 0, 0, 1);
    assert_eq!(set_table(&mut rig, &[2], 2), OK);
    assert_eq!(attached(&rig), [true; 3], "any port may get a frame");
    lands(&mut rig, 0, 2, 2);
    lands(&mut rig, 1, 2, 3);
    assert_eq!(rig.command(MQ, PAIRS_SET, &[2, 0]), OK);
    assert_eq!(attached(&rig), [true, true, false]);
    lands(&mut rig, 0, 0, 4);
    lands(&mut rig, 1, 1, 5);
    assert_eq!(set_table(&mut rig, &[1], 0), OK);
    assert_eq!(attached(&rig), [true; 3]);
    lands(&mut rig, 0, 1, 6);
    // A hash without a table lets the device steer, among as many pairs as before.
    let hash = flows::hash_config(0x1ff, 0, &KEY);
    assert_eq!(rig.command(MQ, HASH_CONFIG, &hash), OK);
    assert_eq!(attached(&rig), [true, true, false]);
    lands(&mut rig, 0, 0, 7);
}

#[test]
fn frames_of_a_queue_in_reset_are_dropped_net_mq_07() {
    let mut rig = running(3, 64, F::empty());
    assert_eq!(set_table(&mut rig, &[1], 2), OK);
    let cursor = rig.device.stop_queue(2).expect("it runs").expect("it ran");
    for number in 0..10 {
        rig.networks[usize::from(number % 2) * 2]
            .wire
            .inject(flow(number).bytes());
    }
    rig.networks[0].wait_drained();
    rig.networks[2].wait_drained();
    pause(&mut rig);
    assert_eq!(rig.counter("rx_drop_stopped"), 10);
    resume(&mut rig);
    let setup = rig.queues[&2].setup_at(cursor);
    rig.device.start_queue(setup).expect("where it stood");
    rig.post(1, &[256]);
    rig.networks[0].wire.inject(flow(77).bytes());
    assert_eq!(numbers(&mut rig, 1, 1), [77]);
}

#[test]
fn a_queue_without_buffers_keeps_no_other_waiting() {
    let mut rig = running(2, 256, F::empty());
    let table = [0, 1];
    assert_eq!(set_table(&mut rig, &table, 0), OK);
    rig.post(1, &[256; 200]);
    let flows: Vec<Flow> = (0..200).map(flow).collect();
    for flow in &flows {
        rig.networks[0].wire.inject(flow.bytes());
    }
    let of = |queue: u16| {
        let ours = (0..)
            .zip(&flows)
            .filter(move |(_, flow)| flow.queue(&table) == queue);
        ours.map(|(number, _)| number).collect::<Vec<u16>>()
    };
    // Those of the queue that has some arrive, although they came by the one that has none.
    assert_eq!(numbers(&mut rig, 1, of(1).len()), of(1));
    rig.networks[0].wait_drained();
    // The others were kept, and come in their order.
    rig.post(0, &[256; 200]);
    rig.networks[0].wire.inject(flow(200).bytes());
    rig.networks[0].wire.inject(flow(204).bytes());
    let mut own = of(0);
    own.extend(
        [200, 204]
            .into_iter()
            .filter(|number| flow(*number).queue(&table) == 0),
    );
    assert_eq!(numbers(&mut rig, 0, own.len()), own);
    assert_eq!(rig.counter("rx_drop_no_room"), 0);
}

#[test]
fn frames_that_are_not_for_this_driver_are_not_passed_on() {
    let mut rig = running(2, 64, F::empty());
    assert_eq!(set_table(&mut rig, &[1], 1), OK);
    rig.post(1, &[256; 4]);
    let mut other = flow(1).bytes();
    other[20..26].copy_from_slice(&[2, 0, 0, 0, 9, 9]);
    rig.networks[0].wire.inject(other);
    rig.networks[0].wire.inject(flow(2).bytes());
    assert_eq!(numbers(&mut rig, 1, 1), [2]);
    assert_eq!(rig.counter("rx_drop_filtered"), 1);
    assert_eq!(rig.counter("rx_steered"), 1);
}

#[test]
fn large_frames_are_passed_on_whole_and_cut_where_they_are_delivered() {
    let mut rig = running(2, 256, F::VIRTIO_NET_F_GUEST_USO4);
    assert_eq!(set_table(&mut rig, &[1], 1), OK);
    let long = flow(0).with(&vec![5; 30_000]);
    let mut cut = flow(1).with(&[6; 2800]).bytes();
    // UDP of 1400 bytes a segment, which this driver does not take.
    cut[..10].copy_from_slice(&[1, 5, 42, 0, 0x78, 5, 34, 0, 6, 0]);
    for _ in 0..3 {
        rig.post(1, &[4096; 20]);
        rig.networks[0].wire.inject(long.bytes());
        rig.networks[0].wire.inject(cut.clone());
        let received = rig.receive(1, 3);
        assert_eq!(received[0][20..], long.frame());
        assert_eq!(received[1].len(), 20 + 42 + 1400);
        assert_eq!(received[2].len(), 20 + 42 + 1400);
    }
    assert_eq!(rig.counter("rx_steered"), 6);
}

#[test]
fn sixteen_of_many_pairs_read_for_all() {
    let mut rig = running(20, 64, F::empty());
    let table: Vec<u16> = (0..32).map(|entry| entry % 20).collect();
    assert_eq!(set_table(&mut rig, &table, 19), OK);
    let networks = rig.networks.iter();
    let attached: Vec<_> = networks.map(|network| network.is_attached()).collect();
    assert_eq!(attached, [[true; 16].as_slice(), &[false; 4]].concat());
    for number in 0..40 {
        let flow = flow(number);
        let pair = flow.queue(&table);
        rig.post(pair, &[256]);
        rig.networks[usize::from(number % 16)]
            .wire
            .inject(flow.bytes());
        assert_eq!(numbers(&mut rig, pair, 1), [number]);
    }
    // Another one reads while one of them does not run.
    rig.device.stop_queue(4).expect("it runs");
    assert!(!rig.networks[2].is_attached() && rig.networks[16].is_attached());
}

/// A driver that could steer by a table and does not, and that posts no buffers.
#[test]
fn a_worker_without_a_table_sleeps_while_its_queue_has_no_buffers() {
    let mut config = Rig::config(2);
    (config.rss, config.hash_report) = (true, true);
    let mut rig = Rig::built(config, |builder| builder.event_loop());
    rig.start(F::empty());
    let workers = rig.device.event_workers();
    let sleeps = |worker: &EventWorker| (0..10).any(|_| !worker.turn().again);
    assert!(workers.iter().all(sleeps));
    rig.networks[0].wire.inject(flow(0).bytes());
    let event = |source| WorkerEvent {
        source,
        readable: true,
        writable: false,
        error: false,
    };
    workers[0].on_event(event(Source::Backend));
    assert!(
        sleeps(&workers[0]),
        "a frame waits, and nothing can be done"
    );
    rig.post(0, &[256]);
    workers[0].on_event(event(Source::RxKick));
    assert!(sleeps(&workers[0]));
    assert_eq!(numbers(&mut rig, 0, 1), [0]);
}

/// The worker of the queue that comes back has its turn after the frame was passed to it.
#[test]
fn a_frame_that_is_passed_to_a_queue_that_came_back_is_delivered() {
    let mut config = Rig::config(2);
    (config.rss, config.hash_report) = (true, true);
    let mut rig = Rig::built(config, |builder| builder.event_loop());
    rig.start(F::empty());
    let workers = rig.device.event_workers();
    let step = |at: usize, source| {
        workers[at].on_event(WorkerEvent {
            source,
            readable: true,
            writable: false,
            error: false,
        });
        assert!((0..10).any(|_| !workers[at].turn().again));
    };
    let table = rss_config(0x1ff, 0, &[1], 2, &KEY);
    let command = rig.memory.filled(&[&[MQ, RSS_CONFIG], &table[..]].concat());
    let answer = rig.memory.room(1);
    let index = rig.control_index();
    rig.queue(index).post(&[command, answer]);
    step(workers.len() - 1, Source::CtrlKick);
    assert_eq!(rig.memory.read(answer.addr, 1), [OK]);

    let cursor = rig.device.stop_queue(2).expect("it runs").expect("it ran");
    step(1, Source::Owner);
    let setup = rig.queues[&2].setup_at(cursor);
    rig.device.start_queue(setup).expect("where it stood");
    rig.post(1, &[256]);
    rig.networks[0].wire.inject(flow(77).bytes());
    step(0, Source::Backend);
    step(1, Source::Steering);
    pause(&mut rig);
    assert_eq!(rig.counter("rx_drop_stopped"), 0);
    assert_eq!(numbers(&mut rig, 1, 1), [77]);
}
