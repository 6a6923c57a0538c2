//! Promises that hold for every header.

use proptest::prelude::*;

use super::*;

/// The table in `gso.rs`, row by row: every flag, type and feature, and what becomes of it. No
/// offset says where a tunnel would be.
#[test]
fn every_combination_of_flags_and_types_has_its_outcome() {
    for flags in 0..=u8::MAX {
        for gso_type in 0..=u8::MAX {
            for on in [ALL, Offloads::CSUM, Offloads::empty()] {
                let tunnel = gso_type & gso::UDP_TUNNEL;
                let base = gso_type & !(gso::ECN | tunnel);
                let udp = matches!(base, gso::UDP | gso::UDP_L4);
                let wire = Wire {
                    flags,
                    gso_type,
                    csum_offset: if udp { 6 } else { 16 },
                    ..TCP6
                };
                let known = matches!(base, gso::TCPV4 | gso::TCPV6) || udp;
                let needs = flags & flags::NEEDS_CSUM != 0;
                let expected = match gso_type {
                    _ if tunnel != 0 && on != ALL => Err(HdrError::GsoNotNegotiated),
                    _ if tunnel == gso::UDP_TUNNEL
                        || tunnel != 0
                            && (matches!(base, gso::NONE | gso::UDP) || flags & 3 != 1) =>
                    {
                        Err(HdrError::GsoTunnel)
                    }
                    0 if needs && on.is_empty() => Err(HdrError::CsumNotNegotiated),
                    0 => Ok(()),
                    _ if !known => Err(HdrError::GsoUnknown),
                    _ if on != ALL || gso_type & gso::ECN != 0 && udp => {
                        Err(HdrError::GsoNotNegotiated)
                    }
                    _ if tunnel != 0 => Err(HdrError::GsoTunnel),
                    _ if !needs => Err(HdrError::GsoWithoutCsum),
                    _ => Ok(()),
                };
                let outer = flags & flags::UDP_TUNNEL_CSUM != 0 && on == ALL;
                let sent = if outer && tunnel == 0 {
                    Err(HdrError::GsoTunnel)
                } else {
                    expected
                };
                let outcomes = [(wire.tx(2000, on), sent), (wire.rx(2000, on), expected)];
                for (outcome, expected) in outcomes {
                    assert_eq!(
                        outcome.map(|_| ()),
                        expected,
                        "{flags:#x} {gso_type:#x} {on:?}"
                    );
                }
            }
        }
    }
}

/// The promise of the module's first paragraph.
fn assert_invariants(hdr: NetHdr, frame_len: u32, on: Offloads, flags: u8) {
    assert_eq!(hdr.flags() & !flags, 0);
    assert!(u32::from(hdr.hdr_len()) <= frame_len);
    if hdr.flags() & flags::NEEDS_CSUM == 0 {
        assert_eq!(hdr.gso_type(), gso::NONE);
        assert_eq!((hdr.csum_start(), hdr.csum_offset()), (0, 0));
    } else {
        assert!(on.contains(Offloads::CSUM));
        let end = u32::from(hdr.csum_start()) + u32::from(hdr.csum_offset()) + 2;
        assert!(end <= frame_len);
    }
    if hdr.gso_type() == gso::NONE {
        assert_eq!((hdr.gso_size(), hdr.hdr_len()), (0, 0));
    } else {
        assert!(hdr.gso_size() > 0);
        let (payload, most) = match hdr.gso_type() {
            gso::UDP_L4 => (
                frame_len - u32::from(hdr.csum_start()) - 8,
                MAX_UDP_SEGMENTS,
            ),
            gso::UDP => (
                frame_len - u32::from(hdr.csum_start()) - 8,
                MAX_GSO_SEGMENTS,
            ),
            _ => (frame_len, MAX_GSO_SEGMENTS),
        };
        assert!(payload.div_ceil(u32::from(hdr.gso_size())) <= most);
    }
}

fn wire() -> impl Strategy<Value = [u8; HDR_LEN]> {
    let gso_type = prop_oneof![
        Just(0),
        Just(1),
        Just(3),
        Just(4),
        Just(5),
        Just(0x81),
        any::<u8>()
    ];
    let word = || prop_oneof![0u16..100, any::<u16>()];
    let offset = prop_oneof![Just(6u16), Just(16u16), any::<u16>()];
    let words = (word(), word(), word(), offset, any::<u16>());
    (any::<u8>(), gso_type, words).prop_map(|(flags, gso_type, (a, b, c, d, e))| {
        let (hdr_len, gso_size, csum_start, csum_offset, num_buffers) = (a, b, c, d, e);
        let wire = Wire {
            flags,
            gso_type,
            hdr_len,
            gso_size,
            csum_start,
            csum_offset,
            num_buffers,
        };
        wire.raw().as_bytes().try_into().unwrap_or_default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 16 } else { 4096 }))]

    #[test]
    fn accepted_headers_hold_every_invariant(
        bytes in prop_oneof![wire(), any::<[u8; HDR_LEN]>()],
        frame_len in prop_oneof![0u32..200, 0u32..70_000, any::<u32>()],
        bits in any::<u32>(),
    ) {
        let on = Offloads::from_bits_truncate(bits);
        let raw = RawHdr::from(bytes);
        if let Ok(hdr) = NetHdr::check_tx(&raw, frame_len, TxRules::new(on)) {
            assert_invariants(hdr, frame_len, on, flags::NEEDS_CSUM);
            prop_assert_eq!(hdr.num_buffers(), 0);
            // A checked header passes the same check unchanged.
            let again = NetHdr::check_tx(&hdr.to_raw(HdrSize::Base), frame_len, TxRules::new(on));
            prop_assert_eq!(again, Ok(hdr));
        }
        if let Ok(hdr) = NetHdr::check_rx(&raw, frame_len, RxRules::new(on)) {
            let seen = if on.contains(Offloads::CSUM) { 3 } else { 0 };
            assert_invariants(hdr, frame_len, on, seen);
            prop_assert_eq!(hdr.num_buffers(), 1);
        }
    }
}
