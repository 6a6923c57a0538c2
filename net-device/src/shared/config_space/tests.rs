use super::*;
use net_queue::Offloads;
use proptest::prelude::*;

const MAC: MacAddr = MacAddr::new([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
const OTHER: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 9]);

fn config() -> NetConfig {
    NetConfig {
        mac: Some(MAC),
        mtu: Some(9000),
        speed_mbps: Some(10_000),
        queue_pairs: 4,
        ..NetConfig::default()
    }
}

fn space(config: &NetConfig) -> ConfigSpace {
    let offered = Features::offered(Offloads::all(), Offloads::all(), config);
    ConfigSpace::new(config, offered)
}

fn bytes(space: &ConfigSpace) -> [u8; CONFIG_LEN] {
    let mut bytes = [0xaa; CONFIG_LEN];
    space.read(0, &mut bytes);
    bytes
}

#[test]
fn net_cfg_03_fields_are_at_their_offsets() {
    let mut expected = [0; CONFIG_LEN];
    expected[..18].copy_from_slice(&[
        0x52, 0x54, 0, 0x12, 0x34, 0x56, 1, 0, 4, 0, 0x28, 0x23, 0x10, 0x27, 0, 0, 1, 0,
    ]);
    assert_eq!(bytes(&space(&config())), expected);
}

#[test]
fn net_cfg_03_missing_fields_read_zero_and_move_nothing() {
    let config = NetConfig {
        mac: None,
        speed_mbps: None,
        queue_pairs: 1,
        disabled: Features::VIRTIO_NET_F_STATUS,
        ..config()
    };
    let mut expected = [0; CONFIG_LEN];
    expected[10..12].copy_from_slice(&9000u16.to_le_bytes());
    assert_eq!(bytes(&space(&config)), expected);
}

#[test]
fn net_cfg_15_visible_changes_have_a_new_generation() {
    let space = space(&config());
    let mut generation = space.generation();
    let mut changed = |visible: bool| {
        assert!(visible);
        assert_ne!(space.generation(), generation);
        generation = space.generation();
    };
    changed(space.set_link(false));
    changed(space.set_mac(OTHER));
    changed(space.set_announce(true));
    changed(space.reset());
    assert_eq!(
        (space.mac(), space.status()),
        (Some(MAC), LinkStatus::empty())
    );
}

#[test]
fn dev_life_09_no_change_keeps_the_generation() {
    let space = space(&config());
    let generation = space.generation();
    assert!(!space.set_link(true) && !space.set_mac(MAC) && !space.set_announce(false));
    assert!(!space.reset());
    assert_eq!(space.generation(), generation);
}

#[test]
fn a_hidden_status_changes_without_a_generation() {
    let config = NetConfig {
        disabled: Features::VIRTIO_NET_F_STATUS,
        ..config()
    };
    let space = space(&config);
    assert!(!space.set_link(false));
    assert_eq!(space.status(), LinkStatus::empty());
    assert_eq!(space.generation(), 0);
}

#[test]
fn dev_life_08_a_restored_space_differs_from_the_saved_one() {
    let space = space(&config());
    space.restore(Some(OTHER), true, u32::MAX);
    assert_eq!(space.generation(), 0);
    assert_eq!(space.mac(), Some(OTHER));
    assert_eq!(space.status(), LinkStatus::all());
}

proptest! {
    #[test]
    fn net_cfg_16_any_read_is_a_cut_of_the_space(
        offset in prop_oneof![0u64..40, any::<u64>(), u64::MAX - 40..=u64::MAX],
        len in 0usize..64,
    ) {
        let space = space(&config());
        let whole = bytes(&space);
        let mut data = vec![0xaa; len];
        space.read(offset, &mut data);
        for (at, byte) in (u128::from(offset)..).zip(data) {
            let expected = usize::try_from(at).ok().and_then(|at| whole.get(at));
            prop_assert_eq!(byte, expected.copied().unwrap_or(0));
        }
    }
}
