use super::*;
use crate::header::HDR_LEN;
use crate::header::packet::MAX_TAGS;
use crate::testing::packets;

/// First bytes of the frame of a packet.
fn head(packet: &packets::Packet) -> Vec<u8> {
    let mut bytes = packet.bytes().split_off(HDR_LEN);
    bytes.truncate(HEADERS);
    bytes
}

/// A packet of UDP over IPv4 behind `tags`, whose sum is that of nothing with this identification.
fn numbered(tags: usize, id: u16) -> packets::Packet {
    packets::Packet {
        tags,
        id,
        ..packets::Packet::udp(&[0; 200])
    }
}

/// This is asked of nearly every frame of a group. What it does not find out is found out by more
/// work, so that no frame shows it.
#[test]
fn a_right_sum_is_known_by_that_of_another_identification() {
    for tags in 0..=MAX_TAGS {
        let first = head(&numbered(tags, 0x1000));
        let packet = Packet::of(&first).expect("all headers are there");
        let repeats = |head: &[u8]| repeats_ipv4_sum(&first, head, &packet);
        for id in [0, 1, 0x0fff, 0x1000, 0x1001, 0xffff] {
            let mut head = head(&numbered(tags, id));
            assert!(repeats(&head), "{tags} tags, {id:#x}");
            head[packet.ip + 5] ^= 1;
            assert!(!repeats(&head), "{tags} tags, next to {id:#x}");
        }
        // The identification with which the sum becomes zero, which has two forms.
        let sum = word(&first, packet.ip + 10).expect("it is there");
        let mut head = head(&numbered(tags, 0x1000_u16.wrapping_add(sum)));
        for form in [0, 0xff] {
            head[packet.ip + 10..packet.ip + 12].fill(form);
            assert!(!repeats(&head), "{tags} tags, {form:#x}");
        }
        assert!(!repeats(&head[..packet.ip + 11]), "it is cut");
    }
}

#[test]
fn there_is_no_sum_in_ipv6() {
    let packet = packets::Packet {
        v6: true,
        ..packets::Packet::udp(&[0; 200])
    };
    let first = head(&packet);
    let packet = Packet::of(&first).expect("all headers are there");
    assert!(repeats_ipv4_sum(&first, &first, &packet));
}
