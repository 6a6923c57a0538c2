//! Large frames in tunnels over UDP, whose headers are longer. VirtIO 1.4 §5.1.9.2, §5.1.9.4.1.

use net_queue::header::{HDR_LEN, HdrError, HdrSize, TxRules, flags, gso};
use net_queue::{DropCause, Offloads, RxConfig, TxConfig, TxEngine};

use crate::rig::{MERGE, RxRig, SINGLE, TxRig, every_layout, every_ring, frame, ring};

/// Bytes of a header with the fields of a tunnel.
const LONG: usize = 24;

/// Header of a frame with VXLAN over IPv4, and of TCP over IPv4 inside: Ethernet, IPv4, UDP, VXLAN,
/// Ethernet, IPv4.
fn header(flags: u8, num_buffers: u16) -> [u8; LONG] {
    let (outer_th, inner_nh) = (34_u16, 64_u16);
    let mut header = [0; LONG];
    header[0] = flags;
    header[1] = gso::TCPV4 | gso::UDP_TUNNEL_IPV4;
    let words = [104, 1398, inner_nh + 20, 16, num_buffers];
    for (at, word) in (2..).step_by(2).zip(words) {
        header[at..at + 2].copy_from_slice(&u16::to_le_bytes(word));
    }
    header[20..22].copy_from_slice(&outer_th.to_le_bytes());
    header[22..24].copy_from_slice(&inner_nh.to_le_bytes());
    header
}

fn packet(flags: u8, num_buffers: u16, len: usize) -> Vec<u8> {
    [&header(flags, num_buffers)[..], &frame(len, 3)].concat()
}

const NEEDS: u8 = flags::NEEDS_CSUM;
const BOTH: u8 = flags::NEEDS_CSUM | flags::UDP_TUNNEL_CSUM;

#[test]
fn transmitted_frames_in_tunnels_keep_their_offsets() {
    every_ring(16, |config| {
        for flags in [NEEDS, BOTH] {
            for len in [150, 1000, 9000, 65_535] {
                let mut rig = TxRig::with(config, HdrSize::Tunnel, Offloads::all());
                let clean = packet(flags, 0, len);
                let mut bytes = clean.clone();
                bytes[HDR_LEN..20].fill(0xee);
                for cuts in [&[][..], &[1], &[21, 30], &[LONG, LONG + 100]] {
                    rig.send(&bytes, cuts);
                    assert_eq!(
                        rig.drain(),
                        std::slice::from_ref(&clean),
                        "{len} bytes cut at {cuts:?}"
                    );
                }
                assert_eq!(rig.counters.dropped(), 0);
            }
        }
    });
}

/// Neither cut nor completed here, nor taken for part of a flow.
#[test]
fn transmitted_frames_in_tunnels_leave_alone_or_are_dropped() {
    every_layout(|layout| {
        let mut rig = TxRig::with(ring(layout, 16), HdrSize::Tunnel, Offloads::DONE_HERE);
        let config = TxConfig {
            size: HdrSize::Tunnel,
            segmentation: Offloads::DONE_HERE,
            coalesce: Offloads::DONE_HERE,
            ..TxConfig::new(TxRules::new(Offloads::CSUM))
        };
        rig.engine = TxEngine::new(rig.guest.device(), config, rig.counters.clone());
        rig.send(&packet(NEEDS, 0, 9000), &[]);
        assert_eq!(rig.drain(), [[0; 0]; 0]);
        let cause = DropCause::Header(HdrError::GsoNotNegotiated);
        assert_eq!(rig.dropped_for(cause), 1);
        assert_eq!(rig.guest.poll_all().len(), 1);
    });
}

#[test]
fn received_frames_in_tunnels_keep_their_offsets() {
    every_ring(64, |config| {
        for (shape, bufs) in [(MERGE, 1000), (MERGE, 70_000), (SINGLE, 70_000)] {
            for flags in [NEEDS, BOTH] {
                let rx = RxConfig {
                    size: HdrSize::Tunnel,
                    offloads: Offloads::all(),
                    ..shape
                };
                let mut rig = RxRig::new(config, rx);
                // The second one is received directly.
                for round in 0..3 {
                    let len = 9000 + round;
                    let count = if bufs < len { 10 } else { 1 };
                    for _ in 0..count {
                        rig.post(&[bufs]);
                    }
                    let mut bytes = packet(flags, 0, len);
                    bytes[HDR_LEN..20].fill(0xee);
                    rig.wire.inject(bytes);
                    rig.drain();
                    let (head, rest, chains) = rig.take_frame().expect("a frame");
                    let whole = [head, rest].concat();
                    let buffers = if shape.merge { chains.len() as u16 } else { 1 };
                    assert_eq!(whole, packet(flags, buffers, len));
                }
                assert_eq!(rig.counters.dropped(), 0);
            }
        }
    });
}

#[test]
fn received_frames_in_tunnels_need_their_feature_net_hdr_28_29() {
    every_layout(|layout| {
        for (offloads, flags) in [
            (Offloads::DONE_HERE, NEEDS),
            (Offloads::all() - Offloads::UDP_TUNNEL_CSUM, BOTH),
        ] {
            let rx = RxConfig {
                size: HdrSize::Tunnel,
                offloads,
                ..MERGE
            };
            let mut rig = RxRig::new(ring(layout, 64), rx);
            for _ in 0..40 {
                rig.post(&[2000]);
            }
            rig.wire.inject(packet(flags, 0, 9000));
            rig.wire.inject([vec![0; LONG], frame(70, 3)].concat());
            rig.drain();
            let (head, rest, _) = rig.take_frame().expect("the frame behind it");
            let mut expected = [vec![0; LONG], frame(70, 3)].concat();
            expected[10] = 1;
            assert_eq!([head, rest].concat(), expected);
            let cause = DropCause::Header(HdrError::GsoNotNegotiated);
            assert_eq!(rig.dropped_for(cause), 1);
        }
    });
}
