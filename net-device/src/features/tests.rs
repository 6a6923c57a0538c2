use super::*;
use crate::config::NetConfig;
use crate::negotiation::backend_tx;
use net_queue::ctrl::{Command, HashConfig, RssConfig, RxMode, VlanId};
use proptest::prelude::*;

const EVERYTHING: Offloads = Offloads::all();

fn config() -> NetConfig {
    NetConfig {
        mac: Some([2, 0, 0, 0, 0, 1].into()),
        mtu: Some(1500),
        speed_mbps: Some(10_000),
        queue_pairs: 4,
        transport_features: TRANSPORT,
        rss: true,
        hash_report: true,
        ..NetConfig::default()
    }
}

/// The same for legacy drivers, too.
fn transitional() -> NetConfig {
    NetConfig {
        transitional: true,
        ..config()
    }
}

fn offered(config: &NetConfig) -> Features {
    Features::offered(EVERYTHING, EVERYTHING, config)
}

fn closed(set: Features) -> bool {
    PREREQUISITES.iter().all(|rule| !rule.unmet_in(set))
}

#[test]
fn bits_have_the_numbers_of_the_specification() {
    let numbers: Vec<_> = Features::all()
        .iter()
        .map(|it| it.bits().trailing_zeros())
        .collect();
    let expected: Vec<_> = [0, 1, 2, 3, 5].into_iter().chain(7..=23).collect();
    assert_eq!(numbers[..expected.len()], expected);
    assert_eq!(
        numbers[expected.len()..],
        [
            27, 28, 29, 32, 33, 34, 35, 38, 40, 43, 50, 52, 53, 54, 55, 56, 57, 60, 63, 65, 66, 67,
            68
        ]
    );
}

#[test]
fn everything_is_offered_where_backend_and_configuration_allow_it() {
    let with_iommu = NetConfig {
        iommu: true,
        ..transitional()
    };
    assert_eq!(offered(&with_iommu), Features::all());
    assert_eq!(
        offered(&config()),
        Features::all() - F::VIRTIO_F_ACCESS_PLATFORM - F::VIRTIO_F_ANY_LAYOUT
    );
    let unasked = NetConfig {
        rss: false,
        hash_report: false,
        ..config()
    };
    let asked = F::VIRTIO_NET_F_RSS | F::VIRTIO_NET_F_HASH_REPORT;
    assert_eq!(offered(&unasked), offered(&config()) - asked);
}

#[test]
fn over_a_plain_backend_all_but_fragments_is_done_here_for_the_driver() {
    let plain = Features::offered(Offloads::empty(), Offloads::empty(), &NetConfig::default());
    assert_eq!(plain.tx_offloads(), Offloads::DONE_HERE);
    assert_eq!(plain.rx_offloads(), Offloads::empty());
    let absent = F::VIRTIO_NET_F_CTRL_GUEST_OFFLOADS
        | F::VIRTIO_NET_F_MAC
        | F::VIRTIO_NET_F_MTU
        | F::VIRTIO_NET_F_MQ
        | F::VIRTIO_NET_F_SPEED_DUPLEX;
    assert!(!plain.intersects(absent));
    assert!(plain.contains(F::VIRTIO_NET_F_MRG_RXBUF | F::VIRTIO_F_VERSION_1));
}

#[test]
fn disabling_a_feature_takes_what_depends_on_it() {
    let config = NetConfig {
        disabled: F::VIRTIO_NET_F_CTRL_VQ,
        queue_pairs: 1,
        ..config()
    };
    let gone = F::VIRTIO_NET_F_CTRL_VQ
        | F::VIRTIO_NET_F_CTRL_RX
        | F::VIRTIO_NET_F_CTRL_RX_EXTRA
        | F::VIRTIO_NET_F_CTRL_VLAN
        | F::VIRTIO_NET_F_GUEST_ANNOUNCE
        | F::VIRTIO_NET_F_CTRL_MAC_ADDR
        | F::VIRTIO_NET_F_CTRL_GUEST_OFFLOADS
        | F::VIRTIO_NET_F_NOTF_COAL
        | F::VIRTIO_NET_F_VQ_NOTF_COAL
        | F::VIRTIO_NET_F_DEVICE_STATS
        | F::VIRTIO_NET_F_RSS
        | F::VIRTIO_NET_F_HASH_REPORT;
    assert!(!offered(&config).intersects(gone));
    assert!(offered(&config).contains(F::VIRTIO_NET_F_STATUS));
}

#[test]
fn ecn_falls_with_its_last_tso() {
    let tso = F::VIRTIO_NET_F_CSUM | F::VIRTIO_NET_F_HOST_TSO6 | F::VIRTIO_NET_F_HOST_ECN;
    assert_eq!(tso.closure(), tso);
    let left = (tso - F::VIRTIO_NET_F_HOST_TSO6).closure();
    assert_eq!(left, F::VIRTIO_NET_F_CSUM);
    assert_eq!((tso - F::VIRTIO_NET_F_CSUM).closure(), Features::empty());
}

#[test]
fn net_feat_05_a_driver_has_to_be_modern() {
    let accepted = (offered(&config()) - F::VIRTIO_F_VERSION_1).bits();
    let error = FeatureError::Mandatory(F::VIRTIO_F_VERSION_1);
    assert_eq!(offered(&config()).check_accepted(accepted), Err(error));
}

#[test]
fn net_feat_05_a_transitional_device_takes_no_mix_of_old_and_new() {
    let set = offered(&transitional());
    let older = set & LEGACY;
    assert_eq!(set.check_accepted(older.bits()), Ok(older));
    assert_eq!(set.check_accepted(0), Ok(Features::empty()));
    for newer in (set - LEGACY - F::VIRTIO_F_VERSION_1).iter() {
        let mix = set.check_accepted((older | newer).bits());
        assert_eq!(mix, Err(FeatureError::Legacy(newer)));
    }
    // A driver that is not a legacy one is held to what it is held to elsewhere.
    assert_eq!(set.check_accepted(set.bits()), Ok(set));
    let plain = F::VIRTIO_F_VERSION_1;
    assert_eq!(set.check_accepted(plain.bits()), Ok(plain));
}

#[test]
fn a_legacy_driver_cannot_reach_around_the_iommu_net_feat_11() {
    let config = NetConfig {
        iommu: true,
        ..transitional()
    };
    let error = FeatureError::Mandatory(F::VIRTIO_F_ACCESS_PLATFORM);
    assert_eq!(offered(&config).check_accepted(0), Err(error));
}

#[test]
fn the_length_of_the_header_follows_from_the_features_net_rx_17() {
    let merge = F::VIRTIO_NET_F_MRG_RXBUF;
    let modern = F::VIRTIO_F_VERSION_1;
    for (accepted, size) in [
        (Features::empty(), 10),
        (F::VIRTIO_NET_F_CSUM | F::VIRTIO_F_ANY_LAYOUT, 10),
        (merge, 12),
        (modern, 12),
        (modern | merge, 12),
        (modern | F::VIRTIO_NET_F_HASH_REPORT, 20),
        (modern | merge | F::VIRTIO_NET_F_HASH_REPORT, 20),
    ] {
        assert_eq!(accepted.hdr_size().bytes(), size, "{accepted}");
    }
}

#[test]
fn net_feat_06_bits_not_offered_are_refused() {
    let set = offered(&config());
    for bit in 0..128 {
        let accepted = F::VIRTIO_F_VERSION_1.bits() | 1 << bit;
        let not_offered = Err(FeatureError::NotOffered(1 << bit));
        let refused = set.check_accepted(accepted) == not_offered;
        assert_eq!(refused, set.bits() & 1 << bit == 0, "{bit}");
    }
    assert_eq!(
        set.check_accepted(u128::MAX),
        Err(FeatureError::NotOffered(!set.bits()))
    );
}

#[test]
fn net_feat_07_a_feature_without_its_prerequisite_is_refused() {
    let set = offered(&config());
    for rule in PREREQUISITES.iter().filter(|rule| rule.listed) {
        let result = set.check_accepted((set - rule.any_of).bits() | rule.feature.bits());
        let refused = matches!(result, Err(FeatureError::MissingPrerequisite { .. }));
        assert!(refused, "{} without {}", rule.feature, rule.any_of);
    }
}

#[test]
fn net_feat_11_the_iommu_cannot_be_declined() {
    let config = NetConfig {
        iommu: true,
        ..config()
    };
    let accepted = F::VIRTIO_F_VERSION_1.bits();
    let error = FeatureError::Mandatory(F::VIRTIO_F_ACCESS_PLATFORM);
    assert_eq!(offered(&config).check_accepted(accepted), Err(error));
}

#[test]
fn offloads_and_features_map_both_ways() {
    let set = offered(&config());
    assert_eq!(
        (set.tx_offloads(), set.rx_offloads()),
        (EVERYTHING, EVERYTHING)
    );
    let tx = Features::offered(EVERYTHING, Offloads::empty(), &config());
    assert_eq!(
        (tx.tx_offloads(), tx.rx_offloads()),
        (EVERYTHING, Offloads::empty())
    );
}

#[test]
fn a_backend_does_what_features_let_a_driver_ask_of_it() {
    use Offloads as O;
    let rows = [
        (O::empty(), O::empty()),
        // Segments have checksums to be completed.
        (O::TSO4 | O::UFO, O::empty()),
        // One bit stands for both families, so a backend with one of them does not get it.
        (O::CSUM | O::USO4, O::CSUM),
        (O::CSUM | O::TSO4 | O::UFO, O::CSUM | O::TSO4 | O::UFO),
        // A tunnel may have segments of every kind in it.
        (
            EVERYTHING - O::TSO6,
            EVERYTHING - O::TSO6 - O::UDP_TUNNEL - O::UDP_TUNNEL_CSUM,
        ),
        (
            EVERYTHING - O::UDP_TUNNEL,
            EVERYTHING - O::UDP_TUNNEL - O::UDP_TUNNEL_CSUM,
        ),
        (EVERYTHING, EVERYTHING),
    ];
    for (caps, done) in rows {
        assert_eq!(backend_tx(caps), done);
        let offered = Features::offered(caps, O::empty(), &config()).tx_offloads();
        assert_eq!(offered, O::DONE_HERE | done);
    }
}

#[test]
fn net_cvq_20_offload_masks_stay_within_what_was_accepted() {
    let accepted = F::VIRTIO_NET_F_GUEST_CSUM
        | F::VIRTIO_NET_F_GUEST_TSO4
        | F::VIRTIO_NET_F_MAC
        | F::VIRTIO_F_VERSION_1;
    let check = |mask| accepted.check_guest_offloads(mask);
    assert_eq!(check(0), Ok(Offloads::empty()));
    assert_eq!(check(1 << 1), Ok(Offloads::CSUM));
    assert_eq!(check(1 << 1 | 1 << 7), Ok(Offloads::CSUM | Offloads::TSO4));
    assert!(matches!(
        check(1 << 7),
        Err(FeatureError::MissingPrerequisite { .. })
    ));
    for bit in (0..64).filter(|bit| ![1, 7].contains(bit)) {
        // Two bits stand for features that no bit of the operand reaches.
        let feature = match bit {
            46 => 65,
            47 => 66,
            bit => bit,
        };
        assert_eq!(check(1 << bit), Err(FeatureError::NotOffered(1 << feature)));
    }
}

#[test]
fn commands_need_the_feature_of_their_table_row() {
    let mode = |mode| Command::SetRxMode { mode, on: true };
    let vlan = VlanId::new(1).unwrap();
    let hash = HashConfig { types: 0, key: &[] };
    let rss = RssConfig::new(hash, 0, &[[0, 0]], 1);
    for (command, feature) in [
        (mode(RxMode::Promisc), F::VIRTIO_NET_F_CTRL_RX),
        (mode(RxMode::AllMulti), F::VIRTIO_NET_F_CTRL_RX),
        (mode(RxMode::AllUni), F::VIRTIO_NET_F_CTRL_RX_EXTRA),
        (mode(RxMode::NoBcast), F::VIRTIO_NET_F_CTRL_RX_EXTRA),
        (
            Command::SetMacTable {
                unicast: &[],
                multicast: &[],
            },
            F::VIRTIO_NET_F_CTRL_RX,
        ),
        (Command::SetMacAddr([0; 6]), F::VIRTIO_NET_F_CTRL_MAC_ADDR),
        (Command::AddVlan(vlan), F::VIRTIO_NET_F_CTRL_VLAN),
        (Command::AckAnnounce, F::VIRTIO_NET_F_GUEST_ANNOUNCE),
        (Command::SetPairs(1), F::VIRTIO_NET_F_MQ),
        (Command::SetRss(rss), F::VIRTIO_NET_F_RSS),
        (Command::SetHash(hash), F::VIRTIO_NET_F_HASH_REPORT),
        (
            Command::SetGuestOffloads(0),
            F::VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
        ),
    ] {
        assert_eq!(Features::required_by(&command), feature);
    }
}

#[test]
fn optional_names_follow_the_specification() {
    for (name, feature) in OPTIONAL {
        let (spec, _) = feature.iter_names().next().unwrap();
        let tail = spec
            .trim_start_matches("VIRTIO_")
            .trim_start_matches("NET_");
        assert_eq!(
            *name,
            tail.trim_start_matches("F_")
                .to_lowercase()
                .replace('_', "-")
        );
        assert_eq!(Features::from_optional_name(name), Some(*feature));
    }
    let others = MANDATORY | F::VIRTIO_F_ANY_LAYOUT;
    assert_eq!(Features::all() - Features::optional(), others);
}

#[test]
fn names_are_shown_as_the_specification_writes_them() {
    let shown = (F::VIRTIO_NET_F_MAC | F::VIRTIO_F_VERSION_1).to_string();
    assert_eq!(shown, "VIRTIO_NET_F_MAC | VIRTIO_F_VERSION_1");
}

proptest! {
    #[test]
    fn net_feat_01_what_is_offered_is_closed(
        tx: u32, rx: u32, disabled: u128, pairs in 1u16..9, iommu: bool, mac: bool, mtu: bool,
        transitional: bool,
    ) {
        let config = NetConfig {
            mac: mac.then(|| [2, 0, 0, 0, 0, 1].into()),
            mtu: mtu.then_some(1500),
            queue_pairs: pairs,
            iommu,
            transitional,
            disabled: Features::from_bits_truncate(disabled) & Features::optional(),
            ..NetConfig::default()
        };
        let (tx, rx) = (Offloads::from_bits_truncate(tx), Offloads::from_bits_truncate(rx));
        let set = Features::offered(tx, rx, &config);
        prop_assert!(closed(set));
        prop_assert!(!set.intersects(config.disabled));
        prop_assert!(set.contains(F::VIRTIO_F_VERSION_1));
        prop_assert!((tx | Offloads::DONE_HERE).contains(set.tx_offloads()));
        prop_assert!(rx.contains(set.rx_offloads()));
    }

    #[test]
    fn net_feat_02_every_closed_subset_is_accepted(bits: u128) {
        let set = offered(&config());
        let subset = (set & Features::from_bits_truncate(bits)).closure() | MANDATORY & set;
        prop_assert_eq!(set.check_accepted(subset.bits()), Ok(subset));
    }

    #[test]
    fn accepted_sets_are_subsets_that_the_specification_allows(bits: u128) {
        let set = offered(&config());
        if let Ok(accepted) = set.check_accepted(bits & set.bits() | 1 << 32) {
            prop_assert!(set.contains(accepted));
            prop_assert_eq!(accepted.check_listed(), Ok(()));
        }
    }
}
