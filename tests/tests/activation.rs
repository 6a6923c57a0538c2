//! Answers that a driver and a VMM get around an activation: features in words, failures, the
//! configuration's generation.

use std::sync::Arc;

use net_device::net_queue::{Access, TranslateError};
use net_device::{
    AccessPlatform, ActivateError, FeatureError, FeatureWords, Features, NetConfig, Snapshottable,
    StartQueueError, VirtioDevice,
};
use snapshot::{NetState, Snapshot};
use tests::testbed::{RINGS, Rig, body, chain, frame, pause, resume};

type F = Features;

fn behind_iommu() -> Rig {
    let config = NetConfig {
        iommu: true,
        ..Rig::config(1)
    };
    Rig::new(config)
}

/// Addresses that the guest sees are those of its memory.
#[derive(Debug)]
struct Identity;

impl AccessPlatform for Identity {
    fn translate(&self, iova: u64, len: u64, _: Access) -> Result<(u64, u64), TranslateError> {
        Ok((iova, len))
    }
}

#[test]
fn untranslated_addresses_are_not_used_net_feat_11() {
    for without in RINGS {
        let mut rig = behind_iommu();
        rig.negotiate(without);
        rig.lay_out(16);
        let refused = rig.try_activate(rig.setups());
        assert!(
            matches!(refused, Err(ActivateError::NoPlatform)),
            "{refused:?}"
        );
        assert!(rig.device.needs_reset());
        rig.irq.wait_config(1);
        rig.device.reset();
        rig.device.set_access_platform(Arc::new(Identity));
        rig.negotiate(without);
        rig.lay_out(16);
        rig.activate();
        rig.send(0, &frame(60, 1));
        assert_eq!(rig.networks[0].wait_sent(1).len(), 1);
    }
}

#[test]
fn a_driver_whose_activation_failed_is_told_and_resets_dev_life_04_05() {
    for without in RINGS {
        let mut rig = Rig::new(Rig::config(1));
        for round in 1..4 {
            rig.negotiate(without);
            rig.lay_out(16);
            let mut setups = rig.setups();
            setups[1].addrs.desc = !15;
            assert!(rig.try_activate(setups).is_err());
            assert!(rig.device.needs_reset());
            assert_eq!(rig.irq.config(), round, "told once each time");
            // It is not activated, and a reset is what it waits for.
            let again = rig.try_activate(rig.setups());
            assert!(matches!(again, Err(ActivateError::NeedsReset)), "{again:?}");
            assert_eq!(rig.irq.config(), round);
            let queue = rig.device.start_queue(rig.queues[&1].setup());
            assert!(matches!(queue, Err(StartQueueError::State(_))), "{queue:?}");
            pause(&mut rig);
            resume(&mut rig);
            assert!(rig.device.needs_reset());
            // It moves as it is.
            let snapshot = rig.device.snapshot().expect("nothing runs");
            let mut next = Rig::new(Rig::config(1));
            next.device.restore(snapshot).expect("the same device");
            assert!(next.device.needs_reset());
            next.lay_out(16);
            let again = next.try_activate(next.setups());
            assert!(matches!(again, Err(ActivateError::NeedsReset)), "{again:?}");
            next.device.reset();
            next.start(without);
            rig.device.reset();
            assert!(!rig.device.needs_reset());
        }
        rig.queues.clear();
        rig.start(without);
        rig.send(0, &frame(60, 1));
        assert_eq!(rig.networks[0].wait_sent(1).len(), 1);
    }
}

#[test]
fn a_call_at_the_wrong_time_is_not_the_drivers_failure() {
    let mut rig = Rig::new(Rig::config(1));
    rig.start(F::empty());
    let again = rig.try_activate(rig.setups());
    assert!(matches!(again, Err(ActivateError::State(_))), "{again:?}");
    assert!(!rig.device.needs_reset(), "that was the VMM's fault");
    assert_eq!(rig.irq.config(), 0);
}

#[test]
fn features_in_words_make_one_set_net_feat_02() {
    for high_first in [false, true] {
        let mut rig = Rig::new(Rig::config(1));
        let offered = rig.device.features();
        let mut words = FeatureWords::default();
        let order = if high_first {
            [3, 2, 1, 0]
        } else {
            [0, 1, 2, 3]
        };
        for select in order {
            words.write(select, 0xffff_ffff);
            words.write(select, FeatureWords::word(offered, select));
            assert_eq!(words.read(select), FeatureWords::word(offered, select));
        }
        for select in [4, 5, u32::MAX] {
            assert_eq!(FeatureWords::word(u128::MAX, select), 0);
            words.write(select, 0);
        }
        let set = words.bits().expect("nothing beyond");
        assert_eq!(set, offered);
        rig.device.ack_features(set).expect("it is what is offered");
        rig.lay_out(16);
        rig.activate();
        rig.send(0, &frame(60, 1));
        assert_eq!(body(&rig.networks[0].wait_sent(1)[0]), body(&frame(60, 1)));
    }
    // Half a set is not a set, nor is one that goes beyond.
    let mut rig = Rig::new(Rig::config(1));
    let mut words = FeatureWords::default();
    words.write(0, FeatureWords::word(rig.device.features(), 0));
    let half = rig.device.ack_features(words.bits().expect("a number"));
    assert_eq!(half, Err(FeatureError::Mandatory(F::VIRTIO_F_VERSION_1)));
    for select in [4, 5, u32::MAX] {
        let mut words = words;
        words.write(select, 1);
        assert_eq!(words.bits(), Err(FeatureError::Beyond));
    }
    words.write(3, 1 << 31);
    let beyond = rig.device.ack_features(words.bits().expect("a number"));
    assert_eq!(beyond, Err(FeatureError::NotOffered(1 << 127)));
}

/// A field that a driver cannot have set without the feature.
type Excluded = (&'static str, F, fn(&mut NetState));

const EXCLUDED: &[Excluded] = &[
    (
        "announce_pending",
        F::VIRTIO_NET_F_GUEST_ANNOUNCE,
        |state| {
            state.announce_pending = true;
        },
    ),
    ("announce_pending", F::VIRTIO_NET_F_STATUS, |state| {
        state.announce_pending = true;
    }),
    ("control.rx_modes", F::VIRTIO_NET_F_CTRL_RX, |state| {
        state.control.rx_modes = 1;
    }),
    ("control.rx_modes", F::VIRTIO_NET_F_CTRL_RX_EXTRA, |state| {
        state.control.rx_modes = 1 << 4;
    }),
    ("control.unicast", F::VIRTIO_NET_F_CTRL_RX, |state| {
        state.control.unicast.push([2, 0, 0, 0, 0, 9]);
    }),
    ("control.multicast", F::VIRTIO_NET_F_CTRL_RX, |state| {
        state.control.multicast_overflow = true;
    }),
    ("control.vlans", F::VIRTIO_NET_F_CTRL_VLAN, |state| {
        state.control.vlans[63] = 1 << 63;
    }),
    ("control.rx_notf_coal", F::VIRTIO_NET_F_NOTF_COAL, |state| {
        state.control.rx_notf_coal.max_packets = 1
    }),
    ("control.tx_notf_coal", F::VIRTIO_NET_F_NOTF_COAL, |state| {
        state.control.tx_notf_coal.max_usecs = 1
    }),
    ("active_pairs", F::VIRTIO_NET_F_MQ, |state| {
        state.active_pairs = 1;
    }),
];

#[test]
fn what_the_accepted_features_exclude_is_not_restored() {
    for (name, without, change) in EXCLUDED {
        for rings in RINGS {
            let mut rig = Rig::running(*without | rings);
            pause(&mut rig);
            let snapshot = rig.device.snapshot().expect("it is paused");
            let mut state = snapshot.open().expect("it was just sealed");
            change(&mut state);
            let snapshot = Snapshot::seal(&state).expect("no list is too long");
            let mut next = Rig::new(Rig::config(1));
            let refused = next.device.restore(snapshot).expect_err(name);
            assert!(chain(&refused).contains(name), "{}", chain(&refused));
            assert!(!next.device.needs_reset());
            next.start(rings);
        }
    }
}

#[test]
fn an_announcement_ends_with_the_feature_that_it_needs() {
    let mut rig = Rig::new(Rig::config(1));
    rig.negotiate(F::empty());
    rig.device.announce();
    assert_eq!(rig.status(), 3);
    rig.negotiate(F::VIRTIO_NET_F_GUEST_ANNOUNCE);
    assert_eq!(rig.status(), 1);
    let snapshot = rig.device.snapshot().expect("nothing runs");
    let mut next = Rig::new(Rig::config(1));
    next.device.restore(snapshot).expect("its own state");
}

#[test]
fn the_generation_never_comes_back_for_a_reader_of_eight_bits_dev_life_08() {
    for changes in [1, 2, 255, 256, 257, 512, 65536] {
        let mut rig = Rig::new(Rig::config(1));
        let before = rig.device.config_generation() as u8;
        for change in 0..changes {
            rig.device.set_link(change % 2 == 1);
        }
        let after = rig.device.config_generation() as u8;
        assert_ne!(before, after, "{changes} changes");
        assert_eq!(after, rig.device.config_generation() as u8, "DEV-LIFE-09");
        // The same for one that began to read before the device moved.
        let snapshot = rig.device.snapshot().expect("nothing runs");
        let mut next = Rig::new(Rig::config(1));
        next.device.restore(snapshot).expect("the same device");
        for change in 0..changes {
            next.device.set_link(change % 2 == 1);
        }
        assert_ne!(after, next.device.config_generation() as u8, "{changes}");
    }
}

#[test]
fn one_pair_is_fed_before_the_control_queue_runs_net_mq_01() {
    for without in RINGS {
        let mut rig = Rig::new(Rig::config(3));
        rig.negotiate(without);
        rig.lay_out(16);
        let control = rig.queues.remove(&6).expect("it was laid out");
        rig.activate();
        let attached = |rig: &Rig| rig.networks.iter().map(|port| port.is_attached()).collect();
        let fed: Vec<bool> = attached(&rig);
        assert_eq!(fed, [true, false, false]);
        rig.device
            .start_queue(control.setup())
            .expect("it can be used");
        let fed: Vec<bool> = attached(&rig);
        assert_eq!(fed, [true, false, false]);
        rig.queues.insert(6, control);
        assert_eq!(rig.command(4, 0, &[3, 0]), 0);
        let fed: Vec<bool> = attached(&rig);
        assert_eq!(fed, [true; 3]);
        // What the driver asked for stays when its queue stops.
        rig.device.stop_queue(6).expect("it runs");
        let fed: Vec<bool> = attached(&rig);
        assert_eq!(fed, [true; 3]);
    }
}

#[test]
fn a_list_of_addresses_beyond_any_table_lets_all_pass_net_cvq_14() {
    for without in RINGS {
        let mut rig = Rig::running(without);
        let mut data = Vec::new();
        for count in [3000u32, 5000] {
            data.extend(count.to_le_bytes());
            data.extend((0..count).flat_map(|n| [2, 1, 0, 0, (n >> 8) as u8, n as u8]));
        }
        assert_eq!(rig.command(1, 0, &data), 0);
        for to in [[2, 9, 9, 9, 9, 9], [1, 0, 0x5e, 9, 9, 9]] {
            let other = tests::testbed::frame_to(to, 60, 1);
            assert_eq!(rig.sees(&[other]).len(), 1, "{to:?}");
        }
    }
}
