//! States that are none of this device: each is refused by name, or does no harm.

use net_device::net_queue::{Caps, Offloads};
use net_device::{Features, NetConfig, Snapshottable, VirtioDevice};
use net_queue::testing::Random;
use snapshot::state::{
    BucketState, LimiterState, NetState, NotfCoalState, QueueLayout, QueueState, RssState,
    StoppedQueueState,
};
use snapshot::{MigrateError, Snapshot};
use tests::testbed::{RINGS, Rig, all_caps, bounded, chain, pause, reseal, resume};

use crate::{F, OTHER, alike, exchange, file, frames, restore, restore_state, running, state};

/// A configuration in which every field of a state counts.
fn config() -> NetConfig {
    NetConfig {
        mtu: Some(1500),
        tx_limit: frames(1_000_000),
        rx_limit: frames(1_000_000),
        ..Rig::config(2)
    }
}

/// A guest whose device is paused in the middle of something.
fn paused(without: Features) -> Rig {
    let mut rig = Rig::new(config());
    rig.start(without);
    exchange(&mut rig, 10, 0);
    rig.post(0, &[2048; 5]);
    pause(&mut rig);
    rig
}

fn state_of(without: Features) -> NetState {
    state(&mut paused(without))
}

type Change = fn(&mut NetState);

fn turned(layout: QueueLayout) -> QueueLayout {
    match layout {
        QueueLayout::Split => QueueLayout::Packed,
        QueueLayout::Packed => QueueLayout::Split,
    }
}

const NOTF_COAL: NotfCoalState = NotfCoalState {
    max_packets: 1,
    max_usecs: 0,
};

fn stopped(s: &mut NetState, index: u16) {
    s.stopped_queues.push(StoppedQueueState {
        index,
        notf_coal: NOTF_COAL,
    });
}

/// Values that no state of the device has, by the name that the refusal gives.
const REFUSED: &[(&str, Change)] = &[
    ("features_acked", |s| s.features_acked |= 1 << 58),
    ("features_acked", |s| s.features_acked |= 1 << 33),
    ("features_acked", |s| s.features_acked &= !(1 << 32)),
    ("features_acked", |s| s.features_acked &= !1),
    ("features_acked", |s| s.features_acked = 0),
    ("features_acked", |s| s.features_acked = u64::MAX),
    ("guest_offloads", |s| s.guest_offloads |= 1 << 2),
    ("guest_offloads", |s| s.guest_offloads = 1 << 7),
    ("guest_offloads", |s| s.guest_offloads = u64::MAX),
    ("config.mac", |s| s.config.mac = [0; 6]),
    ("config.mac", |s| s.config.mac[0] |= 1),
    ("config.max_virtqueue_pairs", |s| {
        s.config.max_virtqueue_pairs = 0
    }),
    ("config.max_virtqueue_pairs", |s| {
        s.config.max_virtqueue_pairs = 1
    }),
    ("config.max_virtqueue_pairs", |s| {
        s.config.max_virtqueue_pairs = u16::MAX
    }),
    ("config.mtu", |s| s.config.mtu = 9000),
    ("active_pairs", |s| s.active_pairs = 3),
    ("active_pairs", |s| s.active_pairs = u16::MAX),
    ("active_pairs", |s| {
        s.features_acked &= !(1 << 22);
        s.active_pairs = 1;
    }),
    ("control.rx_modes", |s| s.control.rx_modes = 1 << 6),
    ("control.rx_modes", |s| s.control.rx_modes = 0xff),
    ("control.unicast", |s| {
        s.control.unicast = vec![OTHER; 65].into()
    }),
    ("control.unicast", |s| {
        s.control.unicast = vec![OTHER; 1024].into()
    }),
    ("control.multicast", |s| {
        s.control.multicast = vec![OTHER; 65].into()
    }),
    ("control.vlans", |s| s.control.vlans.clear()),
    ("control.vlans", |s| s.control.vlans.truncate(63)),
    ("control.rss", |s| s.control.rss = Some(RssState::default())),
    ("control.hash_tunnel_types", |s| {
        s.control.hash_tunnel_types = 1
    }),
    ("queues", |s| s.activated = false),
    ("queues.index", |s| s.queues[0].index = 5),
    ("queues.index", |s| s.queues[0].index = u16::MAX),
    ("queues.index", |s| s.queues[0].index = s.queues[1].index),
    ("queues.index", |s| {
        s.queues = vec![s.queues[0].clone(); 513].into()
    }),
    ("queues.size", |s| s.queues[1].size = 0),
    ("queues.size", |s| s.queues[1].size = 257),
    ("queues.size", |s| s.queues[1].size = u16::MAX),
    ("queues.layout", |s| {
        s.queues[4].layout = turned(s.queues[4].layout)
    }),
    ("queues.event_idx", |s| s.queues[0].event_idx ^= true),
    ("queues.ready", |s| s.queues[0].ready = false),
    ("queues.in_flight", |s| s.queues[0].in_flight.push(3)),
    ("queues.notf_coal", |s| {
        // The control queue.
        let last = s.queues.last_mut().expect("queues");
        last.notf_coal = NOTF_COAL;
    }),
    ("features_acked", |s| s.features_acked_high = 1),
    ("features_acked", |s| s.features_acked_high = u64::MAX),
    ("stopped_queues", |s| stopped(s, 4)),
    ("stopped_queues", |s| stopped(s, u16::MAX)),
    ("stopped_queues.index", |s| stopped(s, s.queues[1].index)),
    ("stopped_queues.index", |s| {
        s.queues.remove(0);
        stopped(s, 0);
        stopped(s, 0);
    }),
    ("suspended", |s| s.suspended = true),
    ("limiters.queue", |s| s.limiters[0].queue = 4),
    ("limiters.queue", |s| s.limiters[0].queue = u16::MAX),
];

#[test]
fn load_mutated_state_is_refused_by_name_and_changes_nothing() {
    for without in RINGS {
        let good = state_of(without);
        let mut next = Rig::new(config());
        let untouched = file(&mut next);
        for (name, change) in REFUSED {
            let mut bad = good.clone();
            change(&mut bad);
            let refused = restore_state(&mut next, &bad).expect_err(name);
            let said = chain(&refused);
            assert!(said.contains(name), "{name}: {said}");
            assert!(file(&mut next) == untouched, "{name} changed something");
        }
        next.start(without);
        exchange(&mut next, 3, 0);
    }
}

fn levels(queue: u16, bucket: BucketState) -> LimiterState {
    LimiterState {
        queue,
        bandwidth: Some(bucket),
        ops: Some(bucket),
        peak_bandwidth: Some(bucket),
    }
}

fn all_levels(s: &mut NetState, bucket: BucketState) {
    s.limiters = (0..4).map(|queue| levels(queue, bucket)).collect();
}

const LOWEST: BucketState = BucketState {
    tokens: i64::MIN,
    fraction: 0,
    one_time_burst: 0,
};
const HIGHEST: BucketState = BucketState {
    tokens: i64::MAX,
    fraction: u64::MAX,
    one_time_burst: u64::MAX,
};

fn each(s: &mut NetState, change: impl FnMut(&mut QueueState)) {
    s.queues.iter_mut().for_each(change);
}

/// Values that could be a state of the device, or what is only known to be none when its rings are
/// looked at.
const HARMLESS: &[(&str, Change)] = &[
    ("nothing", |_| {}),
    ("another id", |s| s.id = "another".into()),
    ("offer", |s| s.features_offered = !s.features_offered),
    ("high offer", |s| s.features_offered_high = u64::MAX),
    ("status", |s| s.config.status = 0xffff),
    ("speed", |s| s.config.speed = u32::MAX),
    ("generation", |s| s.config.generation = u32::MAX),
    ("mac", |s| s.config.mac = OTHER),
    ("sizes", |s| s.queue_sizes = vec![0, 1, 0xffff].into()),
    ("running", |s| s.paused = false),
    ("failed", |s| s.needs_reset = true),
    ("announce", |s| s.announce_pending ^= true),
    ("pairs", |s| s.active_pairs = 2),
    ("no offloads", |s| s.guest_offloads = 0),
    ("fewer features", |s| {
        s.features_acked &= !(1 << 19 | 1 << 20 | 1 << 3);
    }),
    ("modes", |s| s.control.rx_modes = 0x3f),
    ("tables", |s| {
        s.control.unicast = vec![[0xff; 6]; 64].into();
        s.control.multicast = vec![[0; 6]; 64].into();
        s.control.vlans = vec![u64::MAX; 64].into();
    }),
    ("overflow", |s| s.control.unicast_overflow = true),
    ("most sizes", |s| each(s, |q| q.max_size = 0xffff)),
    ("shorter rings", |s| each(s, |q| q.size /= 2)),
    ("longer rings", |s| each(s, |q| q.size *= 2)),
    ("odd rings", |s| each(s, |q| q.size = 63)),
    ("no rings", |s| s.queues.clear()),
    ("a stopped queue", |s| {
        s.queues.remove(0);
        stopped(s, 0);
    }),
    ("rings swapped", |s| {
        let first = s.queues[0].index;
        s.queues[0].index = s.queues[1].index;
        s.queues[1].index = first;
    }),
    ("descriptors", |s| each(s, |q| q.desc_addr ^= 0x1000)),
    ("driver", |s| each(s, |q| q.driver_addr = u64::MAX)),
    ("device", |s| each(s, |q| q.device_addr = 0)),
    ("avail ahead", |s| {
        each(s, |q| q.avail = q.avail.wrapping_add(1))
    }),
    ("avail far", |s| {
        each(s, |q| q.avail = q.avail.wrapping_add(1000))
    }),
    ("avail behind", |s| {
        each(s, |q| q.avail = q.avail.wrapping_sub(1))
    }),
    ("avail last", |s| each(s, |q| q.avail = u16::MAX)),
    ("avail end", |s| each(s, |q| q.avail = q.size)),
    ("used ahead", |s| {
        each(s, |q| q.used = q.used.map(|used| used.wrapping_add(1)));
    }),
    ("used behind", |s| {
        each(s, |q| q.used = q.used.map(|used| used.wrapping_sub(3)));
    }),
    ("used last", |s| each(s, |q| q.used = Some(u16::MAX))),
    ("used unknown", |s| each(s, |q| q.used = None)),
    ("both elsewhere", |s| {
        each(s, |q| (q.avail, q.used) = (17, Some(17)));
    }),
    ("avail wrap", |s| each(s, |q| q.avail_wrap ^= true)),
    ("used wrap", |s| each(s, |q| q.used_wrap ^= true)),
    ("wraps", |s| {
        each(s, |q| {
            q.avail_wrap ^= true;
            q.used_wrap ^= true;
        });
    }),
    ("no limits", |s| s.limiters.clear()),
    ("a limit twice", |s| s.limiters.extend_from_within(..)),
    ("deepest debt", |s| all_levels(s, LOWEST)),
    ("most tokens", |s| all_levels(s, HIGHEST)),
];

/// Lets the guest of `from` go on in `next`, which took a state for its own, as far as that goes.
/// Afterwards the next driver finds a device as good as new.
fn live(name: &str, from: Rig, next: Rig, without: Features) {
    let mut rig = from.move_to(next);
    match rig.try_activate(rig.setups()) {
        Err(error) => println!("{name}: {}", chain(&error)),
        Ok(()) => {
            assert_eq!(rig.networks[0].wire.take_sent().len(), 0, "{name}: paused");
            rig.networks[0].wire.inject(tests::testbed::frame(60, 1));
            resume(&mut rig);
            let mut device = rig.device.into_inner();
            let device = bounded(name, move || {
                device.pause().expect("the workers are alive");
                device.snapshot().expect("it is paused");
                device.resume().expect("the workers are alive");
                device
            });
            rig.device = device.into();
        }
    }
    rig.device.reset();
    assert!(!rig.device.needs_reset(), "{name}");
    rig.queues.clear();
    rig.start(without);
    if !name.contains("debt") {
        // The limit is the operator's, and survives a reset with what was left of it.
        let _ = rig.networks[0].wire.take_sent();
        rig.send(0, &tests::testbed::frame(60, 1));
        assert_eq!(rig.networks[0].wait_sent(1).len(), 1, "{name}");
        assert_eq!(rig.command(0, 0, &[1]), 0, "{name}");
    }
}

#[test]
fn load_mutated_state_that_is_not_refused_does_no_harm() {
    for without in RINGS {
        for (name, change) in HARMLESS {
            let mut from = paused(without);
            let mut bad = state(&mut from);
            change(&mut bad);
            let mut next = Rig::new(config());
            if let Err(error) = restore_state(&mut next, &bad) {
                panic!("{name}: {}", chain(&error));
            }
            live(name, from, next, without);
        }
    }
}

#[test]
fn a_device_that_offers_less_refuses() {
    let mut rig = running(1, F::empty());
    pause(&mut rig);
    let file = file(&mut rig);
    let caps = Caps {
        rx: Offloads::CSUM,
        ..all_caps()
    };
    let disabled = NetConfig {
        disabled: F::VIRTIO_F_EVENT_IDX,
        ..Rig::config(1)
    };
    let translated = NetConfig {
        iommu: true,
        ..Rig::config(1)
    };
    let nexts = [
        Rig::with_caps(Rig::config(1), caps),
        Rig::new(disabled),
        Rig::new(translated),
    ];
    for mut next in nexts {
        let refused = restore(&mut next, &file).expect_err("it offers less");
        let said = chain(&refused);
        assert!(said.contains("features_acked"), "{said}");
        assert_eq!(next.device.acked_features(), 0);
    }
}

#[test]
fn an_active_device_refuses_and_goes_on() {
    let mut from = running(1, F::empty());
    pause(&mut from);
    let file = file(&mut from);
    let mut rig = running(1, F::empty());
    for is_paused in [false, true] {
        if is_paused {
            pause(&mut rig);
        }
        let refused = restore(&mut rig, &file).expect_err("it is active");
        assert!(chain(&refused).contains("active"), "{}", chain(&refused));
    }
    resume(&mut rig);
    exchange(&mut rig, 3, 0);
    rig.device.reset();
    restore(&mut rig, &file).expect("it is not active now");
}

#[test]
fn damaged_files_are_refused_and_the_device_stays_as_it_is() {
    let good = file(&mut paused(F::empty()));
    let mut next = Rig::new(config());
    let untouched = file(&mut next);
    let mut refused = |file: &[u8], name: &str| {
        let error = restore(&mut next, file).expect_err(name);
        let said = chain(&error);
        assert!(said.contains(name), "{name}: {said}");
    };
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        refused(&bad, "");
        refused(&good[..at], "");
    }
    for (at, name) in [(0, "magic"), (8, "architecture"), (11, "release")] {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        bad = reseal(bad);
        refused(&bad, name);
    }
    let mut longer = good.clone();
    longer.push(0);
    let error = Snapshot::from_bytes(longer.clone()).expect_err("something follows");
    assert!(error.to_string().contains("length"), "{error}");
    longer = reseal(longer);
    refused(&longer, "payload");
    assert!(file(&mut next) == untouched);
    restore(&mut next, &good).expect("nothing is wrong with it");
}

#[test]
fn a_snapshot_that_was_not_checked_when_it_came_is_checked_now() {
    let snapshot = crate::taken(&mut paused(F::empty()));
    let text = serde_json::to_string(&snapshot).expect("it can be written");
    let mut value: serde_json::Value = serde_json::from_str(&text).expect("it was written");
    value["bytes"][30] = serde_json::json!(255);
    let damaged: Snapshot = serde_json::from_value(value).expect("they are bytes");
    let mut next = Rig::new(config());
    let refused = next.device.restore(damaged).expect_err("it is damaged");
    assert!(matches!(refused, MigrateError::Restore(_)));
    assert!(chain(&refused).contains("checksum"), "{}", chain(&refused));
    next.device.restore(snapshot).expect("this is not");
}

#[test]
fn bytes_changed_under_a_good_checksum_do_no_harm() {
    for without in [F::empty(), F::VIRTIO_F_RING_PACKED] {
        let mut rig = paused(without);
        let good = file(&mut rig);
        let mut next = alike(&rig, &good);
        next.device.reset();
        let mut random = Random::new(11);
        for at in 20..good.len() {
            let mut bad = good.clone();
            bad[at] ^= random.bytes(1)[0] | 1;
            bad = reseal(bad);
            if restore(&mut next, &bad).is_err() {
                continue;
            }
            // The guest is the same each time; the device never gets to run over its rings.
            next.memory = rig.memory.clone();
            let activated = next.try_activate(rig.setups());
            if let Err(error) = activated {
                println!("byte {at}: {}", chain(&error));
            }
            next.device.pause().expect("nothing is lost");
            next.device.snapshot().expect("it is paused");
            next.device.reset();
        }
        next.queues.clear();
        next.start(without);
    }
}
