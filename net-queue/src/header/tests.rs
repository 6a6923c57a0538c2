mod invariants;
mod received;
mod tunnel;

use super::*;
use crate::offload::Offloads;

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
    let unknown = !(flags::NEEDS_CSUM | flags::UDP_TUNNEL_CSUM);
    let plain = Wire {
        flags: unknown,
        ..PLAIN
    };
    assert_eq!(plain.tx(60, ALL), Ok(NetHdr::PLAIN));
    let csum = Wire {
        flags: unknown | flags::NEEDS_CSUM,
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
    let in_no_tunnel = |gso_type: &u8| gso_type & gso::UDP_TUNNEL == 0;
    for gso_type in (1..=u8::MAX).filter(in_no_tunnel) {
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
                gso_size: 31,
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
    for (gso_size, kind) in [(32, TCP4), (512, USO)] {
        assert!(Wire { gso_size, ..kind }.tx(65535, ALL).is_ok());
    }
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
fn longer_headers_end_in_zeros() {
    for size in [HdrSize::Base, HdrSize::HashReport, HdrSize::Tunnel] {
        let raw = TCP4.tx(2000, ALL).unwrap().to_raw(size);
        assert_eq!(raw.as_bytes().len(), size.bytes());
        assert_eq!(raw.as_bytes()[..HDR_LEN], TCP4.raw().as_bytes()[..]);
        assert!(raw.as_bytes()[HDR_LEN..].iter().all(|&byte| byte == 0));
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
