//! Segments as system calls see them, and copies across their borders.

use std::io::{Read, Write};

use super::*;

/// Segments over parts of `bytes` with these lengths, one after the other.
fn cut(bytes: &mut [u8], lens: &[usize]) -> Vec<IoVec> {
    let whole = HostSlice::of_buffer(bytes);
    let mut at = 0;
    let parts = lens.iter().map(|&len| {
        let part = whole.sub(at, len).expect("it is within");
        at += len;
        part.io()
    });
    parts.collect()
}

#[test]
fn segments_say_their_length_and_nothing_of_their_bytes() {
    let mut bytes = *b"secret";
    let mut segments = cut(&mut bytes, &[6]);
    assert_eq!(format!("{:?}", segments[0]), "IoVec(6 bytes)");
    assert!(!segments[0].is_empty() && IoVec::EMPTY.is_empty());
    segments[0].advance(4);
    assert_eq!(segments[0].len(), 2);
    segments[0].advance(3);
    assert!(segments[0].is_empty(), "at most all of them");
}

#[test]
fn copies_cross_segments_and_skip_what_they_are_told_to() {
    let mut bytes: Vec<u8> = (0..10).collect();
    let segments = cut(&mut bytes, &[3, 0, 4, 3]);
    let gather = Gather::new(&segments, 2, 10);
    assert_eq!((gather.len(), gather.header_len()), (10, 2));
    assert!(!gather.is_empty() && Gather::new(&[], 0, 0).is_empty());
    let mut copy = [0; 12];
    assert_eq!(gather.copy_to(&mut copy), Ok(10));
    assert_eq!(copy, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0]);
    let mut part = [0; 4];
    assert_eq!(gather.copy_from_offset(5, &mut part), Ok(4));
    assert_eq!(part, [5, 6, 7, 8]);
    assert_eq!(gather.copy_from_offset(8, &mut part), Ok(2));
    assert_eq!(gather.copy_from_offset(10, &mut part), Ok(0));

    let mut room = Scatter::new(&segments, 10);
    assert_eq!(room.write_at(2, &[9; 3]), Ok(3));
    assert_eq!(room.write_at(8, &[8; 3]), Ok(2), "what finds room");
    let mut copy = [0; 10];
    assert_eq!(room.read_at(0, &mut copy), Ok(10));
    assert_eq!(copy, [0, 1, 9, 9, 9, 5, 6, 7, 8, 8]);
    assert!(!room.is_empty() && Scatter::new(&[], 0).is_empty());
}

#[test]
fn frames_pass_descriptors_whole_in_one_segment_or_many() {
    let (mut far, near) = io::pipe().unwrap();
    let (back, mut answers) = io::pipe().unwrap();
    for lens in [&[10][..], &[3, 4, 3]] {
        let mut bytes: Vec<u8> = (0..10).collect();
        let segments = cut(&mut bytes, lens);
        let gather = Gather::new(&segments, 2, 10);
        assert_eq!(gather.write_to(&near).unwrap(), 10);
        let mut came = [0; 10];
        far.read_exact(&mut came).unwrap();
        assert_eq!(came.as_slice(), (0..10).collect::<Vec<u8>>());

        answers.write_all(&[7; 10]).unwrap();
        let mut room = Scatter::new(&segments, 10);
        assert_eq!(room.read_from(&back).unwrap(), 10);
        assert_eq!(room.read_at(0, &mut came), Ok(10));
        assert_eq!(came, [7; 10]);
    }
}

// Miri refuses such calls with errors of its own.
#[cfg(not(miri))]
#[test]
fn errors_of_the_system_calls_are_handed_on() {
    use std::fs::File;

    let nowhere = File::open("/dev/null").unwrap();
    let sent = Gather::with_bytes(&[0; 4], 2, |frame| frame.write_to(&nowhere));
    assert_eq!(sent.unwrap_err().raw_os_error(), Some(libc::EBADF));
    let sink = File::options().write(true).open("/dev/null").unwrap();
    let came = Scatter::with_bytes(&mut [0; 4], |room| room.read_from(&sink));
    assert_eq!(came.unwrap_err().raw_os_error(), Some(libc::EBADF));
}

#[test]
fn a_range_beyond_its_memory_is_no_segment() {
    let mut bytes = [0; 8];
    let slice = HostSlice::of_buffer(&mut bytes);
    assert_eq!(slice.sub(0, 8).map(|part| part.len()), Some(8));
    for (offset, len) in [(0, 9), (8, 1), (9, 0), (usize::MAX, 2)] {
        assert!(slice.sub(offset, len).is_none(), "{offset} {len}");
    }
}

#[test]
fn a_header_is_put_in_front_whether_it_fits_the_first_segment_or_not() {
    let header: [u8; 12] = std::array::from_fn(|at| at as u8 + 1);
    let whole: [u8; 14] = std::array::from_fn(|at| if at < 12 { at as u8 + 1 } else { 0 });
    for lens in [&[14][..], &[12, 2], &[11, 3], &[1, 0, 13], &[3, 3, 8]] {
        let mut bytes = [0; 14];
        let segments = cut(&mut bytes, lens);
        put_front(&segments, header).unwrap();
        assert_eq!(bytes, whole, "{lens:?}");
    }
}

#[test]
fn a_longer_header_is_put_in_front_whether_it_fits_the_first_segment_or_not() {
    let header = std::array::from_fn(|at| at as u8 + 1);
    let more = std::array::from_fn(|at| at as u8 + 13);
    let whole: [u8; 21] = std::array::from_fn(|at| if at < 20 { at as u8 + 1 } else { 0 });
    for lens in [
        &[21][..],
        &[20, 1],
        &[19, 2],
        &[12, 8, 1],
        &[1, 0, 3, 16, 1],
    ] {
        let mut bytes = [0; 21];
        let segments = cut(&mut bytes, lens);
        put_front_with(&segments, header, more).unwrap();
        assert_eq!(bytes, whole, "{lens:?}");
    }
}

#[test]
fn a_header_is_read_from_the_front_if_it_fits_the_first_segment() {
    let header: [u8; 12] = std::array::from_fn(|at| at as u8 + 1);
    let mut bytes = [0; 14];
    bytes[..12].copy_from_slice(&header);
    for lens in [&[14][..], &[12, 2]] {
        let segments = cut(&mut bytes, lens);
        assert_eq!(header_at_front(&segments), Some(Ok(header)), "{lens:?}");
    }
    for lens in [&[11, 3][..], &[0, 14], &[]] {
        let segments = cut(&mut bytes, lens);
        assert_eq!(header_at_front(&segments), None, "{lens:?}");
    }
}

/// Bytes behind the first segment in this process's memory are not those of the next one.
#[test]
fn a_header_leaves_what_lies_between_its_segments_as_it_is() {
    let header: [u8; 12] = std::array::from_fn(|at| at as u8 + 1);
    let more: [u8; 8] = std::array::from_fn(|at| at as u8 + 13);
    let longer = [header.as_slice(), &more].concat();
    for first in 0..=20 {
        for whole in [&header[..], &longer] {
            let mut bytes = [0xaa; 96];
            let cuts = cut(&mut bytes, &[first, 48 - first, 20]);
            let segments = [cuts[0], cuts[2]];
            if whole.len() == header.len() {
                put_front(&segments, header).unwrap();
            } else {
                put_front_with(&segments, header, more).unwrap();
            }
            let mut expected = [0xaa; 96];
            let (front, rest) = whole.split_at(first.min(whole.len()));
            expected[..front.len()].copy_from_slice(front);
            expected[48..48 + rest.len()].copy_from_slice(rest);
            assert_eq!(bytes, expected, "{first}");
        }
    }
}
