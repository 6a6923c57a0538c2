//! Every command of the control queue, and its effect right after it was used.

mod announce;
mod kernel_filter;
mod notf_coal;
mod notf_coal_midway;
mod offloads;
mod parsing;
mod stats;

use net_device::net_queue::Offloads;
use net_device::{Features, VirtioDevice};
use net_queue::testing::{Piece, Random, Shape};
use tests::testbed::{
    BROADCAST, GUEST_MAC, PEER_MAC, Rig, all_caps, body, frame, frame_to, tagged,
};

type F = Features;

const OK: u8 = 0;
const ERR: u8 = 1;
const GROUP_A: [u8; 6] = [0x01, 0, 0x5e, 0, 0, 1];
const GROUP_B: [u8; 6] = [0x01, 0, 0x5e, 0, 0, 2];
const OTHER: [u8; 6] = [0x02, 0, 0, 0, 0, 9];

/// A MAC_TABLE_SET payload.
fn table(unicast: &[[u8; 6]], multicast: &[[u8; 6]]) -> Vec<u8> {
    let mut data = Vec::new();
    for list in [unicast, multicast] {
        data.extend((list.len() as u32).to_le_bytes());
        data.extend(list.iter().flatten());
    }
    data
}

/// Which of the stations' frames the driver sees.
fn passes(rig: &mut Rig, stations: &[[u8; 6]]) -> Vec<[u8; 6]> {
    let frames: Vec<_> = stations.iter().map(|to| frame_to(*to, 64, 1)).collect();
    let seen = rig.sees(&frames);
    seen.iter()
        .map(|bytes| *body(bytes).first_chunk().expect("an address"))
        .collect()
}

const STATIONS: [[u8; 6]; 5] = [GUEST_MAC, OTHER, GROUP_A, GROUP_B, BROADCAST];

#[test]
fn at_first_own_unicast_and_broadcast_pass_net_cvq_10_12() {
    let mut rig = Rig::running(F::empty());
    assert_eq!(passes(&mut rig, &STATIONS), [GUEST_MAC, BROADCAST]);
    assert_eq!(rig.counter("rx_drop_filtered"), 3);
}

#[test]
fn receive_modes_take_effect_before_the_command_is_used_net_cvq_03_07_08_09() {
    let mut rig = Rig::running(F::empty());
    let steps: [(u8, u8, &[[u8; 6]]); 14] = [
        (0, 1, &STATIONS),
        (0, 0, &[GUEST_MAC, BROADCAST]),
        (1, 1, &[GUEST_MAC, GROUP_A, GROUP_B, BROADCAST]),
        (3, 1, &[GUEST_MAC, BROADCAST]),
        (3, 0, &[GUEST_MAC, GROUP_A, GROUP_B, BROADCAST]),
        (5, 1, &[GUEST_MAC, GROUP_A, GROUP_B]),
        (1, 0, &[GUEST_MAC]),
        (2, 1, &[GUEST_MAC, OTHER]),
        (4, 1, &[]),
        (0, 1, &STATIONS),
        (0, 0, &[]),
        (4, 0, &[GUEST_MAC, OTHER]),
        (2, 0, &[GUEST_MAC]),
        (5, 0, &[GUEST_MAC, BROADCAST]),
    ];
    for (mode, on, expected) in steps {
        assert_eq!(rig.command(0, mode, &[on]), OK, "mode {mode}");
        assert_eq!(
            passes(&mut rig, &STATIONS),
            expected,
            "mode {mode} set to {on}"
        );
    }
}

#[test]
fn extra_receive_modes_work_alone_net_cvq_08() {
    let mut rig = Rig::running(F::VIRTIO_NET_F_CTRL_RX | F::VIRTIO_NET_F_CTRL_VLAN);
    assert!(rig.accepted().contains(F::VIRTIO_NET_F_CTRL_RX_EXTRA));
    assert_eq!(
        passes(&mut rig, &STATIONS),
        STATIONS,
        "without CTRL_RX no address matters"
    );
    assert_eq!(rig.command(0, 5, &[1]), OK);
    assert_eq!(passes(&mut rig, &STATIONS), STATIONS[..4]);
    assert_eq!(rig.command(0, 3, &[1]), OK);
    assert_eq!(passes(&mut rig, &STATIONS), STATIONS[..2]);
    assert_eq!(rig.command(0, 0, &[1]), ERR, "that mode is CTRL_RX's");
}

#[test]
fn a_mode_that_is_neither_on_nor_off_is_refused_net_cvq_31() {
    let mut rig = Rig::running(F::empty());
    for mode in 0..6 {
        for value in [2, 0xff] {
            assert_eq!(rig.command(0, mode, &[value]), ERR);
        }
    }
    assert_eq!(passes(&mut rig, &STATIONS), [GUEST_MAC, BROADCAST]);
    // Nor does it switch one off that is on.
    for mode in [0, 4] {
        assert_eq!(rig.command(0, mode, &[1]), OK);
        let before = passes(&mut rig, &STATIONS);
        assert_eq!(rig.command(0, mode, &[2]), ERR);
        assert_eq!(passes(&mut rig, &STATIONS), before, "mode {mode}");
        assert_eq!(rig.command(0, mode, &[0]), OK);
        assert_ne!(passes(&mut rig, &STATIONS), before, "mode {mode}");
    }
}

#[test]
fn the_mac_table_is_replaced_as_a_whole_net_cvq_10_11() {
    let mut rig = Rig::running(F::empty());
    assert_eq!(rig.command(1, 0, &table(&[OTHER], &[GROUP_A])), OK);
    assert_eq!(
        passes(&mut rig, &STATIONS),
        [GUEST_MAC, OTHER, GROUP_A, BROADCAST]
    );
    assert_eq!(rig.command(1, 0, &table(&[], &[GROUP_B])), OK);
    assert_eq!(passes(&mut rig, &STATIONS), [GUEST_MAC, GROUP_B, BROADCAST]);
    assert_eq!(rig.command(1, 0, &table(&[], &[])), OK);
    assert_eq!(passes(&mut rig, &STATIONS), [GUEST_MAC, BROADCAST]);
}

#[test]
fn mac_table_overflow_is_refused_and_the_old_table_kept_net_cvq_14() {
    let mut rig = Rig::running(F::empty());
    assert_eq!(rig.command(1, 0, &table(&[OTHER], &[])), OK);
    let good = table(&[OTHER, PEER_MAC], &[GROUP_A]);
    for count in [3, 0x2aaa_aaab, 0x8000_0000, u32::MAX] {
        for at in [0, 4 + 12] {
            let mut data = good.clone();
            data[at..at + 4].copy_from_slice(&count.to_le_bytes());
            assert_eq!(rig.command(1, 0, &data), ERR, "{count:#x} at {at}");
        }
    }
    for len in 0..good.len() {
        assert_eq!(rig.command(1, 0, &good[..len]), ERR, "{len} bytes");
    }
    assert_eq!(passes(&mut rig, &STATIONS), [GUEST_MAC, OTHER, BROADCAST]);
    assert!(!rig.device.needs_reset());
}

#[test]
fn too_long_a_list_lets_its_kind_pass_net_cvq_14() {
    let mut rig = Rig::running(F::empty());
    let many: Vec<[u8; 6]> = (0..200).map(|n| [1, 0, 0x5e, 1, 0, n]).collect();
    assert_eq!(rig.command(1, 0, &table(&[], &many)), OK);
    assert_eq!(
        passes(&mut rig, &STATIONS),
        [GUEST_MAC, GROUP_A, GROUP_B, BROADCAST]
    );
}

#[test]
fn a_mac_address_is_shown_and_filtered_by_at_once_net_cvq_13() {
    let mut rig = Rig::running(F::empty());
    let generation = rig.device.config_generation();
    assert_eq!(rig.command(1, 1, &OTHER), OK);
    assert_eq!(rig.read::<6>(0), OTHER);
    assert_ne!(rig.device.config_generation(), generation);
    assert_eq!(passes(&mut rig, &STATIONS), [OTHER, BROADCAST]);
    for len in 0..6 {
        assert_eq!(rig.command(1, 1, &GUEST_MAC[..len]), ERR);
        assert_eq!(rig.read::<6>(0), OTHER);
    }
}

#[test]
fn vlans_pass_when_they_are_in_the_table_net_cvq_16() {
    let mut rig = Rig::running(F::empty());
    let untagged = frame(64, 9);
    let ids = [1, 100, 4095];
    let frames: Vec<_> = ids
        .iter()
        .map(|id| tagged(*id, 1))
        .chain([untagged])
        .collect();
    let count = |rig: &mut Rig| rig.sees(&frames).len();
    assert_eq!(count(&mut rig), 1, "the table starts empty");
    assert_eq!(rig.command(2, 0, &100u16.to_le_bytes()), OK);
    assert_eq!(rig.command(2, 0, &4095u16.to_le_bytes()), OK);
    assert_eq!(count(&mut rig), 3);
    let priority = tagged(0xe000 | 100, 1);
    assert_eq!(
        rig.sees(&[priority, tagged(0, 1)]).len(),
        2,
        "priorities are not ids"
    );
    assert_eq!(rig.command(2, 1, &100u16.to_le_bytes()), OK);
    assert_eq!(count(&mut rig), 2);
}

#[test]
fn a_vlan_beyond_4095_is_refused_net_cvq_17() {
    let mut rig = Rig::running(F::empty());
    for id in [4096u16, 0x8000, 0xffff] {
        assert_eq!(rig.command(2, 0, &id.to_le_bytes()), ERR);
        assert_eq!(rig.command(2, 1, &id.to_le_bytes()), ERR);
    }
    assert_eq!(rig.command(2, 0, &[1]), ERR);
}

#[test]
fn without_ctrl_vlan_every_vlan_passes_net_cvq_15() {
    let mut rig = Rig::running(F::VIRTIO_NET_F_CTRL_VLAN);
    let frames: Vec<_> = [0, 1, 77, 4095].map(|id| tagged(id, 1)).into();
    assert_eq!(rig.sees(&frames).len(), 4);
    assert_eq!(rig.command(2, 0, &[1, 0]), ERR);
}

#[test]
fn an_announcement_is_asked_for_and_acknowledged_net_cvq_18() {
    let mut rig = Rig::running(F::empty());
    rig.device.announce();
    rig.irq.wait_config(1);
    assert_eq!(rig.status(), 3);
    rig.device.announce();
    assert_eq!(rig.irq.config(), 1, "it is asked for already");
    assert_eq!(rig.command(3, 0, &[]), OK);
    assert_eq!(rig.status(), 1);

    let mut without = Rig::running(F::VIRTIO_NET_F_GUEST_ANNOUNCE);
    without.device.announce();
    assert_eq!((without.status(), without.irq.config()), (1, 0));
    assert_eq!(without.command(3, 0, &[]), ERR);
}

#[test]
fn the_control_queue_comes_last_of_those_negotiated_net_cvq_01() {
    let mut with = Rig::new(Rig::config(4));
    with.start(F::empty());
    assert_eq!(with.control_index(), 8);
    assert_eq!(with.command(0, 0, &[1]), OK);
    let mut without = Rig::new(Rig::config(4));
    without.start(F::VIRTIO_NET_F_MQ);
    assert_eq!(without.control_index(), 2);
    assert_eq!(without.command(0, 0, &[1]), OK);
    assert_eq!(without.command(4, 0, &[1, 0]), ERR);
}

#[test]
fn reset_forgets_modes_tables_and_offloads_dev_life_07() {
    let mut rig = Rig::running(F::empty());
    assert_eq!(rig.command(0, 0, &[1]), OK);
    assert_eq!(rig.command(1, 0, &table(&[OTHER], &[GROUP_A])), OK);
    assert_eq!(rig.command(2, 0, &[7, 0]), OK);
    rig.device.announce();
    rig.device.reset();
    rig.start(F::empty());
    assert_eq!(rig.status(), 1);
    assert_eq!(passes(&mut rig, &STATIONS), [GUEST_MAC, BROADCAST]);
    assert_eq!(rig.sees(&[tagged(7, 1)]).len(), 0);
}
