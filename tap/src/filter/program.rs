//! The program by which the kernel drops frames that nobody wants.
//!
//! It looks at the destination and at the first VLAN tag, which the kernel may have taken out of
//! the frame. Where it cannot tell, a frame passes.

use super::layout::{self, ADDRESSES, key_offset, offset};
use crate::ebpf::{Assembler, Helper, If, Insn, Label, Op, Reg, Size, VlanField};

/// Registers over the whole program: the frame, the rules in force, the key of its destination, the
/// number of changes before.
const FRAME: Reg = Reg::R6;
const RULES: Reg = Reg::R7;
const KEY: Reg = Reg::R8;
const CHANGES: Reg = Reg::R9;

/// Places on the stack: the destination, the first tag.
const DESTINATION: i16 = -8;
const TAG: i16 = -16;

/// Bytes of an address, and what lies before the EtherType.
const ADDRESS_LEN: i32 = 6;
const ETHERTYPE: i32 = 12;
const TAG_LEN: i32 = 4;
/// EtherType of a tag (802.1Q).
const VLAN: u16 = 0x8100;
/// Bits of a VLAN's number.
const VLAN_ID: i32 = 0xfff;

/// Verdicts on frames of a kind; what is neither is to be looked up.
pub(super) const PASS: i32 = 0;
pub(super) const DROP: i32 = 1;
pub(super) const LISTED: i32 = 2;

/// More bytes to keep than any frame has.
const WHOLE: i32 = i32::MAX;

/// A number of the wire as a load of two bytes gives it.
const fn wire(number: u16) -> i32 {
    number.to_be() as i32
}

/// The program over the rules in the map with this descriptor.
pub(super) fn program(map: i32) -> Vec<Insn> {
    let mut asm = Assembler::default();
    let [by_address, pass, drop] = std::array::from_fn(|_| asm.label());
    asm.op_reg(Op::Mov, FRAME, Reg::R1);
    rules_in_force(&mut asm, map);
    load_bytes(&mut asm, 0, DESTINATION, ADDRESS_LEN, pass);
    vlan(&mut asm, by_address, drop);
    asm.bind(by_address);
    address(&mut asm, pass, drop);
    asm.bind(drop);
    count(&mut asm, map, pass);
    asm.op(Op::Mov, Reg::R0, 0);
    asm.exit();
    asm.bind(pass);
    asm.op(Op::Mov, Reg::R0, WHOLE);
    asm.exit();
    asm.finish()
}

/// Of the two sets of rules the one that the number of changes says.
fn rules_in_force(asm: &mut Assembler, map: i32) {
    asm.load_map_value(RULES, map);
    asm.load(Size::Word, CHANGES, RULES, 0);
    asm.op_reg(Op::Mov, Reg::R1, CHANGES);
    asm.op(Op::And, Reg::R1, 1);
    asm.op(Op::Mul, Reg::R1, offset(layout::RULES).into());
    asm.op_reg(Op::Add, RULES, Reg::R1);
    asm.op(Op::Add, RULES, offset(layout::HEADER).into());
}

/// Copies bytes of the frame to a place on the stack.
fn load_bytes(asm: &mut Assembler, from: i32, to: i16, len: i32, short: Label) {
    asm.op_reg(Op::Mov, Reg::R1, FRAME);
    asm.op(Op::Mov, Reg::R2, from);
    asm.op_reg(Op::Mov, Reg::R3, Reg::R10);
    asm.op(Op::Add, Reg::R3, to.into());
    asm.op(Op::Mov, Reg::R4, len);
    asm.call(Helper::SkbLoadBytes);
    asm.jump_if(If::NotEqual, Reg::R0, 0, short);
}

/// Drops what belongs to a VLAN that is not among the rules'.
fn vlan(asm: &mut Assembler, by_address: Label, drop: Label) {
    let [in_frame, tagged] = [asm.label(), asm.label()];
    asm.load(Size::Word, Reg::R1, RULES, offset(layout::TAGS_MATTER));
    asm.jump_if(If::Equal, Reg::R1, 0, by_address);
    asm.load_context(Reg::R1, FRAME, VlanField::Present);
    asm.jump_if(If::Equal, Reg::R1, 0, in_frame);
    asm.load_context(Reg::R1, FRAME, VlanField::Proto);
    asm.jump_if(If::NotEqual, Reg::R1, wire(VLAN), by_address);
    asm.load_context(Reg::R2, FRAME, VlanField::Tci);
    asm.jump(tagged);
    asm.bind(in_frame);
    load_bytes(asm, ETHERTYPE, TAG, TAG_LEN, by_address);
    asm.load(Size::Half, Reg::R1, Reg::R10, TAG);
    asm.jump_if(If::NotEqual, Reg::R1, wire(VLAN), by_address);
    asm.load(Size::Byte, Reg::R2, Reg::R10, TAG + 2);
    asm.op(Op::Shl, Reg::R2, 8);
    asm.load(Size::Byte, Reg::R1, Reg::R10, TAG + 3);
    asm.op_reg(Op::Add, Reg::R2, Reg::R1);
    asm.bind(tagged);
    asm.op(Op::And, Reg::R2, VLAN_ID);
    // Number 0 is a priority on a frame of no VLAN.
    asm.jump_if(If::Equal, Reg::R2, 0, by_address);
    asm.op_reg(Op::Mov, Reg::R1, Reg::R2);
    asm.op(Op::Shr, Reg::R1, 5);
    asm.op(Op::Shl, Reg::R1, 2);
    asm.op_reg(Op::Add, Reg::R1, RULES);
    asm.load(Size::Word, Reg::R3, Reg::R1, offset(layout::VLANS));
    asm.op(Op::And, Reg::R2, 31);
    asm.op_reg(Op::Shr, Reg::R3, Reg::R2);
    asm.op(Op::And, Reg::R3, 1);
    asm.jump_if(If::Equal, Reg::R3, 0, drop);
}

/// Goes by the verdict on frames to such an address. What is to be dropped is what is left.
fn address(asm: &mut Assembler, pass: Label, drop: Label) {
    let [multicast, known, broadcast] = std::array::from_fn(|_| asm.label());
    asm.load(Size::Word, KEY, Reg::R10, DESTINATION);
    asm.op(Op::Shl, KEY, 16);
    asm.load(Size::Half, Reg::R1, Reg::R10, DESTINATION + 4);
    asm.op_reg(Op::Add, KEY, Reg::R1);
    // All 48 bits are ones.
    asm.op_reg(Op::Mov, Reg::R1, KEY);
    asm.op(Op::Add, Reg::R1, 1);
    asm.op(Op::Shr, Reg::R1, 48);
    asm.jump_if(If::NotEqual, Reg::R1, 0, broadcast);
    asm.load(Size::Byte, Reg::R1, Reg::R10, DESTINATION);
    asm.jump_if(If::Set, Reg::R1, 1, multicast);
    asm.load(Size::Word, Reg::R1, RULES, offset(layout::UNICAST));
    asm.jump(known);
    asm.bind(multicast);
    asm.load(Size::Word, Reg::R1, RULES, offset(layout::MULTICAST));
    asm.jump(known);
    asm.bind(broadcast);
    asm.load(Size::Word, Reg::R1, RULES, offset(layout::BROADCAST));
    asm.bind(known);
    asm.jump_if(If::Equal, Reg::R1, PASS, pass);
    asm.jump_if(If::Equal, Reg::R1, DROP, drop);
    search(asm);
    asm.jump_if_reg(If::Equal, Reg::R3, KEY, pass);
}

/// Finds the first key that is not below `KEY`: R3 is what it is. Without a jump, since the kernel
/// would follow each way to the end.
fn search(asm: &mut Assembler) {
    let at = Reg::R1;
    asm.op(Op::Mov, at, 0);
    let mut step = ADDRESSES.div_ceil(2);
    while step > 0 {
        key_at(asm, at, step - 1);
        // The highest bit of the difference says that the key found is the lower one.
        asm.op_reg(Op::Sub, Reg::R3, KEY);
        asm.op(Op::Shr, Reg::R3, 63);
        asm.op(Op::Mul, Reg::R3, step as i32);
        asm.op_reg(Op::Add, at, Reg::R3);
        step /= 2;
    }
    key_at(asm, at, 0);
}

/// Loads the key `behind` the one at `at` into R3.
fn key_at(asm: &mut Assembler, at: Reg, behind: usize) {
    asm.op_reg(Op::Mov, Reg::R2, at);
    asm.op(Op::Shl, Reg::R2, 3);
    asm.op_reg(Op::Add, Reg::R2, RULES);
    asm.load(Size::Long, Reg::R3, Reg::R2, key_offset(behind));
}

/// Counts a frame that is dropped. If the rules were changed meanwhile, these may have been two
/// sets in one: then it passes.
fn count(asm: &mut Assembler, map: i32, pass: Label) {
    asm.load_map_value(Reg::R2, map);
    asm.load(Size::Word, Reg::R1, Reg::R2, 0);
    asm.jump_if_reg(If::NotEqual, Reg::R1, CHANGES, pass);
    asm.op(Op::Mov, Reg::R1, 1);
    asm.add_atomically(Reg::R2, offset(layout::DROPPED), Reg::R1);
}
