use super::*;
use crate::header::{HDR_LEN, TxRules};
use crate::testing::packets::{self, Sums};

/// A frame at hand, all of it copied.
struct Copied {
    bounce: BounceBuffer,
    len: usize,
    header: NetHdr,
}

impl Copied {
    fn of(fields: &packets::Packet) -> Self {
        let bytes = fields.bytes();
        let raw: [u8; HDR_LEN] = bytes[..HDR_LEN].try_into().unwrap();
        let rules = TxRules::new(Offloads::all());
        let header = NetHdr::check_tx(&raw.into(), (bytes.len() - HDR_LEN) as u32, rules);
        let mut bounce = BounceBuffer::new(HDR_MAX + MAX_FRAME);
        bounce[..bytes.len()].copy_from_slice(&bytes);
        Self {
            bounce,
            len: bytes.len(),
            header: header.unwrap(),
        }
    }

    fn staged<T>(&mut self, f: impl FnOnce(StagedFrame<'_>) -> T) -> T {
        let mut copied = self.len;
        f(StagedFrame {
            bounce: &mut self.bounce,
            copied: &mut copied,
            iovecs: &[],
            len: self.len,
            size: HDR_LEN,
            header: self.header,
        })
    }

    fn candidate(&self) -> Candidate {
        let frame = &self.bounce[HDR_LEN..self.len];
        Candidate::of(frame, frame.len(), self.header, Offloads::all()).unwrap()
    }
}

fn join(group: &mut OpenGroup, frame: &mut Copied) -> Joined {
    let candidate = frame.candidate();
    let joined = frame.staged(|mut staged| group.join(&mut staged, &candidate));
    joined.unwrap()
}

fn join_repeat(group: &mut OpenGroup, frame: &mut Copied) -> Joined {
    frame.staged(|staged| group.join_repeat(&staged)).unwrap()
}

fn open(first: &packets::Packet) -> OpenGroup {
    let mut frame = Copied::of(first);
    let mut group = OpenGroup::new(HDR_LEN);
    let candidate = frame.candidate();
    frame
        .staged(|mut staged| group.open(&mut staged, &candidate))
        .unwrap();
    group
}

/// A packet of each kind.
fn kinds(payload: &[u8]) -> Vec<packets::Packet> {
    let all = [(false, false), (false, true), (true, false), (true, true)];
    let kind = |(v6, tcp)| packets::Packet {
        tags: 1,
        v6,
        tcp,
        ..packets::Packet::udp(payload)
    };
    all.into_iter().map(kind).collect()
}

/// Payloads that a group holds.
fn payloads(group: &OpenGroup) -> &[u8] {
    &group.buffer[group.header + group.shape.packet.payload..group.len]
}

/// A group of three frames that begins with `first`, the third of which joined by comparison alone.
fn three(first: &packets::Packet) -> OpenGroup {
    let [second, third] = [1, 2].map(|n| first.after(n, &[n as u8; 50]));
    let mut group = open(first);
    // Before there is a second one, nothing is compared.
    assert_eq!(
        join_repeat(&mut group, &mut Copied::of(&second)),
        Joined::No
    );
    assert_eq!(join(&mut group, &mut Copied::of(&second)), Joined::Open);
    assert_eq!(
        join_repeat(&mut group, &mut Copied::of(&third)),
        Joined::Open
    );
    group
}

/// A frame that it does not find out about is found out about by more work, and leaves the same.
#[test]
fn a_frame_that_repeats_the_first_joins_by_comparison_alone() {
    for first in kinds(&[1; 50]) {
        let mut group = three(&first);
        assert_eq!((group.shape.frames, group.partial), (3, 0b111));
        let all = [[1; 50], [1; 50], [2; 50]].concat();
        assert_eq!(payloads(&group)[50..], all[50..], "{first:?}");

        let fourth = first.after(3, &[3; 50]);
        group.phase = Phase::Sealed;
        assert_eq!(
            join_repeat(&mut group, &mut Copied::of(&fourth)),
            Joined::No
        );
        assert_eq!(join(&mut group, &mut Copied::of(&fourth)), Joined::No);
        group.phase = Phase::Open;
        let mut last = fourth.clone();
        last.flags |= 0x08;
        let ends = if first.tcp {
            Joined::Complete(GroupEnd::Last)
        } else {
            Joined::Open
        };
        assert_eq!(join_repeat(&mut group, &mut Copied::of(&last)), ends);
        assert_eq!(group.shape.frames, 4);
        if first.tcp {
            let flags = HDR_LEN + group.shape.packet.transport + TCP_FLAGS;
            assert_eq!(group.buffer[flags], 0x18, "those of the last one, too");
        }
    }
}

/// Each of them repeats the first in all but one thing.
#[test]
fn a_frame_that_does_not_repeat_the_first_does_not_join_by_comparison() {
    for first in kinds(&[1; 50]) {
        let mut group = three(&first);
        let before = group.len;
        let fourth = first.after(3, &[3; 50]);
        let mut others = vec![
            packets::Packet {
                sums: Sums::Complete,
                ..fourth.clone()
            },
            packets::Packet {
                payload: vec![3; 51],
                ..fourth.clone()
            },
            packets::Packet {
                ttl: 9,
                ..fourth.clone()
            },
        ];
        if first.tcp || !first.v6 {
            // It is numbered, and came before.
            others.push(first.after(2, &[2; 50]));
        }
        let mut others: Vec<_> = others.iter().map(Copied::of).collect();
        let mut padded = Copied::of(&fourth);
        padded.len += 1;
        let mut other_header = Copied::of(&fourth);
        other_header.header = NetHdr::PLAIN;
        others.extend([padded, other_header]);
        if !first.v6 {
            let mut wrong_sum = Copied::of(&fourth);
            wrong_sum.bounce[HDR_LEN + 18 + 10] ^= 1;
            others.push(wrong_sum);
        }
        for (n, other) in others.iter_mut().enumerate() {
            assert_eq!(join_repeat(&mut group, other), Joined::No, "{n} {first:?}");
        }
        assert_eq!((group.len, group.shape.frames), (before, 3));
    }
}

/// The state of the first checksum is of no account for the others.
#[test]
fn a_group_notes_which_of_its_frames_came_with_a_partial_checksum() {
    for first in kinds(&[1; 50]) {
        let sums = [Sums::Complete, Sums::Partial, Sums::Partial, Sums::Complete];
        let all: Vec<_> = (0..8)
            .map(|n| packets::Packet {
                sums: sums[n % 4],
                ..first.after(n, &[n as u8; 50])
            })
            .collect();
        let mut group = open(&packets::Packet {
            payload: vec![0; 50],
            ..all[0].clone()
        });
        for next in &all[1..] {
            assert_eq!(join(&mut group, &mut Copied::of(next)), Joined::Open);
        }
        assert_eq!(group.partial, 0b0110_0110);
        assert_eq!(
            join_repeat(&mut group, &mut Copied::of(&all[1])),
            Joined::No
        );
        assert_eq!(group.left(), 8);
        group.phase = Phase::Singly(3);
        assert_eq!(group.left(), 5);
        let frame = (all[0].bytes().len() - HDR_LEN) as u64;
        assert_eq!((group.frame_len(0), group.frame_len(7)), (frame, frame));
        assert_eq!(group.bytes(), 8 * frame);
    }
}

#[test]
fn a_group_is_full_once_another_frame_might_not_fit() {
    // Of the sizes with 83 and 13 frames the last one fills a packet of IPv6 and of IPv4.
    for size in [300, 511, 512, 789, 1000, 5039] {
        for first in kinds(&vec![1; size]) {
            let mut group = open(&first);
            let headers = group.shape.packet.payload - group.shape.packet.ip;
            let most = ((MAX_PACKET - headers) / size).min(MAX_FRAMES);
            for n in 1..most {
                let mut next = Copied::of(&first.after(n, &vec![1; size]));
                let joined = match n % 2 {
                    0 => join_repeat(&mut group, &mut next),
                    _ => join(&mut group, &mut next),
                };
                let full = if n + 1 == most {
                    Joined::Complete(GroupEnd::Full)
                } else {
                    Joined::Open
                };
                assert_eq!(joined, full, "{} of {most}, {first:?}", n + 1);
            }
        }
    }
}

/// Their sums are of the payload, which nobody has looked at then.
#[test]
fn frames_with_whole_checksums_do_not_join_by_comparison_alone() {
    for first in kinds(&[1; 50]) {
        let first = packets::Packet {
            sums: Sums::Complete,
            ..first
        };
        let mut group = open(&first);
        for n in 1..4 {
            let mut next = Copied::of(&first.after(n, &[1; 50]));
            assert_eq!(join_repeat(&mut group, &mut next), Joined::No);
            assert_eq!(join(&mut group, &mut next), Joined::Open);
        }
    }
}

#[test]
fn a_shorter_frame_or_one_with_psh_is_the_last_of_its_group() {
    for sums in [Sums::Partial, Sums::Complete] {
        for first in kinds(&[0xff; 50]) {
            let first = packets::Packet { sums, ..first };
            let mut group = open(&first);
            let mut second = Copied::of(&first.after(1, &[0xff; 50]));
            assert_eq!(join(&mut group, &mut second), Joined::Open, "{first:?}");
            let mut shorter = Copied::of(&first.after(2, &[0xff; 20]));
            let last = Joined::Complete(GroupEnd::Last);
            assert_eq!(join(&mut group, &mut shorter), last);
            let frame = (first.bytes().len() - HDR_LEN) as u64;
            assert_eq!(
                [0, 1, 2].map(|n| group.frame_len(n)),
                [frame, frame, frame - 30]
            );
            assert_eq!(group.bytes(), 3 * frame - 30);
            if first.tcp {
                for flag in [0x01, 0x08] {
                    let mut group = open(&first);
                    let mut second = first.after(1, &[0xff; 50]);
                    second.flags |= flag;
                    assert_eq!(join(&mut group, &mut Copied::of(&second)), last);
                }
            }
        }
    }
}

#[test]
fn no_group_holds_a_frame_whose_checksum_is_wrong() {
    for sums in [Sums::Partial, Sums::Complete] {
        for first in kinds(&[1; 50]) {
            let first = packets::Packet { sums, ..first };
            let second = first.after(1, &[1; 50]);
            let mut group = open(&first);
            let field = HDR_LEN + group.shape.packet.transport + if first.tcp { 16 } else { 6 };
            let mut wrong = Copied::of(&second);
            wrong.bounce[field] ^= 1;
            assert_eq!(join(&mut group, &mut wrong), Joined::No, "{first:?}");
            assert_eq!(join(&mut group, &mut Copied::of(&second)), Joined::Open);

            let mut group = open(&first);
            group.buffer[field] ^= 1;
            assert_eq!(join(&mut group, &mut Copied::of(&second)), Joined::No);
        }
    }
}
