use super::{Sum, complete};
use crate::header::{NetHdr, RawHdr, RxRules, flags};
use crate::offload::Offloads;

/// Word by word, as RFC 1071 defines it.
fn by_definition(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | word.get(1).copied().map_or(0, u32::from));
    let sum = words.fold(0u32, |sum, word| {
        let sum = sum + word;
        (sum & 0xffff) + (sum >> 16)
    });
    !(sum as u16)
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 167 + at / 7) as u8).collect()
}

#[test]
fn an_ipv4_header_has_its_known_checksum() {
    let mut sum = Sum::default();
    sum.add(&[
        0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7,
    ]);
    assert_eq!(sum.checksum(), [0xb8, 0x61]);
}

#[test]
fn pieces_of_any_length_sum_up_as_the_whole() {
    for len in [0, 1, 2, 3, 4, 5, 59, 60, 1461, 9001] {
        let bytes = bytes(len);
        for piece in [1, 2, 3, 5, 64, 512, 10_000] {
            let mut sum = Sum::default();
            bytes.chunks(piece).for_each(|piece| sum.add(piece));
            let expected = by_definition(&bytes);
            assert_eq!(
                u16::from_be_bytes(sum.checksum()),
                expected,
                "{len} by {piece}"
            );
        }
    }
    let longest = vec![0xff; 65_553];
    let mut sum = Sum::default();
    sum.add(&longest);
    assert_eq!(u16::from_be_bytes(sum.checksum()), by_definition(&longest));
}

#[test]
fn a_checksum_of_zero_is_stored_as_its_other_form() {
    let mut sum = Sum::default();
    sum.add(&[0xff, 0xff]);
    assert_eq!(sum.checksum(), [0xff, 0xff]);
}

#[test]
fn a_completed_frame_verifies() {
    let mut raw = [0; 12];
    raw[0] = flags::NEEDS_CSUM;
    for (len, start, offset) in [
        (60u16, 34u16, 6u16),
        (61, 34, 16),
        (1514, 54, 16),
        (42, 40, 0),
    ] {
        raw[6..8].copy_from_slice(&start.to_le_bytes());
        raw[8..10].copy_from_slice(&offset.to_le_bytes());
        let rules = RxRules::new(Offloads::CSUM);
        let header = NetHdr::check_rx(&RawHdr::from(raw), len.into(), rules).expect("it fits");
        let before = bytes(len.into());
        let mut frame = before.clone();
        complete(&mut frame, header);
        let (start, field) = (usize::from(start), usize::from(start + offset));
        // The field held a part of the sum, which counts as well when the result is verified.
        let mut verify = Sum::default();
        verify.add(&before[start..]);
        let mut stored = Sum::default();
        stored.add(&frame[field..field + 2]);
        let total = verify.words + stored.words;
        assert_eq!(super::fold(total), 0xffff, "{len} {start} {offset}");
        frame[field..field + 2].copy_from_slice(&before[field..field + 2]);
        assert_eq!(frame, before, "nothing else changed");
    }
}
