use super::*;

const PAYLOAD: usize = 3000;

/// Ethernet with as many tags.
fn link(tags: usize, ethertype: u16) -> Vec<u8> {
    let mut bytes = vec![2; 12];
    for tag in 0..tags {
        let kind: u16 = if tag + 1 < tags { 0x88a8 } else { 0x8100 };
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 7]);
    }
    bytes.extend(ethertype.to_be_bytes());
    bytes
}

fn ipv4(words: u8, protocol: u8) -> Vec<u8> {
    let mut bytes = vec![1; usize::from(words.max(5)) * 4];
    bytes[0] = 0x40 | words;
    bytes[9] = protocol;
    bytes[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    bytes
}

fn ipv6(next: u8) -> Vec<u8> {
    let mut bytes = vec![0; 40];
    bytes[0] = 0x60;
    bytes[6] = next;
    bytes[8..40].copy_from_slice(&[0x11; 32]);
    bytes
}

fn tcp(words: u8) -> Vec<u8> {
    let mut bytes = vec![0x22; usize::from(words) * 4];
    bytes[12] = words << 4;
    bytes
}

fn udp() -> Vec<u8> {
    let len = (8 + PAYLOAD) as u16;
    [[1, 2, 3, 4], [(len >> 8) as u8, len as u8, 9, 9]].concat()
}

fn find(parts: &[&[u8]], gso_type: u8) -> Option<Transport> {
    let frame = [&parts.concat()[..], &[0x33; PAYLOAD]].concat();
    Transport::of(&frame[..HEADERS.min(frame.len())], frame.len(), gso_type)
}

#[test]
fn transport_header_is_found_behind_tags_options_and_extensions() {
    for tags in 0..=MAX_TAGS {
        for words in [5, 6, 15] {
            let (v4, v6) = (link(tags, 0x0800), link(tags, 0x86dd));
            let found = find(&[&v4, &ipv4(words, 6), &tcp(words)], gso::TCPV4).expect("TCP");
            let start = 14 + 4 * tags + 4 * usize::from(words);
            assert_eq!((found.start, found.csum_offset), (start, 16));
            assert_eq!(found.end, start + 4 * usize::from(words));
            let found = find(&[&v6, &ipv6(6), &tcp(words)], gso::TCPV6).expect("TCP");
            assert_eq!((found.start, found.csum_offset), (54 + 4 * tags, 16));
            for gso_type in [gso::UDP, gso::UDP_L4] {
                let found = find(&[&v4, &ipv4(words, 17), &udp()], gso_type).expect("UDP");
                assert_eq!((found.start, found.end), (start, start + 8));
                let found = find(&[&v6, &ipv6(17), &udp()], gso_type).expect("UDP");
                assert_eq!((found.start, found.csum_offset), (54 + 4 * tags, 6));
            }
            let extensions = [60, 0, 1, 1, 1, 1, 1, 1, 43, 1, 0, 0, 1, 1, 1, 1];
            let extensions = [&extensions[..], &[1; 8], &[6, 0, 2, 0, 1, 1, 1, 1]].concat();
            let found = find(&[&v6, &ipv6(0), &extensions, &tcp(words)], gso::TCPV6);
            assert_eq!(found.map(|found| found.start), Some(54 + 4 * tags + 32));
        }
    }
}

/// RFC 1071 over addresses, protocol and length, not complemented.
#[test]
fn pseudo_header_is_summed() {
    let found = find(&[&link(1, 0x0800), &ipv4(5, 6), &tcp(8)], gso::TCPV4).expect("TCP");
    let len = (32 + PAYLOAD) as u16;
    let sum = 0x0a00 + 1 + 0x0a00 + 2 + 6 + len;
    assert_eq!(found.pseudo, sum.to_be_bytes());
    let found = find(&[&link(1, 0x86dd), &ipv6(17), &udp()], gso::UDP_L4).expect("UDP");
    let sum = 16 * 0x1111u32 + 17 + (8 + PAYLOAD as u32);
    let folded = (sum & 0xffff) + (sum >> 16);
    assert_eq!(found.pseudo, (folded as u16).to_be_bytes());
}

#[test]
fn headers_of_something_else_are_not_found() {
    let (v4, v6, tcp4) = (link(0, 0x0800), link(0, 0x86dd), ipv4(5, 6));
    let short = [1, 2, 3, 4, 0, 8, 9, 9];
    let cases: &[(&[&[u8]], u8)] = &[
        (&[&v4, &tcp4, &tcp(5)], gso::NONE),
        (&[&v4, &tcp4, &tcp(5)], gso::TCPV6),
        (&[&v6, &ipv6(6), &tcp(5)], gso::TCPV4),
        (&[&v4, &tcp4, &tcp(5)], gso::UDP_L4),
        (&[&v4, &ipv4(5, 17), &udp()], gso::TCPV4),
        (&[&v4, &ipv4(4, 6), &tcp(5)], gso::TCPV4),
        (&[&v4, &tcp4, &[0; 20]], gso::TCPV4),
        (&[&v4, &ipv4(5, 17), &short], gso::UDP_L4),
        (&[&v4, &ipv6(6), &tcp(5)], gso::TCPV4),
        (&[&link(0, 0x0806), &tcp4, &tcp(5)], gso::TCPV4),
        (&[&link(4, 0x0800), &tcp4, &tcp(5)], gso::TCPV4),
        // Routed on: the sum is over another destination. Then a fragment header, and no end of
        // options.
        (
            &[&v6, &ipv6(43), &[6, 0, 2, 1, 1, 1, 1, 1], &tcp(5)],
            gso::TCPV6,
        ),
        (
            &[&v6, &ipv6(44), &[6, 0, 0, 0, 1, 1, 1, 1], &tcp(5)],
            gso::TCPV6,
        ),
        (&[&v6, &ipv6(0), &[0; 512]], gso::TCPV6),
        (
            &[&v6, &ipv6(60), &[6, 255, 2, 1, 1, 1, 1, 1], &tcp(5)],
            gso::TCPV6,
        ),
    ];
    for (at, (parts, gso_type)) in cases.iter().enumerate() {
        assert_eq!(find(parts, *gso_type), None, "case {at}");
    }
}

/// Whatever the bytes are and wherever they end, nothing is found that is not there.
#[test]
fn cut_heads_are_survived() {
    let frame = [link(3, 0x86dd), ipv6(6), tcp(15), vec![0; 100]].concat();
    for len in 0..frame.len() {
        for gso_type in [gso::TCPV4, gso::TCPV6, gso::UDP, gso::UDP_L4] {
            if let Some(found) = Transport::of(&frame[..len.min(HEADERS)], len, gso_type) {
                assert!(found.end <= len && found.field() + 2 <= found.end);
            }
        }
        assert!(link_len(&frame[..len]) <= LINK_HEADERS);
    }
    assert_eq!((link_len(&frame), ethertype(&frame)), (26, Some(0x86dd)));
}

#[test]
fn packets_are_found_whatever_they_are_wanted_for() {
    for tags in 0..=MAX_TAGS {
        let (v4, v6) = (link(tags, 0x0800), link(tags, 0x86dd));
        let ip = v4.len();
        let found = Packet::of(&[&v4[..], &ipv4(7, 6), &tcp(8), b"x"].concat()).expect("TCP");
        let expected = Packet {
            family: Family::V4,
            tcp: true,
            fragment: false,
            ip,
            transport: ip + 28,
            payload: ip + 28 + 32,
        };
        assert_eq!(
            found,
            Packet {
                fragment: true,
                ..expected
            },
            "bytes of 1 in the helper"
        );
        let mut whole = ipv4(7, 6);
        whole[6..8].copy_from_slice(&[0x40, 0]);
        let found = Packet::of(&[&v4[..], &whole, &tcp(8)].concat()).expect("TCP");
        assert_eq!(found, expected);
        assert_eq!((found.csum_offset(), found.protocol()), (16, 6));
        let found = Packet::of(&[&v6[..], &ipv6(17), &udp()].concat()).expect("UDP");
        let expected = Packet {
            family: Family::V6,
            tcp: false,
            fragment: false,
            ip,
            transport: ip + 40,
            payload: ip + 48,
        };
        assert_eq!(found, expected);
        assert_eq!((found.csum_offset(), found.protocol()), (6, 17));
    }
    let icmp = [&link(0, 0x0800)[..], &ipv4(5, 1), &[0; 40]].concat();
    assert_eq!(Packet::of(&icmp), None);
    let arp = [&link(0, 0x0806)[..], &[0; 46]].concat();
    assert_eq!(Packet::of(&arp), None);
    for len in 0..54 {
        let whole = [&link(0, 0x0800)[..], &ipv4(5, 6), &tcp(5)].concat();
        assert_eq!(Packet::of(&whole[..len]), None, "{len}");
    }
}
