//! Headers of frames in tunnels. VirtIO 1.4 §5.1.9.2.1, §5.1.9.2.2, §5.1.9.4.1.

use proptest::prelude::*;

use super::*;

/// Fields of a tunnel behind those of the base header.
#[derive(Clone, Copy, Debug)]
struct Offsets {
    outer_th: u16,
    inner_nh: u16,
}

/// VXLAN over IPv4: Ethernet, IPv4, UDP, VXLAN, Ethernet.
const OFFSETS: Offsets = Offsets {
    outer_th: 34,
    inner_nh: 34 + 8 + 8 + 14,
};
const TCP4_IN_V4: Wire = Wire {
    gso_type: gso::TCPV4 | gso::UDP_TUNNEL_IPV4,
    csum_start: OFFSETS.inner_nh + 20,
    hdr_len: OFFSETS.inner_nh + 40,
    ..TCP4
};

fn raw(wire: Wire, offsets: Offsets) -> RawHdr {
    let mut raw = RawHdr::new(HdrSize::Tunnel);
    let bytes = raw.as_mut_bytes();
    bytes[..HDR_LEN].copy_from_slice(wire.raw().as_bytes());
    // Hashes mean nothing to the check.
    bytes[HDR_LEN..20].fill(0xa5);
    bytes[20..22].copy_from_slice(&offsets.outer_th.to_le_bytes());
    bytes[22..24].copy_from_slice(&offsets.inner_nh.to_le_bytes());
    raw
}

fn tx(wire: Wire, offsets: Offsets, on: Offloads) -> Result<NetHdr, HdrError> {
    NetHdr::check_tx(&raw(wire, offsets), 9000, TxRules::new(on))
}

fn rx(wire: Wire, offsets: Offsets, on: Offloads) -> Result<NetHdr, HdrError> {
    NetHdr::check_rx(&raw(wire, offsets), 9000, RxRules::new(on))
}

/// Outcome of both directions, which is the same.
fn both(wire: Wire, offsets: Offsets, on: Offloads) -> Result<(), HdrError> {
    let (sent, received) = (tx(wire, offsets, on), rx(wire, offsets, on));
    assert_eq!(sent.map(|_| ()), received.map(|_| ()));
    sent.map(|_| ())
}

#[test]
fn frames_in_tunnels_keep_their_fields() {
    for (bits, outer) in [(gso::UDP_TUNNEL_IPV4, 20), (gso::UDP_TUNNEL_IPV6, 40)] {
        for (inner, ip) in [
            (gso::TCPV4, 20),
            (gso::TCPV6, 40),
            (gso::UDP_L4, 20),
            (gso::TCPV4 | gso::ECN, 20),
        ] {
            for flags in [
                flags::NEEDS_CSUM,
                flags::NEEDS_CSUM | flags::UDP_TUNNEL_CSUM,
            ] {
                let offsets = Offsets {
                    outer_th: 14 + outer,
                    inner_nh: 14 + outer + 8 + 8 + 14,
                };
                let wire = Wire {
                    flags,
                    gso_type: inner | bits,
                    csum_start: offsets.inner_nh + ip,
                    csum_offset: if inner == gso::UDP_L4 { 6 } else { 16 },
                    ..TCP4_IN_V4
                };
                let sent = tx(wire, offsets, ALL).expect("it is a frame of a tunnel");
                let mut received = rx(wire, offsets, ALL).expect("it is a frame of a tunnel");
                received.set_num_buffers(0);
                assert_eq!(sent, received);
                assert_eq!((sent.flags(), sent.gso_type()), (flags, inner | bits));
                let seen = (sent.outer_th_offset(), sent.inner_nh_offset());
                assert_eq!(seen, (offsets.outer_th, offsets.inner_nh));
                assert_eq!(sent.csum_start(), wire.csum_start);
                let mut expected = raw(wire, offsets);
                expected.as_mut_bytes()[HDR_LEN..20].fill(0);
                let out = sent.to_raw(HdrSize::Tunnel);
                assert_eq!(out.as_bytes(), expected.as_bytes());
            }
        }
    }
}

#[test]
fn net_hdr_13_a_frame_is_in_one_tunnel() {
    for inner in [gso::TCPV4, gso::TCPV6, gso::UDP_L4] {
        let wire = Wire {
            gso_type: inner | gso::UDP_TUNNEL,
            ..TCP4_IN_V4
        };
        assert_eq!(both(wire, OFFSETS, ALL), Err(HdrError::GsoTunnel));
    }
}

#[test]
fn net_hdr_14_24_frames_in_tunnels_are_cut_and_have_checksums_to_complete() {
    for bits in [gso::UDP_TUNNEL_IPV4, gso::UDP_TUNNEL_IPV6] {
        for flags in [0, flags::DATA_VALID, flags::DATA_VALID | flags::NEEDS_CSUM] {
            let wire = Wire {
                flags,
                gso_type: gso::TCPV4 | bits,
                ..TCP4_IN_V4
            };
            assert_eq!(both(wire, OFFSETS, ALL), Err(HdrError::GsoTunnel));
        }
        for inner in [gso::NONE, gso::ECN, gso::UDP] {
            let wire = Wire {
                gso_type: inner | bits,
                ..TCP4_IN_V4
            };
            assert_eq!(both(wire, OFFSETS, ALL), Err(HdrError::GsoTunnel));
        }
        let unknown = Wire {
            gso_type: 2 | bits,
            ..TCP4_IN_V4
        };
        assert_eq!(both(unknown, OFFSETS, ALL), Err(HdrError::GsoUnknown));
    }
}

#[test]
fn net_hdr_15_29_outer_checksums_belong_to_tunnels() {
    let csum = Offloads::UDP_TUNNEL_CSUM;
    for (wire, needs) in [(PLAIN, 0), (CSUM, 1), (TCP4, 1)] {
        let wire = Wire {
            flags: needs | flags::UDP_TUNNEL_CSUM,
            ..wire
        };
        assert_eq!(tx(wire, OFFSETS, ALL), Err(HdrError::GsoTunnel));
        // It is an unknown flag without the feature, and nothing that a driver misses on receive.
        let sent = tx(wire, OFFSETS, ALL - csum).map(NetHdr::flags);
        assert_eq!(sent, Ok(needs));
        assert_eq!(rx(wire, OFFSETS, ALL).map(NetHdr::flags), Ok(needs));
    }
    let wire = Wire {
        flags: flags::NEEDS_CSUM | flags::UDP_TUNNEL_CSUM,
        ..TCP4_IN_V4
    };
    let without = both(wire, OFFSETS, ALL - csum);
    assert_eq!(without, Err(HdrError::GsoNotNegotiated));
    assert_eq!(both(TCP4_IN_V4, OFFSETS, ALL - csum), Ok(()));
}

#[test]
fn net_hdr_16_offsets_mean_nothing_without_a_tunnel() {
    for wire in [PLAIN, CSUM, TCP4, TCP6, USO] {
        for offsets in [
            OFFSETS,
            Offsets {
                outer_th: 0xffff,
                inner_nh: 1,
            },
        ] {
            let none = Offsets {
                outer_th: 0,
                inner_nh: 0,
            };
            let checked = tx(wire, offsets, ALL).expect("it is a frame without a tunnel");
            assert_eq!(Ok(checked), tx(wire, none, ALL));
            assert!(
                checked.to_raw(HdrSize::Tunnel).as_bytes()[HDR_LEN..]
                    .iter()
                    .all(|it| *it == 0)
            );
        }
    }
}

#[test]
fn net_hdr_17_28_a_tunnel_needs_its_feature_and_its_header() {
    for on in [ALL - Offloads::UDP_TUNNEL, Offloads::DONE_HERE] {
        assert_eq!(
            both(TCP4_IN_V4, OFFSETS, on),
            Err(HdrError::GsoNotNegotiated)
        );
    }
    for size in [HdrSize::Base, HdrSize::HashReport] {
        let mut short = RawHdr::new(size);
        short.as_mut_bytes().fill(0xff);
        short.as_mut_bytes()[..HDR_LEN].copy_from_slice(TCP4_IN_V4.raw().as_bytes());
        let outcome = NetHdr::check_tx(&short, 9000, TxRules::new(ALL));
        assert_eq!(outcome, Err(HdrError::GsoTunnel));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 16 } else { 4096 }))]

    /// Offsets pass if the headers that they name have room, as Linux counts it.
    #[test]
    fn net_hdr_17_tunnel_offsets_are_in_order_and_in_range(
        outer_th in 0..120_u16,
        inner_nh in prop_oneof![0..160_u16, any::<u16>()],
        csum_start in prop_oneof![54..220_u16, 54..=u16::MAX],
        v6 in any::<(bool, bool)>(),
    ) {
        let (outer_v6, inner_v6) = v6;
        let wire = Wire {
            gso_type: if outer_v6 { gso::UDP_TUNNEL_IPV6 } else { gso::UDP_TUNNEL_IPV4 }
                | if inner_v6 { gso::TCPV6 } else { gso::TCPV4 },
            csum_start,
            ..TCP4_IN_V4
        };
        let ip = |v6| if v6 { 40 } else { 20 };
        let [outer, inner, start] = [outer_th, inner_nh, csum_start].map(u32::from);
        let room = outer >= 14 + ip(outer_v6)
            && inner >= outer + 8
            && start >= inner + ip(inner_v6);
        match both(wire, Offsets { outer_th, inner_nh }, ALL) {
            Ok(()) => prop_assert!(room && start + 20 <= 9000),
            Err(HdrError::GsoTunnel) => prop_assert!(!room),
            Err(HdrError::CsumRange) => prop_assert!(start + 18 > 9000),
            Err(HdrError::GsoHeaders) => prop_assert!(start + 20 > 9000),
            Err(error) => prop_assert!(false, "{error}"),
        }
    }
}
