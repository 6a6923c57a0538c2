//! Hashes against the published vectors, and against a reference that is as plain as it can be.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::carryless::Multiplier;
use super::*;
use crate::testing::Random;
use crate::testing::packets::Packet;

mod reference;

/// The key of the published vectors.
const KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// Destination and its port, source and its port, hash of the addresses, hash with ports.
type Vector = (&'static str, u16, &'static str, u16, u32, u32);

const VECTORS: [Vector; 8] = [
    (
        "161.142.100.80",
        1766,
        "66.9.149.187",
        2794,
        0x323e_8fc2,
        0x51cc_c178,
    ),
    (
        "65.69.140.83",
        4739,
        "199.92.111.2",
        14230,
        0xd718_262a,
        0xc626_b0ea,
    ),
    (
        "12.22.207.184",
        38024,
        "24.19.198.95",
        12898,
        0xd2d0_a5de,
        0x5c2b_394a,
    ),
    (
        "209.142.163.6",
        2217,
        "38.27.205.30",
        48228,
        0x8298_9176,
        0xafc7_327f,
    ),
    (
        "202.188.127.2",
        1303,
        "153.39.163.191",
        44251,
        0x5d18_09c5,
        0x10e8_28a2,
    ),
    (
        "3ffe:2501:200:3::1",
        1766,
        "3ffe:2501:200:1fff::7",
        2794,
        0x2cc1_8cd5,
        0x4020_7d3d,
    ),
    (
        "ff02::1",
        4739,
        "3ffe:501:8::260:97ff:fe40:efab",
        14230,
        0x0f0c_461c,
        0xdde5_1bbf,
    ),
    (
        "fe80::200:f8ff:fe21:67cf",
        38024,
        "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
        44251,
        0x4b61_e985,
        0x02d1_feef,
    ),
];

/// A frame of `transport` over IP between the addresses of `vector`, behind `tags`.
fn frame(vector: &Vector, protocol: u8, tags: usize) -> Vec<u8> {
    let (to, to_port, from, from_port, ..) = *vector;
    let mut frame = vec![2; 12];
    for _ in 0..tags {
        frame.extend([0x81, 0x00, 0x20, 0x07]);
    }
    let mut transport = vec![0; 20];
    transport[..2].copy_from_slice(&from_port.to_be_bytes());
    transport[2..4].copy_from_slice(&to_port.to_be_bytes());
    if let Ok(to) = to.parse::<Ipv4Addr>() {
        let from: Ipv4Addr = from.parse().expect("both are IPv4");
        frame.extend([
            0x08, 0x00, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, protocol, 0, 0,
        ]);
        frame.extend(from.octets());
        frame.extend(to.octets());
    } else {
        let [from, to] = [from, to].map(|it| it.parse::<Ipv6Addr>().expect("both are IPv6"));
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, protocol, 64]);
        frame.extend(from.octets());
        frame.extend(to.octets());
    }
    frame.extend(transport);
    frame
}

/// Hash of `frame` with the published key and the types of `bits`.
fn hash(bits: u32, frame: &[u8]) -> FrameHash {
    FrameHasher::new(HashTypes::from_bits_retain(bits), &KEY).hash(frame)
}

#[test]
fn published_vectors_are_met_net_mq_12() {
    for vector in &VECTORS {
        let v6 = vector.0.contains(':');
        let (addresses, tcp, udp) = if v6 { (3, 4, 5) } else { (0, 1, 2) };
        for tags in 0..=3 {
            for (protocol, bit) in [(6, tcp), (17, udp)] {
                let frame = frame(vector, protocol, tags);
                let with_ports = hash(1 << bit, &frame);
                assert_eq!(with_ports.value, vector.5, "{vector:?}");
                assert_eq!(with_ports.report as u32, bit + 1);
                let without = hash(1 << addresses, &frame);
                assert_eq!(without.value, vector.4, "{vector:?}");
                assert_eq!(without.report as u32, addresses + 1);
            }
            let other = hash(0x1ff, &frame(vector, 1, tags));
            assert_eq!(
                (other.value, other.report as u32),
                (vector.4, addresses + 1)
            );
        }
    }
}

#[test]
fn packets_without_options_and_tags_are_usual() {
    for bits in 0..0x40 {
        let hasher = FrameHasher::new(HashTypes::from_bits_retain(bits), &KEY);
        for vector in &VECTORS {
            for (tags, protocol, usual) in
                [(0, 6, true), (0, 17, true), (1, 6, false), (0, 1, false)]
            {
                let frame = frame(vector, protocol, tags);
                let mut head = [0xff; USUAL_HEAD];
                let there = frame.len().min(head.len());
                head[..there].copy_from_slice(&frame[..there]);
                let usual = usual && hasher.usual.is_some();
                let expected = usual.then(|| hasher.hash(&frame));
                assert_eq!(hasher.hash_usual(&head, frame.len()), expected);
                assert_eq!(hasher.hash_usual(&head, frame.len() - 1), None, "it is cut");
            }
        }
    }
}

#[test]
fn first_type_that_is_on_and_fits_is_hashed_net_mq_13() {
    for (vector, base) in [(&VECTORS[0], 0), (&VECTORS[5], 3)] {
        for mask in 0..8_u32 {
            for (protocol, bit) in [(6, 1), (17, 2), (132, 3)] {
                let hashed = hash(mask << base, &frame(vector, protocol, 0));
                let expected = match mask {
                    _ if mask >> bit & 1 == 1 => (vector.5, base + bit + 1),
                    _ if mask & 1 == 1 => (vector.4, base + 1),
                    _ => (0, 0),
                };
                assert_eq!((hashed.value, hashed.report as u32), expected);
            }
            // Types of the other family mean nothing.
            let others = hash(mask << (3 - base), &frame(vector, 6, 0));
            assert_eq!(others, FrameHash::NONE);
        }
    }
}

#[test]
fn what_is_no_ip_packet_has_no_hash_net_mq_16() {
    let mut arp = frame(&VECTORS[0], 6, 0);
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    let mut version = frame(&VECTORS[0], 6, 0);
    version[14] = 0x65;
    let mut short = frame(&VECTORS[0], 6, 0);
    short[14] = 0x44;
    for bytes in [arp, version, short, frame(&VECTORS[0], 6, 4), Vec::new()] {
        assert_eq!(hash(0x1ff, &bytes), FrameHash::NONE);
    }
    assert_eq!(FrameHash::NONE.to_wire(), [0; 8]);
    assert_eq!(FrameHash::NONE.value(), None);
}

#[test]
fn fragments_are_hashed_by_their_addresses() {
    let mut first = frame(&VECTORS[0], 6, 0);
    for flags in [[0x20, 0], [0, 1], [0x3f, 0xff]] {
        first[20..22].copy_from_slice(&flags);
        assert_eq!(hash(0x7, &first).report, HashReport::Ipv4);
        assert_eq!(hash(0x6, &first), FrameHash::NONE);
    }
    first[20..22].copy_from_slice(&[0x40, 0]);
    assert_eq!(hash(0x7, &first).report, HashReport::Tcpv4);
}

/// The frame of `vector` with `extensions` between its IPv6 header and its transport header, each
/// a type and its bytes behind the field "next header".
fn extended(vector: &Vector, protocol: u8, extensions: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = frame(vector, protocol, 0);
    let transport = bytes.split_off(54);
    let kinds = extensions.iter().map(|(kind, _)| *kind);
    let mut kinds = kinds.chain([protocol]);
    bytes[20] = kinds.next().expect("there is one");
    for ((_, extension), next) in extensions.iter().zip(kinds) {
        bytes.push(next);
        bytes.extend(extension);
    }
    bytes.extend(transport);
    bytes
}

/// Destination options with the home address of `vector`'s source in them, behind padding.
fn home_options(vector: &Vector) -> (u8, Vec<u8>) {
    let home: Ipv6Addr = vector.2.parse().expect("it is IPv6");
    let mut options = vec![2, 0, 1, 1, 0, 0xc9, 16];
    options.extend(home.octets());
    (60, options)
}

/// A routing header with `vector`'s destination.
fn home_route(vector: &Vector) -> (u8, Vec<u8>) {
    let home: Ipv6Addr = vector.0.parse().expect("it is IPv6");
    let mut route = vec![2, 2, 1, 0, 0, 0, 0];
    route.extend(home.octets());
    (43, route)
}

#[test]
fn extension_headers_are_skipped_or_name_the_addresses_net_mq_14() {
    let (care_of, home) = (&VECTORS[7], &VECTORS[5]);
    let plain = frame(home, 6, 0);
    let headers = [(0, vec![0; 7]), home_route(home), home_options(home)];
    for (protocol, bit) in [(6, 7), (17, 8)] {
        let mut frame = extended(care_of, protocol, &headers);
        let transport = frame.len() - 20;
        frame[transport..].copy_from_slice(&plain[54..]);
        let extended = hash(1 << bit, &frame);
        assert_eq!((extended.value, extended.report as u32), (home.5, bit + 1));
        let addresses = hash(1 << 6, &frame);
        assert_eq!((addresses.value, addresses.report as u32), (home.4, 7));
        // Without these types the headers are skipped.
        let skipped = hash(1 << 3, &frame);
        assert_eq!((skipped.value, skipped.report as u32), (care_of.4, 4));
        assert_eq!(hash(1 << (bit - 3), &frame).report as u32, bit - 2);
    }
    // Packets without extension headers have no type of those with some.
    assert_eq!(hash(0x1c0, &plain), FrameHash::NONE);
    // Nor have headers that are none, or whose home addresses are none.
    let unknown = extended(care_of, 6, &[(200, vec![0; 7])]);
    assert_eq!(hash(0x1c0, &unknown), FrameHash::NONE);
    for (at, value) in [(1, 0), (2, 2)] {
        let mut route = home_route(home);
        route.1[at] = value;
        let frame = extended(care_of, 6, &[route]);
        assert_eq!(hash(0x1c0, &frame).value, care_of.5, "as the packet says");
    }
}

#[test]
fn each_extension_header_is_as_long_as_its_type_says_net_mq_14() {
    let vector = &VECTORS[5];
    let by_eight = [0, 43, 60, 135, 139, 140].map(|kind| (kind, 2, 24));
    let others = [(51, 4, 24), (51, 1, 12), (44, 9, 8)];
    for (kind, units, len) in by_eight.into_iter().chain(others) {
        let mut header = vec![0; len - 1];
        header[0] = units;
        let frame = extended(vector, 6, &[(kind, header)]);
        let hashed = hash(0x1ff, &frame);
        let expected = (vector.5, HashReport::Tcpv6Ex);
        assert_eq!((hashed.value, hashed.report), expected, "{kind} {units}");
    }
}

#[test]
fn fragments_behind_extension_headers_have_no_ports_net_mq_14() {
    let whole = (44, vec![0; 7]);
    let frame = extended(&VECTORS[5], 17, std::slice::from_ref(&whole));
    assert_eq!(hash(0x1ff, &frame).report, HashReport::Udpv6Ex);
    for (high, low) in [(0, 1), (0, 8), (1, 0)] {
        let mut part = whole.clone();
        (part.1[1], part.1[2]) = (high, low);
        let frame = extended(&VECTORS[5], 17, &[home_route(&VECTORS[5]), part]);
        let hashed = hash(0x1ff, &frame);
        assert_eq!(
            (hashed.value, hashed.report),
            (VECTORS[5].4, HashReport::Ipv6Ex)
        );
    }
}

#[test]
fn chains_of_extension_headers_end_net_mq_14() {
    // As many as a frame of 64 KiB holds, and one that says it is longer than it is.
    let many: Vec<_> = (0..8000).map(|_| (60, vec![0; 7])).collect();
    let endless = extended(&VECTORS[5], 6, &many);
    assert_eq!(hash(0x1ff, &endless).report, HashReport::Ipv6Ex);
    let long = extended(&VECTORS[5], 6, &[(60, vec![255, 0, 0, 0, 0, 0, 0])]);
    assert_eq!(hash(0x1ff, &long).report, HashReport::Ipv6Ex);
}

#[test]
fn short_keys_go_on_with_zeros_and_long_ones_are_cut_net_mq_12() {
    let frame = frame(&VECTORS[5], 6, 0);
    for len in [0, 1, 39, 40] {
        let hasher = FrameHasher::new(HashTypes::all(), &KEY[..len]);
        let mut padded = KEY;
        padded[len..].fill(0);
        let same = FrameHasher::new(HashTypes::all(), &padded);
        assert_eq!(hasher, same);
        assert_eq!(
            hasher.hash(&frame),
            reference::hash(0x1ff, &KEY[..len], &frame)
        );
    }
    let long = [&KEY[..], &[0xff; 215]].concat();
    let hasher = FrameHasher::new(HashTypes::all(), &long);
    assert_eq!(hasher, FrameHasher::new(HashTypes::all(), &KEY));
}

#[test]
fn hash_stands_little_endian_in_the_header() {
    let hash = FrameHash {
        value: 0x1122_3344,
        report: HashReport::Udpv6Ex,
    };
    assert_eq!(hash.to_wire(), [0x44, 0x33, 0x22, 0x11, 9, 0, 0, 0]);
    assert_eq!(hash.value(), Some(0x1122_3344));
}

#[test]
fn every_flow_of_real_packets_has_the_reference_hash() {
    for seed in 0..500 {
        let mut random = Random::new(seed);
        let packet = Packet {
            tags: random.below(4) as usize,
            v6: random.below(2) == 1,
            source: random.below(256) as u8,
            ports: (random.below(65536) as u16, random.below(65536) as u16),
            ..if random.below(2) == 1 {
                Packet::tcp(b"payload")
            } else {
                Packet::udp(b"")
            }
        };
        let frame = &packet.bytes()[12..];
        let bits = random.below(512) as u32;
        assert_eq!(hash(bits, frame), reference::hash(bits, &KEY, frame));
    }
}

/// Frames whose type fields are often those of packets, all else at random.
fn anything() -> impl Strategy<Value = Vec<u8>> {
    let kinds = prop::sample::select(vec![0_u8, 6, 17, 43, 44, 50, 51, 59, 60, 135, 139, 140, 1]);
    let header = (
        kinds.clone(),
        0..4_u8,
        prop::collection::vec(any::<u8>(), 2..40),
    );
    let headers = prop::collection::vec(header, 0..8);
    let first = (any::<bool>(), kinds, 0..4_usize, 4..7_u8, 5..16_u8);
    let noise = prop::collection::vec(any::<u8>(), 40..41);
    (first, headers, noise, any::<bool>()).prop_map(|(first, headers, noise, calm)| {
        let (v6, kind, tags, version, words) = first;
        let mut frame = vec![2; 12];
        (0..tags).for_each(|_| frame.extend([0x88, 0xa8, 0, 1]));
        let at = frame.len() + 2;
        frame.extend(if v6 { [0x86, 0xdd] } else { [0x08, 0x00] });
        frame.extend(&noise[..if v6 { 40 } else { 20 }]);
        frame[at] = version << 4 | words;
        frame[at + if v6 { 6 } else { 9 }] = kind;
        if calm {
            frame[at] = if v6 { 0x60 } else { 0x45 };
            frame[at + 6] &= if v6 { 0xff } else { 0x40 };
        }
        for (next, len, body) in headers {
            frame.extend([next, len]);
            let mut body = body;
            body.resize(usize::from(len) * 8 + 6, 0xc9);
            if calm {
                body[0] = if next == 43 { 2 } else { body[0] };
            }
            frame.extend(body);
        }
        frame.extend([7; 20]);
        frame
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 8 } else { 512 }))]

    #[test]
    fn any_frame_has_the_reference_hash_cut_anywhere_net_mq_23(
        frame in anything(),
        bits in 0..512_u32,
        key in prop::collection::vec(any::<u8>(), 0..48),
        cut in any::<prop::sample::Index>(),
    ) {
        let hasher = FrameHasher::new(HashTypes::from_bits_retain(bits), &key);
        let frame = &frame[..cut.index(frame.len() + 1)];
        prop_assert_eq!(hasher.hash(frame), reference::hash(bits, &key, frame));
    }

    #[test]
    fn first_bytes_of_a_usual_packet_are_enough(
        mut frame in anything(),
        bits in 0..512_u32,
        len in 0..100_usize,
    ) {
        let hasher = FrameHasher::new(HashTypes::from_bits_retain(bits), &KEY);
        frame.resize(frame.len().max(USUAL_HEAD), 0);
        let len = len.min(frame.len());
        let head = frame.first_chunk().expect("as long as that");
        let usual = hasher.hash_usual(head, len);
        prop_assert!(usual.is_none_or(|hash| hash == hasher.hash(&frame[..len])));
    }

    #[test]
    fn multiplication_and_table_agree(
        input in prop::collection::vec(any::<[u8; 4]>(), 0..12),
        at in 0..12_usize,
        key in prop::collection::vec(any::<u8>(), 0..48),
    ) {
        let (toeplitz, input) = (Toeplitz::new(&reached(&key)), input.concat());
        prop_assert_eq!(toeplitz.part(4 * at, &input), toeplitz.look_up(4 * at, &input));
    }

    #[test]
    fn noise_has_the_reference_hash(frame in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert_eq!(hash(0x1ff, &frame), reference::hash(0x1ff, &KEY, &frame));
    }
}

/// The hashes are the same without it, and take longer.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_processor_that_multiplies_without_carries_is_used_so() {
    let has = is_x86_feature_detected!("pclmulqdq") && is_x86_feature_detected!("ssse3");
    assert_eq!(Multiplier::detect().is_some(), has);
}
