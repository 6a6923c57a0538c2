//! Which pairs receive, by command and by which queues run, over scripted ports and over a real
//! tap.

use net_device::tap::{Tap, TapOptions};
use net_device::{Features, NetDevice, VirtioDevice};
use tests::testbed::{Host, RINGS, Rig, body, frame, isolated, pause, resume, without_ipv6};

type F = Features;

const OK: u8 = 0;
const ERR: u8 = 1;

fn rig(pairs: u16) -> Rig {
    let mut rig = Rig::new(Rig::config(pairs));
    rig.start(F::empty());
    rig
}

fn set_pairs(rig: &mut Rig, pairs: u16) -> u8 {
    rig.command(4, 0, &pairs.to_le_bytes())
}

fn attached(rig: &Rig) -> Vec<bool> {
    rig.networks
        .iter()
        .map(|network| network.is_attached())
        .collect()
}

#[test]
fn only_receiveq1_is_fed_at_first_net_mq_01() {
    let mut rig = rig(4);
    assert_eq!(attached(&rig), [true, false, false, false]);
    for pair in 1..4 {
        let told = rig.networks[usize::from(pair)].attachments();
        assert!(!told.contains(&true), "not even for a moment: {told:?}");
        rig.post(pair, &[2048; 4]);
        rig.networks[usize::from(pair)].wire.inject(frame(60, 1));
    }
    rig.post(0, &[2048]);
    rig.networks[0].wire.inject(frame(60, 2));
    assert_eq!(body(&rig.receive(0, 1)[0]), body(&frame(60, 2)));
    pause(&mut rig);
    for pair in 1..4 {
        assert_eq!(rig.networks[usize::from(pair)].receives(), 0);
        assert!(rig.queue(2 * pair).ring.poll_all().is_empty());
    }
}

#[test]
fn a_command_says_how_many_pairs_receive_net_mq_02_05() {
    let mut rig = rig(4);
    for pairs in [4, 2, 3, 1, 4] {
        assert_eq!(set_pairs(&mut rig, pairs), OK);
        let expected: Vec<bool> = (0..4).map(|pair| pair < pairs).collect();
        assert_eq!(attached(&rig), expected);
        for pair in 0..pairs {
            rig.post(pair, &[2048]);
            let seed = u64::from(pairs * 8 + pair);
            rig.networks[usize::from(pair)].wire.inject(frame(60, seed));
            assert_eq!(body(&rig.receive(pair, 1)[0]), body(&frame(60, seed)));
        }
    }
}

#[test]
fn numbers_of_pairs_that_cannot_be_are_refused_without_effect_net_mq_04() {
    let mut rig = rig(3);
    assert_eq!(set_pairs(&mut rig, 2), OK);
    for pairs in [0, 4, 256, 0x8000, 0x8001, 0xffff] {
        assert_eq!(set_pairs(&mut rig, pairs), ERR, "{pairs}");
        assert_eq!(attached(&rig), [true, true, false]);
    }
    for len in 0..2 {
        assert_eq!(rig.command(4, 0, &[1, 0][..len]), ERR);
    }
}

#[test]
fn pairs_that_are_not_set_up_are_refused_net_mq_04() {
    let mut rig = Rig::new(Rig::config(4));
    rig.negotiate(F::empty());
    rig.lay_out(16);
    // The third pair has only its receive queue, the fourth only its transmit queue.
    rig.queues.retain(|index, _| ![5, 6].contains(index));
    rig.activate();
    assert_eq!(set_pairs(&mut rig, 3), ERR);
    assert_eq!(set_pairs(&mut rig, 4), ERR);
    assert_eq!(set_pairs(&mut rig, 2), OK);
    assert_eq!(attached(&rig), [true, true, false, false]);
    // With its transmit queue it may.
    let config = rig.ring_config(16);
    let queue = tests::testbed::Queue::new(&rig.memory, 5, config);
    rig.device
        .start_queue(queue.setup())
        .expect("it can be used");
    rig.queues.insert(5, queue);
    assert_eq!(set_pairs(&mut rig, 3), OK);
}

#[test]
fn a_link_that_refuses_a_queue_is_an_error_without_effect() {
    let mut rig = rig(3);
    assert_eq!(set_pairs(&mut rig, 2), OK);
    rig.networks[2].set_refusing(true);
    assert_eq!(set_pairs(&mut rig, 3), ERR);
    assert_eq!(attached(&rig), [true, true, false]);
    rig.networks[2].set_refusing(false);
    assert_eq!(set_pairs(&mut rig, 3), OK);
    assert_eq!(attached(&rig), [true, true, true]);
}

#[test]
fn nothing_lands_on_a_pair_after_the_command_that_takes_it_away_net_mq_02() {
    for without in RINGS {
        let mut rig = Rig::new(Rig::config(2));
        rig.negotiate(without);
        rig.lay_out(256);
        rig.activate();
        rig.networks[1].set_endless(true);
        for round in 0..40 {
            assert_eq!(set_pairs(&mut rig, 2), OK);
            // More than the device can fill until the next command is executed.
            let free = rig.queue(2).ring.free();
            rig.post(1, &vec![128; free]);
            assert_eq!(set_pairs(&mut rig, 1), OK);
            let before = rig.queue(2).ring.poll_all().len();
            pause(&mut rig);
            let after = rig.queue(2).ring.poll_all().len();
            assert_eq!(after, 0, "round {round}: {before} frames before");
            resume(&mut rig);
        }
    }
}

#[test]
fn a_pair_that_comes_back_is_woken_by_its_first_frame() {
    let mut rig = rig(2);
    rig.post(1, &[256; 60]);
    rig.networks[1].set_greeting(true);
    for _ in 0..60 {
        assert_eq!(set_pairs(&mut rig, 2), OK);
        assert_eq!(rig.receive(1, 1).len(), 1);
        assert_eq!(set_pairs(&mut rig, 1), OK);
    }
}

#[test]
fn transmit_queues_beyond_the_pairs_in_use_are_harmless_net_tx_12() {
    let mut rig = rig(4);
    for pair in 0..4 {
        rig.send(pair, &frame(60, 1));
        rig.wait_used(2 * pair + 1, 1);
    }
    assert!(!rig.device.needs_reset());
}

#[test]
fn reset_brings_back_one_pair_dev_life_07() {
    let mut rig = rig(4);
    assert_eq!(set_pairs(&mut rig, 4), OK);
    rig.device.reset();
    rig.start(F::empty());
    assert_eq!(attached(&rig), [true, false, false, false]);
}

#[test]
fn a_queue_that_is_stopped_is_not_fed_and_is_again_when_it_starts() {
    let mut rig = rig(3);
    assert_eq!(set_pairs(&mut rig, 3), OK);
    let cursor = rig.device.stop_queue(2).expect("it runs").expect("it ran");
    assert_eq!(attached(&rig), [true, false, true]);
    let setup = rig.queues[&2].setup_at(cursor);
    rig.device.start_queue(setup).expect("where it stood");
    assert_eq!(attached(&rig), [true, true, true]);
    rig.post(1, &[2048]);
    rig.networks[1].wire.inject(frame(60, 1));
    assert_eq!(rig.receive(1, 1).len(), 1);
}

#[test]
fn without_a_control_queue_the_pairs_that_run_are_fed() {
    let mut rig = Rig::new(Rig::config(3));
    rig.negotiate(F::VIRTIO_NET_F_CTRL_VQ);
    let activation = rig.activation(Vec::new());
    rig.device.activate(activation).expect("queues come later");
    assert_eq!(attached(&rig), [false; 3]);
    let config = rig.ring_config(16);
    for index in 0..6 {
        let queue = tests::testbed::Queue::new(&rig.memory, index, config);
        rig.device
            .start_queue(queue.setup())
            .expect("it can be used");
        rig.queues.insert(index, queue);
    }
    assert_eq!(attached(&rig), [true; 3]);
    for pair in 0..3 {
        rig.post(pair, &[2048]);
        rig.networks[usize::from(pair)].wire.inject(frame(60, 1));
        assert_eq!(rig.receive(pair, 1).len(), 1);
    }
    rig.device.stop_queue(4).expect("it runs");
    assert_eq!(attached(&rig), [true, true, false]);
}

#[test]
fn every_pair_sends_through_its_own_port() {
    let mut rig = rig(4);
    for pair in 0..4 {
        rig.send(pair, &frame(100, u64::from(pair)));
        let sent = rig.networks[usize::from(pair)].wait_sent(1);
        assert_eq!(body(&sent[0]), body(&frame(100, u64::from(pair))));
    }
}

/// A device on a new tap `name` with `pairs` queues, and handles of these queues.
fn on_tap(name: &str, pairs: u16) -> (Rig, Vec<Tap>, Host) {
    without_ipv6();
    let options = TapOptions::new(name).queues(usize::from(pairs)).up();
    let taps = options.open().expect("a namespace of its own");
    let handles = taps
        .iter()
        .map(|tap| tap.try_clone().expect("a descriptor"));
    let handles: Vec<Tap> = handles.collect();
    let host = Host::on(name);
    let device = NetDevice::from_taps(Rig::config(pairs), taps).expect("they fit");
    let mut rig = Rig::over(device);
    rig.start(F::empty());
    (rig, handles, host)
}

fn queues_attached(taps: &[Tap]) -> Vec<bool> {
    let state = |tap: &Tap| tap.is_queue_attached().expect("the kernel tells");
    taps.iter().map(state).collect()
}

/// Sends `flows` datagrams, each of a flow of its own; how many arrive at each pair.
fn spread(rig: &mut Rig, flows: usize) -> Vec<usize> {
    let pairs = rig.pairs();
    for pair in 0..pairs {
        let room = rig.queues[&(2 * pair)].ring.free();
        rig.post(pair, &vec![2048; room]);
    }
    let sockets: Vec<_> = (0..flows).map(|_| Host::flow()).collect();
    for socket in &sockets {
        Host::send_by(socket, b"flow");
    }
    let mut arrived = vec![0; usize::from(pairs)];
    let irq = rig.irq.clone();
    let queues = &mut rig.queues;
    irq.wait_until("all flows to arrive", || {
        for pair in 0..pairs {
            let queue = queues.get_mut(&(2 * pair)).expect("it was laid out");
            queue.look(usize::MAX, tests::testbed::Interrupting::Yes);
            for used in std::mem::take(&mut queue.used) {
                let bytes = queue.ring.bytes(&used);
                let ours = Host::payload(&bytes) == Some(b"flow");
                arrived[usize::from(pair)] += usize::from(ours);
            }
        }
        arrived.iter().sum::<usize>() == flows
    });
    arrived
}

#[test]
fn queues_of_a_real_tap_are_attached_as_the_driver_says() {
    isolated(|| {
        let (mut rig, taps, _host) = on_tap("mq0", 4);
        assert_eq!(queues_attached(&taps), [true, false, false, false]);
        assert_eq!(spread(&mut rig, 40), [40, 0, 0, 0]);
        assert_eq!(set_pairs(&mut rig, 4), OK);
        assert_eq!(queues_attached(&taps), [true; 4]);
        let four = spread(&mut rig, 60);
        assert!(
            four[1] + four[2] + four[3] > 0,
            "flows are spread: {four:?}"
        );
        assert_eq!(set_pairs(&mut rig, 2), OK);
        assert_eq!(queues_attached(&taps), [true, true, false, false]);
        let two = spread(&mut rig, 60);
        assert_eq!(two[2] + two[3], 0, "{two:?}");
        assert_eq!(set_pairs(&mut rig, 1), OK);
        assert_eq!(spread(&mut rig, 40), [40, 0, 0, 0]);
        // The next driver starts with one.
        rig.device.reset();
        rig.start(F::empty());
        assert_eq!(queues_attached(&taps), [true, false, false, false]);
        assert_eq!(spread(&mut rig, 40), [40, 0, 0, 0]);
    });
}

#[test]
fn a_driver_without_multiqueue_gets_all_flows_of_a_real_tap() {
    isolated(|| {
        let (mut rig, taps, host) = on_tap("mq1", 3);
        rig.device.reset();
        rig.start(F::VIRTIO_NET_F_MQ);
        assert_eq!(queues_attached(&taps), [true, false, false]);
        assert_eq!(spread(&mut rig, 40), [40]);
        rig.send(0, &host.datagram(b"out"));
        assert_eq!(host.receive(), b"out");
    });
}

/// Waits for the datagram `back`; the pair that it comes on.
fn arrival(rig: &mut Rig) -> u16 {
    let mut found = None;
    let (irq, pairs) = (rig.irq.clone(), rig.pairs());
    let queues = &mut rig.queues;
    irq.wait_until("the answer", || {
        for pair in 0..pairs {
            let queue = queues.get_mut(&(2 * pair)).expect("it was laid out");
            queue.look(usize::MAX, tests::testbed::Interrupting::Yes);
            for used in std::mem::take(&mut queue.used) {
                if Host::payload(&queue.ring.bytes(&used)) == Some(b"back") {
                    found = Some(pair);
                }
            }
        }
        found.is_some()
    });
    found.expect("it came")
}

#[test]
fn a_flow_returns_to_the_pair_it_was_sent_on_net_mq_03() {
    isolated(|| {
        let (mut rig, _taps, host) = on_tap("mq2", 4);
        assert_eq!(set_pairs(&mut rig, 4), OK);
        for pair in 0..4 {
            rig.post(pair, &[2048; 32]);
        }
        for (pairs, pair) in [(4, 2), (4, 3), (4, 1), (4, 0), (2, 1), (4, 2), (4, 1)] {
            assert_eq!(set_pairs(&mut rig, pairs), OK);
            rig.send(pair, &host.datagram(b"out"));
            assert_eq!(host.receive(), b"out");
            host.send(b"back");
            assert_eq!(arrival(&mut rig), pair);
        }
    });
}
