//! Everything that goes on in the other device as if nothing had happened.

use net_device::net_queue::Offloads;
use net_device::rate_limiter::RateLimiterConfig;
use net_device::{Features, Migratable, NetConfig, VirtioDevice};
use net_queue::testing::Interrupts;
use snapshot::state::ConfigState;
use snapshot::{NetState, Snapshot};
use tests::testbed::{
    BROADCAST, GUEST_MAC, RINGS, Rig, body, frame, frame_to, pause, resume, tagged,
};

use crate::{
    CSUM, ERR, F, OK, OTHER, exchange, frames, hourly, migrated, programmed, running, state,
};

/// Chains that the driver shows a paused device, and buffers that it leaves there.
const WAITING: u64 = 7;

#[test]
fn a_guest_moves_on_and_no_frame_is_lost_or_comes_twice() {
    for without in RINGS {
        let mut rig = running(2, without);
        for round in 0..3 {
            // More than a lap of the ring in each life.
            exchange(&mut rig, 70, 100 * round);
            rig.post(0, &[2048; WAITING as usize]);
            pause(&mut rig);
            // The kicks reach the old event and are gone with it.
            for number in 0..WAITING {
                rig.send(0, &frame(60, number));
            }
            assert_eq!(rig.networks[0].wire.take_sent().len(), 0);

            rig = migrated(rig);
            for number in 0..WAITING {
                rig.networks[0].wire.inject(frame(70, number));
            }
            assert_eq!(rig.networks[0].wire.take_sent().len(), 0, "it is paused");
            assert_eq!(rig.networks[0].wire.waiting(), WAITING as usize);
            assert_eq!(rig.irq.all(), 0);

            resume(&mut rig);
            let sent = rig.networks[0].wait_sent(WAITING as usize);
            let bodies: Vec<_> = sent.iter().map(|bytes| body(bytes).to_vec()).collect();
            let expected: Vec<_> = (0..WAITING).map(|n| body(&frame(60, n)).to_vec()).collect();
            assert_eq!(bodies, expected, "round {round}");
            let mut used = 0;
            while used < WAITING as usize {
                used += rig.wait_used(1, 1).len();
            }
            for (number, bytes) in (0..).zip(rig.receive(0, WAITING as usize)) {
                assert_eq!(body(&bytes), body(&frame(70, number)), "round {round}");
            }
            assert_eq!(rig.command(0, 0, &[1]), OK);
        }
        pause(&mut rig);
        assert_eq!(rig.networks[0].wire.take_sent().len(), 0, "nothing twice");
        for index in 0..5 {
            assert!(rig.queue(index).ring.poll_all().is_empty());
            assert_eq!(rig.queue(index).ring.in_flight(), 0, "nothing lost");
        }
    }
}

#[test]
fn resume_interrupts_every_queue_once_and_looks_for_lost_kicks() {
    for without in RINGS {
        let mut rig = running(2, without);
        exchange(&mut rig, 3, 0);
        pause(&mut rig);
        let lost = frame(60, 7);
        let piece = rig.memory.filled(&lost);
        rig.queue(1).ring.ask(Interrupts::Never);
        rig.queue(1).ring.add(&[piece]);
        rig.queue(1).ring.publish();
        let mut rig = migrated(rig);
        assert_eq!(rig.irq.all(), 0, "not before it resumes");
        resume(&mut rig);
        assert_eq!(body(&rig.networks[0].wait_sent(1)[0]), body(&lost));
        let irq = rig.irq.clone();
        let each = || (0..5).all(|index| irq.queue(index) > 0);
        irq.wait_until("an interrupt of each queue", each);
        pause(&mut rig);
        for index in 0..5 {
            assert_eq!(rig.irq.queue(index), 1, "queue {index}");
        }
        // The link may be another here, and an interrupt for it may have been lost as well
        // (NET-CFG-15).
        assert_eq!(rig.irq.config(), 1);
        resume(&mut rig);
        pause(&mut rig);
        assert_eq!(rig.irq.config(), 1);
    }
}

/// A MAC_TABLE_SET payload.
fn table(unicast: &[[u8; 6]], multicast: &[[u8; 6]]) -> Vec<u8> {
    let mut data = Vec::new();
    for list in [unicast, multicast] {
        data.extend((list.len() as u32).to_le_bytes());
        data.extend(list.iter().flatten());
    }
    data
}

const OWN: [u8; 6] = [0x02, 0, 0, 0, 0, 0x77];
const GROUP: [u8; 6] = [0x01, 0, 0x5e, 0, 0, 1];
const STATIONS: [[u8; 6]; 5] = [OWN, GUEST_MAC, OTHER, GROUP, BROADCAST];

/// Which of the stations' frames the driver sees, and which VLANs'.
fn passes(rig: &mut Rig) -> (Vec<[u8; 6]>, Vec<u16>) {
    let frames: Vec<_> = STATIONS.iter().map(|to| frame_to(*to, 64, 1)).collect();
    let seen = rig.sees(&frames);
    let destination = |bytes: &Vec<u8>| *body(bytes).first_chunk().expect("an address");
    let stations = seen.iter().map(destination).collect();
    let vlans = [5, 100, 4095].into_iter();
    let vlans = vlans.filter(|id| !rig.sees(&[tagged(*id, 1)]).is_empty());
    (stations, vlans.collect())
}

/// Sets all that a driver can set.
fn set_everything(rig: &mut Rig) {
    let groups: Vec<[u8; 6]> = (0..200).map(|n| [1, 0, 0x5e, 1, 0, n]).collect();
    let commands: [(u8, u8, Vec<u8>); 7] = [
        (0, 5, vec![1]),
        (1, 0, table(&[GUEST_MAC], &groups)),
        (1, 1, OWN.into()),
        (2, 0, 100u16.to_le_bytes().into()),
        (2, 0, 4095u16.to_le_bytes().into()),
        (5, 0, CSUM.to_le_bytes().into()),
        (4, 0, 2u16.to_le_bytes().into()),
    ];
    for (class, command, data) in commands {
        assert_eq!(rig.command(class, command, &data), OK, "{class}/{command}");
    }
    rig.device.announce();
}

/// `state` without what a restore changes on purpose.
fn without_generation(state: NetState) -> NetState {
    let config = ConfigState {
        generation: 0,
        ..state.config
    };
    NetState { config, ..state }
}

#[test]
fn everything_that_a_driver_can_set_survives() {
    for without in [F::empty(), F::VIRTIO_F_RING_PACKED] {
        let mut rig = running(3, without);
        set_everything(&mut rig);
        let seen = (vec![OWN, GUEST_MAC, GROUP], vec![100, 4095]);
        assert_eq!(passes(&mut rig), seen);
        pause(&mut rig);
        let (before, generation) = (state(&mut rig), rig.device.config_generation());
        let accepted = rig.accepted();

        let mut rig = migrated(rig);
        let after = state(&mut rig);
        assert_eq!(without_generation(after), without_generation(before));
        assert_ne!(rig.device.config_generation(), generation, "DEV-LIFE-08");
        assert_eq!(rig.accepted(), accepted);
        resume(&mut rig);
        assert_eq!(passes(&mut rig), seen);
        assert_eq!(rig.read::<6>(0), OWN);
        let link = Offloads::DONE_HERE;
        assert_eq!(
            programmed(&rig),
            link,
            "for a driver that takes checksums alone"
        );
        let attached: Vec<bool> = rig.networks.iter().map(|it| it.is_attached()).collect();
        assert_eq!(attached, [true, true, false]);
        rig.post(1, &[2048]);
        rig.networks[1].wire.inject(frame(60, 3));
        assert_eq!(body(&rig.receive(1, 1)[0]), body(&frame(60, 3)));
        assert_eq!(rig.status(), 3, "it is still asked to announce itself");
        assert_eq!(rig.command(3, 0, &[]), OK);
        assert_eq!(rig.status(), 1);
    }
}

#[test]
fn an_address_that_cannot_move_is_no_address_net_cvq_13() {
    let mut rig = running(1, F::empty());
    for mac in [[0; 6], BROADCAST, GROUP] {
        assert_eq!(rig.command(1, 1, &mac), ERR);
        assert_eq!(rig.read::<6>(0), GUEST_MAC);
    }
    let mut rig = migrated(rig);
    resume(&mut rig);
    exchange(&mut rig, 2, 0);
}

#[test]
fn a_device_without_address_and_optional_features_moves() {
    let config = NetConfig {
        mac: None,
        ..Rig::config(1)
    };
    let mut rig = Rig::new(config);
    rig.start(Features::optional());
    exchange(&mut rig, 3, 0);
    let mut rig = migrated(rig);
    assert_eq!(rig.read::<6>(0), [0; 6]);
    resume(&mut rig);
    exchange(&mut rig, 3, 10);
}

#[test]
fn a_limit_that_is_used_up_stays_so() {
    for pairs in [1, 2] {
        let mut rig = Rig::new(NetConfig {
            tx_limit: frames(3),
            ..Rig::config(pairs)
        });
        rig.start(F::empty());
        for number in 0..10 {
            rig.send(0, &frame(60, number));
        }
        assert_eq!(rig.networks[0].wait_sent(3).len(), 3);
        for _ in 0..2 {
            rig = migrated(rig);
            resume(&mut rig);
            rig.send(pairs - 1, &frame(60, 1));
        }
        pause(&mut rig);
        for network in &rig.networks {
            assert_eq!(network.wire.take_sent().len(), 0);
        }
        assert_eq!(rig.queue(1).ring.poll_all().len(), 3);
    }
}

#[test]
fn debt_moves_along() {
    let limit = RateLimiterConfig {
        bandwidth: Some(hourly(1000)),
        ..RateLimiterConfig::default()
    };
    let mut rig = Rig::new(NetConfig {
        tx_limit: Some(limit),
        ..Rig::config(1)
    });
    rig.start(F::empty());
    rig.send(0, &frame(3000, 1));
    assert_eq!(rig.networks[0].wait_sent(1).len(), 1);
    let debt = |rig: &mut Rig| {
        let limiter = state(rig).limiters[0];
        assert_eq!(limiter.queue, 1);
        limiter.bandwidth.expect("it is limited").tokens
    };
    pause(&mut rig);
    assert!((-2000..-1000).contains(&debt(&mut rig)));
    let mut rig = migrated(rig);
    assert!((-2000..-1000).contains(&debt(&mut rig)));
}

/// As a VMM does it, which knows devices by their traits only.
fn travel(from: &mut dyn Migratable, to: &mut dyn Migratable) {
    from.start_migration().expect("it can");
    from.start_dirty_log().expect("it can");
    assert!(from.dirty_log().expect("it is kept").is_empty());
    from.pause().expect("it pauses");
    let snapshot: Snapshot = from.snapshot().expect("it is paused");
    assert_eq!((snapshot.id(), from.id()), ("net", to.id()));
    let mut stream = Vec::new();
    from.send(&snapshot, &mut stream).expect("it has room");
    stream.extend(b"the next device");
    let mut stream = &stream[..];
    let arrived = to.receive(&mut stream).expect("it is whole");
    assert_eq!(stream, b"the next device");
    to.restore(arrived).expect("it is alike");
    from.stop_dirty_log().expect("it can");
    from.complete_migration().expect("it can");
}

#[test]
fn a_vmm_that_knows_only_traits_can_move_it() {
    let mut rig = running(1, F::empty());
    exchange(&mut rig, 3, 0);
    let mut next = Rig::new(Rig::config(1));
    travel(&mut *rig.device, &mut *next.device);
    let mut next = rig.move_to(next);
    next.activate();
    let device: &mut dyn Migratable = &mut *next.device;
    device.resume().expect("it resumes");
    exchange(&mut next, 3, 10);
}
