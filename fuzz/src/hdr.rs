//! The virtio-net header check: whatever passes keeps what the module promises.

use net_queue::Offloads;
use net_queue::header::{HdrSize, NetHdr, RawHdr, RxRules, TxRules, flags, gso};

use crate::bytes::{Bytes, hdr_size};
use crate::{Seed, Target};

/// See the module.
pub const TARGET: Target = Target {
    name: "hdr",
    run,
    seeds,
};

/// Either bit of a GSO type for packets in tunnels.
const TUNNEL: u8 = gso::UDP_TUNNEL_IPV4 | gso::UDP_TUNNEL_IPV6;

/// Input: header size and the last offload, offloads, length of the frame (4), header.
fn run(input: &[u8]) {
    let mut input = Bytes::new(input);
    let first = input.u8();
    let size = hdr_size(first & 0x7f);
    let offloads = u32::from(first >> 7) << 8 | u32::from(input.u8());
    let offloads = Offloads::from_bits_truncate(offloads);
    let frame_len = input.u32();
    let mut raw = RawHdr::new(size);
    let header = input.array::<24>();
    let room = raw.as_mut_bytes();
    room.copy_from_slice(&header[..room.len()]);

    let tx = NetHdr::check_tx(&raw, frame_len, TxRules::new(offloads));
    let rx = NetHdr::check_rx(&raw, frame_len, RxRules::new(offloads));
    // A driver may not speak of a tunnel that is not there; of a backend it means nothing.
    let astray = header[0] & flags::UDP_TUNNEL_CSUM != 0
        && header[1] & TUNNEL == 0
        && offloads.contains(Offloads::UDP_TUNNEL_CSUM);
    assert_eq!(
        tx.is_ok(),
        rx.is_ok() && !astray,
        "the directions differ in what passes"
    );
    let (Ok(tx), Ok(rx)) = (tx, rx) else { return };

    for hdr in [tx, rx] {
        check_fields(hdr, frame_len, offloads);
        check_wire(hdr, size);
    }
    assert_eq!((tx.num_buffers(), rx.num_buffers()), (0, 1));
    assert_eq!(tx.flags() & flags::DATA_VALID, 0);

    let families = [0x0800, 0x86dd, 0x8100];
    let taken = families.map(|kind| rx.check_family(Some(kind), RxRules::new(offloads)).is_ok());
    let udp = rx.gso_type() == gso::UDP_L4;
    let both = [Offloads::USO4, Offloads::USO6].map(|on| !udp || offloads.contains(on));
    assert_eq!(taken, [both[0], both[1], !udp], "families");

    let tx_again = NetHdr::check_tx(&tx.to_raw(size), frame_len, TxRules::new(offloads));
    let rx_again = NetHdr::check_rx(&rx.to_raw(size), frame_len, RxRules::new(offloads));
    assert_eq!((tx_again, rx_again), (Ok(tx), Ok(rx)), "not stable");
}

fn check_fields(hdr: NetHdr, frame_len: u32, offloads: Offloads) {
    assert!(frame_len >= 14);
    let tunnel = check_tunnel(hdr, offloads);
    let known = flags::NEEDS_CSUM | flags::DATA_VALID | flags::UDP_TUNNEL_CSUM;
    assert_eq!(hdr.flags() & !known, 0);
    let csum_end = u32::from(hdr.csum_start()) + u32::from(hdr.csum_offset()) + 2;
    if hdr.flags() & flags::NEEDS_CSUM == 0 {
        assert_eq!((csum_end, hdr.gso_type()), (2, gso::NONE));
    } else {
        assert!(offloads.contains(Offloads::CSUM) && csum_end <= frame_len);
    }
    assert!(u32::from(hdr.hdr_len()) <= frame_len);
    let allowed = match hdr.gso_type() & !(gso::ECN | tunnel) {
        gso::NONE => {
            assert_eq!((hdr.gso_type(), hdr.gso_size(), hdr.hdr_len()), (0, 0, 0));
            return;
        }
        gso::TCPV4 => Offloads::TSO4,
        gso::TCPV6 => Offloads::TSO6,
        gso::UDP if tunnel == 0 => Offloads::UFO,
        gso::UDP_L4 => Offloads::USO4 | Offloads::USO6,
        other => panic!("gso type {other:#x}"),
    };
    assert!(offloads.intersects(allowed) && hdr.gso_size() > 0);
    let ecn = hdr.gso_type() & gso::ECN != 0;
    assert!(!ecn || offloads.contains(Offloads::ECN));
}

/// Returns the tunnel bit of the type, if it has one.
fn check_tunnel(hdr: NetHdr, offloads: Offloads) -> u8 {
    let bits = hdr.gso_type() & TUNNEL;
    let csum = hdr.flags() & flags::UDP_TUNNEL_CSUM != 0;
    let (outer, inner) = (hdr.outer_th_offset(), hdr.inner_nh_offset());
    if bits == 0 {
        assert_eq!((csum, outer, inner), (false, 0, 0));
        return 0;
    }
    assert!(bits != TUNNEL && offloads.contains(Offloads::UDP_TUNNEL));
    assert!(!csum || offloads.contains(Offloads::UDP_TUNNEL_CSUM));
    assert_eq!(hdr.flags() & flags::DATA_VALID, 0);
    let [outer, inner, start] = [outer, inner, hdr.csum_start()].map(u32::from);
    assert!(34 <= outer && outer + 8 <= inner && inner + 20 <= start);
    bits
}

fn check_wire(hdr: NetHdr, size: HdrSize) {
    let raw = hdr.to_raw(size);
    let (base, rest) = raw.as_bytes().split_at(size.bytes().min(12));
    assert_eq!(base, &hdr.to_bytes()[..base.len()]);
    let mut expected = [0; 12];
    if size == HdrSize::Tunnel {
        expected[8..10].copy_from_slice(&hdr.outer_th_offset().to_le_bytes());
        expected[10..].copy_from_slice(&hdr.inner_nh_offset().to_le_bytes());
    }
    assert_eq!(rest, &expected[..rest.len()]);
}

fn seeds() -> Vec<Seed> {
    let csum = flags::NEEDS_CSUM;
    let tcp4 = |ecn| frame(csum, gso::TCPV4 | ecn, [54, 1448, 34, 16]);
    vec![
        (
            "plain",
            seed(0, Offloads::empty(), 60, frame(0, gso::NONE, [0; 4])),
        ),
        (
            "valid",
            seed(
                0,
                Offloads::CSUM,
                1514,
                frame(flags::DATA_VALID, gso::NONE, [0; 4]),
            ),
        ),
        (
            "csum",
            seed(
                0,
                Offloads::CSUM,
                1514,
                frame(csum, gso::NONE, [0, 0, 34, 6]),
            ),
        ),
        ("tso4", seed(0, Offloads::all(), 65549, tcp4(0))),
        (
            "tso4_ecn_hash",
            seed(1, Offloads::all(), 65549, tcp4(gso::ECN)),
        ),
        (
            "tso6_tunnel",
            seed(
                2,
                Offloads::all(),
                65549,
                frame(csum, gso::TCPV6, [74, 1428, 54, 16]),
            ),
        ),
        (
            "ufo",
            seed(
                0,
                Offloads::all(),
                9000,
                frame(csum, gso::UDP, [42, 1480, 34, 6]),
            ),
        ),
        (
            "tso4_whole",
            seed(
                0,
                Offloads::all(),
                9000,
                frame(flags::DATA_VALID, gso::TCPV4, [0, 1448, 0, 0]),
            ),
        ),
        (
            "uso4_alone",
            seed(
                0,
                Offloads::all() - Offloads::USO6,
                9000,
                frame(csum, gso::UDP_L4, [42, 1472, 34, 6]),
            ),
        ),
        (
            "uso",
            seed(
                0,
                Offloads::all(),
                9000,
                frame(csum, gso::UDP_L4, [42, 1472, 34, 6]),
            ),
        ),
        (
            "vxlan",
            seed(2, Offloads::all(), 9000, in_tunnel(csum, [34, 64])),
        ),
        (
            "vxlan_csum",
            seed(
                2,
                Offloads::all(),
                9000,
                in_tunnel(csum | flags::UDP_TUNNEL_CSUM, [34, 64]),
            ),
        ),
        (
            "vxlan_disorder",
            seed(2, Offloads::all(), 9000, in_tunnel(csum, [64, 34])),
        ),
    ]
}

/// TCP over IPv4 in VXLAN over IPv4, with these offsets of a tunnel.
fn in_tunnel(flags: u8, offsets: [u16; 2]) -> Vec<u8> {
    let gso_type = gso::TCPV4 | gso::UDP_TUNNEL_IPV4;
    let mut header = frame(flags, gso_type, [104, 1398, 84, 16]);
    header.truncate(20);
    header.extend(offsets.into_iter().flat_map(u16::to_le_bytes));
    header
}

/// Fields in wire order: hdr_len, gso_size, csum_start, csum_offset.
fn frame(flags: u8, gso_type: u8, fields: [u16; 4]) -> Vec<u8> {
    let fields = fields.into_iter().flat_map(u16::to_le_bytes);
    [flags, gso_type]
        .into_iter()
        .chain(fields)
        .chain([0; 14])
        .collect()
}

fn seed(size: u8, offloads: Offloads, frame_len: u32, header: Vec<u8>) -> Vec<u8> {
    let last = (offloads.bits() >> 8) as u8;
    let mut input = vec![size | last << 7, offloads.bits() as u8];
    input.extend(frame_len.to_le_bytes());
    input.extend(header);
    input
}
