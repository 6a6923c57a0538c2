use super::*;
use crate::header::packet::MAX_TAGS;
use crate::header::{HDR_LEN, TxRules};
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

/// A frame and what is known of it.
struct Case {
    /// The fields that it was made of.
    fields: packets::Packet,
    frame: Vec<u8>,
    header: NetHdr,
    packet: Packet,
}

impl Case {
    fn of(fields: packets::Packet) -> Self {
        let bytes = fields.bytes();
        let (header, frame) = bytes.split_at(HDR_LEN);
        Self {
            frame: frame.to_vec(),
            header: checked(header, frame.len()),
            packet: Packet::of(frame).expect("all headers are there"),
            fields,
        }
    }

    fn is_mergeable(&self) -> bool {
        is_mergeable(&self.frame, self.frame.len(), &self.packet, self.header)
    }

    /// Returns whether `bit` of the frame is among `bytes`, or among these `flags` of TCP.
    fn lies_in(&self, bit: usize, bytes: &[std::ops::Range<usize>], flags: u8) -> bool {
        let at = bit / 8;
        let is_flag = self.packet.tcp && at == self.packet.transport + TCP_FLAGS;
        bytes.iter().any(|range| range.contains(&at)) || is_flag && flags >> (bit % 8) & 1 != 0
    }

    /// Places of what is counted in each frame of a group: identification, sequence number.
    fn numbers(&self) -> Vec<std::ops::Range<usize>> {
        let (ip, start) = (self.packet.ip, self.packet.transport);
        let id = (!self.fields.v6).then_some(ip + 4..ip + 6);
        let seq = self.packet.tcp.then_some(start + 4..start + 8);
        id.into_iter().chain(seq).collect()
    }

    /// Places of lengths.
    fn lengths(&self) -> Vec<std::ops::Range<usize>> {
        let (ip, start) = (self.packet.ip, self.packet.transport);
        let network = if self.fields.v6 { ip + 4 } else { ip + 2 };
        let transport = (!self.packet.tcp).then_some(start + 4..start + 6);
        let network = std::iter::once(network..network + 2);
        network.chain(transport).collect()
    }

    /// Place of the IPv4 header's sum.
    fn ipv4_sum(&self) -> Option<std::ops::Range<usize>> {
        let at = self.packet.ip + 10;
        (!self.fields.v6).then_some(at..at + 2)
    }

    /// Place of the transport header's sum.
    fn sum(&self) -> std::ops::Range<usize> {
        let at = self.packet.transport + if self.packet.tcp { 16 } else { 6 };
        at..at + 2
    }
}

/// The header in front of a frame of `len` bytes, as the engine sees it.
fn checked(header: &[u8], len: usize) -> NetHdr {
    let raw: [u8; HDR_LEN] = header.try_into().expect("it is as long");
    let rules = TxRules::new(Offloads::all());
    NetHdr::check_tx(&raw.into(), len as u32, rules).expect("it passes")
}

/// A frame of each kind, with `sums`.
fn cases(sums: packets::Sums) -> Vec<Case> {
    let mut cases = Vec::new();
    for tags in 0..=MAX_TAGS {
        for (v6, tcp) in [(false, false), (false, true), (true, false), (true, true)] {
            let options = if tcp { vec![1; 12] } else { Vec::new() };
            cases.push(Case::of(packets::Packet {
                tags,
                v6,
                tcp,
                options,
                sums,
                ..packets::Packet::udp(&[0x5a; 40])
            }));
        }
    }
    cases
}

/// Calls `f` with the number of each bit of `frame` in turn, and the frame with that bit changed.
fn each_bit(frame: &[u8], mut f: impl FnMut(usize, &[u8])) {
    let mut frame = frame.to_vec();
    for bit in 0..8 * frame.len() {
        frame[bit / 8] ^= 1 << (bit % 8);
        f(bit, &frame);
        frame[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn all_headers_lie_in_the_bytes_that_are_copied_first_and_little_else() {
    let longest = Case::of(packets::Packet {
        tags: MAX_TAGS,
        v6: true,
        options: vec![1; 40],
        ..packets::Packet::tcp(&[1])
    });
    let headers = longest.packet.payload;
    assert!((headers..headers + 16).contains(&HEADERS), "{headers}");
}

#[test]
fn each_bit_of_the_headers_is_one_that_excludes_a_frame_or_not() {
    for sums in [packets::Sums::Partial, packets::Sums::Complete] {
        for case in cases(sums) {
            assert!(case.is_mergeable(), "{:?}", case.fields);
            let packet = &case.packet;
            let mut excluding = case.lengths();
            if !case.fields.v6 {
                excluding.push(packet.ip + 6..packet.ip + 8);
            }
            each_bit(&case.frame, |bit, frame| {
                let dont_fragment = bit == 8 * (packet.ip + 6) + 6 && !case.fields.v6;
                let reserved = packet.tcp && bit / 8 == packet.transport + 12 && bit % 8 < 4;
                let excluded = case.lies_in(bit, &excluding, !(LAST_ONLY | ECE)) && !dont_fragment;
                let merges = is_mergeable(frame, frame.len(), packet, case.header);
                assert_eq!(merges, !(excluded || reserved), "{bit} {:?}", case.fields);
            });
        }
    }
}

#[test]
fn partial_checksums_elsewhere_and_frames_to_be_cut_exclude_a_frame() {
    for mut case in cases(packets::Sums::Partial) {
        let start = case.packet.transport as u8;
        let offset = case.packet.csum_offset() as u8;
        let gso_type = match (case.packet.tcp, case.fields.v6) {
            (true, false) => gso::TCPV4,
            (true, true) => gso::TCPV6,
            (false, _) => gso::UDP_L4,
        };
        let headers = case.packet.payload as u8;
        for (gso_type, start, offset, merges) in [
            (gso::NONE, start, offset, true),
            (gso::NONE, start - 1, offset, false),
            (gso::NONE, start, offset + 1, false),
            (gso::NONE, start + 2, offset - 2, false),
            (gso_type, start, offset, false),
        ] {
            let size = if gso_type == gso::NONE { 0 } else { 8 };
            let raw = [1, gso_type, headers, 0, size, 0, start, 0, offset, 0, 0, 0];
            case.header = checked(&raw, case.frame.len());
            assert_eq!(case.is_mergeable(), merges, "{raw:?}");
        }
    }
}

#[test]
fn nothing_to_cut_and_headers_between_those_of_ip_and_transport_exclude_a_frame() {
    for case in cases(packets::Sums::Complete) {
        let empty = Case::of(packets::Packet {
            payload: Vec::new(),
            ..case.fields.clone()
        });
        assert!(!empty.is_mergeable());

        let mut odd = case;
        let (ip, start) = (odd.packet.ip, odd.packet.transport);
        odd.frame.splice(start..start, [0; 4]);
        odd.packet.transport += 4;
        odd.packet.payload += 4;
        if !odd.fields.v6 {
            // IPv6 says how long that is which is behind its header: it seems to begin later.
            odd.frame[ip + 3] += 4;
        }
        assert!(!odd.is_mergeable(), "{:?}", odd.fields);
    }
}

#[test]
fn only_kinds_that_are_on_merge_and_a_group_begins_with_no_last_frame() {
    for case in cases(packets::Sums::Partial) {
        let (frame, len) = (&case.frame, case.frame.len());
        let candidate = |frame: &[u8], len, on| {
            Candidate::of(frame, len, case.header, on).expect("it has a flow")
        };
        let own = kind(&case.packet);
        assert!(candidate(frame, len, own).mergeable);
        assert!(candidate(frame, len, own).begins(frame));
        let others = super::super::KINDS.difference(own);
        assert!(!candidate(frame, len, others).mergeable);
        assert!(!candidate(frame, len, others).begins(frame));
        assert!(!candidate(frame, len + 1, own).mergeable);
        if case.packet.tcp {
            for flag in [0x01, 0x08] {
                let mut last = case.frame.clone();
                last[case.packet.transport + TCP_FLAGS] |= flag;
                assert!(candidate(&last, len, own).mergeable);
                assert!(!candidate(&last, len, own).begins(&last));
            }
        }
    }
}

#[test]
fn each_bit_that_a_partial_checksum_stands_for_is_one_that_it_depends_on() {
    for case in cases(packets::Sums::Partial) {
        let (packet, payload) = (&case.packet, case.frame.len() - case.packet.payload);
        assert!(partial_sums_agree(&case.frame, payload, packet));
        assert!(!partial_sums_agree(&case.frame, payload + 1, packet));
        assert!(!partial_sums_agree(&case.frame, payload - 1, packet));
        // IPv4's own sum is of all its header.
        let summed = if case.fields.v6 {
            packet.ip + 8
        } else {
            packet.ip
        };
        let summed = [summed..packet.transport, case.sum()];
        each_bit(&case.frame, |bit, frame| {
            let agree = partial_sums_agree(frame, payload, packet);
            let summed = case.lies_in(bit, &summed, 0);
            assert_eq!(agree, !summed, "{bit} {:?}", case.fields);
        });
    }
}

#[test]
fn each_bit_that_a_complete_checksum_stands_for_is_one_that_it_depends_on() {
    for case in cases(packets::Sums::Complete) {
        let packet = &case.packet;
        let agree = |frame: &[u8]| {
            let (head, payload) = frame.split_at(packet.payload);
            complete_sums_agree(head, payload, packet)
        };
        assert!(agree(&case.frame));
        let summed = if case.fields.v6 {
            packet.ip + 8
        } else {
            packet.ip
        };
        each_bit(&case.frame, |bit, frame| {
            let summed = bit / 8 >= summed;
            assert_eq!(agree(frame), !summed, "{bit} {:?}", case.fields);
        });
    }
}

#[test]
fn sums_that_are_zero_in_either_form_do_not_count() {
    for case in cases(packets::Sums::Complete) {
        let packet = &case.packet;
        // What the sum says is moved into bytes that it is of.
        let mut places = vec![(case.sum(), packet.payload)];
        places.extend(case.ipv4_sum().map(|sum| (sum, packet.ip + 4)));
        for (sum, other) in places {
            let mut frame = case.frame.clone();
            let moved =
                [sum.start, other].map(|at| u32::from(word(&frame, at).expect("it is there")));
            let moved: u32 = moved.iter().sum();
            let moved = (moved & 0xffff) + (moved >> 16);
            frame[other..other + 2].copy_from_slice(&(moved as u16).to_be_bytes());
            for form in [0, 0xff] {
                frame[sum.clone()].fill(form);
                let (head, payload) = frame.split_at(packet.payload);
                assert!(!complete_sums_agree(head, payload, packet), "{sum:?}");
            }
        }
        assert!(ambiguous(&case.frame, case.frame.len() - 1), "it is cut");
    }
}

#[test]
fn each_bit_that_a_group_has_once_is_one_in_which_its_frames_are_the_same() {
    for case in cases(packets::Sums::Partial) {
        let packet = &case.packet;
        let mut own = [case.numbers(), case.lengths(), vec![case.sum()]].concat();
        own.extend(case.ipv4_sum());
        own.push(packet.payload..case.frame.len());
        assert!(same_headers(&case.frame, &case.frame, packet));
        each_bit(&case.frame, |bit, frame| {
            let same = same_headers(&case.frame, frame, packet);
            let own = case.lies_in(bit, &own, LAST_ONLY);
            assert_eq!(same, own, "{bit} {:?}", case.fields);
        });
    }
}

#[test]
fn each_bit_of_a_frame_that_repeats_the_first_is_that_of_the_first_or_counts_up() {
    for case in cases(packets::Sums::Partial) {
        let packet = &case.packet;
        let mut own = case.numbers();
        own.extend(case.ipv4_sum());
        own.push(packet.payload..HEADERS);
        let mut first = [0; HEADERS];
        let len = case.frame.len().min(HEADERS);
        first[..len].copy_from_slice(&case.frame[..len]);
        let bits = repeated_bits(packet);
        assert!(same_bits(&first, &first, &bits));
        each_bit(&first, |bit, frame| {
            let mut head = first;
            head.copy_from_slice(frame);
            let own = case.lies_in(bit, &own, LAST_ONLY);
            assert_eq!(
                same_bits(&first, &head, &bits),
                own,
                "{bit} {:?}",
                case.fields
            );
            // The same difference in another place takes nothing away.
            head[0] ^= 1 << (bit % 8);
            assert_eq!(same_bits(&first, &head, &bits), bit < 8, "{bit}");
        });
    }
}

#[test]
fn each_bit_of_addresses_ports_and_protocol_tells_flows_apart() {
    for case in cases(packets::Sums::Partial) {
        let (packet, tcp) = (&case.packet, case.packet.tcp);
        let addresses = if case.fields.v6 {
            packet.ip + 8..packet.ip + 40
        } else {
            packet.ip + 12..packet.ip + 20
        };
        let ports = packet.transport..packet.transport + 4;
        // Whatever the others are, also in one half of an address alone.
        for (even, odd, of_ports) in [
            (0, 0, 0),
            (0, 0, 0xff),
            (0xff, 0xff, 0),
            (0xff, 0xff, 0xff),
            (0xff, 0, 0),
            (0, 0xff, 0),
        ] {
            let mut base = case.frame.clone();
            for (at, half) in base[addresses.clone()].chunks_mut(8).enumerate() {
                half.fill(if at % 2 == 0 { even } else { odd });
            }
            base[ports.clone()].fill(of_ports);
            let own = flow(&base, packet).expect("it has one");
            let other = Packet {
                tcp: !tcp,
                ..*packet
            };
            assert_ne!(flow(&base, &other), Some(own), "protocol");
            each_bit(&base, |bit, frame| {
                let told = case.lies_in(bit, &[addresses.clone(), ports.clone()], 0);
                assert_eq!(flow(frame, packet) != Some(own), told, "{bit}");
            });
        }
    }
}

/// A group of `frames` frames like `case`, whose identifications are `id_step` apart.
fn group(case: &Case, frames: usize, id_step: u16) -> Group {
    Group {
        packet: case.packet,
        size: 40,
        frames,
        id_step,
    }
}

#[test]
fn identifications_go_on_in_the_step_of_the_group() {
    for case in cases(packets::Sums::Partial) {
        let id = case.packet.ip + 4;
        let numbered = |distance: u16, fragment: u16| {
            let mut frame = case.frame.clone();
            let first = word(&frame, id).expect("it is there");
            frame[id..id + 2].copy_from_slice(&first.wrapping_add(distance).to_be_bytes());
            frame[id + 2..id + 4].copy_from_slice(&fragment.to_be_bytes());
            frame
        };
        for (frames, group_step, distance, fragment, step) in [
            (1, 0, 0, 0x4000, Some(0)),
            (1, 0, 0, 0, None),
            (1, 0, 1, 0x4000, Some(1)),
            (1, 0, 1, 0, Some(1)),
            (1, 0, 2, 0, None),
            (1, 0, 0xffff, 0x4000, None),
            (3, 1, 3, 0, Some(1)),
            (3, 1, 0, 0x4000, None),
            (3, 1, 2, 0x4000, None),
            (3, 0, 0, 0x4000, Some(0)),
            (3, 0, 3, 0x4000, None),
            (3, 0, 0, 0, None),
        ] {
            let frame = numbered(distance, fragment);
            let found = id_step(&case.frame, &frame, &group(&case, frames, group_step));
            let step = if case.fields.v6 { Some(0) } else { step };
            assert_eq!(found, step, "{distance} {fragment:#x} behind {frames}");
        }
    }
}

#[test]
fn sequence_numbers_go_on_behind_all_bytes_of_the_group() {
    for case in cases(packets::Sums::Partial) {
        for frames in [1, 3] {
            for (bytes, is_next_of_tcp) in [(40 * frames, true), (0, false), (40 + frames, false)] {
                let after = Case::of(packets::Packet {
                    seq: case.fields.seq.wrapping_add(bytes as u32),
                    ..case.fields.clone()
                });
                let next = is_next(&case.frame, &after.frame, &group(&case, frames, 0));
                assert_eq!(next, is_next_of_tcp || !case.packet.tcp, "{bytes} {frames}");
            }
        }
        let wraps = Case::of(packets::Packet {
            seq: 0xffff_fff0,
            ..case.fields.clone()
        });
        let after = Case::of(wraps.fields.after(2, &[0x5a; 40]));
        assert!(is_next(&wraps.frame, &after.frame, &group(&wraps, 2, 0)));
    }
}

#[test]
fn a_frame_is_the_last_by_its_payload_or_by_what_only_the_last_one_has() {
    for case in cases(packets::Sums::Partial) {
        let last = |frame: &[u8], payload| is_last(frame, &case.packet, payload, 40);
        assert!(!last(&case.frame, 40));
        assert!(last(&case.frame, 39));
        each_bit(&case.frame, |bit, frame| {
            let flag = case.lies_in(bit, &[], LAST_ONLY);
            assert_eq!(last(frame, 40), flag, "{bit}");
            assert!(last(frame, 39));
        });
    }
}
