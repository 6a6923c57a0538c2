//! Input bytes taken from the front; what is missing reads as zero, so that every input is whole.

use net_queue::header::HdrSize;

/// Lengths of a header, by the number that an input has for each.
const SIZES: [HdrSize; 4] = [
    HdrSize::Base,
    HdrSize::HashReport,
    HdrSize::Tunnel,
    HdrSize::Legacy,
];

/// Length of the header that `number` stands for.
pub fn hdr_size(number: u8) -> HdrSize {
    SIZES[usize::from(number) % SIZES.len()]
}

/// The bytes not taken yet.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    /// All of `input`.
    pub const fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let (taken, rest) = self.0.split_at(N.min(self.0.len()));
        array[..taken.len()].copy_from_slice(taken);
        self.0 = rest;
        array
    }

    /// The next byte.
    pub fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    /// The next two bytes, little-endian.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// The next four bytes, little-endian.
    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    /// Everything that is left.
    pub const fn remaining(self) -> &'a [u8] {
        self.0
    }
}
