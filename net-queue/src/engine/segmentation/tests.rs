use super::*;
use crate::header::{HDR_LEN, RawHdr, RxRules, gso};
use crate::offload::Offloads;
use crate::testing::{LargeFrame, Random};

fn checked(bytes: &[u8]) -> Result<NetHdr, HdrError> {
    let raw = RawHdr::from(*bytes.first_chunk().expect("a header"));
    let len = (bytes.len() - HDR_LEN) as u32;
    NetHdr::check_rx(&raw, len, RxRules::new(Offloads::all()))
}

/// Every segment with its header, as it lies in the frame when it is formed.
fn cut(bytes: &[u8], checksum: Checksum) -> Result<Vec<Vec<u8>>, HdrError> {
    let header = checked(bytes)?;
    let mut frame = bytes[HDR_LEN..].to_vec();
    let mut segmenter = Segmenter::new(&frame, header)?;
    let mut segments = Vec::new();
    while segmenter.remaining() > 0 {
        // To form one again changes nothing.
        segmenter.form(&mut frame, Checksum::Complete);
        let (start, mut header) = segmenter.form(&mut frame, checksum);
        header.set_num_buffers(0);
        let len = segmenter.segment_len();
        segments.push([&header.to_bytes(), &frame[start..start + len]].concat());
        segmenter.advance();
    }
    Ok(segments)
}

fn check(large: &LargeFrame) {
    for (checksum, partial) in [(Checksum::Partial, true), (Checksum::Complete, false)] {
        let got = cut(&large.bytes(), checksum).expect("it can be cut");
        let expected = large.segments(partial);
        assert_eq!(got.len(), expected.len(), "{large:?}");
        for (index, (got, expected)) in got.iter().zip(&expected).enumerate() {
            assert!(
                got == expected,
                "segment {index} of {large:?}\n{got:?}\n{expected:?}"
            );
        }
    }
}

const TCP: [bool; 2] = [true, false];

#[test]
fn every_kind_of_frame_becomes_what_a_sender_would_have_sent() {
    for tcp in TCP {
        for v6 in [false, true] {
            for tags in 0..=3 {
                for ip_options in [0, 1, 9] {
                    for tcp_options in [0, 3, 10] {
                        check(&LargeFrame {
                            tcp,
                            v6,
                            tags,
                            ip_options,
                            tcp_options,
                            ..LargeFrame::default()
                        });
                    }
                }
            }
        }
    }
}

#[test]
fn lengths_around_whole_segments() {
    for tcp in TCP {
        for size in [1, 2, 53, 1000] {
            for payload in [1, size, size + 1, 2 * size, 2 * size + 1, 3 * size - 1] {
                let large = LargeFrame {
                    tcp,
                    size: size as u16,
                    payload: payload.max(1),
                    ..LargeFrame::default()
                };
                check(&large);
            }
        }
    }
}

#[test]
fn tcp_flags_go_to_the_segments_that_they_are_for() {
    for tcp_flags in 0..=255 {
        check(&LargeFrame {
            tcp_flags,
            payload: 300,
            size: 100,
            ..LargeFrame::default()
        });
    }
}

#[test]
fn identification_and_sequence_wrap() {
    for dont_fragment in [false, true] {
        check(&LargeFrame {
            id: 0xfffe,
            sequence: u32::MAX - 2000,
            dont_fragment,
            ..LargeFrame::default()
        });
    }
}

#[test]
fn random_frames_become_what_a_sender_would_have_sent() {
    let mut random = Random::new(9);
    for _ in 0..300 {
        check(&LargeFrame::random(&mut random));
    }
}

#[test]
fn longest_frames() {
    for tcp in TCP {
        for v6 in [false, true] {
            let mut large = LargeFrame {
                tcp,
                v6,
                tags: 3,
                size: 1200,
                ..LargeFrame::default()
            };
            let ip = large.headers() - 26;
            large.payload = 65_535 - ip;
            check(&large);
            // The whole of it as one segment.
            large.size = 65_500;
            check(&large);
        }
    }
}

#[test]
fn checksum_of_zero_is_stored_as_the_protocol_wants_it() {
    for tcp in TCP {
        let mut large = LargeFrame {
            tcp,
            port: 0,
            ..LargeFrame::default()
        };
        let field = HDR_LEN + large.transport() + usize::from(large.csum_offset());
        // What is missing to a sum of all ones.
        large.port = word(&large.segments(false)[0], field);
        let zero = if tcp { [0; 2] } else { [0xff; 2] };
        assert_eq!(large.segments(false)[0][field..field + 2], zero);
        check(&large);
    }
}

/// Number of segments of a frame that can be cut, after `change`.
fn spoiled(large: &LargeFrame, change: impl FnOnce(&mut Vec<u8>)) -> Result<usize, HdrError> {
    let mut bytes = large.bytes();
    change(&mut bytes);
    cut(&bytes, Checksum::Partial).map(|segments| segments.len())
}

#[test]
fn frame_whose_headers_are_others_than_said_is_refused() {
    let large = LargeFrame::default();
    let v6 = LargeFrame {
        v6: true,
        ip_options: 2,
        ..LargeFrame::default()
    };
    let refused = Err(HdrError::GsoHeaders);
    for (name, at, value) in [
        ("gso type of the other family", 1, gso::TCPV6),
        ("start of the checksum", 6, 36),
        ("EtherType", HDR_LEN + 13, 6),
        ("version", HDR_LEN + 14, 0x65),
        ("words of the IP header", HDR_LEN + 14, 0x44),
        ("more words than there are", HDR_LEN + 14, 0x46),
        ("protocol", HDR_LEN + 23, 17),
        ("words of the TCP header", HDR_LEN + 46, 0x40),
    ] {
        assert_eq!(
            spoiled(&large, |bytes| bytes[at] = value),
            refused,
            "{name}"
        );
    }
    for (name, at, value) in [
        ("unknown extension", HDR_LEN + 20, 51),
        ("length of an extension", HDR_LEN + 55, 3),
        ("endless extensions", HDR_LEN + 55, 255),
    ] {
        assert_eq!(spoiled(&v6, |bytes| bytes[at] = value), refused, "{name}");
    }
    let udp = LargeFrame {
        tcp: false,
        ..large.clone()
    };
    let mut bytes = udp.bytes();
    bytes[1] = gso::UDP;
    assert_eq!(
        cut(&bytes, Checksum::Partial).map(|all| all.len()),
        refused,
        "fragments are not made here"
    );
}

/// As the kernel does: a length that lies is not looked at.
#[test]
fn lengths_that_lie_change_nothing_but_the_sum() {
    let v6 = LargeFrame {
        v6: true,
        ..LargeFrame::default()
    };
    for (large, field) in [(LargeFrame::default(), 16), (v6, 18)] {
        let mut bytes = large.bytes();
        bytes[HDR_LEN + field..][..2].copy_from_slice(&[0, 1]);
        let got = cut(&bytes, Checksum::Complete).expect("it can be cut");
        assert!(got == large.segments(false));
    }
}

#[test]
fn packet_longer_than_its_length_field_is_refused() {
    let mut large = LargeFrame {
        payload: 60_000,
        size: 65_500,
        ..LargeFrame::default()
    };
    let mut bytes = large.bytes();
    bytes.resize(HDR_LEN + 14 + 65_536, 0);
    assert_eq!(
        cut(&bytes, Checksum::Partial).map(|all| all.len()),
        Err(HdrError::GsoSize)
    );
    large.size = 1448;
    let mut bytes = large.bytes();
    bytes.resize(HDR_LEN + 14 + 65_536, 0);
    assert!(
        cut(&bytes, Checksum::Partial).is_ok(),
        "its parts are short"
    );
}
