//! The program by which the kernel chooses a queue.
//!
//! It does for the usual frames what a device does for all: it reads up to three VLAN tags, IPv4 or
//! IPv6, and the ports of TCP or UDP; it hashes the fields that the rules say, and looks the queue
//! up. A packet behind IPv6 extension headers is hashed by its addresses, whatever the rules say of
//! it: all frames of a flow come by the same queue in any case.

use super::layout;
use crate::ebpf::{Assembler, Helper, If, Insn, Label, Op, Reg, Size};

/// Registers over the whole program: the frame, the rules in force, a place in the frame, the hash.
const FRAME: Reg = Reg::R6;
const RULES: Reg = Reg::R7;
const AT: Reg = Reg::R8;
const HASH: Reg = Reg::R9;

/// Places on the stack: the EtherType, the IP header, the first bytes of the transport header.
const KIND: i16 = -8;
const HEAD: i16 = -48;
const TRANSPORT: i16 = -72;

/// Ethernet addresses, in front of the EtherType.
const ADDRESSES: i32 = 12;
const TAGS: [u16; 2] = [0x8100, 0x88a8];
const MAX_TAGS: usize = 3;
const TAG_LEN: i32 = 4;
const KIND_LEN: i32 = 2;

const TCP: i32 = 6;
const UDP: i32 = 17;
/// First bytes that a whole header of these has.
const TCP_LEN: i32 = 20;
const UDP_LEN: i32 = 8;

/// A version of IP.
struct Family {
    kind: u16,
    version: i32,
    /// Bytes of the header without options.
    len: i32,
    /// Place of the protocol, and of both addresses.
    protocol: i16,
    addresses: i16,
    addresses_len: usize,
    /// Types of hashes: by addresses, with ports of TCP, of UDP.
    types: [i32; 3],
}

const V4: Family = Family {
    kind: 0x0800,
    version: 4,
    len: 20,
    protocol: 9,
    addresses: 12,
    addresses_len: 8,
    types: [1 << 0, 1 << 1, 1 << 2],
};
const V6: Family = Family {
    kind: 0x86dd,
    version: 6,
    len: 40,
    protocol: 6,
    addresses: 8,
    addresses_len: 32,
    types: [1 << 3, 1 << 4, 1 << 5],
};

/// "More fragments", and the offset: with either a packet is not whole.
const NOT_WHOLE: u16 = 0x3fff;
const FRAGMENT_FIELD: i16 = 6;

/// A number of the wire as a load of two bytes gives it.
const fn wire(number: u16) -> i32 {
    number.to_be() as i32
}

/// The program over the rules in the map with this descriptor.
pub(super) fn program(map: i32) -> Vec<Insn> {
    let mut asm = Assembler::default();
    let [unhashed, found] = [asm.label(), asm.label()];
    asm.op_reg(Op::Mov, FRAME, Reg::R1);
    rules_in_force(&mut asm, map);
    link_header(&mut asm, unhashed);
    let v6 = asm.label();
    asm.jump_if(If::Equal, Reg::R1, wire(V6.kind), v6);
    asm.jump_if(If::NotEqual, Reg::R1, wire(V4.kind), unhashed);
    packet(&mut asm, &V4, found, unhashed);
    asm.bind(v6);
    packet(&mut asm, &V6, found, unhashed);
    asm.bind(found);
    asm.op(Op::And, HASH, layout::QUEUES as i32 - 1);
    asm.op(Op::Shl, HASH, 2);
    asm.op_reg(Op::Add, HASH, RULES);
    asm.load(Size::Word, Reg::R0, HASH, layout::offset(layout::TABLE));
    asm.exit();
    asm.bind(unhashed);
    let other = layout::offset(layout::UNCLASSIFIED);
    asm.load(Size::Word, Reg::R0, RULES, other);
    asm.exit();
    asm.finish()
}

/// Of the two sets of rules the one that the first word says.
fn rules_in_force(asm: &mut Assembler, map: i32) {
    asm.load_map_value(RULES, map);
    asm.load(Size::Word, Reg::R1, RULES, 0);
    asm.op(Op::And, Reg::R1, 1);
    asm.op(Op::Mul, Reg::R1, layout::bytes(layout::RULES));
    asm.op_reg(Op::Add, RULES, Reg::R1);
    asm.op(Op::Add, RULES, layout::bytes(layout::HEADER));
}

/// Finds the EtherType: R1 is what it says, `AT` where it is.
fn link_header(asm: &mut Assembler, short: Label) {
    let known = asm.label();
    asm.op(Op::Mov, AT, ADDRESSES);
    for tag in 0..=MAX_TAGS {
        load_bytes(asm, 0, KIND, KIND_LEN, short);
        asm.load(Size::Half, Reg::R1, Reg::R10, KIND);
        if tag < MAX_TAGS {
            let tagged = asm.label();
            for kind in TAGS {
                asm.jump_if(If::Equal, Reg::R1, wire(kind), tagged);
            }
            asm.jump(known);
            asm.bind(tagged);
            asm.op(Op::Add, AT, TAG_LEN);
        }
    }
    asm.bind(known);
}

/// Copies bytes of the frame, from `behind` bytes behind `AT` on, to a place on the stack.
fn load_bytes(asm: &mut Assembler, behind: i32, to: i16, len: i32, short: Label) {
    asm.op_reg(Op::Mov, Reg::R1, FRAME);
    asm.op_reg(Op::Mov, Reg::R2, AT);
    asm.op(Op::Add, Reg::R2, behind);
    asm.op_reg(Op::Mov, Reg::R3, Reg::R10);
    asm.op(Op::Add, Reg::R3, to.into());
    asm.op(Op::Mov, Reg::R4, len);
    asm.call(Helper::SkbLoadBytes);
    asm.jump_if(If::NotEqual, Reg::R0, 0, short);
}

/// Hashes a packet of a family, whose header lies behind the EtherType at `AT`.
fn packet(asm: &mut Assembler, family: &Family, found: Label, unhashed: Label) {
    let [tcp, udp, with_ports, addresses] = std::array::from_fn(|_| asm.label());
    let [by_addresses, by_tcp, by_udp] = family.types;
    load_bytes(asm, KIND_LEN, HEAD, family.len, unhashed);
    asm.load(Size::Byte, Reg::R1, Reg::R10, HEAD);
    asm.op_reg(Op::Mov, Reg::R2, Reg::R1);
    asm.op(Op::Shr, Reg::R2, 4);
    asm.jump_if(If::NotEqual, Reg::R2, family.version, unhashed);
    asm.op(Op::Add, AT, KIND_LEN);
    if family.version == V4.version {
        // The length is in the header, in words.
        asm.op(Op::And, Reg::R1, 15);
        asm.jump_if(If::Below, Reg::R1, family.len / 4, unhashed);
        asm.op(Op::Shl, Reg::R1, 2);
        asm.op_reg(Op::Add, AT, Reg::R1);
        asm.load(Size::Half, Reg::R2, Reg::R10, HEAD + FRAGMENT_FIELD);
        asm.jump_if(If::Set, Reg::R2, wire(NOT_WHOLE), addresses);
    } else {
        asm.op(Op::Add, AT, family.len);
    }
    asm.load(Size::Byte, Reg::R2, Reg::R10, HEAD + family.protocol);
    asm.load(Size::Word, Reg::R1, RULES, layout::offset(layout::TYPES));
    asm.jump_if(If::Equal, Reg::R2, TCP, tcp);
    asm.jump_if(If::Equal, Reg::R2, UDP, udp);
    asm.jump(addresses);
    for (protocol, kind, len) in [(tcp, by_tcp, TCP_LEN), (udp, by_udp, UDP_LEN)] {
        let on = asm.label();
        asm.bind(protocol);
        asm.jump_if(If::Set, Reg::R1, kind, on);
        asm.jump(addresses);
        asm.bind(on);
        load_bytes(asm, 0, TRANSPORT, len, addresses);
        if protocol == tcp {
            asm.jump(with_ports);
        }
    }
    asm.bind(with_ports);
    asm.op(Op::Mov, HASH, 0);
    hash(asm, HEAD + family.addresses, family.addresses_len, 0);
    hash(asm, TRANSPORT, 4, family.addresses_len);
    asm.jump(found);
    asm.bind(addresses);
    asm.load(Size::Word, Reg::R1, RULES, layout::offset(layout::TYPES));
    let on = asm.label();
    asm.jump_if(If::Set, Reg::R1, by_addresses, on);
    asm.jump(unhashed);
    asm.bind(on);
    asm.op(Op::Mov, HASH, 0);
    hash(asm, HEAD + family.addresses, family.addresses_len, 0);
    asm.jump(found);
}

/// Adds what `len` bytes on the stack contribute, which are the input's from `first` on.
fn hash(asm: &mut Assembler, stack: i16, len: usize, first: usize) {
    for byte in 0..len {
        asm.load(Size::Byte, Reg::R1, Reg::R10, stack + byte as i16);
        asm.op_reg(Op::Mov, Reg::R2, Reg::R1);
        asm.op(Op::Shr, Reg::R2, 4);
        asm.op(Op::And, Reg::R1, 15);
        for (half, value) in [Reg::R2, Reg::R1].into_iter().enumerate() {
            let row = layout::offset(layout::row(first + byte, half));
            asm.op(Op::Shl, value, 2);
            asm.op_reg(Op::Add, value, RULES);
            asm.load(Size::Word, Reg::R3, value, row);
            asm.op_reg(Op::Xor, HASH, Reg::R3);
        }
    }
}
