//! Host work that a driver can cause outside the data path, and its bound: the hostile rows
//! `host_lock_hammer` and `log_hammer`.

use std::sync::Mutex;

use net_device::log_limit::LOG_BURST;
use net_device::net_queue::Offloads;
use net_device::rate_limiter::TokenBucketConfig;
use net_device::{Features, Layout, NetConfig, Snapshottable, VirtioDevice};
use net_queue::testing::{POISON, PackedFields};
use tests::testbed::{
    HOUR_MS, RINGS, Rig, all_caps, alone, body, bounded, break_ring, frame, pause, resume,
};

const OK: u8 = 0;
const ERR: u8 = 1;
/// Bits of GUEST_OFFLOADS_SET: UFO alone is switched on the link, since the device does all other
/// work itself that the driver does not take.
const CSUM: u64 = 1 << 1;
const UFO: u64 = CSUM | 1 << 10;

/// `count` host locks now, and as many again within `refill_ms`.
fn limited(pairs: u16, count: u64, refill_ms: u64) -> NetConfig {
    NetConfig {
        control_limit: Some(TokenBucketConfig {
            size: count,
            one_time_burst: None,
            refill_time: refill_ms,
        }),
        ..Rig::config(pairs)
    }
}

fn running(config: NetConfig, without: Features) -> Rig {
    let mut rig = Rig::new(config);
    rig.start(without);
    rig
}

fn set_offloads(rig: &mut Rig, mask: u64) -> u8 {
    rig.command(5, 0, &mask.to_le_bytes())
}

fn set_pairs(rig: &mut Rig, pairs: u16) -> u8 {
    rig.command(4, 0, &pairs.to_le_bytes())
}

/// Posts a command without waiting for its answer; returns where that will be.
fn post(rig: &mut Rig, bytes: &[u8]) -> u64 {
    let pieces = [rig.memory.filled(bytes), rig.memory.room(1)];
    let index = rig.control_index();
    rig.queue(index).post(&pieces);
    pieces[1].addr
}

/// Number of times that the link was told about queues and offloads.
fn requests(rig: &Rig) -> usize {
    let each =
        |network: &tests::testbed::Network| network.attachments().len() + network.offloads().len();
    rig.networks.iter().map(each).sum()
}

/// Waits until the control queue has met its limit; its worker may not have looked yet.
fn await_limit(rig: &Rig) {
    let counters = rig.device.handle();
    bounded("the control queue meets its limit", move || {
        while counters.stats().control.limited == 0 {
            std::thread::yield_now();
        }
    });
}

fn check_traffic(rig: &mut Rig, seed: u64) {
    rig.send(0, &frame(100, seed));
    let sent = rig.networks[0].wait_sent(1);
    assert_eq!(body(&sent[0]), body(&frame(100, seed)));
    rig.post(0, &[2048]);
    rig.networks[0].wire.inject(frame(90, seed));
    assert_eq!(body(&rig.receive(0, 1)[0]), body(&frame(90, seed)));
}

#[test]
fn host_lock_hammer_by_offloads_is_bounded_and_other_queues_go_on() {
    for without in RINGS {
        let mut rig = running(limited(1, 4, HOUR_MS), without);
        let before = requests(&rig);
        for mask in [0, UFO, CSUM, UFO] {
            assert_eq!(set_offloads(&mut rig, mask), OK);
        }
        let waiting: Vec<u64> = (0..10u64)
            .map(|round| {
                let mask = (round % 2) * UFO;
                post(&mut rig, &[&[5, 0][..], &mask.to_le_bytes()].concat())
            })
            .collect();
        check_traffic(&mut rig, 1);
        await_limit(&rig);
        pause(&mut rig);
        assert_eq!(requests(&rig) - before, 4);
        resume(&mut rig);
        check_traffic(&mut rig, 2);
        assert!(
            waiting
                .iter()
                .all(|ack| rig.memory.read(*ack, 1) == [POISON])
        );
        // Neither a stop nor a reset waits for it, and a reset brings no tokens.
        rig.device.reset();
        rig.start(without);
        post(&mut rig, &[&[5, 0][..], &0u64.to_le_bytes()].concat());
        check_traffic(&mut rig, 3);
        pause(&mut rig);
        assert_eq!(rig.networks[0].offloads().len(), 4);
        assert!(!rig.device.needs_reset());
    }
}

#[test]
fn host_lock_hammer_by_pairs_counts_every_queue_that_is_switched() {
    for without in RINGS {
        let mut rig = running(limited(4, 9, HOUR_MS), without);
        let before = requests(&rig);
        for pairs in [4, 1, 4] {
            assert_eq!(set_pairs(&mut rig, pairs), OK);
        }
        assert_eq!(requests(&rig) - before, 9);
        for pairs in [1u16, 4, 1, 4] {
            post(&mut rig, &[&[4, 0][..], &pairs.to_le_bytes()].concat());
        }
        check_traffic(&mut rig, 1);
        await_limit(&rig);
        pause(&mut rig);
        assert_eq!(requests(&rig) - before, 9);
    }
}

#[test]
fn host_lock_hammer_with_what_changes_nothing_costs_nothing() {
    for without in RINGS {
        let mut rig = running(limited(2, 2, HOUR_MS), without);
        assert_eq!(set_offloads(&mut rig, CSUM), OK);
        assert_eq!(set_pairs(&mut rig, 2), OK);
        let before = requests(&rig);
        let vlan = 5u16.to_le_bytes();
        for _ in 0..50 {
            assert_eq!(set_offloads(&mut rig, CSUM), OK);
            assert_eq!(set_pairs(&mut rig, 2), OK);
            assert_eq!(set_pairs(&mut rig, 3), ERR);
            assert_eq!(set_offloads(&mut rig, u64::MAX), ERR);
            assert_eq!(rig.command(0, 0, &[0]), OK, "not promiscuous, as before");
            assert_eq!(rig.command(2, 1, &vlan), OK, "no VLAN, as before");
            assert_eq!(rig.command(1, 0, &[0; 8]), OK, "no addresses, as before");
            assert_eq!(rig.command(1, 1, &tests::testbed::GUEST_MAC), OK);
            assert_eq!(rig.command(9, 9, &[]), ERR);
        }
        assert_eq!(requests(&rig), before);
        assert_eq!(rig.counter("ctrl_limited"), 0);
    }
}

#[test]
fn host_lock_hammer_by_filters_is_bounded_too() {
    for without in RINGS {
        let mut rig = running(limited(1, 1, HOUR_MS), without);
        for id in 1..11u16 {
            assert_eq!(rig.command(2, 0, &id.to_le_bytes()), OK);
        }
        let ack = post(&mut rig, &[2, 0, 11, 0]);
        check_traffic(&mut rig, 1);
        await_limit(&rig);
        pause(&mut rig);
        assert_eq!(rig.memory.read(ack, 1), [POISON]);
    }
}

#[test]
fn commands_that_waited_are_answered_in_order_and_each_takes_effect() {
    for without in RINGS {
        let mut rig = running(limited(1, 1, 5), without);
        let masks: Vec<u64> = (0..12).map(|round| (round % 2) * UFO).collect();
        for mask in &masks {
            post(&mut rig, &[&[5, 0][..], &mask.to_le_bytes()].concat());
        }
        let index = rig.control_index();
        let used = rig.wait_used(index, masks.len());
        assert!(used.iter().all(|used| used.len == 1));
        let expected: Vec<_> = masks
            .iter()
            .map(|mask| {
                if *mask == UFO {
                    all_caps().rx
                } else {
                    Offloads::DONE_HERE
                }
            })
            .collect();
        assert_eq!(rig.networks[0].offloads(), expected);
        assert!(rig.counter("ctrl_limited") > 0);
    }
}

#[test]
fn commands_that_wait_survive_a_move_to_another_device() {
    for without in RINGS {
        let mut rig = running(limited(1, 1, HOUR_MS), without);
        assert_eq!(set_offloads(&mut rig, 0), OK);
        let ack = post(&mut rig, &[&[5, 0][..], &UFO.to_le_bytes()].concat());
        check_traffic(&mut rig, 1);
        let mut next = running_copy(rig);
        let index = next.control_index();
        next.wait_used(index, 1);
        assert_eq!(next.memory.read(ack, 1), [OK]);
        assert_eq!(next.networks[0].offloads(), [all_caps().rx]);
        assert!(!next.device.needs_reset());
    }
}

/// The driver of `rig` on a device that was restored from what was saved of its own.
fn running_copy(mut rig: Rig) -> Rig {
    pause(&mut rig);
    let snapshot = rig.device.snapshot().expect("it is paused");
    let mut next = rig.move_to(Rig::new(Rig::config(1)));
    next.device.restore(snapshot).expect("it is such a device");
    next.activate();
    resume(&mut next);
    next
}

/// The lines of the whole process.
struct Lines(Mutex<Vec<String>>);

static LINES: Lines = Lines(Mutex::new(Vec::new()));

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = record.args().to_string();
        self.0.lock().expect("no line panicked").push(line);
    }

    fn flush(&self) {}
}

impl Lines {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().expect("no line panicked"))
    }
}

/// Breaks the transmit ring of pair 0, whatever its layout.
fn break_transmit(rig: &mut Rig) {
    let config = rig.queue(1).ring.config();
    if config.layout == Layout::Split {
        return break_ring(rig, 1);
    }
    // A chain that never ends: every slot is available, and none is the last.
    let fields = PackedFields::of(&config);
    for slot in 0..config.size {
        rig.memory.store(fields.desc_flags(slot), 0x81u16);
    }
    rig.queue(1).kick();
}

#[test]
fn log_hammer_by_rings_that_break_is_a_few_lines_and_a_count() {
    alone(|| {
        log::set_logger(&LINES).expect("no other test runs here");
        log::set_max_level(log::LevelFilter::Trace);
        for without in RINGS {
            let mut rig = Rig::new(Rig::config(1));
            let rounds = 60;
            for round in 1..=rounds {
                rig.start(without);
                break_transmit(&mut rig);
                rig.irq.wait_config(round);
                assert!(rig.device.needs_reset());
                rig.device.reset();
            }
            let lines = LINES.take();
            // Two levels, and a slow machine may be in here for several intervals.
            let most = 4 * LOG_BURST as usize;
            assert!(!lines.is_empty() && lines.len() <= most, "{lines:#?}");
            // Each round is an activation, a broken ring and a reset.
            let withheld = rig.counter("log_withheld") as usize;
            assert_eq!(withheld + lines.len(), 3 * rounds);
        }
    });
}

#[test]
fn log_hammer_by_a_link_that_refuses_is_a_few_lines_and_a_count() {
    alone(|| {
        log::set_logger(&LINES).expect("no other test runs here");
        log::set_max_level(log::LevelFilter::Trace);
        let mut rig = running(limited(2, 0, 0), Features::empty());
        rig.networks[1].set_refusing(true);
        for _ in 0..100 {
            assert_eq!(set_pairs(&mut rig, 2), ERR);
        }
        for _ in 0..100 {
            let cursor = rig.device.stop_queue(2).expect("it runs").expect("it ran");
            let setup = rig.queues[&2].setup_at(cursor);
            rig.device.start_queue(setup).expect("where it stood");
        }
        let lines = LINES.take();
        let told = |line: &String| line.contains("the host refused 2 queue pairs");
        assert!(lines.iter().any(told), "{lines:#?}");
        assert!(lines.len() <= 2 * LOG_BURST as usize, "{lines:#?}");
    });
}
