//! The Internet checksum, for frames that leave it to somebody who cannot take it. RFC 1071.

mod words;

use super::net_hdr::NetHdr;

/// A ones' complement sum of 16-bit words, over bytes that come piece by piece.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum {
    words: u64,
    /// The next byte is the second of its word.
    odd: bool,
}

impl Sum {
    /// Adds `bytes`, which follow those before; fewer than 2^32 in all.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        // The sum of swapped words is the swapped sum, so they are added as this host has them.
        let (words, rest) = bytes.as_chunks::<4>();
        let mut sum = words::sum(words);
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        sum += u64::from(u32::from_ne_bytes(last));
        let folded = u16::from_be(fold(sum));
        // In this arithmetic a shift by a byte is a swap.
        let folded = if self.odd {
            folded.swap_bytes()
        } else {
            folded
        };
        self.words += u64::from(folded);
        self.odd ^= !bytes.len().is_multiple_of(2);
    }

    /// The sum so far, as the field of a partial checksum holds that of the pseudo header
    /// (NET-HDR-23).
    pub(crate) fn partial(self) -> [u8; 2] {
        fold(self.words).to_be_bytes()
    }

    /// The checksum of all bytes: of IPv4's header, and of TCP.
    pub(crate) fn complement(self) -> [u8; 2] {
        (!fold(self.words)).to_be_bytes()
    }

    /// The checksum of all bytes, as it is stored. Zero would say that there is none (RFC 768), and
    /// is the same number as this.
    pub(crate) fn checksum(self) -> [u8; 2] {
        match !fold(self.words) {
            0 => [0xff; 2],
            sum => sum.to_be_bytes(),
        }
    }
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The sum of a pseudo header, as a partial checksum holds it, once its length of `before` has
/// become `after`. (RFC 1624)
pub(crate) fn moved(sum: u16, before: u32, after: u32) -> [u8; 2] {
    fold(u64::from(sum) + u64::from(!before) + u64::from(after)).to_be_bytes()
}

/// Offset at which a frame with this checked header keeps the checksum that is to be completed.
pub(crate) fn field(header: NetHdr) -> usize {
    usize::from(header.csum_start()) + usize::from(header.csum_offset())
}

/// Completes the checksum that `header`, checked for this `frame`, says is partial. (NET-HDR-03)
pub(crate) fn complete(frame: &mut [u8], header: NetHdr) {
    let mut sum = Sum::default();
    sum.add(frame.get(header.csum_start().into()..).unwrap_or_default());
    let field = field(header);
    if let Some(bytes) = frame.get_mut(field..field + 2) {
        bytes.copy_from_slice(&sum.checksum());
    }
}

#[cfg(test)]
mod tests;
