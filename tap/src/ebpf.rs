//! Instructions of eBPF, as far as the programs of this crate need them (RFC 9669), and what a
//! program for frames finds.

#[cfg(test)]
pub(crate) mod machine;

/// One instruction: `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Insn {
    pub(crate) code: u8,
    /// Destination in the lower half, source in the upper one, on little-endian hosts.
    pub(crate) registers: u8,
    pub(crate) offset: i16,
    pub(crate) immediate: i32,
}

/// A register. Calls keep R6 to R9; R10 is the end of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reg {
    R0 = 0,
    R1 = 1,
    R2 = 2,
    R3 = 3,
    R4 = 4,
    R6 = 6,
    R7 = 7,
    R8 = 8,
    R9 = 9,
    R10 = 10,
}

/// An operation on 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Op {
    Add = 0x00,
    Sub = 0x10,
    Mul = 0x20,
    And = 0x50,
    Shl = 0x60,
    Shr = 0x70,
    Xor = 0xa0,
    Mov = 0xb0,
}

/// A condition of a jump, over unsigned numbers of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum If {
    Equal = 0x10,
    /// Any bit is in both.
    Set = 0x40,
    NotEqual = 0x50,
    Below = 0xa0,
}

/// Length of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Size {
    Word = 0x00,
    Half = 0x08,
    Byte = 0x10,
    Long = 0x18,
}

/// A function of the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Helper {
    /// `bpf_skb_load_bytes(frame, offset, to, len)`: 0, or less if the frame is shorter.
    SkbLoadBytes = 26,
}

/// A field about VLANs of `struct __sk_buff`, which R1 leads to at the start: the frame as the
/// kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub(crate) enum VlanField {
    /// 1 if a VLAN tag was taken out of the frame, which a reader finds in its place again.
    Present = 20,
    /// The tag: priority and number of the VLAN.
    Tci = 24,
    /// The tag's EtherType, as on the wire.
    Proto = 28,
}

// Classes, and what goes with them.
pub(crate) const LD_IMM64: u8 = 0x18;
pub(crate) const LDX_MEM: u8 = 0x61;
/// `lock *(u64 *)(to + offset) += from`.
pub(crate) const ATOMIC_ADD64: u8 = 0xdb;
pub(crate) const ALU64: u8 = 0x07;
pub(crate) const JMP: u8 = 0x05;
pub(crate) const FROM_REGISTER: u8 = 0x08;
pub(crate) const CALL: u8 = 0x85;
pub(crate) const EXIT: u8 = 0x95;

/// Source of [`LD_IMM64`]: the address of a map's value, by the map's descriptor.
pub(crate) const PSEUDO_MAP_VALUE: u8 = 2;

/// A place in a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label(usize);

/// A program that is being written.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    insns: Vec<Insn>,
    /// Jumps, and where each goes.
    jumps: Vec<(usize, Label)>,
    /// Place of each label, as far as that is known.
    labels: Vec<Option<usize>>,
}

impl Assembler {
    /// A place that is to be [bound](Self::bind), behind all jumps to it.
    pub(crate) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// The next instruction is where `label` is.
    pub(crate) fn bind(&mut self, label: Label) {
        self.labels[label.0] = Some(self.insns.len());
    }

    pub(crate) fn op(&mut self, op: Op, to: Reg, value: i32) {
        self.push(ALU64 | op as u8, to, 0, 0, value);
    }

    pub(crate) fn op_reg(&mut self, op: Op, to: Reg, from: Reg) {
        self.push(ALU64 | FROM_REGISTER | op as u8, to, from as u8, 0, 0);
    }

    /// Loads what lies `offset` bytes behind the address in `base`.
    pub(crate) fn load(&mut self, size: Size, to: Reg, base: Reg, offset: i16) {
        self.push(LDX_MEM | size as u8, to, base as u8, offset, 0);
    }

    /// Loads a field of the frame's context, whose address is in `base`.
    pub(crate) fn load_context(&mut self, to: Reg, base: Reg, field: VlanField) {
        self.load(Size::Word, to, base, field as i16);
    }

    /// Adds `value` to the 64 bits that lie `offset` bytes behind the address in `base`, whoever
    /// else does so at the same time.
    pub(crate) fn add_atomically(&mut self, base: Reg, offset: i16, value: Reg) {
        self.push(ATOMIC_ADD64, base, value as u8, offset, 0);
    }

    /// Loads the address of the first value of a map, whose descriptor is `map`.
    pub(crate) fn load_map_value(&mut self, to: Reg, map: i32) {
        self.push(LD_IMM64, to, PSEUDO_MAP_VALUE, 0, map);
        self.insns.push(Insn::default());
    }

    pub(crate) fn jump_if(&mut self, condition: If, what: Reg, value: i32, to: Label) {
        self.jumps.push((self.insns.len(), to));
        self.push(JMP | condition as u8, what, 0, 0, value);
    }

    pub(crate) fn jump_if_reg(&mut self, condition: If, what: Reg, value: Reg, to: Label) {
        self.jumps.push((self.insns.len(), to));
        let code = JMP | FROM_REGISTER | condition as u8;
        self.push(code, what, value as u8, 0, 0);
    }

    pub(crate) fn jump(&mut self, to: Label) {
        self.jumps.push((self.insns.len(), to));
        self.push(JMP, Reg::R0, 0, 0, 0);
    }

    pub(crate) fn call(&mut self, helper: Helper) {
        self.push(CALL, Reg::R0, 0, 0, helper as i32);
    }

    pub(crate) fn exit(&mut self) {
        self.push(EXIT, Reg::R0, 0, 0, 0);
    }

    /// The program, with its jumps.
    pub(crate) fn finish(mut self) -> Vec<Insn> {
        for (at, label) in self.jumps {
            let target = self.labels[label.0].unwrap_or(at);
            // The instruction behind a jump is at 0.
            let distance = target as isize - at as isize - 1;
            debug_assert!(i16::try_from(distance).is_ok_and(|distance| distance >= 0));
            self.insns[at].offset = distance as i16;
        }
        self.insns
    }

    fn push(&mut self, code: u8, to: Reg, from: u8, offset: i16, immediate: i32) {
        let (low, high) = if cfg!(target_endian = "big") {
            (from, to as u8)
        } else {
            (to as u8, from)
        };
        self.insns.push(Insn {
            code,
            registers: low | high << 4,
            offset,
            immediate,
        });
    }
}
