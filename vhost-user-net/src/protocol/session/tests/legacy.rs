//! Drivers without VIRTIO_F_VERSION_1: what firmware accepts behind a transitional device.

use super::*;

const LEGACY_HEADER: usize = 10;
const CSUM: u64 = 1 << 0;
const MRG_RXBUF: u64 = 1 << 15;
const IN_ORDER: u64 = 1 << 35;

fn transitional() -> (NetDevice, Vec<Wire>) {
    let config = NetConfig::builder()
        .mac([2, 0, 0, 0, 0, 1])
        .transitional(true);
    let (device, ports, wires) = from_config(config.build().unwrap());
    (device.build_on_ports(ports).unwrap(), wires)
}

/// Both rings of a driver that accepts `features` run.
fn start(session: &mut Session<'_>, front_end: &FrontEnd, features: u64) {
    all(
        session,
        [
            Request::SetFeatures(features | PROTOCOL),
            front_end.memory_table(),
        ],
    );
    for ring in [RX, TX] {
        all(session, front_end.set_up(ring, 0));
        all(session, [Request::SetVringEnable(ring, true)]);
    }
}

#[test]
fn the_header_follows_what_the_driver_accepts_net_feat_05() {
    let (mut device, wires) = transitional();
    for (features, header) in [
        (0, LEGACY_HEADER),
        (MRG_RXBUF, HEADER),
        (VERSION_1, HEADER),
        (0, LEGACY_HEADER),
    ] {
        let mut front_end = FrontEnd::new();
        let mut session = Session::new(&mut device).unwrap();
        start(&mut session, &front_end, features);
        front_end.send();
        front_end.wait_for(TX, 1);
        // The scripted driver writes a header of 12 bytes: what is behind the tenth is a frame's.
        let sent = wires[0].take_sent().remove(0);
        assert_eq!(sent.len(), HEADER + FRAME);
        assert_eq!(wires[0].links().last().unwrap().hdr_len, header);
        front_end.provide(2);
        wires[0].inject(vec![0; header + FRAME]);
        front_end.wait_for(RX, 1);
        assert_eq!(front_end.written(0) as usize, header + FRAME);
        for ring in [RX, TX] {
            session.handle(Request::GetVringBase(ring)).unwrap();
        }
    }
}

#[test]
fn a_mix_of_old_and_new_ends_the_session_net_feat_05() {
    let (mut device, _wires) = transitional();
    let mut session = Session::new(&mut device).unwrap();
    for mix in [1 << 34, IN_ORDER, CSUM | 1 << 56, MRG_RXBUF | IN_ORDER] {
        let refused = session.handle(Request::SetFeatures(PROTOCOL | mix));
        assert!(refused.is_err(), "{mix:#x}");
    }
    all(&mut session, [Request::SetFeatures(PROTOCOL)]);
}

/// The next back-end has the same header before the frames.
#[test]
fn a_legacy_driver_goes_on_where_its_ring_stood() {
    let (mut device, wires) = transitional();
    let mut front_end = FrontEnd::new();
    let base = {
        let mut session = Session::new(&mut device).unwrap();
        start(&mut session, &front_end, 0);
        front_end.send();
        front_end.wait_for(TX, 1);
        session.handle(Request::GetVringBase(TX)).unwrap()
    };
    assert_eq!(base, Answer::RingBase(RingValue { ring: TX, value: 1 }));
    drop((device, wires));
    let (mut device, wires) = transitional();
    let mut session = Session::new(&mut device).unwrap();
    all(
        &mut session,
        [Request::SetFeatures(PROTOCOL), front_end.memory_table()],
    );
    all(&mut session, front_end.set_up(TX, 1));
    all(&mut session, [Request::SetVringEnable(TX, true)]);
    front_end.send();
    front_end.wait_for(TX, 2);
    assert_eq!(wires[0].take_sent()[0][HEADER], 1);
    assert_eq!(wires[0].links().last().unwrap().hdr_len, LEGACY_HEADER);
}
