//! Commands of any shape: unknown, cut, too short, too long, too many.

use super::*;

#[test]
fn ctrl_unknown_commands_are_refused_without_effect_net_cvq_04() {
    let mut rig = Rig::running(F::empty());
    let known = |class, command| {
        matches!(
            (class, command),
            (0, 0..=5)
                | (1, 0..=1)
                | (2, 0..=1)
                | (3, 0)
                | (5, 0)
                | (6, 0..=1)
                | (6, 3)
                | (8, 0..=1)
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
        | F::VIRTIO_NET_F_DEVICE_STATS
        | F::VIRTIO_NET_F_NOTF_COAL
        | F::VIRTIO_NET_F_VQ_NOTF_COAL
        | F::VIRTIO_NET_F_MQ;
    let mut rig = Rig::new(Rig::config(2));
    rig.start(all);
    let data = [1; 16];
    for (class, commands) in [
        (0, 6),
        (1, 2),
        (2, 2),
        (3, 1),
        (4, 4),
        (5, 1),
        (6, 4),
        (8, 1),
    ] {
        for command in 0..commands {
            assert_eq!(rig.command(class, command, &data), ERR, "{class}/{command}");
        }
    }
    assert_eq!(rig.read::<6>(0), GUEST_MAC);
    // One command of the class for pairs is unknown, lists of so many addresses would be longer,
    // and no table has such a mask.
    let refused = ["not_negotiated", "unknown", "short", "value"]
        .map(|cause| rig.counter(&format!("ctrl_refused_{cause}")));
    assert_eq!(refused, [18, 1, 1, 1]);
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
