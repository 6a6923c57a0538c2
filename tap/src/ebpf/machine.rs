//! A machine that runs a program over a frame, and refuses all that the kernel would.

use super::*;

const STACK: u64 = 0x1_0000_0000;
const STACK_LEN: usize = 512;
const MAP: u64 = 0x2_0000_0000;
const FRAME: u64 = 0x3_0000_0000;

/// Numbers without a short period, by which tests make frames and rules.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(0xda94_2042_e4dd_58b5);
        (self.0 >> 33) as usize % limit
    }

    pub(crate) fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// A frame as the kernel has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Skb<'a> {
    /// The frame without the tag that was taken out of it.
    pub(crate) bytes: &'a [u8],
    /// EtherType and contents of that tag.
    pub(crate) vlan: Option<(u16, u16)>,
}

impl<'a> Skb<'a> {
    /// A frame out of which no tag was taken.
    pub(crate) fn plain(bytes: &'a [u8]) -> Self {
        Self { bytes, vlan: None }
    }

    fn context(&self, field: i16) -> u64 {
        let (kind, tag) = self.vlan.unwrap_or_default();
        match field {
            field if field == VlanField::Present as i16 => u64::from(self.vlan.is_some()),
            field if field == VlanField::Proto as i16 => kind.to_be().into(),
            field if field == VlanField::Tci as i16 => tag.into(),
            field => panic!("field {field}"),
        }
    }
}

/// Runs `program` over `map` for `frame`.
pub(crate) fn run(program: &[Insn], map: &mut [u32], frame: &Skb<'_>) -> u64 {
    let mut machine = Machine {
        registers: [None; 11],
        stack: [None; STACK_LEN],
        map,
    };
    machine.registers[1] = Some(FRAME);
    machine.registers[10] = Some(STACK + STACK_LEN as u64);
    let mut at = 0;
    // Jumps lead forwards, so this ends.
    loop {
        let insn = program[at];
        at += 1;
        match insn.code {
            EXIT => return machine.get(0),
            CALL => machine.load_bytes(insn, frame.bytes),
            ATOMIC_ADD64 => machine.add(insn),
            LD_IMM64 => {
                assert_eq!(insn.registers >> 4, PSEUDO_MAP_VALUE);
                assert_eq!(program[at], Insn::default(), "the first byte of the value");
                machine.set(insn, MAP);
                at += 1;
            }
            code if code & 7 == JMP && machine.jumps(insn) => {
                at += usize::try_from(insn.offset).expect("no loops");
            }
            code if code & 7 == JMP => {}
            code if code & 7 == ALU64 => machine.calculate(insn),
            code if code & 0x67 == LDX_MEM => machine.load(insn, frame),
            code => panic!("instruction {code:#x}"),
        }
    }
}

struct Machine<'a> {
    registers: [Option<u64>; 11],
    /// Bytes that were written.
    stack: [Option<u8>; STACK_LEN],
    map: &'a mut [u32],
}

impl Machine<'_> {
    fn get(&self, register: u8) -> u64 {
        self.registers[usize::from(register)].expect("it was written")
    }

    fn set(&mut self, insn: Insn, value: u64) {
        self.registers[usize::from(insn.registers & 15)] = Some(value);
    }

    fn operands(&self, insn: Insn) -> (u64, u64) {
        let value = if insn.code & FROM_REGISTER != 0 {
            self.get(insn.registers >> 4)
        } else {
            insn.immediate as i64 as u64
        };
        let mov = insn.code & 0xf0 == Op::Mov as u8 && insn.code & 7 == ALU64;
        let old = if mov {
            0
        } else {
            self.get(insn.registers & 15)
        };
        (old, value)
    }

    fn jumps(&self, insn: Insn) -> bool {
        if insn.code == JMP {
            return true;
        }
        let (left, right) = self.operands(insn);
        match insn.code & 0xf0 {
            code if code == If::Equal as u8 => left == right,
            code if code == If::NotEqual as u8 => left != right,
            code if code == If::Set as u8 => left & right != 0,
            code if code == If::Below as u8 => left < right,
            code => panic!("condition {code:#x}"),
        }
    }

    fn calculate(&mut self, insn: Insn) {
        let (left, right) = self.operands(insn);
        let value = match insn.code & 0xf0 {
            code if code == Op::Add as u8 => left.wrapping_add(right),
            code if code == Op::Sub as u8 => left.wrapping_sub(right),
            code if code == Op::Mul as u8 => left.wrapping_mul(right),
            code if code == Op::And as u8 => left & right,
            code if code == Op::Shl as u8 => left << right,
            code if code == Op::Shr as u8 => left >> right,
            code if code == Op::Xor as u8 => left ^ right,
            code if code == Op::Mov as u8 => right,
            code => panic!("operation {code:#x}"),
        };
        self.set(insn, value);
    }

    fn load(&mut self, insn: Insn, frame: &Skb<'_>) {
        if self.get(insn.registers >> 4) == FRAME {
            assert_eq!(insn.code, LDX_MEM | Size::Word as u8, "fields are words");
            return self.set(insn, frame.context(insn.offset));
        }
        let len = match insn.code & 0x18 {
            code if code == Size::Long as u8 => 8,
            code if code == Size::Word as u8 => 4,
            code if code == Size::Half as u8 => 2,
            _ => 1,
        };
        let address = self.get(insn.registers >> 4);
        let address = address.wrapping_add_signed(insn.offset.into());
        assert!(address.is_multiple_of(len), "the kernel wants it aligned");
        let bytes: Vec<u8> = (address..address + len).map(|at| self.byte(at)).collect();
        let value = match bytes[..] {
            [byte] => byte.into(),
            [a, b] => u16::from_ne_bytes([a, b]).into(),
            [a, b, c, d] => u32::from_ne_bytes([a, b, c, d]).into(),
            [a, b, c, d, e, f, g, h] => u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            _ => panic!("{len} bytes"),
        };
        self.set(insn, value);
    }

    fn add(&mut self, insn: Insn) {
        assert_eq!(insn.immediate, 0, "an addition");
        let address = self.get(insn.registers & 15) - MAP;
        let address = address.wrapping_add_signed(insn.offset.into()) as usize;
        assert!(address.is_multiple_of(8), "the kernel wants it aligned");
        let value = self.get(insn.registers >> 4);
        let words = &mut self.map[address / 4..][..2];
        let [a, b, c, d] = words[0].to_ne_bytes();
        let [e, f, g, h] = words[1].to_ne_bytes();
        let old = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
        let sum = old.wrapping_add(value).to_ne_bytes();
        for (word, bytes) in words.iter_mut().zip(sum.chunks(4)) {
            *word = u32::from_ne_bytes(bytes.try_into().expect("four bytes"));
        }
    }

    fn byte(&self, address: u64) -> u8 {
        if address >= MAP {
            let at = (address - MAP) as usize;
            return self.map[at / 4].to_ne_bytes()[at % 4];
        }
        self.stack[(address - STACK) as usize].expect("it was written")
    }

    fn load_bytes(&mut self, insn: Insn, frame: &[u8]) {
        assert_eq!(insn.immediate, Helper::SkbLoadBytes as i32);
        let [context, from, to, len] = [1, 2, 3, 4].map(|register| self.get(register));
        assert_eq!(context, FRAME);
        let (from, to, len) = (from as usize, (to - STACK) as usize, len as usize);
        let bytes = frame.get(from..from + len);
        for at in 0..len {
            // The kernel clears what it cannot fill.
            self.stack[to + at] = Some(bytes.map_or(0, |bytes| bytes[at]));
        }
        self.registers[..6].fill(None);
        self.registers[0] = Some(if bytes.is_some() { 0 } else { -14_i64 as u64 });
    }
}
