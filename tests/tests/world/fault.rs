//! Faults that a world can have on purpose, to show that it would find them.

/// A fault of the device, as far as it can be made from outside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// One interrupt of 64 is not sent.
    LostInterrupt,
    /// The first interrupts of a device that was restored are not sent.
    SilentRestore,
    /// One kick of 64 is not seen.
    LostKick,
    /// A backend without room is not waited for.
    NoRearm,
    /// One arrival of eight is not seen.
    LostArrival,
    /// A restored queue goes on one entry early.
    EarlyCursor,
    /// A restored queue goes on one entry late.
    LateCursor,
    /// A turn that a worker asks for is not taken.
    LostTurn,
    /// One timer of 64 that expires is not seen.
    LostTimer,
    /// A limit lets four frames more pass than it should.
    WideLimit,
    /// One dirty mark of 64 is not made.
    LostMark,
}

impl Fault {
    pub(crate) const ALL: [Self; 11] = [
        Self::LostInterrupt,
        Self::SilentRestore,
        Self::LostKick,
        Self::NoRearm,
        Self::LostArrival,
        Self::EarlyCursor,
        Self::LateCursor,
        Self::LostTurn,
        Self::LostTimer,
        Self::WideLimit,
        Self::LostMark,
    ];
}
