//! Steering of received frames by the kernel: which queue of a tap each is put into.
//!
//! A tap chooses the queue of a frame by a hash of its own, unless it has a program to ask
//! (`TUNSETSTEERINGEBPF`). The one here hashes and looks up as a network card does (Toeplitz hash,
//! indirection table), by [rules](SteeringRules) that are changed at any time by stores to memory:
//! to load it takes CAP_BPF and CAP_PERFMON, or root, to use it afterwards takes nothing.

mod layout;
mod program;

#[cfg(test)]
mod tests;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::{Relaxed, Release};

pub use self::layout::{INPUT as STEERING_INPUT, QUEUES as STEERING_QUEUES};
use crate::error::Error;
use crate::sys::bpf::{self, SharedArray};
use crate::tap::Tap;

/// Rules of steering. Queues are numbers of attached queues, in the order in which the kernel has
/// them: one that is attached comes last, and when one is detached the last one takes its place.
#[derive(Clone, Copy, Debug)]
pub struct SteeringRules<'a> {
    /// Types of packets to be hashed, by bits as in `VirtIO 1.4 §5.1.9.4.3.1`. Types of IPv6 with
    /// extension headers are not looked at: such packets are hashed by their addresses.
    pub hash_types: u32,
    /// Contributions of the upper and the lower half of each byte of the input, which the hash is
    /// the exclusive or of.
    pub contributions: &'a [[[u32; 16]; 2]; STEERING_INPUT],
    /// Queue for each value of the lowest bits of the hash.
    pub queues: [u16; STEERING_QUEUES],
    /// Queue of frames without a hash.
    pub unclassified: u16,
}

/// A program in the kernel that steers frames, and its rules.
#[derive(Debug)]
pub struct SteeringProgram {
    program: OwnedFd,
    rules: SharedArray,
}

impl SteeringProgram {
    /// Loads the program. Its rules say queue 0 for all frames.
    ///
    /// # Errors
    ///
    /// [`Error::NeedsBpf`]; the kernel has no eBPF, or is older than 5.5.
    pub fn load() -> Result<Self, Error> {
        let loaded = SharedArray::new(layout::ALL).and_then(|rules| {
            bpf::may_be_complex()?;
            let program = bpf::load(&program::program(rules.as_fd().as_raw_fd()))?;
            Ok(Self { program, rules })
        });
        loaded.map_err(|refused| Error::of_load(refused, "CAP_BPF and CAP_PERFMON"))
    }

    /// The program and its rules by the descriptors that another process has of one that it loaded:
    /// its own ([`AsFd`]) and [that of the rules](Self::rules). This takes no privilege.
    ///
    /// # Errors
    ///
    /// `rules` is not the map of such a program. Of `program` that shows when it is used.
    pub fn from_fds(program: OwnedFd, rules: OwnedFd) -> Result<Self, Error> {
        let rules = SharedArray::take(rules, layout::ALL)?;
        Ok(Self { program, rules })
    }

    /// The descriptor of the map that holds the rules.
    #[must_use]
    pub fn rules(&self) -> BorrowedFd<'_> {
        self.rules.as_fd()
    }

    /// Puts rules in force, between one frame and another.
    ///
    /// Of the two sets that the program chooses from the other one is written. So a program that
    /// runs meanwhile has the rules before, unless it takes longer than from this call to the next
    /// but one.
    pub fn set_rules(&mut self, rules: &SteeringRules<'_>) {
        let words = self.rules.words();
        let (header, sets) = words.split_at(layout::HEADER);
        let other = 1 - (header[0].load(Relaxed) & 1);
        let set = &sets[other as usize * layout::RULES..][..layout::RULES];
        let store = |word: usize, value: u32| set[word].store(value, Relaxed);
        store(layout::TYPES, rules.hash_types);
        store(layout::UNCLASSIFIED, rules.unclassified.into());
        for (entry, queue) in rules.queues.iter().enumerate() {
            store(layout::TABLE + entry, u32::from(*queue));
        }
        let rows = rules.contributions.iter().flatten().flatten();
        for (word, value) in rows.enumerate() {
            store(layout::ROWS + word, *value);
        }
        header[0].store(other, Release);
    }
}

impl AsFd for SteeringProgram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }
}

impl Tap {
    /// Lets a program choose the queue of each frame, for the **whole interface**; without one the
    /// kernel chooses. A persistent interface keeps its program.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a macvtap, for a kernel before 4.16, or a descriptor that is not a program for
    /// frames; `EBADFD` when the interface is gone.
    pub fn set_steering(&self, program: Option<BorrowedFd<'_>>) -> Result<(), Error> {
        let mut fd = program.map_or(-1, |program| program.as_raw_fd());
        Ok(crate::sys::TUNSETSTEERINGEBPF.call(self.as_fd(), &mut fd)?)
    }
}
