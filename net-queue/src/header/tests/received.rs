//! Headers from the backend, on their way to the driver.

use super::*;

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
