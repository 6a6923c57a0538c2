use super::*;
use crate::offload::Offloads;
use proptest::prelude::*;

/// A transmit header as a driver would write it; `..TCP4` style updates keep the tables readable.
#[derive(Clone, Copy)]
struct Wire {
    flags: u8,
    gso_type: u8,
    hdr_len: u16,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
    num_buffers: u16,
}

const PLAIN: Wire = Wire {
    flags: 0,
    gso_type: gso::NONE,
    hdr_len: 0,
    gso_size: 0,
    csum_start: 0,
    csum_offset: 0,
    num_buffers: 0,
};
const CSUM: Wire = Wire {
    flags: flags::NEEDS_CSUM,
    csum_start: 34,
    csum_offset: 16,
    ..PLAIN
};
const TCP4: Wire = Wire {
    gso_type: gso::TCPV4,
    hdr_len: 54,
    gso_size: 1448,
    ..CSUM
};
const TCP6: Wire = Wire {
    gso_type: gso::TCPV6,
    csum_start: 54,
    hdr_len: 74,
    ..TCP4
};
const USO: Wire = Wire {
    gso_type: gso::UDP_L4,
    csum_offset: 6,
    hdr_len: 42,
    ..TCP4
};

impl Wire {
    fn raw(self) -> RawHdr {
        let mut bytes = [0; HDR_LEN];
        bytes[0] = self.flags;
        bytes[1] = self.gso_type;
        let words = [
            self.hdr_len,
            self.gso_size,
            self.csum_start,
            self.csum_offset,
            self.num_buffers,
        ];
        for (at, word) in words.into_iter().enumerate() {
            bytes[2 + 2 * at..4 + 2 * at].copy_from_slice(&word.to_le_bytes());
        }
        RawHdr::from(bytes)
    }

    fn tx(self, len: u32, on: Offloads) -> Result<NetHdr, HdrError> {
        NetHdr::check_tx(&self.raw(), len, TxRules::new(on))
    }

    fn rx(self, len: u32, on: Offloads) -> Result<NetHdr, HdrError> {
        NetHdr::check_rx(&self.raw(), len, RxRules::new(on))
    }
}

const ALL: Offloads = Offloads::all();

#[test]
fn net_hdr_01_unknown_flags_are_ignored() {
    let plain = Wire {
        flags: 0xfe,
        ..PLAIN
    };
    assert_eq!(plain.tx(60, ALL), Ok(NetHdr::PLAIN));
    let csum = Wire {
        flags: 0xff,
        ..CSUM
    };
    assert_eq!(csum.tx(60, ALL), CSUM.tx(60, ALL));
}

#[test]
fn net_hdr_02_checksum_fields_mean_nothing_without_the_flag() {
    let garbage = Wire {
        csum_start: 0xffff,
        csum_offset: 0xffff,
        gso_size: 9,
        hdr_len: 9,
        ..PLAIN
    };
    assert_eq!(garbage.tx(60, ALL), Ok(NetHdr::PLAIN));
}

#[test]
fn net_hdr_04_a_driver_cannot_vouch_for_a_checksum() {
    let valid = Wire {
        flags: flags::DATA_VALID,
        ..PLAIN
    };
    assert_eq!(valid.tx(60, ALL).map(NetHdr::flags), Ok(0));
}

#[test]
fn net_hdr_05_checksum_fields_stay_inside_the_frame() {
    let at = |csum_start, csum_offset| Wire {
        csum_start,
        csum_offset,
        ..CSUM
    };
    assert!(at(34, 16).tx(52, ALL).is_ok());
    for (wire, len) in [
        (at(34, 16), 51),
        (at(0xffff, 0xffff), u32::MAX),
        (at(0xffff, 0), 0x2_0000),
        (at(34, 0xffff), 1514),
        (at(19, 6), 1514),
        (at(0, 0), 1514),
    ] {
        assert_eq!(wire.tx(len, ALL), Err(HdrError::CsumRange));
    }
}

#[test]
fn net_hdr_06_partial_checksum_needs_the_feature() {
    assert_eq!(
        CSUM.tx(60, Offloads::empty()),
        Err(HdrError::CsumNotNegotiated)
    );
}

#[test]
fn net_hdr_07_hdr_len_is_at_most_the_frame() {
    for (hint, kept) in [(0, 0), (1, 1), (54, 54), (0xffff, 2000)] {
        let wire = Wire {
            hdr_len: hint,
            ..TCP4
        };
        assert_eq!(wire.tx(2000, ALL).map(NetHdr::hdr_len), Ok(kept));
    }
    assert_eq!(
        Wire {
            hdr_len: 77,
            ..CSUM
        }
        .tx(60, ALL)
        .map(NetHdr::hdr_len),
        Ok(0)
    );
}

#[test]
fn net_hdr_10_every_gso_type_needs_its_feature() {
    let needs = |gso_type: u8| match gso_type {
        gso::TCPV4 => Some(Offloads::TSO4),
        gso::TCPV6 => Some(Offloads::TSO6),
        gso::UDP => Some(Offloads::UFO),
        gso::UDP_L4 => Some(Offloads::USO4 | Offloads::USO6),
        _ => None,
    };
    for gso_type in 1..=u8::MAX {
        let udp = matches!(gso_type & !gso::ECN, gso::UDP | gso::UDP_L4);
        let wire = Wire {
            gso_type,
            csum_offset: if udp { 6 } else { 16 },
            ..TCP6
        };
        let base = gso_type & !gso::ECN;
        let Some(feature) = needs(base) else {
            assert_eq!(
                wire.tx(2000, ALL),
                Err(HdrError::GsoUnknown),
                "{gso_type:#x}"
            );
            continue;
        };
        let others = ALL.difference(feature);
        assert_eq!(
            wire.tx(2000, others),
            Err(HdrError::GsoNotNegotiated),
            "{gso_type:#x}"
        );
        let ok = base == gso_type || !udp;
        assert_eq!(wire.tx(2000, ALL).is_ok(), ok, "{gso_type:#x}");
    }
}

#[test]
fn net_hdr_11_gso_is_complete_and_bounded() {
    let ecn = Wire {
        gso_type: gso::TCPV4 | gso::ECN,
        ..TCP4
    };
    let cases = [
        (Wire { flags: 0, ..TCP4 }, ALL, HdrError::GsoWithoutCsum),
        (
            Wire {
                gso_size: 0,
                ..TCP4
            },
            ALL,
            HdrError::GsoSize,
        ),
        (
            Wire {
                gso_size: 0xffff,
                ..TCP4
            },
            ALL,
            HdrError::GsoSize,
        ),
        (
            Wire {
                gso_size: 1,
                ..TCP4
            },
            ALL,
            HdrError::GsoSegments,
        ),
        (
            Wire {
                gso_size: 511,
                ..USO
            },
            ALL,
            HdrError::GsoSegments,
        ),
        (
            ecn,
            ALL.difference(Offloads::ECN),
            HdrError::GsoNotNegotiated,
        ),
    ];
    for (wire, on, error) in cases {
        assert_eq!(wire.tx(65535, on), Err(error));
    }
    assert!(ecn.tx(65535, ALL).is_ok());
    assert!(
        Wire {
            gso_size: 512,
            ..USO
        }
        .tx(65535, ALL)
        .is_ok()
    );
}

#[test]
fn net_hdr_12_gso_headers_fit_the_protocol_and_the_frame() {
    let cases = [
        (
            Wire {
                csum_offset: 6,
                ..TCP4
            },
            2000,
        ),
        (
            Wire {
                csum_offset: 16,
                ..USO
            },
            2000,
        ),
        (
            Wire {
                csum_start: 34,
                ..TCP6
            },
            2000,
        ),
        (TCP4, 53),
        (TCP6, 73),
    ];
    for (wire, len) in cases {
        assert_eq!(wire.tx(len, ALL), Err(HdrError::GsoHeaders));
    }
    assert!(TCP4.tx(54, ALL).is_ok());
    assert!(USO.tx(42, ALL).is_ok());
}

#[test]
fn net_tx_05_num_buffers_means_nothing_on_transmit() {
    let wire = Wire {
        num_buffers: 0xffff,
        ..CSUM
    };
    assert_eq!(wire.tx(60, ALL).map(NetHdr::num_buffers), Ok(0));
}

#[test]
fn net_tx_07_a_frame_without_ethernet_header_is_refused() {
    for len in 0..ETH_HDR_LEN {
        assert_eq!(PLAIN.tx(len, ALL), Err(HdrError::ShortFrame));
        assert_eq!(PLAIN.rx(len, ALL), Err(HdrError::ShortFrame));
    }
    assert!(PLAIN.tx(ETH_HDR_LEN, ALL).is_ok());
}

#[test]
fn net_hdr_20_no_flag_reaches_a_driver_without_guest_csum() {
    let valid = Wire {
        flags: flags::DATA_VALID,
        ..PLAIN
    };
    assert_eq!(valid.rx(60, Offloads::empty()).map(NetHdr::flags), Ok(0));
    assert_eq!(
        valid.rx(60, Offloads::CSUM).map(NetHdr::flags),
        Ok(flags::DATA_VALID)
    );
    assert_eq!(
        CSUM.rx(60, Offloads::empty()),
        Err(HdrError::CsumNotNegotiated)
    );
    assert!(CSUM.rx(60, Offloads::CSUM).is_ok());
}

#[test]
fn net_hdr_21_a_gso_type_reaches_only_a_driver_that_takes_it() {
    for (wire, feature) in [
        (TCP4, Offloads::TSO4),
        (TCP6, Offloads::TSO6),
        (USO, Offloads::USO6),
    ] {
        assert_eq!(
            wire.rx(2000, Offloads::CSUM),
            Err(HdrError::GsoNotNegotiated)
        );
        assert!(wire.rx(2000, Offloads::CSUM | feature).is_ok());
    }
}

#[test]
fn net_hdr_21_udp_of_a_family_that_is_off_reaches_no_driver() {
    let both = Offloads::USO4 | Offloads::USO6;
    let families = [
        (Offloads::USO4, Some(0x0800)),
        (Offloads::USO6, Some(0x86dd)),
    ];
    for on in [Offloads::empty(), Offloads::USO4, Offloads::USO6, both] {
        let rules = RxRules::new(ALL.difference(both) | on);
        for (needed, ethertype) in families {
            let checked = USO
                .rx(2000, ALL)
                .map(|hdr| hdr.check_family(ethertype, rules));
            let expected = if on.contains(needed) {
                Ok(())
            } else {
                Err(HdrError::GsoFamily)
            };
            assert_eq!(checked, Ok(expected), "{on:?} {ethertype:?}");
        }
        for ethertype in [None, Some(0x8100), Some(0x0806)] {
            let checked = USO
                .rx(2000, ALL)
                .map(|hdr| hdr.check_family(ethertype, rules));
            assert_eq!(checked, Ok(Err(HdrError::GsoFamily)));
        }
        // The type of the others says it all.
        for wire in [TCP4, TCP6, CSUM, PLAIN] {
            let checked = wire.rx(2000, ALL).map(|hdr| hdr.check_family(None, rules));
            assert_eq!(checked, Ok(Ok(())));
        }
    }
}

#[test]
fn net_hdr_22_received_gso_has_checksum_and_size() {
    assert_eq!(
        Wire { flags: 0, ..TCP4 }.rx(2000, ALL),
        Err(HdrError::GsoWithoutCsum)
    );
    assert_eq!(
        Wire {
            gso_size: 0,
            ..TCP4
        }
        .rx(2000, ALL),
        Err(HdrError::GsoSize)
    );
}

#[test]
fn net_rx_01_num_buffers_is_one_until_set() {
    let mut hdr = Wire {
        num_buffers: 7,
        ..PLAIN
    }
    .rx(60, ALL)
    .unwrap();
    assert_eq!(hdr.num_buffers(), 1);
    hdr.set_num_buffers(3);
    assert_eq!(hdr.to_bytes()[NUM_BUFFERS_OFFSET..], [3, 0]);
}

#[test]
fn longer_headers_end_in_zeros() {
    for size in [HdrSize::Base, HdrSize::HashReport, HdrSize::Tunnel] {
        let raw = TCP4.tx(2000, ALL).unwrap().to_raw(size);
        assert_eq!(raw.as_bytes().len(), size.bytes());
        assert_eq!(raw.as_bytes()[..HDR_LEN], TCP4.raw().as_bytes()[..]);
        assert!(raw.as_bytes()[HDR_LEN..].iter().all(|&byte| byte == 0));
    }
}

/// The table in `rules.rs`, row by row: every flag, type and feature, and what becomes of it.
#[test]
fn every_combination_of_flags_and_types_has_its_outcome() {
    for flags in 0..=u8::MAX {
        for gso_type in 0..=u8::MAX {
            for on in [ALL, Offloads::CSUM, Offloads::empty()] {
                let base = gso_type & !gso::ECN;
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
                    0 if needs && on.is_empty() => Err(HdrError::CsumNotNegotiated),
                    0 => Ok(()),
                    _ if !known => Err(HdrError::GsoUnknown),
                    _ if on != ALL || base != gso_type && udp => Err(HdrError::GsoNotNegotiated),
                    _ if !needs => Err(HdrError::GsoWithoutCsum),
                    _ => Ok(()),
                };
                let outcomes = [wire.tx(2000, on), wire.rx(2000, on)];
                for outcome in outcomes {
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

#[test]
fn causes_are_numbered_and_named_once() {
    for (at, cause) in HdrError::ALL.into_iter().enumerate() {
        assert_eq!(cause as usize, at);
        let same = HdrError::ALL
            .iter()
            .filter(|other| other.name() == cause.name());
        assert_eq!(same.count(), 1);
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
    #![proptest_config(ProptestConfig::with_cases(4096))]

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
