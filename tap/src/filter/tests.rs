//! The program against the rules in plain code, over rules and frames of all kinds.

use super::layout::{self, DROPPED};
use super::program::program;
use super::*;
use crate::ebpf::machine::{self, Noise, Skb};

const BROADCAST: [u8; 6] = [0xff; 6];

impl Noise {
    /// One of a few addresses that look like each other, of all kinds.
    fn mac(&mut self) -> [u8; 6] {
        let mut mac = self.one_of(&[[2, 0, 0, 0, 0, 0], [0xff; 6], [3, 0, 0, 0, 0, 0], [0xfe; 6]]);
        mac[self.below(6)] ^= self.one_of(&[0, 0, 1, 2, 0x80]);
        mac
    }

    fn rules(&mut self) -> FilterRules {
        const VERDICTS: [Verdict; 3] = [Verdict::Pass, Verdict::Drop, Verdict::Listed];
        let len = self.one_of(&[0, 1, 2, 3, 20, 128, 254, 255, 256, 300]);
        FilterRules {
            broadcast: self.one_of(&VERDICTS),
            multicast: self.one_of(&VERDICTS),
            unicast: self.one_of(&[
                Verdict::Listed,
                Verdict::Listed,
                Verdict::Pass,
                Verdict::Drop,
            ]),
            addresses: (0..len).map(|_| self.mac()).collect(),
            vlans: (self.below(2) == 1).then(|| {
                std::array::from_fn(|_| self.one_of(&[0, u64::MAX, 0x0f0f_00ff_8000_0001]))
            }),
        }
    }

    /// A frame, cut anywhere.
    fn frame(&mut self) -> Vec<u8> {
        let mut frame = self.mac().to_vec();
        frame.extend([2, 0, 0, 0, 0, 9]);
        let tag = self.one_of(&[None, Some([0x81, 0]), Some([0x81, 0]), Some([0x88, 0xa8])]);
        if let Some(kind) = tag {
            let id = self.one_of(&[0, 0xe000, 1, 63, 64, 0x2fff, 0xfffe, 4095, 1000]);
            frame.extend(kind);
            frame.extend(u16::to_be_bytes(id));
        }
        frame.extend([8, 0, 0x45, 0]);
        frame.truncate(self.one_of(&[usize::MAX, usize::MAX, 18, 16, 15, 6, 5, 0]));
        frame
    }
}

/// A map with rules in force after so many changes; the other set is of no use.
fn map(changes: u32, rules: &FilterRules) -> Vec<u32> {
    let mut map = vec![0x5555_5555; layout::ALL];
    (map[0], map[DROPPED], map[DROPPED + 1]) = (changes, 0, 0);
    let set = layout::HEADER + (changes & 1) as usize * layout::RULES;
    map[set..][..layout::RULES].copy_from_slice(&rules.words());
    map
}

fn dropped(map: &[u32]) -> u32 {
    map[DROPPED] + map[DROPPED + 1]
}

#[test]
fn any_frame_gets_the_verdict_of_the_rules() {
    let program = program(7);
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut passed = 0;
    for changes in 0..400 {
        let rules = noise.rules();
        let mut map = map(changes, &rules);
        for _ in 0..10 {
            let frame = noise.frame();
            let admits = rules.admits(&frame);
            let before = dropped(&map);
            let kept = machine::run(&program, &mut map, &Skb::plain(&frame));
            assert_eq!(kept > 0xffff, admits, "{rules:x?} {frame:x?}");
            assert_eq!(kept == 0, !admits, "all or nothing");
            assert_eq!(dropped(&map) - before, u32::from(!admits));
            passed += u32::from(admits);
        }
    }
    assert!((1000..3000).contains(&passed), "{passed} passed");
}

#[test]
fn a_tag_outside_the_frame_counts_like_one_inside() {
    let program = program(7);
    let mut noise = Noise(0x0123_4567_89ab_cdef);
    let mut dropped = 0;
    for changes in 0..200 {
        let rules = noise.rules();
        let mut map = map(changes, &rules);
        for kind in [0x8100_u16, 0x88a8] {
            let tag = noise.one_of(&[0, 0xe000, 1, 63, 0x2fff, 4095]);
            // What is inside is of no interest then, even if it is a tag.
            let mut frame = noise.frame();
            frame.resize(20, 0);
            let skb = Skb {
                bytes: &frame,
                vlan: Some((kind, tag)),
            };
            let kept = machine::run(&program, &mut map, &skb);
            let outer = [kind.to_be_bytes(), tag.to_be_bytes()].concat();
            let read = [&frame[..12], &outer, &frame[12..]].concat();
            assert_eq!(kept != 0, rules.admits(&read), "{rules:x?} {read:x?}");
            dropped += u32::from(kept == 0);
        }
    }
    assert!((100..300).contains(&dropped), "{dropped} were dropped");
}

#[test]
fn each_of_many_addresses_is_found_and_no_other() {
    let program = program(7);
    let mac = |number: u16| {
        let [high, low] = (number.wrapping_mul(0x9e35)).to_be_bytes();
        [2, low, 7, high, low ^ 0x55, high]
    };
    for count in [1, 2, 127, 128, 129, 254, 255] {
        let rules = FilterRules {
            unicast: Verdict::Listed,
            addresses: (0..count).map(mac).collect(),
            ..FilterRules::default()
        };
        let mut map = map(0, &rules);
        for number in 0..512 {
            let kept = machine::run(&program, &mut map, &Skb::plain(&mac(number)));
            assert_eq!(kept != 0, number < count, "{number} of {count}");
        }
    }
}

#[test]
fn rules_by_default_pass_all() {
    let rules = FilterRules::default();
    assert!(rules.pass_all() && rules.admits(&BROADCAST));
    let vlans = FilterRules {
        vlans: Some([u64::MAX; 64]),
        ..FilterRules::default()
    };
    assert!(!vlans.pass_all());
    // A new map has no words but zeros.
    assert_eq!(rules.words()[..layout::KEYS], [0; layout::KEYS]);
    let kept = machine::run(
        &program(7),
        &mut vec![0; layout::ALL],
        &Skb::plain(&BROADCAST),
    );
    assert_ne!(kept, 0);
}

#[test]
fn a_program_whose_rules_change_meanwhile_drops_nothing() {
    let none = FilterRules {
        broadcast: Verdict::Drop,
        ..FilterRules::default()
    };
    // The number of changes is read twice, and by the second time it is another one.
    let mut insns = program(7);
    let frame = Skb::plain(&BROADCAST);
    assert_eq!(machine::run(&insns, &mut map(6, &none), &frame), 0);
    let reads = |insn: &&mut crate::ebpf::Insn| {
        insn.code == crate::ebpf::LDX_MEM && insn.offset == 0 && insn.registers & 15 == 1
    };
    let second = insns
        .iter_mut()
        .filter(reads)
        .last()
        .expect("it looks again");
    second.offset = (layout::DROPPED * 4) as i16;
    let mut map = map(6, &none);
    assert_ne!(machine::run(&insns, &mut map, &frame), 0);
    assert_eq!(dropped(&map), 0);
}
