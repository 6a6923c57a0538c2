//! The answer to a command: a byte, and behind it the result of the command.

/// The byte that answers a command (VirtIO 1.4 §5.1.9.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Ack {
    /// Done.
    Ok = 0,
    /// Refused, without effect.
    Err = 1,
}

impl Ack {
    /// The wire value.
    pub const fn byte(self) -> u8 {
        self as u8
    }
}

/// Result of a command, cut to the room that the driver left for it (NET-CVQ-29).
///
/// It stands behind the byte that answers, and is there only if that says [`Ack::Ok`]. By the order
/// of its structure the specification has the results of some commands in front of that byte; all
/// of them stand behind it here, where drivers look that ask for any.
#[derive(Debug)]
pub struct Reply<'a> {
    /// The byte that answers, then the result.
    bytes: &'a mut Vec<u8>,
    room: usize,
}

impl<'a> Reply<'a> {
    /// Begins an answer of up to `room` bytes, at least one, in `bytes`.
    pub(super) fn new(bytes: &'a mut Vec<u8>, room: usize) -> Self {
        bytes.clear();
        bytes.push(Ack::Err.byte());
        Self { bytes, room }
    }

    /// Adds to the result, as far as there is room.
    pub fn push(&mut self, result: &[u8]) {
        let left = self.room.saturating_sub(self.bytes.len());
        self.bytes
            .extend_from_slice(&result[..result.len().min(left)]);
    }

    /// Puts the byte in front. A command that failed has no result.
    pub(super) fn finish(self, ack: Ack) {
        if ack == Ack::Err {
            self.bytes.truncate(1);
        }
        self.bytes[0] = ack.byte();
    }
}
