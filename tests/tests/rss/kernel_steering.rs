//! Flows that the kernel puts into the queues of the driver's table, where it may be told of that.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::*;
use flows::flow;
use net_device::tap::{
    STEERING_INPUT, STEERING_QUEUES, SteeringProgram, SteeringRules, TapOptions,
};
use net_device::{LoadedProgram, NetDevice, NetDeviceBuilder};
use tests::guest::probe::Probe;
use tests::testbed::{Interrupting, ip, isolated_as_root, without_bpf, without_ipv6};

const TAP: &str = "rss0";
const PAIRS: u16 = 4;
const FLOWS: u16 = 1000;
/// A flow of frames that are not counted.
const HELLO: u16 = 2 * FLOWS;
/// Descriptors of each ring: room for all frames of a test.
const SIZE: u16 = 2048;

/// Longest wait for the bridge; it only ends a test that hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// With a filter frames of a VLAN pass only if the driver asks for them.
const WITHOUT: F = F::VIRTIO_NET_F_CTRL_VLAN;

/// A device over a real tap, with a wire to it. The driver has no frames yet.
fn over_tap(kernel: bool) -> (Rig, Probe) {
    over_tap_with(kernel, |builder| builder)
}

/// The same, built with the options that `options` chooses.
fn over_tap_with<'a>(
    kernel: bool,
    options: impl FnOnce(NetDeviceBuilder<'a>) -> NetDeviceBuilder<'a>,
) -> (Rig, Probe) {
    without_ipv6();
    let taps = TapOptions::new(TAP).queues(usize::from(PAIRS)).up().open();
    let taps = taps.expect("a namespace of its own");
    ip(&format!("link set {TAP} txqueuelen 10000"));
    let mut config = Rig::config(PAIRS);
    (config.rss, config.kernel_steering) = (true, kernel);
    config.control_limit = None;
    config.queue_size = SIZE;
    let device = options(NetDevice::builder(config)).build_on_taps(taps);
    let device = device.expect("they fit");
    let mut rig = Rig::over(device);
    rig.negotiate(WITHOUT);
    rig.lay_out(SIZE);
    rig.activate();
    let probe = Probe::on(TAP, 1514).expect("a bridge");
    await_wire(&mut rig, &probe);
    (rig, probe)
}

/// A bridge forwards nothing until it has noticed the carrier of its ports.
fn await_wire(rig: &mut Rig, probe: &Probe) {
    post(rig);
    let deadline = Instant::now() + LIMIT;
    while rig.counter("rx_frames") == 0 {
        assert!(Instant::now() < deadline, "the bridge does not forward");
        probe.send(&[frame(HELLO, 0)]).expect("it is up");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn set(rig: &mut Rig, table: &[u16]) {
    let config = rss_config(0x1ff, 0, table, PAIRS, &KEY);
    assert_eq!(rig.command(MQ, RSS_CONFIG, &config), OK);
}

/// A frame of a flow, tagged if the round is odd.
fn frame(number: u16, round: u16) -> Vec<u8> {
    let payload = [number.to_be_bytes(), round.to_be_bytes()].concat();
    let mut frame = flow(number).with(&payload).frame();
    if round & 1 == 1 {
        frame.splice(12..12, [0x81, 0, 0, 5]);
    }
    frame
}

/// Takes so many frames of flows: flow, round and pair of each, in the order of each queue.
fn take(rig: &mut Rig, count: usize) -> Vec<(u16, u16, u16)> {
    let mut landed = Vec::new();
    let (irq, queues) = (rig.irq.clone(), &mut rig.queues);
    irq.wait_until("all frames to arrive", || {
        for pair in 0..PAIRS {
            let queue = queues.get_mut(&(2 * pair)).expect("it was laid out");
            queue.look(usize::MAX, Interrupting::Yes);
            for used in std::mem::take(&mut queue.used) {
                let bytes = queue.ring.bytes(&used);
                let word = |behind: usize| {
                    let at = bytes.len() - behind;
                    u16::from_be_bytes([bytes[at], bytes[at + 1]])
                };
                if word(4) != HELLO {
                    landed.push((word(4), word(2), pair));
                }
            }
        }
        landed.len() >= count
    });
    landed
}

fn post(rig: &mut Rig) {
    for pair in 0..PAIRS {
        let room = rig.queues[&(2 * pair)].ring.free();
        rig.post(pair, &vec![256; room]);
    }
}

/// Sends two frames of each of a thousand flows, one of them tagged: all land as `table` says.
fn spread(rig: &mut Rig, probe: &Probe, table: &[u16]) {
    post(rig);
    let frames = (0..2 * FLOWS).map(|number| frame(number / 2, number % 2));
    probe.send(&frames.collect::<Vec<_>>()).expect("it is up");
    let landed = take(rig, 2 * usize::from(FLOWS));
    assert_eq!(landed.len(), 2 * usize::from(FLOWS), "and no others");
    for (number, _, pair) in landed {
        assert_eq!(pair, flow(number).queue(table), "flow {number}");
    }
}

/// The IPv6 frame with an extension header of destination options in front of its ports.
fn extended(mut frame: Vec<u8>) -> Vec<u8> {
    const OPTIONS: u8 = 60;
    let next = std::mem::replace(&mut frame[20], OPTIONS);
    frame[19] += 8;
    // Options that are all padding.
    frame.splice(54..54, [next, 0, 1, 4, 0, 0, 0, 0]);
    frame
}

#[test]
fn kernel_puts_a_thousand_flows_into_the_queues_of_the_table_net_mq_08() {
    isolated_as_root(|| {
        let may = SteeringProgram::load().is_ok();
        let (mut rig, probe) = over_tap(true);
        for table in [&[0, 1, 2, 3][..], &[3, 3, 1, 1, 0, 2, 2, 2], &[2]] {
            set(&mut rig, table);
            spread(&mut rig, &probe, table);
        }
        assert_eq!(rig.counter("rx_steered") == 0, may, "nothing is moved");
        // What the kernel hashes in another way is moved still.
        let before = rig.counter("rx_steered");
        let table = [0, 1, 2, 3];
        set(&mut rig, &table);
        let v6 = (0..100).filter(|number| flow(*number).packet.v6);
        let extended = v6.map(|number| extended(frame(number, 0)));
        let frames = extended.collect::<Vec<_>>();
        probe.send(&frames).expect("it is up");
        let landed = take(&mut rig, frames.len());
        for (number, _, pair) in landed {
            assert_eq!(pair, flow(number).queue(&table), "flow {number}");
        }
        assert!(rig.counter("rx_steered") > before);
    });
}

#[test]
fn kernel_steers_again_after_queues_stopped_and_after_a_reset() {
    isolated_as_root(|| {
        let may = SteeringProgram::load().is_ok();
        let (mut rig, probe) = over_tap(true);
        let table = [0, 1, 2, 3];
        set(&mut rig, &table);
        // The kernel numbers its queues anew.
        for pair in [1, 0, 3] {
            let index = 2 * pair;
            let cursor = rig.device.stop_queue(index).expect("it runs");
            let setup = rig.queues[&index].setup_at(cursor.expect("it ran"));
            rig.device.start_queue(setup).expect("where it stood");
        }
        spread(&mut rig, &probe, &table);
        assert_eq!(rig.counter("rx_steered") == 0, may);
        rig.device.reset();
        rig.negotiate(WITHOUT);
        rig.lay_out(SIZE);
        rig.activate();
        // Without a table the device steers among the pairs that were chosen, here the first one.
        post(&mut rig);
        probe.send(&[frame(1, 0), frame(2, 0)]).expect("it is up");
        assert!(take(&mut rig, 2).iter().all(|(.., pair)| *pair == 0));
        set(&mut rig, &[3, 2, 1, 0]);
        let before = rig.counter("rx_steered");
        spread(&mut rig, &probe, &[3, 2, 1, 0]);
        assert_eq!(rig.counter("rx_steered") == before, may);
    });
}

#[test]
fn without_the_kernel_frames_are_moved() {
    isolated_as_root(|| {
        let (mut rig, probe) = over_tap(false);
        set(&mut rig, &[0, 1, 2, 3]);
        spread(&mut rig, &probe, &[0, 1, 2, 3]);
        assert!(rig.counter("rx_steered") > 0);
    });
}

#[test]
fn a_change_of_the_kernels_table_loses_and_reorders_nothing_of_flows_that_stay_net_mq_08() {
    const FLOWS: u16 = 64;
    const ROUNDS: u16 = 50;
    isolated_as_root(|| {
        let (mut rig, probe) = over_tap(true);
        let tables: [[u16; 4]; 2] = [[0, 1, 2, 3], [0, 1, 3, 2]];
        set(&mut rig, &tables[0]);
        post(&mut rig);
        let mut changes = 0;
        std::thread::scope(|scope| {
            let sender = scope.spawn(move || {
                for round in 0..ROUNDS {
                    let frames = (0..FLOWS).map(|number| frame(number, round));
                    probe.send(&frames.collect::<Vec<_>>()).expect("it is up");
                }
            });
            while !sender.is_finished() || changes < 20 {
                changes += 1;
                set(&mut rig, &tables[changes % 2]);
            }
        });
        let landed = take(&mut rig, usize::from(FLOWS * ROUNDS));
        let mut stayed = 0;
        for number in 0..FLOWS {
            let frames = landed.iter().filter(|(flow, ..)| *flow == number);
            let frames: Vec<_> = frames.map(|(_, round, pair)| (*round, *pair)).collect();
            let queues = tables.each_ref().map(|table| flow(number).queue(table));
            assert_eq!(frames.len(), usize::from(ROUNDS), "flow {number}");
            if queues[0] == queues[1] {
                stayed += 1;
                let expected: Vec<_> = (0..ROUNDS).map(|round| (round, queues[0])).collect();
                assert_eq!(frames, expected, "flow {number}");
            }
        }
        assert!(
            (10..FLOWS).contains(&stayed),
            "some stay and some move: {stayed}"
        );
    });
}

#[test]
fn a_steering_program_that_was_handed_in_needs_no_right() {
    isolated_as_root(|| {
        let Ok(program) = SteeringProgram::load() else {
            return;
        };
        without_bpf();
        assert!(SteeringProgram::load().is_err());
        let program = LoadedProgram::WithRules(program);
        let (mut rig, probe) = over_tap_with(true, |builder| builder.steering_program(program));
        let table = [3, 2, 1, 0];
        set(&mut rig, &table);
        spread(&mut rig, &probe, &table);
        assert_eq!(rig.counter("rx_steered"), 0, "nothing is moved");
    });
}

#[test]
fn a_foreign_steering_program_chooses_as_it_does_and_the_device_moves_the_rest() {
    isolated_as_root(|| {
        let Ok(mut theirs) = SteeringProgram::load() else {
            return;
        };
        theirs.set_rules(&SteeringRules {
            hash_types: 0,
            contributions: &[[[0; 16]; 2]; STEERING_INPUT],
            queues: [2; STEERING_QUEUES],
            unclassified: 2,
        });
        let program = theirs.as_fd().try_clone_to_owned().expect("a descriptor");
        let program = LoadedProgram::Foreign(program);
        let (mut rig, probe) = over_tap_with(true, |builder| builder.steering_program(program));
        assert_eq!(rig.command(MQ, PAIRS_SET, &PAIRS.to_le_bytes()), OK);
        post(&mut rig);
        let frames: Vec<_> = (0..100).map(|number| frame(number, 0)).collect();
        probe.send(&frames).expect("it is up");
        let landed = take(&mut rig, frames.len());
        assert!(landed.iter().all(|(.., pair)| *pair == 2), "{landed:?}");
        let table = [0, 1, 2, 3];
        set(&mut rig, &table);
        spread(&mut rig, &probe, &table);
        assert!(rig.counter("rx_steered") > 0);
    });
}
