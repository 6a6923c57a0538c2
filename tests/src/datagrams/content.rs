//! Bytes of a datagram: flow, number and length in front, then a pattern that follows from the
//! three.

use super::LONGEST;

/// Length of what stands in front, and of the shortest datagram.
pub const HEADER: usize = 16;
/// Number that says of itself that no more follow.
pub const END: u64 = u64::MAX;

/// Bytes of which every datagram takes a part.
#[derive(Debug)]
pub struct Pattern(Vec<u8>);

/// Offset of the part that a datagram takes lies below it.
const STARTS: usize = 4096;

impl Default for Pattern {
    fn default() -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let noise = || {
            state = state.wrapping_mul(0xda94_2042_e4dd_58b5);
            (state >> 56) as u8
        };
        Self(
            std::iter::repeat_with(noise)
                .take(STARTS + LONGEST)
                .collect(),
        )
    }
}

/// Datagram as its first bytes name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// The flow.
    pub flow: u16,
    /// Number within the flow, or [`END`].
    pub number: u64,
}

impl Pattern {
    /// Part of the pattern for a datagram with `length` bytes.
    fn part(&self, name: Name, length: usize) -> &[u8] {
        let start = (name.number as usize)
            .wrapping_mul(37)
            .wrapping_add(usize::from(name.flow).wrapping_mul(1021))
            % STARTS;
        &self.0[start..start + length - HEADER]
    }

    /// Fills `bytes`, between [`HEADER`] and [`LONGEST`] of them, with the datagram of the name.
    pub fn write(&self, name: Name, bytes: &mut [u8]) {
        let length = bytes.len();
        bytes[..2].copy_from_slice(&name.flow.to_be_bytes());
        bytes[2..10].copy_from_slice(&name.number.to_be_bytes());
        bytes[10..HEADER].copy_from_slice(&(length as u64).to_be_bytes()[2..]);
        bytes[HEADER..].copy_from_slice(self.part(name, length));
    }

    /// Name of a datagram, or `None` when it has another length or another byte than it was sent
    /// with.
    #[must_use]
    pub fn read(&self, bytes: &[u8]) -> Option<Name> {
        if !(HEADER..=LONGEST).contains(&bytes.len()) {
            return None;
        }
        let flow = u16::from_be_bytes(bytes[..2].try_into().ok()?);
        let number = u64::from_be_bytes(bytes[2..10].try_into().ok()?);
        let name = Name { flow, number };
        let as_sent = bytes[10..HEADER] == (bytes.len() as u64).to_be_bytes()[2..]
            && bytes[HEADER..] == *self.part(name, bytes.len());
        as_sent.then_some(name)
    }
}

#[cfg(test)]
mod tests;
