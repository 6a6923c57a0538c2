use net_queue::header::HDR_LEN;

use super::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

#[test]
fn a_request_has_the_bytes_of_rfc_903() {
    let frame = Announcement::rarp(MAC.into(), None);
    let (header, frame) = frame.behind_header(HDR_LEN).split_at(HDR_LEN);
    assert_eq!(header, [0; HDR_LEN]);
    assert_eq!(frame.len(), 60);
    let expected = [
        &[0xff; 6][..],
        &MAC,
        &[0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3],
        &MAC,
        &[0; 4],
        &MAC,
        &[0; 4],
        &[0; 18],
    ];
    assert_eq!(frame, expected.concat());
}

#[test]
fn a_tag_stands_before_the_type_and_makes_the_frame_longer() {
    let frame = Announcement::rarp(MAC.into(), Some(0x123));
    let frame = frame.behind_header(0);
    assert_eq!(frame.len(), 64);
    assert_eq!(frame[12..18], [0x81, 0, 0x01, 0x23, 0x80, 0x35]);
}
