use super::*;
use proptest::prelude::*;

const OWN: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
const LISTED: [u8; 6] = [0x52, 0x54, 0, 0, 0, 2];
const FOREIGN: [u8; 6] = [0x52, 0x54, 0, 0, 0, 3];
const GROUP: [u8; 6] = [1, 0, 0x5e, 0, 0, 1];
const OTHER_GROUP: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const BROADCAST: [u8; 6] = [0xff; 6];

fn all_features() -> Features {
    Features::all()
}

fn filter() -> RxFilter {
    RxFilter::new(all_features(), Some(MacAddr::new(OWN)))
}

fn with_modes(modes: &[RxMode]) -> RxFilter {
    let mut filter = filter();
    filter.set_mac_table(&[LISTED], &[GROUP]);
    for &mode in modes {
        filter.set_mode(mode, true);
    }
    filter
}

fn frame(destination: [u8; 6]) -> Vec<u8> {
    [&destination[..], &FOREIGN, &[8, 0, 0x45, 0, 0, 0]].concat()
}

fn tagged(destination: [u8; 6], tag: u16) -> Vec<u8> {
    let [high, low] = tag.to_be_bytes();
    [&destination[..], &FOREIGN, &[0x81, 0, high, low, 8, 0]].concat()
}

/// Which of the six kinds of frames pass, in the order of the constants above.
fn passing(filter: &RxFilter) -> [bool; 6] {
    [OWN, LISTED, FOREIGN, GROUP, OTHER_GROUP, BROADCAST].map(|mac| filter.admit(&frame(mac)))
}

fn bits(text: &str) -> [bool; 6] {
    let bits: Vec<_> = text.chars().map(|it| it == '1').collect();
    bits.try_into().unwrap()
}

#[test]
fn net_cvq_12_after_reset_own_address_and_broadcast_pass() {
    assert_eq!(passing(&filter()), bits("100001"));
    assert_eq!(filter().accepts(&frame(FOREIGN)), Err(FilterDrop::Unicast));
    assert_eq!(filter().accepts(&frame(GROUP)), Err(FilterDrop::Multicast));
}

proptest! {
    #[test]
    fn the_kernels_rules_decide_as_the_filter_does(
        by_address: bool,
        by_vlan: bool,
        known: bool,
        modes in prop::bits::u8::masked(0x3f),
        lists in prop::array::uniform2(prop::collection::vec(0_usize..6, 0..4)),
        long in prop::bits::u8::masked(3),
        vlans in prop::collection::vec(prop::sample::select(vec![0_u16, 1, 5, 64, 4095]), 0..4),
        tag in prop::sample::select(vec![0_u16, 0xe000, 5, 0x2005, 6, 64, 65, 4095]),
        cut in 0_usize..20,
    ) {
        const KINDS: [[u8; 6]; 6] = [OWN, LISTED, FOREIGN, GROUP, OTHER_GROUP, BROADCAST];
        let mut features = all_features();
        features.set(Features::VIRTIO_NET_F_CTRL_RX, by_address);
        features.set(Features::VIRTIO_NET_F_CTRL_VLAN, by_vlan);
        let mut filter = RxFilter::new(features, known.then_some(MacAddr::new(OWN)));
        // Both lists may have addresses of either kind.
        let list = |list: &[usize], long| {
            let macs = list.iter().map(|kind| KINDS[*kind]).collect::<Vec<_>>();
            if long { [&macs[..], &[LISTED; MAC_TABLE_MAX + 1]].concat() } else { macs }
        };
        filter.set_mac_table(&list(&lists[0], long & 1 != 0), &list(&lists[1], long & 2 != 0));
        for mode in [
            RxMode::Promisc,
            RxMode::AllMulti,
            RxMode::AllUni,
            RxMode::NoMulti,
            RxMode::NoUni,
            RxMode::NoBcast,
        ] {
            filter.set_mode(mode, modes >> mode as u8 & 1 != 0);
        }
        for id in vlans {
            if let Some(id) = VlanId::new(id) {
                filter.set_vlan(id, true);
            }
        }
        let rules = filter.kernel_rules();
        let mut drops = false;
        for kind in KINDS {
            for mut frame in [frame(kind), tagged(kind, tag)] {
                prop_assert_eq!(rules.admits(&frame), filter.admit(&frame));
                drops |= !rules.admits(&frame);
                frame.truncate(cut);
                prop_assert_eq!(rules.admits(&frame), filter.admit(&frame));
            }
        }
        prop_assert!(!(drops && rules.pass_all()));
        prop_assert_eq!(rules.pass_all(), modes & 1 != 0 || rules == FilterRules {
            addresses: rules.addresses.clone(),
            ..FilterRules::default()
        });
    }
}

#[test]
fn without_ctrl_rx_every_address_passes() {
    let features = all_features() - Features::VIRTIO_NET_F_CTRL_RX;
    let mut open = RxFilter::new(features, Some(MacAddr::new(OWN)));
    assert_eq!(passing(&open), [true; 6]);
    // CTRL_RX_EXTRA does not depend on it.
    open.set_mode(RxMode::NoBcast, true);
    assert_eq!(passing(&open), bits("111110"));
}

#[test]
fn net_cvq_07_08_09_modes_combine() {
    use RxMode::{AllMulti, AllUni, NoBcast, NoMulti, NoUni, Promisc};
    for (modes, expected) in [
        (&[][..], "110101"),
        (&[AllMulti], "110111"),
        (&[AllUni], "111101"),
        (&[NoMulti], "110001"),
        (&[NoUni], "000101"),
        (&[NoBcast], "110100"),
        (&[NoMulti, AllMulti], "110001"),
        (&[NoUni, AllUni], "000101"),
        (&[NoBcast, AllMulti], "110110"),
        (&[NoMulti, NoUni, NoBcast], "000000"),
        (&[Promisc, NoMulti, NoUni, NoBcast], "111111"),
    ] {
        assert_eq!(passing(&with_modes(modes)), bits(expected), "{modes:?}");
    }
}

#[test]
fn a_mode_goes_off_again() {
    let mut filter = with_modes(&[RxMode::Promisc]);
    filter.set_mode(RxMode::Promisc, false);
    assert_eq!(passing(&filter), bits("110101"));
}

#[test]
fn net_cvq_10_11_a_table_replaces_the_last_one() {
    let mut filter = filter();
    filter.set_mac_table(&[LISTED], &[GROUP]);
    filter.set_mac_table(&[FOREIGN], &[]);
    assert_eq!(passing(&filter), bits("101001"));
}

#[test]
fn net_cvq_13_the_own_address_follows() {
    let mut filter = filter();
    filter.set_mac(MacAddr::new(FOREIGN));
    assert_eq!(passing(&filter), bits("001001"));
}

#[test]
fn an_unknown_own_address_lets_unicast_pass() {
    let filter = RxFilter::new(all_features(), None);
    assert_eq!(passing(&filter), bits("111001"));
}

#[test]
fn net_cvq_14_a_long_list_lets_its_kind_pass() {
    let many = vec![LISTED; MAC_TABLE_MAX + 1];
    let mut filter = filter();
    filter.set_mac_table(&many, &[]);
    assert_eq!(passing(&filter), bits("111001"));
    filter.set_mac_table(&[], &many);
    assert_eq!(passing(&filter), bits("100111"));
    filter.set_mac_table(&many[1..], &[]);
    assert_eq!(passing(&filter), bits("110001"));
}

#[test]
fn net_cvq_15_without_ctrl_vlan_every_tag_passes() {
    let features = all_features() - Features::VIRTIO_NET_F_CTRL_VLAN;
    let filter = RxFilter::new(features, Some(MacAddr::new(OWN)));
    assert!((0..=u16::MAX).all(|tag| filter.admit(&tagged(OWN, tag))));
}

#[test]
fn net_cvq_16_only_listed_vlans_pass_whatever_their_priority() {
    let mut filter = filter();
    for id in [1, 63, 64, 4095] {
        let vlan = VlanId::new(id).unwrap();
        assert_eq!(filter.accepts(&tagged(OWN, id)), Err(FilterDrop::Vlan));
        filter.set_vlan(vlan, true);
        for tag in 0..=u16::MAX {
            let expected = [0, id].contains(&(tag & 0xfff));
            assert_eq!(filter.admit(&tagged(OWN, tag)), expected, "{id} {tag:#x}");
        }
        filter.set_vlan(vlan, false);
        assert!(!filter.admit(&tagged(OWN, id)));
    }
    assert!(filter.admit(&frame(OWN)));
}

#[test]
fn a_listed_vlan_does_not_admit_a_foreign_address() {
    let mut filter = filter();
    filter.set_vlan(VlanId::new(5).unwrap(), true);
    assert_eq!(
        filter.accepts(&tagged(FOREIGN, 5)),
        Err(FilterDrop::Unicast)
    );
    filter.set_mode(RxMode::Promisc, true);
    assert!(filter.admit(&tagged(FOREIGN, 6)));
}

#[test]
fn tables_survive_a_save() {
    let mut filter = with_modes(&[RxMode::AllUni]);
    filter.set_vlan(VlanId::new(7).unwrap(), true);
    let mut restored = RxFilter::new(all_features(), Some(MacAddr::new(OWN)));
    restored.set_tables(filter.tables().clone());
    assert_eq!(restored.tables(), filter.tables());
    assert_eq!(passing(&restored), passing(&filter));
}

proptest! {
    #[test]
    fn no_frame_panics_and_promiscuous_sees_all(
        head in prop::collection::vec(any::<u8>(), 0..24), modes: u8, features: u128,
    ) {
        let features = Features::from_bits_truncate(features);
        let mut filter = RxFilter::new(features, Some(MacAddr::new(OWN)));
        let modes = RxModes::from_bits_truncate(modes);
        filter.set_tables(FilterTables { modes, ..FilterTables::default() });
        let admitted = filter.admit(&head);
        prop_assert!(admitted || !modes.contains(RxModes::PROMISC));
    }
}
