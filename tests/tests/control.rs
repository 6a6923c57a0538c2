//! Every command of the control queue, and its effect right after it was used.

use net_device::net_queue::Offloads;
use net_device::{Features, VirtioDevice};
use net_queue::testing::{Piece, Random, Shape};
use tests::testbed::{BROADCAST, GUEST_MAC, PEER_MAC, Rig, body, frame, frame_to, tagged};

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
    let steps: [(u8, u8, &[[u8; 6]]); 12] = [
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

/// Bits of GUEST_OFFLOADS_SET.
const CSUM: u64 = 1 << 1;
const TSO4: u64 = 1 << 7;

/// A frame whose checksum is left to the receiver.
fn partial(seed: u64) -> Vec<u8> {
    let mut bytes = frame(128, seed);
    bytes[0] = 1;
    bytes[6..8].copy_from_slice(&34u16.to_le_bytes());
    bytes[8..10].copy_from_slice(&16u16.to_le_bytes());
    bytes
}

#[test]
fn offloads_are_switched_on_the_link_and_in_the_frames_net_cvq_19() {
    let mut rig = Rig::running(F::empty());
    let all = rig.networks[0].wire.links()[0].rx;
    assert_eq!(
        all,
        Offloads::all(),
        "all that were negotiated are on at first"
    );
    assert_eq!(rig.sees(&[partial(1)]).len(), 1);
    assert_eq!(rig.command(5, 0, &0u64.to_le_bytes()), OK);
    assert_eq!(rig.networks[0].offloads(), [Offloads::empty()]);
    let seen = rig.sees(&[partial(2)]);
    assert!(seen.iter().all(|bytes| bytes[0] & 1 == 0), "NET-HDR-20");
    assert_eq!(rig.command(5, 0, &(CSUM | TSO4).to_le_bytes()), OK);
    assert_eq!(
        rig.networks[0].offloads()[1],
        Offloads::CSUM | Offloads::TSO4
    );
    assert_eq!(rig.sees(&[partial(3)]).len(), 1);
    // A pause in between (in `sees`) programs what is in force, not what was negotiated.
    let last = rig.networks[0]
        .wire
        .links()
        .pop()
        .expect("it was configured");
    assert_eq!(last.rx, Offloads::CSUM | Offloads::TSO4);
    // The next driver starts from what it negotiates.
    rig.device.reset();
    rig.start(F::empty());
    let last = rig.networks[0]
        .wire
        .links()
        .pop()
        .expect("it was configured");
    assert_eq!(last.rx, Offloads::all());
}

#[test]
fn offloads_not_negotiated_are_refused_net_cvq_20() {
    let mut rig = Rig::running(F::VIRTIO_NET_F_GUEST_TSO6 | F::VIRTIO_NET_F_GUEST_UFO);
    let negotiated = [1, 7, 9, 54, 55];
    for bit in 0..64 {
        let mask: u64 = 1 << bit | CSUM | TSO4;
        let expected = if negotiated.contains(&bit) { OK } else { ERR };
        assert_eq!(
            rig.command(5, 0, &mask.to_le_bytes()),
            expected,
            "bit {bit}"
        );
    }
    let told = rig.networks[0].offloads().len();
    // Bits 1 and 7 make the same mask, and to set that again is not passed on.
    assert_eq!(
        told,
        negotiated.len() - 1,
        "refused masks, and those in force, change nothing"
    );
    assert_eq!(
        rig.command(5, 0, &TSO4.to_le_bytes()),
        ERR,
        "TSO without CSUM"
    );
    for len in 0..8 {
        assert_eq!(rig.command(5, 0, &vec![0; len]), ERR);
    }
    assert_eq!(rig.networks[0].offloads().len(), told);
}

#[test]
fn a_link_that_refuses_offloads_is_an_error_without_effect() {
    let mut rig = Rig::running(F::empty());
    rig.networks[0].set_refusing(true);
    assert_eq!(rig.command(5, 0, &0u64.to_le_bytes()), ERR);
    assert_eq!(rig.counter("ctrl_refused_host"), 1);
    rig.networks[0].set_refusing(false);
    assert_eq!(rig.sees(&[partial(1)]).len(), 1, "still on");
}

#[test]
fn ctrl_unknown_commands_are_refused_without_effect_net_cvq_04() {
    let mut rig = Rig::running(F::empty());
    let known = |class, command| {
        matches!(
            (class, command),
            (0, 0..=5) | (1, 0..=1) | (2, 0..=1) | (3, 0) | (5, 0)
        )
    };
    for class in 0..=255u8 {
        for command in (0..8).chain([0x7f, 0xff]) {
            if !known(class, command) {
                assert_eq!(
                    rig.command(class, command, &[1; 16]),
                    ERR,
                    "{class}/{command}"
                );
            }
        }
    }
    assert_eq!(passes(&mut rig, &STATIONS), [GUEST_MAC, BROADCAST]);
    assert_eq!(rig.read::<6>(0), GUEST_MAC);
}

#[test]
fn commands_of_features_not_negotiated_are_refused_net_cvq_04_net_feat_13() {
    let all = F::VIRTIO_NET_F_CTRL_RX
        | F::VIRTIO_NET_F_CTRL_RX_EXTRA
        | F::VIRTIO_NET_F_CTRL_VLAN
        | F::VIRTIO_NET_F_CTRL_MAC_ADDR
        | F::VIRTIO_NET_F_GUEST_ANNOUNCE
        | F::VIRTIO_NET_F_CTRL_GUEST_OFFLOADS
        | F::VIRTIO_NET_F_MQ;
    let mut rig = Rig::new(Rig::config(2));
    rig.start(all);
    let data = [1; 16];
    for (class, commands) in [(0, 6), (1, 2), (2, 2), (3, 1), (4, 3), (5, 1)] {
        for command in 0..commands {
            assert_eq!(rig.command(class, command, &data), ERR, "{class}/{command}");
        }
    }
    assert_eq!(rig.read::<6>(0), GUEST_MAC);
    // Two commands of the class for pairs are unknown, and lists of so many addresses would be
    // longer.
    let refused = ["not_negotiated", "unknown", "short"]
        .map(|cause| rig.counter(&format!("ctrl_refused_{cause}")));
    assert_eq!(refused, [12, 2, 1]);
    assert_eq!(passes(&mut rig, &STATIONS), STATIONS, "there is no filter");
}

#[test]
fn a_command_means_the_same_however_it_is_cut_net_cvq_02() {
    let mut rig = Rig::running(F::empty());
    let bytes = [&[1u8, 0][..], &table(&[OTHER], &[GROUP_A])].concat();
    let mut random = Random::new(5);
    for round in 0..60 {
        let cuts: Vec<usize> = match round {
            0 => vec![],
            1 => (1..bytes.len()).collect(),
            _ => {
                let mut cuts: Vec<_> = (0..4)
                    .map(|_| random.below(bytes.len() as u64 + 1) as usize)
                    .collect();
                cuts.sort_unstable();
                cuts
            }
        };
        let mut pieces = rig.memory.cut(&bytes, &cuts);
        let ack = rig.memory.room(1 + round % 5);
        pieces.push(ack);
        let index = rig.control_index();
        let shape = if round % 2 == 0 {
            Shape::Direct
        } else {
            Shape::Indirect
        };
        rig.queue(index).ring.add_as(shape, &pieces);
        rig.queue(index).publish();
        let used = rig.wait_used(index, 1).remove(0);
        assert_eq!(used.len, 1);
        assert_eq!(rig.memory.read(ack.addr, 1), [OK], "cut at {cuts:?}");
    }
    assert_eq!(
        passes(&mut rig, &STATIONS),
        [GUEST_MAC, OTHER, GROUP_A, BROADCAST]
    );
}

#[test]
fn ctrl_without_ack_is_returned_and_not_executed_net_cvq_06() {
    let mut rig = Rig::running(F::empty());
    let command = rig.memory.filled(&[1, 1, 2, 9, 9, 9, 9, 9]);
    assert_eq!(rig.control(&[command]).len, 0);
    assert_eq!(
        rig.control(&[command, Piece::writable(command.addr, 0)])
            .len,
        0
    );
    assert_eq!(rig.read::<6>(0), GUEST_MAC);
    // Nothing to read, one byte to read, only an answer.
    assert_eq!(rig.raw_command(&[]), ERR);
    assert_eq!(rig.raw_command(&[0]), ERR);
    let room = rig.memory.room(1);
    assert_eq!(rig.control(&[room]).len, 1);
    assert_eq!(rig.memory.read(room.addr, 1), [ERR]);
    // Readable behind writable.
    let room = rig.memory.room(1);
    assert_eq!(rig.control(&[room, command]).len, 0);
    assert_eq!(rig.command(0, 0, &[1]), OK, "the next command works");
}

#[test]
fn every_command_at_every_length_is_whole_or_without_effect_net_cvq_05() {
    let mut rig = Rig::running(F::empty());
    let commands: [(u8, u8, Vec<u8>); 9] = [
        (0, 0, vec![0]),
        (0, 5, vec![0]),
        (1, 0, table(&[], &[])),
        (1, 1, GUEST_MAC.to_vec()),
        (2, 0, vec![7, 0]),
        (2, 1, vec![7, 0]),
        (3, 0, vec![]),
        (5, 0, 0x0080_0002_u64.to_le_bytes().to_vec()),
        (4, 0, vec![1, 0]),
    ];
    for (class, command, data) in commands {
        for len in 0..data.len() + 8 {
            let mut bytes = data.clone();
            bytes.resize(len, 0);
            let whole = len >= data.len() && class != 4 && class != 5;
            let answer = rig.command(class, command, &bytes);
            if class != 5 {
                assert_eq!(answer, u8::from(!whole), "{class}/{command} of {len} bytes");
            }
        }
    }
    assert_eq!(passes(&mut rig, &STATIONS), [GUEST_MAC, BROADCAST]);
}

#[test]
fn bytes_behind_a_command_mean_nothing_however_many_there_are_net_cvq_05() {
    let mut rig = Rig::running(F::empty());
    let mut long = vec![0; 70_000];
    assert_eq!(rig.command(0, 0, &long), OK);
    long[0] = 2;
    assert_eq!(rig.command(0, 0, &long), ERR, "neither on nor off");
    assert_eq!(rig.command(0, 0, &[1]), OK);
}

#[test]
fn ctrl_queue_abuse_of_65536_commands_leaves_a_device_that_works() {
    let mut rig = Rig::running(F::empty());
    let mut random = Random::new(13);
    let index = rig.control_index();
    let mut given = 0;
    while given < 66_000 {
        let batch = rig.queue(index).ring.free() / 2;
        for _ in 0..batch {
            let len = random.below(20) as usize;
            let mut bytes = random.bytes(len);
            if let Some(class) = bytes.first_mut() {
                *class %= 7;
            }
            let pieces = [rig.memory.filled(&bytes), rig.memory.room(1)];
            rig.queue(index).ring.add(&pieces);
        }
        rig.queue(index).publish();
        given += batch;
        while rig.queue(index).ring.in_flight() > 0 {
            for used in rig.wait_used(index, 1) {
                assert_eq!(used.len, 1);
            }
        }
    }
    assert!(!rig.device.needs_reset());
    assert_eq!(rig.command(0, 0, &[1]), OK);
    rig.send(0, &frame(60, 1));
    assert_eq!(rig.networks[0].wait_sent(1).len(), 1);
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
