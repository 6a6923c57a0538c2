//! Frames that the kernel drops, so that their reader never learns of them.
//!
//! A tap asks a program how much of each frame to keep (`TUNSETFILTEREBPF`). The one here goes by
//! [rules](FilterRules) as a network card does: by kinds of addresses, a list of addresses, and
//! VLANs. They are changed at any time by stores to memory: to load the program takes CAP_BPF or
//! root, to use it afterwards takes nothing.

mod layout;
mod program;

#[cfg(test)]
mod tests;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::atomic::fence;

pub use self::layout::ADDRESSES as FILTER_ADDRESSES;
use crate::error::Error;
use crate::sys::bpf::{self, SharedArray};
use crate::tap::Tap;

/// Verdict on frames to addresses of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// All pass.
    #[default]
    Pass,
    /// None passes.
    Drop,
    /// Those to listed addresses pass.
    Listed,
}

impl Verdict {
    fn word(self) -> u32 {
        let number = match self {
            Self::Pass => program::PASS,
            Self::Drop => program::DROP,
            Self::Listed => program::LISTED,
        };
        number as u32
    }
}

/// Rules of a filter; those by default let everything pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterRules {
    /// Verdict on broadcasts.
    pub broadcast: Verdict,
    /// Verdict on frames to groups.
    pub multicast: Verdict,
    /// Verdict on frames to single stations.
    pub unicast: Verdict,
    /// Addresses that are listed, of both kinds and in any order. With more than
    /// [`FILTER_ADDRESSES`] all count as listed.
    pub addresses: Vec<[u8; 6]>,
    /// A bit for each VLAN (802.1Q) that passes, from the lowest of the first word on; without them
    /// tags do not matter.
    pub vlans: Option<[u64; 64]>,
}

impl FilterRules {
    /// Returns whether no frame is dropped by these rules.
    #[must_use]
    pub fn pass_all(&self) -> bool {
        let verdicts = [self.broadcast, self.multicast, self.unicast];
        verdicts == [Verdict::Pass; 3] && self.vlans.is_none()
    }

    /// Returns whether a frame passes, of which `head` has the first 18 bytes or all. It is what
    /// the kernel's program decides, here for a look at rules without it.
    #[must_use]
    pub fn admits(&self, head: &[u8]) -> bool {
        let Some(destination) = head.first_chunk::<6>() else {
            return true;
        };
        if let (Some(vlans), Some([.., 0x81, 0, high, low])) =
            (&self.vlans, head.first_chunk::<16>())
        {
            let id = usize::from(u16::from_be_bytes([*high, *low]) & 0xfff);
            if id != 0 && vlans[id / 64] >> (id % 64) & 1 == 0 {
                return false;
            }
        }
        let verdict = match destination {
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => self.broadcast,
            [first, ..] if first & 1 != 0 => self.multicast,
            _ => self.unicast,
        };
        match verdict {
            Verdict::Pass => true,
            Verdict::Drop => false,
            Verdict::Listed => {
                self.addresses.len() > FILTER_ADDRESSES || self.addresses.contains(destination)
            }
        }
    }

    /// One set of the map.
    fn words(&self) -> [u32; layout::RULES] {
        let mut words = [0; layout::RULES];
        let verdict = |verdict: Verdict| {
            let long = self.addresses.len() > FILTER_ADDRESSES;
            let all = long && verdict == Verdict::Listed;
            if all {
                Verdict::Pass.word()
            } else {
                verdict.word()
            }
        };
        words[layout::BROADCAST] = verdict(self.broadcast);
        words[layout::MULTICAST] = verdict(self.multicast);
        words[layout::UNICAST] = verdict(self.unicast);
        if let Some(vlans) = &self.vlans {
            words[layout::TAGS_MATTER] = 1;
            let halves = vlans
                .iter()
                .flat_map(|word| [*word as u32, (word >> 32) as u32]);
            for (word, half) in words[layout::VLANS..].iter_mut().zip(halves) {
                *word = half;
            }
        }
        let mut keys = [layout::NO_KEY; FILTER_ADDRESSES + 1];
        for (key, mac) in keys[..FILTER_ADDRESSES].iter_mut().zip(&self.addresses) {
            *key = layout::key(*mac);
        }
        keys.sort_unstable();
        for (pair, key) in words[layout::KEYS..].chunks_exact_mut(2).zip(keys) {
            let [a, b, c, d, e, f, g, h] = key.to_ne_bytes();
            pair[0] = u32::from_ne_bytes([a, b, c, d]);
            pair[1] = u32::from_ne_bytes([e, f, g, h]);
        }
        words
    }
}

/// A program in the kernel that drops frames, and its rules.
#[derive(Debug)]
pub struct FilterProgram {
    program: OwnedFd,
    map: Arc<SharedArray>,
}

impl FilterProgram {
    /// Loads the program. Its rules let everything pass.
    ///
    /// # Errors
    ///
    /// [`Error::NeedsBpf`]; the kernel has no eBPF, or is older than 5.5.
    pub fn load() -> Result<Self, Error> {
        let loaded = SharedArray::new(layout::ALL).and_then(|map| {
            let program = bpf::load(&program::program(map.as_fd().as_raw_fd()))?;
            let map = Arc::new(map);
            Ok(Self { program, map })
        });
        loaded.map_err(|refused| Error::of_load(refused, "CAP_BPF"))
    }

    /// The program and its rules by the descriptors that another process has of one that it loaded:
    /// its own ([`AsFd`]) and [that of the rules](Self::rules). This takes no privilege.
    ///
    /// # Errors
    ///
    /// `rules` is not the map of such a program. Of `program` that shows when it is used.
    pub fn from_fds(program: OwnedFd, rules: OwnedFd) -> Result<Self, Error> {
        let map = Arc::new(SharedArray::take(rules, layout::ALL)?);
        Ok(Self { program, map })
    }

    /// The descriptor of the map that holds the rules, and counts what is dropped.
    #[must_use]
    pub fn rules(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }

    /// Puts rules in force, between one frame and another.
    ///
    /// Of the two sets that the program chooses from the other one is written. A program that runs
    /// over several changes drops nothing.
    pub fn set_rules(&mut self, rules: &FilterRules) {
        let words = self.map.words();
        let (header, sets) = words.split_at(layout::HEADER);
        let changes = header[0].load(Relaxed).wrapping_add(1);
        let set = &sets[(changes & 1) as usize * layout::RULES..][..layout::RULES];
        // Who reads any of what follows reads the number of the change before as well.
        fence(Release);
        for (word, value) in set.iter().zip(rules.words()) {
            word.store(value, Relaxed);
        }
        header[0].store(changes, Release);
    }

    /// The counter of frames that the program dropped.
    #[must_use]
    pub fn dropped(&self) -> DroppedFrames {
        DroppedFrames(self.map.clone())
    }
}

impl AsFd for FilterProgram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }
}

/// The number of frames that a [`FilterProgram`] has dropped, wherever it was used.
#[derive(Clone, Debug)]
pub struct DroppedFrames(Arc<SharedArray>);

impl DroppedFrames {
    /// That number now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.long(layout::DROPPED).load(Relaxed)
    }
}

impl Tap {
    /// Lets a program decide how much of each frame is kept, for the **whole interface**, before
    /// any queue has it; without one all is. A persistent interface keeps its program until a
    /// [`Tap`] is made of it again. What is in a queue already stays there.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a macvtap, for a kernel before 4.16, or a descriptor that is not a program for
    /// frames; `EBADFD` when the interface is gone.
    pub fn set_filter(&self, program: Option<BorrowedFd<'_>>) -> Result<(), Error> {
        let mut fd = program.map_or(-1, |program| program.as_raw_fd());
        Ok(crate::sys::TUNSETFILTEREBPF.call(self.as_fd(), &mut fd)?)
    }
}
