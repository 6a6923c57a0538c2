//! Legacy drivers: those that do not accept VIRTIO_F_VERSION_1, on a transitional device.
//! VirtIO 1.4 §2.2.3, §5.1.9.1.

use net_device::{
    ActivateError, FeatureError, Features, NetConfig, NetDevice, Snapshottable, TapConfig,
    VirtioDevice,
};
use net_queue::header::{HDR_LEN, LEGACY_HDR_LEN};
use tests::testbed::{GUEST_MAC, Host, PEER_MAC, Rig, body, frame, frame_to, isolated, resume};
use tests::testbed::{pause, without_ipv6};

type F = Features;

const MERGE: F = F::VIRTIO_NET_F_MRG_RXBUF;

fn config() -> NetConfig {
    NetConfig {
        transitional: true,
        ..Rig::config(1)
    }
}

/// Features that no legacy driver has, and `others`.
fn beyond(others: F) -> F {
    F::from_bits_retain(u128::MAX << 32) | others
}

/// A legacy driver that accepted all that it could except `without`, and is running.
fn running(without: F) -> Rig {
    let mut rig = Rig::new(config());
    rig.start(beyond(without));
    rig
}

/// A header of 10 bytes that asks for nothing, and the frame that `bytes` are with a longer one.
fn legacy(bytes: &[u8]) -> Vec<u8> {
    [&[0; LEGACY_HDR_LEN], body(bytes)].concat()
}

/// Header length that the backend was told last.
fn told(rig: &Rig) -> usize {
    let links = rig.networks[0].wire.links();
    links.last().expect("the backend was configured").hdr_len
}

/// One frame each way, `hdr_len` bytes before it, and not a byte more.
fn exchange(rig: &mut Rig, hdr_len: usize, seed: u64) {
    let bytes = |seed| [&vec![0; hdr_len], body(&frame(500, seed))].concat();
    assert_eq!(told(rig), hdr_len);
    rig.send(0, &bytes(seed));
    assert_eq!(rig.networks[0].wait_sent(1), [bytes(seed)]);
    rig.wait_used(1, 1);
    rig.post(0, &[hdr_len + 1514]);
    rig.networks[0].wire.inject(bytes(seed + 1));
    let used = rig.wait_used(0, 1).remove(0);
    assert_eq!(used.len as usize, hdr_len + 500);
    let mut got = rig.queue(0).ring.bytes(&used);
    if hdr_len > LEGACY_HDR_LEN {
        assert_eq!(got[LEGACY_HDR_LEN..hdr_len], [1, 0]);
        got[LEGACY_HDR_LEN..hdr_len].fill(0);
    }
    assert_eq!(got, bytes(seed + 1));
}

#[test]
fn the_header_is_as_long_as_the_features_say_net_feat_05_net_rx_17() {
    exchange(&mut running(MERGE), LEGACY_HDR_LEN, 1);
    exchange(&mut running(F::empty()), HDR_LEN, 1);
}

#[test]
fn drivers_old_and_new_take_turns_on_a_device_net_feat_05() {
    let mut rig = Rig::new(config());
    for seed in 0..3 {
        for (without, hdr_len) in [
            (beyond(MERGE), LEGACY_HDR_LEN),
            (MERGE, HDR_LEN),
            (beyond(F::empty()), HDR_LEN),
            // Hashes are not configured.
            (F::empty(), HDR_LEN),
        ] {
            rig.start(without);
            exchange(&mut rig, hdr_len, seed);
            rig.device.reset();
        }
    }
}

/// Before it writes features, old drivers use the device.
#[test]
fn a_driver_that_accepts_nothing_is_a_legacy_one_net_feat_05() {
    for says_so in [false, true] {
        let mut rig = Rig::new(config());
        if says_so {
            rig.device.ack_features(0).expect("nothing is a set");
        }
        rig.lay_out(64);
        rig.activate();
        exchange(&mut rig, LEGACY_HDR_LEN, 7);
    }
}

#[test]
fn a_mix_of_old_and_new_is_refused_and_does_not_run_net_feat_05() {
    let mut rig = Rig::new(config());
    let mix = F::VIRTIO_F_RING_PACKED | F::VIRTIO_F_IN_ORDER;
    let refused = rig.device.ack_features((MERGE | mix).bits());
    assert_eq!(refused, Err(FeatureError::Legacy(mix)));
    rig.lay_out(64);
    let activated = rig.try_activate(rig.setups());
    assert!(
        matches!(activated, Err(ActivateError::NotNegotiated)),
        "{activated:?}"
    );
    rig.device.reset();
    rig.start(beyond(MERGE));
    exchange(&mut rig, LEGACY_HDR_LEN, 3);
}

#[test]
fn the_device_announces_a_legacy_guest_behind_its_header() {
    let mut rig = running(MERGE);
    rig.device.send_rarp(GUEST_MAC.into());
    let sent = rig.networks[0].wait_sent(1).remove(0);
    assert_eq!(sent.len(), LEGACY_HDR_LEN + 60);
    assert_eq!(sent[LEGACY_HDR_LEN..][..6], [0xff; 6]);
    assert_eq!(sent[LEGACY_HDR_LEN + 6..][..6], GUEST_MAC);
}

#[test]
fn a_legacy_driver_moves_to_another_device_net_feat_05() {
    for (without, hdr_len) in [(MERGE, LEGACY_HDR_LEN), (F::empty(), HDR_LEN)] {
        let mut rig = running(without);
        exchange(&mut rig, hdr_len, 1);
        // Posted before, filled behind the move.
        rig.post(0, &[hdr_len + 200]);
        let next = rig.restored();
        let mut rig = rig.move_to(next);
        rig.activate();
        resume(&mut rig);
        let bytes = [&vec![0; hdr_len], body(&frame(200, 9))].concat();
        rig.networks[0].wire.inject(bytes);
        assert_eq!(rig.wait_used(0, 1)[0].len as usize, hdr_len + 200);
        exchange(&mut rig, hdr_len, 5);
    }
}

/// One that accepted nothing at all is not taken for none.
#[test]
fn a_legacy_driver_without_features_moves_too() {
    let mut rig = Rig::new(config());
    rig.lay_out(64);
    rig.activate();
    let next = rig.restored();
    let mut rig = rig.move_to(next);
    rig.activate();
    resume(&mut rig);
    // It has no features to tell the network itself where it is.
    let announced = rig.networks[0].wait_sent(1).remove(0);
    assert_eq!(announced.len(), LEGACY_HDR_LEN + 60);
    exchange(&mut rig, LEGACY_HDR_LEN, 5);
}

#[test]
fn a_device_that_refuses_legacy_drivers_refuses_their_state_net_feat_05() {
    let mut rig = running(MERGE);
    pause(&mut rig);
    let state = rig.device.snapshot().expect("it is paused");
    let mut next = Rig::new(Rig::config(1));
    assert!(next.device.restore(state).is_err());
}

#[test]
fn a_legacy_driver_writes_its_address_into_the_configuration_space() {
    let mut rig = running(MERGE | F::VIRTIO_NET_F_CTRL_MAC_ADDR);
    let to = |mac| legacy(&frame_to(mac, 60, 1));
    assert_eq!(rig.sees(&[to(PEER_MAC), to(GUEST_MAC)]), [to(GUEST_MAC)]);
    let before = rig.device.config_generation();
    for (at, byte) in PEER_MAC.iter().enumerate() {
        assert_eq!(rig.read(0), GUEST_MAC, "it is written from first to last");
        rig.device.write_config(at as u64, &[*byte]);
    }
    assert_eq!(rig.read(0), PEER_MAC);
    assert_ne!(rig.device.config_generation(), before);
    assert_eq!(rig.sees(&[to(PEER_MAC), to(GUEST_MAC)]), [to(PEER_MAC)]);
    // At once, and more than is there.
    rig.device
        .write_config(0, &[&GUEST_MAC[..], &[0xff; 30]].concat());
    assert_eq!(rig.read(0), GUEST_MAC);
    assert_eq!(rig.status(), 1);
    // Not the address of a station.
    rig.device.write_config(5, &[1]);
    rig.device.write_config(0, &[0xff; 6]);
    let [.., last] = rig.read::<6>(0);
    assert_eq!(last, 1);
    rig.device.write_config(6, &[0xff; 30]);
    rig.device.write_config(u64::MAX, &[0xff; 30]);
    assert_eq!(rig.status(), 1);
    rig.device.reset();
    assert_eq!(rig.read(0), GUEST_MAC, "the configured one is back");
}

#[test]
fn nobody_else_writes_to_the_configuration_space_net_cfg_02() {
    let others = [
        // A command is there for it.
        beyond(MERGE),
        // It has no address to change.
        beyond(F::VIRTIO_NET_F_MAC | F::VIRTIO_NET_F_CTRL_MAC_ADDR),
        // Not a legacy driver.
        F::VIRTIO_NET_F_CTRL_MAC_ADDR,
    ];
    for without in others {
        let mut rig = Rig::new(config());
        rig.device.write_config(0, &PEER_MAC);
        rig.start(without);
        rig.device.write_config(0, &PEER_MAC);
        assert_eq!(rig.read(0), GUEST_MAC);
    }
}

#[test]
fn a_real_tap_takes_and_gives_headers_of_ten_bytes_net_feat_05() {
    isolated(|| {
        without_ipv6();
        let tap = TapConfig {
            name: Some("old0".to_owned()),
            ..TapConfig::default()
        };
        let device = NetDevice::from_tap_name(config(), &tap).expect("it can be made");
        let mut rig = Rig::over(device);
        let host = Host::on("old0");
        for _ in 0..2 {
            rig.start(beyond(MERGE));
            rig.send(0, &legacy(&host.datagram(b"to the host")));
            assert_eq!(host.receive(), b"to the host");
            rig.post(0, &[LEGACY_HDR_LEN + 1514]);
            host.send(b"to the guest");
            let used = rig.wait_used(0, 1).remove(0);
            let mut bytes = rig.queue(0).ring.bytes(&used);
            bytes.splice(LEGACY_HDR_LEN..LEGACY_HDR_LEN, [1, 0]);
            assert_eq!(Host::payload(&bytes), Some(&b"to the guest"[..]));
            rig.device.reset();
            rig.start(F::empty());
            host.check_traffic(&mut rig);
            rig.device.reset();
        }
    });
}
