//! A device that has nothing to do costs nothing but memory, and of that little.

use net_device::{Features, NetConfig};
use tests::testbed::{RINGS, Rig, alone, body, frame, process};

type F = Features;

/// One frame each way and one command, to pass the time by events.
fn ping(rig: &mut Rig, seed: u64) {
    rig.send(0, &frame(60, seed));
    assert_eq!(rig.networks[0].wait_sent(1).len(), 1);
    rig.wait_used(1, 1);
    rig.post(0, &[256]);
    rig.networks[0].wire.inject(frame(60, seed));
    assert_eq!(body(&rig.receive(0, 1)[0]), body(&frame(60, seed)));
    assert_eq!(rig.command(0, 0, &[1]), 0);
}

fn with_id(id: &str, pairs: u16) -> Rig {
    Rig::new(NetConfig {
        id: id.to_owned(),
        ..Rig::config(pairs)
    })
}

/// Work that the workers of devices called `idle` did so far.
fn look() -> Vec<(u64, u64)> {
    let threads = process::threads_named("idle_");
    let cost = |thread: &process::Thread| (thread.sleeps(), thread.ticks());
    threads.iter().map(cost).collect()
}

/// A device of that name comes to rest while another one's traffic passes, and does nothing from
/// then on.
fn expect_rest(mut idle: Rig, clock: &mut Rig, without: Features) {
    idle.start(without);
    ping(&mut idle, 1);
    idle.post(0, &[256; 8]);
    ping(&mut idle, 2);
    // It is idle once it sleeps over some of the other one's rounds.
    let mut before = look();
    let mut quiet = 0;
    for round in 0..100_000 {
        ping(clock, round);
        let now = look();
        quiet = if now == before { quiet + 1 } else { 0 };
        before = now;
        if quiet == 20 {
            break;
        }
    }
    assert_eq!(quiet, 20, "it never comes to rest");
    assert_eq!(before.len(), 3);
    for round in 0..300 {
        ping(clock, round);
    }
    assert_eq!(look(), before, "sleeps and ticks of each worker");
    // It is not dead either.
    ping(&mut idle, 3);
}

#[test]
fn an_idle_device_makes_no_system_call() {
    alone(|| {
        let mut clock = with_id("clock", 1);
        clock.start(F::empty());
        for without in RINGS {
            expect_rest(with_id("idle", 2), &mut clock, without);
        }
    });
}

#[test]
fn a_device_that_looks_for_work_before_it_sleeps_comes_to_rest() {
    alone(|| {
        let mut clock = with_id("clock", 1);
        clock.start(F::empty());
        for without in RINGS {
            let idle = Rig::new(NetConfig {
                id: "idle".to_owned(),
                poll_us: 200,
                ..Rig::config(2)
            });
            expect_rest(idle, &mut clock, without);
        }
    });
}

#[test]
fn sixty_four_idle_devices_take_less_than_a_mebibyte_each() {
    alone(|| {
        const DEVICES: u64 = 64;
        // What is paid once: allocator, thread machinery, guest memory that all share.
        let mut first = with_id("first", 1);
        first.start(F::empty());
        ping(&mut first, 1);
        let before = process::rss_kib();
        let rigs: Vec<Rig> = (0..DEVICES)
            .map(|number| {
                let mut rig = with_id(&format!("d{number}"), 1);
                rig.memory = first.memory.clone();
                rig.start(F::empty());
                rig.post(0, &[256; 32]);
                rig
            })
            .collect();
        let each = process::rss_kib().saturating_sub(before) / DEVICES;
        println!("resident memory of an idle device with one pair: {each} KiB");
        assert!(each < 1024, "{each} KiB");
        drop(rigs);
    });
}
