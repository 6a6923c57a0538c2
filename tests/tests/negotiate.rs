//! Features that are offered and accepted, and the configuration space that shows them.

use net_device::net_queue::{Caps, Offloads};
use net_device::{
    ActivateError, FeatureError, Features, MacAddr, NetConfig, QueueError, StartQueueError,
    VirtioDevice,
};
use net_queue::testing::Random;
use tests::testbed::{GUEST_MAC, Rig, all_caps, body, frame};

type F = Features;

/// The table of VirtIO 1.4 §5.1.3.1 and what else is needed for an effect: a bit, and any of these.
const NEEDS: [(u32, &[u32]); 34] = [
    (7, &[1]),
    (8, &[1]),
    (9, &[7, 8]),
    (10, &[1]),
    (11, &[0]),
    (12, &[0]),
    (13, &[11, 12]),
    (14, &[0]),
    (18, &[17]),
    (19, &[17]),
    (20, &[17]),
    (21, &[17]),
    (21, &[16]),
    (22, &[17]),
    (23, &[17]),
    (50, &[17]),
    (52, &[17]),
    (53, &[17]),
    (54, &[1]),
    (55, &[1]),
    (56, &[0]),
    (57, &[17]),
    (60, &[17]),
    (65, &[7]),
    (65, &[8]),
    (65, &[54]),
    (65, &[55]),
    (66, &[65]),
    (67, &[11]),
    (67, &[12]),
    (67, &[56]),
    (68, &[67]),
    (2, &[17]),
    (2, &[1]),
];

/// Those that a device may well accept alone: nothing comes of them.
const HARMLESS: [(u32, u32); 6] = [(20, 17), (50, 17), (57, 17), (21, 16), (2, 17), (2, 1)];

/// Every bit that this device may ever offer.
const KNOWN: [u32; 38] = [
    0, 1, 2, 3, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 28, 29, 32, 33,
    34, 35, 40, 50, 52, 53, 54, 55, 56, 57, 60, 63,
];

fn has(bits: u128, bit: u32) -> bool {
    bits >> bit & 1 == 1
}

fn violation(bits: u128) -> Option<(u32, &'static [u32])> {
    let unmet = |(bit, any): &(u32, &[u32])| has(bits, *bit) && !any.iter().any(|b| has(bits, *b));
    NEEDS.into_iter().find(unmet)
}

/// `bits` without what violates the table.
fn closed(mut bits: u128) -> u128 {
    while let Some((bit, _)) = violation(bits) {
        bits &= !(1 << bit);
    }
    bits
}

fn check_offer(rig: &Rig) {
    let offered = rig.device.features();
    let known: u128 = KNOWN.iter().map(|bit| 1 << bit).sum();
    assert_eq!(offered & !known, 0, "unknown bits in {offered:#x}");
    assert_eq!(violation(offered), None, "in {offered:#x}");
    assert!(has(offered, 32), "VERSION_1");
    assert_eq!(has(offered, 22), rig.device.config().queue_pairs > 1, "MQ");
    assert_eq!(
        has(offered, 33),
        rig.device.config().iommu,
        "ACCESS_PLATFORM"
    );
    let queues = rig.device.queue_max_sizes().len();
    let pairs = usize::from(rig.device.config().queue_pairs);
    assert_eq!(queues, 2 * pairs + usize::from(has(offered, 17)));
}

#[test]
fn offer_is_known_and_closed_for_every_backend_net_feat_01_03() {
    for tx in 0..1 << 7 {
        let caps = Caps {
            tx: Offloads::from_bits_truncate(tx),
            rx: Offloads::from_bits_truncate(tx.reverse_bits() >> 25),
            ..all_caps()
        };
        check_offer(&Rig::with_caps(NetConfig::default(), caps));
    }
}

#[test]
fn offer_is_known_and_closed_for_every_configuration_net_feat_01_03_05_10() {
    for disabled in (0..128).map(|bit| F::from_bits_truncate(1 << bit) & F::optional()) {
        for (pairs, iommu, hashes) in [
            (1, false, false),
            (1, true, true),
            (4, false, false),
            (4, false, true),
        ] {
            let config = NetConfig {
                mac: Some(GUEST_MAC.into()),
                mtu: Some(1500),
                speed_mbps: Some(10_000),
                queue_pairs: pairs,
                iommu,
                rss: hashes,
                hash_report: hashes,
                disabled,
                ..NetConfig::default()
            };
            if config.validate().is_ok() {
                let rig = Rig::new(config);
                check_offer(&rig);
                assert!((rig.offered() & disabled).is_empty());
                // Without what they need they are not there.
                let all = F::VIRTIO_NET_F_RSS | F::VIRTIO_NET_F_HASH_REPORT;
                let needed = F::VIRTIO_NET_F_CTRL_VQ | all;
                let expected = if hashes && !disabled.intersects(needed) {
                    all
                } else {
                    rig.offered() & (all - disabled)
                };
                assert_eq!(rig.offered() & all, expected);
            }
        }
    }
}

#[test]
fn any_closed_subset_is_accepted_and_moves_frames_net_feat_02() {
    let mut random = Random::new(7);
    for _ in 0..24 {
        let mut rig = Rig::new(Rig::config(2));
        let offered = rig.device.features();
        let subset = closed(offered & u128::from(random.next_u64())) | 1 << 32;
        println!("{subset:#x}");
        rig.device.ack_features(subset).expect("a closed subset");
        assert_eq!(rig.device.acked_features(), subset);
        rig.lay_out(64);
        rig.activate();
        rig.send(0, &frame(100, 1));
        assert_eq!(body(&rig.networks[0].wait_sent(1)[0]), body(&frame(100, 1)));
        rig.post(0, &[2048]);
        rig.networks[0].wire.inject(frame(200, 2));
        assert_eq!(body(&rig.receive(0, 1)[0]), body(&frame(200, 2)));
    }
}

#[test]
fn a_bit_that_was_never_offered_is_refused_net_feat_06() {
    let mut rig = Rig::new(Rig::config(1));
    let offered = rig.device.features();
    for bit in (0..128).filter(|bit| !has(offered, *bit)) {
        let refused = rig.device.ack_features(offered | 1 << bit);
        assert_eq!(refused, Err(FeatureError::NotOffered(1 << bit)));
        assert_eq!(rig.device.acked_features(), 0);
    }
    assert!(rig.device.ack_features(u128::MAX).is_err());
    rig.lay_out(64);
    let refused = rig.try_activate(rig.setups());
    assert!(
        matches!(refused, Err(ActivateError::NotNegotiated)),
        "{refused:?}"
    );
    // It went on to DRIVER_OK without FEATURES_OK, and has no other way to learn that it must not.
    assert!(rig.device.needs_reset());
    rig.irq.wait_config(1);
    rig.device.reset();
    // The driver may try again with a set that can be.
    rig.start(F::empty());
}

#[test]
fn a_bit_without_its_prerequisite_is_refused_net_feat_07() {
    let config = NetConfig {
        rss: true,
        hash_report: true,
        ..Rig::config(2)
    };
    let caps = Caps {
        tx: Offloads::all(),
        rx: Offloads::all(),
        ..all_caps()
    };
    let mut rig = Rig::with_caps(config, caps);
    let offered = rig.device.features();
    for (bit, any) in NEEDS {
        let without: u128 = any.iter().map(|bit| 1 << bit).sum();
        let mut set = offered & !without;
        // Everything else that now misses something is left out as well.
        while let Some((other, _)) = violation(set & !(1 << bit)) {
            set &= !(1 << other);
        }
        assert!(has(set, bit), "bit {bit} is offered");
        let answer = rig.device.ack_features(set);
        if HARMLESS.contains(&(bit, any[0])) {
            assert_eq!(answer, Ok(()), "bit {bit}");
        } else {
            let refused = matches!(answer, Err(FeatureError::MissingPrerequisite { .. }));
            assert!(refused, "bit {bit}: {answer:?}");
        }
    }
}

#[test]
fn a_legacy_driver_is_refused_net_feat_05() {
    let mut rig = Rig::new(Rig::config(1));
    let offered = rig.device.features();
    let refused = rig.device.ack_features(offered & !(1 << 32));
    assert_eq!(refused, Err(FeatureError::Mandatory(F::VIRTIO_F_VERSION_1)));
    rig.lay_out(64);
    assert!(rig.try_activate(rig.setups()).is_err());
}

#[test]
fn a_driver_that_reaches_around_the_iommu_is_refused_net_feat_11() {
    let config = NetConfig {
        iommu: true,
        ..Rig::config(1)
    };
    let mut rig = Rig::new(config);
    let offered = rig.device.features();
    assert!(rig.device.ack_features(offered & !(1 << 33)).is_err());
    assert!(rig.device.ack_features(offered).is_ok());
}

#[test]
fn features_do_not_change_while_the_device_runs_net_feat_08() {
    let mut rig = Rig::running(F::VIRTIO_NET_F_MRG_RXBUF);
    let accepted = rig.device.acked_features();
    for bits in [0, u128::MAX, rig.device.features()] {
        let _ = rig.device.ack_features(bits);
        assert_eq!(rig.device.acked_features(), accepted);
    }
    // Still one buffer for one frame.
    rig.post(0, &[200, 200, 2048]);
    rig.networks[0].wire.inject(frame(500, 1));
    rig.networks[0].wire.inject(frame(100, 2));
    let seen = rig.receive(0, 1);
    assert_eq!(body(&seen[0]), body(&frame(100, 2)));
    assert_eq!(rig.counter("rx_drop_no_room"), 1);
}

#[test]
fn a_set_is_accepted_again_after_every_reset_net_feat_04() {
    let mut rig = Rig::new(Rig::config(1));
    for round in 0..100 {
        let set = closed(rig.device.features() & !(1 << 15));
        assert_eq!(rig.device.ack_features(set), Ok(()), "round {round}");
        if round % 10 == 0 {
            rig.lay_out(16);
            rig.activate();
        }
        rig.device.reset();
        assert_eq!(rig.device.acked_features(), 0);
    }
}

#[test]
fn what_was_not_negotiated_does_not_exist_net_feat_13() {
    let mut rig = Rig::new(Rig::config(1));
    let minimal = F::VIRTIO_F_VERSION_1 | F::VIRTIO_NET_F_MAC;
    rig.device.ack_features(minimal.bits()).expect("a subset");
    rig.lay_out(64);
    rig.activate();
    // Somebody else's frame passes: there is no filter. There is no control queue either.
    rig.post(0, &[2048]);
    let foreign = tests::testbed::frame_to([2, 9, 9, 9, 9, 9], 100, 1);
    rig.networks[0].wire.inject(foreign.clone());
    let seen = rig.receive(0, 1);
    assert_eq!(body(&seen[0]), body(&foreign));
    assert_eq!(seen[0][10..12], [1, 0], "num_buffers (NET-RX-01)");
    let control = tests::testbed::Queue::new(&rig.memory, 2, rig.ring_config(16));
    let refused = rig.device.start_queue(control.setup());
    assert!(
        matches!(refused, Err(StartQueueError::Queue(QueueError::Index(2)))),
        "{refused:?}"
    );
}

fn full_config() -> NetConfig {
    NetConfig {
        mtu: Some(9000),
        speed_mbps: Some(25_000),
        ..Rig::config(3)
    }
}

#[test]
fn the_configuration_space_shows_what_was_configured_net_cfg_01_03_04_05_06_07_13() {
    let rig = Rig::new(full_config());
    assert_eq!(rig.read::<6>(0), GUEST_MAC);
    assert_eq!(rig.status(), 1);
    assert_eq!(u16::from_le_bytes(rig.read(8)), 3);
    assert_eq!(u16::from_le_bytes(rig.read(10)), 9000);
    assert_eq!(u32::from_le_bytes(rig.read(12)), 25_000);
    assert_eq!(rig.read(16), [1], "full duplex");
    assert_eq!(rig.read(17), [0; 11]);
    let mtu_only = Rig::new(NetConfig {
        mtu: Some(1400),
        ..NetConfig::default()
    });
    assert_eq!(u16::from_le_bytes(mtu_only.read(10)), 1400);
}

#[test]
fn register_fuzz_reads_are_slices_and_zero_beyond_net_cfg_16() {
    let rig = Rig::new(full_config());
    let whole: [u8; 64] = rig.read(0);
    assert_eq!(whole[28..], [0; 36]);
    let mut random = Random::new(3);
    for _ in 0..20_000 {
        let offset = match random.below(4) {
            0 => random.next_u64(),
            1 => u64::MAX - random.below(64),
            2 => u64::from(u32::MAX) + 1 - random.below(64),
            _ => random.below(64),
        };
        let mut data = vec![0xaa; random.below(70) as usize];
        rig.device.read_config(offset, &mut data);
        for (at, byte) in data.iter().enumerate() {
            let place = offset
                .checked_add(at as u64)
                .and_then(|at| usize::try_from(at).ok());
            let expected = place.and_then(|at| whole.get(at)).copied().unwrap_or(0);
            assert_eq!(*byte, expected, "offset {offset:#x} + {at}");
        }
    }
}

#[test]
fn writes_to_the_configuration_space_are_ignored_net_cfg_02() {
    let mut rig = Rig::new(full_config());
    let (before, generation): ([u8; 28], u32) = (rig.read(0), rig.device.config_generation());
    for offset in (0..40).chain([u64::MAX - 3, u64::MAX]) {
        rig.device.write_config(offset, &[0xff; 64]);
    }
    rig.device.write_config(0, &[]);
    assert_eq!(rig.read::<28>(0), before);
    assert_eq!(rig.device.config_generation(), generation);
}

#[test]
fn the_generation_changes_with_the_space_and_only_then_dev_life_08_09() {
    let mut rig = Rig::running(F::empty());
    let mut last = rig.device.config_generation();
    assert_eq!(rig.device.config_generation(), last);
    rig.device.set_link(true);
    assert_eq!(rig.device.config_generation(), last, "it was up already");
    assert_eq!(rig.irq.config(), 0);
    for change in 1..=300 {
        rig.device.set_link(change % 2 == 0);
        assert_ne!(rig.device.config_generation(), last);
        last = rig.device.config_generation();
        assert_eq!(rig.irq.config(), change, "one interrupt each (NET-CFG-15)");
        assert_eq!(rig.status() & 1 == 1, change % 2 == 0);
    }
}

#[test]
fn the_mac_address_is_the_configured_one_again_after_reset_dev_life_07() {
    let mut rig = Rig::running(F::empty());
    assert_eq!(rig.command(1, 1, &[2, 0, 0, 0, 0, 9]), 0);
    assert_eq!(rig.read::<6>(0), [2, 0, 0, 0, 0, 9]);
    rig.device.reset();
    assert_eq!(MacAddr::from(rig.read::<6>(0)), GUEST_MAC.into());
}
