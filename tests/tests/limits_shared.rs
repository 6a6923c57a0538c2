//! A budget that queues share: what one of them does not use is there for the others at once, and
//! none waits longer than it has to.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use net_device::rate_limiter::{Group, RateLimiterConfig};
use net_device::{Activation, Features, Interrupt, InterruptSource, VirtioDevice, now_ns};
use tests::testbed::{HOUR_MS, Irq, RINGS, Rig, frame, frame_limit};

fn group(count: u64) -> Group {
    let limit = frame_limit(count, HOUR_MS).expect("a limit");
    Group::new(&limit).expect("it is usable")
}

/// A device that counts what it receives and what it sends against a budget each.
fn within(pairs: u16, rx: Option<&Group>, tx: Option<&Group>) -> Rig {
    Rig::built(Rig::config(pairs), |builder| {
        builder.limit_groups(rx.cloned(), tx.cloned())
    })
}

/// Frames that the group can pass now, in thousandths: members keep fractions of a nanosecond.
fn left(group: &Group) -> i128 {
    let level = group.levels(now_ns()).ops.expect("it limits frames");
    i128::from(level.tokens) * 1000 + ((i128::from(level.fraction) * 1000) >> 64)
}

/// Waits until the frames that are left to all are `count` and no more.
///
/// A level changes without an event that a test could wait for.
fn wait_left(group: &Group, count: i128) {
    let give_up = Instant::now() + Duration::from_secs(60);
    while !(count * 1000 - 500..=count * 1000 + 500).contains(&left(group)) {
        assert!(Instant::now() < give_up, "{} of {count}", left(group));
        std::thread::yield_now();
    }
}

#[test]
fn a_transmit_queue_that_ran_empty_holds_nothing_of_a_shared_limit() {
    for without in RINGS {
        let group = group(1000);
        let mut rig = within(1, None, Some(&group));
        rig.start(without);
        rig.send(0, &frame(60, 1));
        assert_eq!(rig.networks[0].wait_sent(1).len(), 1);
        wait_left(&group, 999);
    }
}

#[test]
fn a_receive_queue_without_frames_holds_nothing_of_a_shared_limit() {
    for without in RINGS {
        let group = group(1000);
        let mut rig = within(1, Some(&group), None);
        rig.start(without);
        rig.post(0, &[2048; 4]);
        rig.networks[0].wire.inject(frame(60, 1));
        assert_eq!(rig.receive(0, 1).len(), 1);
        wait_left(&group, 999);
    }
}

#[test]
fn a_receive_queue_without_buffers_holds_nothing_of_a_shared_limit() {
    for without in RINGS {
        let group = group(1000);
        let mut rig = within(1, Some(&group), None);
        rig.start(without);
        // Never without a frame, so that it is the buffers that it runs out of.
        rig.networks[0].set_endless(true);
        rig.post(0, &[2048]);
        rig.networks[0].wire.inject(frame(60, 1));
        assert_eq!(rig.receive(0, 1).len(), 1);
        wait_left(&group, 999);
    }
}

#[test]
fn a_pair_that_is_taken_away_gives_its_turn_back_at_once() {
    for without in RINGS {
        let group = group(1);
        let mut rig = within(2, Some(&group), None);
        rig.start(without);
        assert_eq!(rig.command(4, 0, &2u16.to_le_bytes()), 0);
        rig.post(1, &[2048; 4]);
        for seed in 0..3 {
            rig.networks[1].wire.inject(frame(60, seed));
        }
        assert_eq!(rig.receive(1, 1).len(), 1);
        // The second frame has the next turn, in an hour.
        let network = &rig.networks[1];
        network.wait_until("a frame to wait", || network.wire.waiting() <= 1);
        wait_left(&group, -1);
        assert_eq!(rig.command(4, 0, &1u16.to_le_bytes()), 0);
        wait_left(&group, 0);
    }
}

/// An interrupt controller that does something once, in the device's thread, before it counts.
struct Meanwhile {
    irq: Arc<Irq>,
    task: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Interrupt for Meanwhile {
    fn trigger(&self, source: InterruptSource) -> io::Result<()> {
        let task = self.task.lock().expect("no task panicked").take();
        if let Some(task) = task {
            task();
        }
        self.irq.trigger(source)
    }
}

/// Starts the device of `rig`; the first interrupt, which comes after the limit said no and before
/// the queue waits, lifts the limit.
fn start_lifting(rig: &mut Rig, without: Features, group: &Group) {
    rig.negotiate(without);
    rig.lay_out(64);
    let group = group.clone();
    let lift = move || {
        let lifted = RateLimiterConfig::default();
        group.update(now_ns(), &lifted).expect("no limit is usable");
    };
    let interrupt = Meanwhile {
        irq: rig.irq.clone(),
        task: Mutex::new(Some(Box::new(lift))),
    };
    let activation = Activation {
        interrupt: Arc::new(interrupt),
        ..rig.activation(rig.setups())
    };
    rig.device.activate(activation).expect("it starts");
}

#[test]
fn a_limit_that_is_lifted_before_the_sender_waits_wakes_it() {
    for without in RINGS {
        let group = group(1);
        let mut rig = within(1, None, Some(&group));
        start_lifting(&mut rig, without, &group);
        for seed in 0..5 {
            let piece = rig.memory.filled(&frame(60, seed));
            rig.queue(1).ring.add(&[piece]);
        }
        rig.queue(1).publish();
        assert_eq!(rig.networks[0].wait_sent(5).len(), 5);
    }
}

#[test]
fn a_limit_that_is_lifted_before_the_receiver_waits_wakes_it() {
    for without in RINGS {
        let group = group(1);
        let mut rig = within(1, Some(&group), None);
        start_lifting(&mut rig, without, &group);
        for seed in 0..5 {
            rig.networks[0].wire.inject(frame(60, seed));
        }
        rig.post(0, &[2048; 5]);
        assert_eq!(rig.receive(0, 5).len(), 5);
    }
}
