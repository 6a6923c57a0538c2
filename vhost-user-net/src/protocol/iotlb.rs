//! Translations of the driver's addresses, as the front-end tells them and takes them back.
//!
//! Workers look addresses up. One that is not there is a miss: the session's thread asks the
//! front-end, and the worker leaves the chain in its ring until there is an answer. Nobody waits
//! inside a look-up, least of all the thread that the answer comes to.
//!
//! A front-end cannot make this grow without end, and one message costs no more than the entries
//! that overlap its range, [`MAX_ENTRIES`] at most.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use net_device::net_queue::{Access, AccessPlatform, TranslateError};

use crate::protocol::interrupts::signal;
use crate::sys::{self, Interest, Wanted};

#[cfg(test)]
mod tests;

/// VIRTIO_F_ACCESS_PLATFORM. VirtIO 1.4 §6. The device behind a session knows nothing of it.
pub const ACCESS_PLATFORM: u64 = 1 << 33;

/// Most translations that are kept; when there are more, others are forgotten and asked for again.
pub const MAX_ENTRIES: usize = 4096;

/// Most questions at a time: a queue has one, a ring that is set up one for each of its pages.
const MAX_MISSES: usize = 1024;

/// Time that a front-end has to answer a question. Shorter than a ring may stand still before it
/// counts as stalled.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// Most questions with which others may be asked before their turn, so that whoever waits can ask.
const MAX_AHEAD: usize = MAX_MISSES / 2;

/// Bytes of a buffer that are asked for before their turn: more than a frame needs.
const AHEAD_LEN: u64 = 32 * PAGE;

/// Bytes that a front-end translates in one piece at least.
const PAGE: u64 = 4096;

/// Kinds of access that a mapping allows: bits of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions(u8);

impl Permissions {
    /// Both.
    #[cfg(test)]
    pub(crate) const ALL: Self = Self(3);

    /// The protocol's `permissions`: bit 0 to read, bit 1 to write. `None` for others.
    #[must_use]
    pub fn new(permissions: u8) -> Option<Self> {
        (permissions <= 3).then_some(Self(permissions))
    }

    /// The protocol's number.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }

    fn of(access: Access) -> Self {
        match access {
            Access::Read => Self(1),
            Access::Write => Self(2),
        }
    }

    fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The driver's addresses from the key of the map up to `last`, in guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    last: u64,
    gpa: u64,
    permissions: Permissions,
}

/// A question to the front-end.
#[derive(Clone, Copy, Debug)]
struct Miss {
    wanted: Permissions,
    since: Instant,
    sent: bool,
    /// There was no answer, or it was no.
    refused: bool,
}

#[derive(Debug)]
struct Table {
    /// By their first address; none overlap.
    entries: BTreeMap<u64, Entry>,
    /// By the address that was looked up.
    misses: BTreeMap<u64, Miss>,
    /// Address from which on the next entry is forgotten.
    forget_from: u64,
    /// An entry that a worker may have in use was forgotten.
    forgotten: bool,
    /// There is somebody to ask.
    asks: bool,
}

impl Table {
    fn overlapping(&self, first: u64, last: u64) -> Vec<(u64, Entry)> {
        // The entries are apart: only the one before the range can reach into it.
        let before = self.entries.range(..first).next_back();
        let before = before.filter(|(_, entry)| entry.last >= first);
        let within = self.entries.range(first..=last);
        before
            .into_iter()
            .chain(within)
            .map(|(at, entry)| (*at, *entry))
            .collect()
    }

    fn find(&self, iova: u64, wanted: Permissions) -> Option<(u64, u64)> {
        let (first, entry) = self.entries.range(..=iova).next_back()?;
        let rest = entry.last.checked_sub(iova)?;
        let there = entry.permissions.contains(wanted);
        there.then(|| (entry.gpa + (iova - first), rest.saturating_add(1)))
    }

    /// Notes that `iova` is to be asked for; true as long as an answer may come.
    fn miss(&mut self, iova: u64, wanted: Permissions, event: &File) -> bool {
        let may_ask = self.asks && self.misses.len() < MAX_MISSES;
        match self.misses.get_mut(&iova) {
            // Whoever looks twice for one chain gets the same answer.
            Some(miss) if miss.refused => return false,
            Some(miss) if miss.wanted.contains(wanted) => return true,
            Some(miss) => (miss.wanted, miss.sent) = (miss.wanted.and(wanted), false),
            None if !may_ask => return false,
            None => {
                let miss = Miss {
                    wanted,
                    since: Instant::now(),
                    sent: false,
                    refused: false,
                };
                self.misses.insert(iova, miss);
            }
        }
        let _ = signal(Some(event));
        true
    }

    /// Calls `missing` with an address in each page of the `len` bytes at `iova` that cannot be
    /// accessed so; returns whether there is none.
    fn each_missing(
        &mut self,
        iova: u64,
        len: u64,
        wanted: Permissions,
        mut missing: impl FnMut(&mut Self, u64),
    ) -> bool {
        let (mut at, mut left, mut known) = (iova, len, true);
        while left > 0 {
            let done = match self.find(at, wanted) {
                Some((_, len)) => len,
                None => {
                    known = false;
                    missing(self, at);
                    PAGE - at % PAGE
                }
            };
            left = left.saturating_sub(done);
            at = at.wrapping_add(done);
        }
        known
    }

    /// Asks for `iova` before its turn, unless something in its page is asked for already.
    fn ask_ahead(&mut self, iova: u64, wanted: Permissions, event: &File) {
        let page = iova - iova % PAGE;
        let asked = self.misses.range(page..=page + (PAGE - 1)).next().is_some();
        if !asked && self.misses.len() < MAX_AHEAD {
            self.miss(iova, wanted, event);
        }
    }

    /// Makes room for one more entry.
    fn forget_one(&mut self) {
        if self.entries.len() < MAX_ENTRIES {
            return;
        }
        let next = self.entries.range(self.forget_from..).next();
        let next = next.or_else(|| self.entries.iter().next());
        if let Some((at, entry)) = next.map(|(at, entry)| (*at, *entry)) {
            self.entries.remove(&at);
            self.forget_from = entry.last;
            self.forgotten = true;
        }
    }

    /// Answers the questions about a range; returns whether there were any.
    fn answer(&mut self, first: u64, last: u64, permissions: Permissions) -> bool {
        let asked: Vec<_> = self.misses.range(first..=last).map(|it| *it.0).collect();
        for iova in &asked {
            match self.misses.get_mut(iova) {
                Some(miss) if !permissions.contains(miss.wanted) => miss.refused = true,
                _ => drop(self.misses.remove(iova)),
            }
        }
        !asked.is_empty()
    }
}

/// Consequences of a translation that was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// It takes the place of another one, which workers may have in use.
    pub replaces: bool,
    /// Somebody waits for it.
    pub awaited: bool,
}

/// Translations that are known, and those that are asked for.
#[derive(Debug)]
pub struct Iotlb {
    table: Mutex<Table>,
    /// Becomes readable when there is something to ask.
    event: File,
}

impl Iotlb {
    /// Without any translation, and with nobody to ask.
    ///
    /// # Errors
    /// No event descriptor can be made.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            table: Mutex::new(Table {
                entries: BTreeMap::new(),
                misses: BTreeMap::new(),
                forget_from: 0,
                forgotten: false,
                asks: false,
            }),
            event: sys::event()?,
        })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Becomes readable when [`Iotlb::questions`] has some.
    #[must_use]
    pub fn event(&self) -> &File {
        &self.event
    }

    /// Event to wait for before [`Iotlb::questions`].
    #[must_use]
    pub fn wanted(&self) -> Wanted<'_> {
        (self.event.as_fd(), Interest::Readable)
    }

    /// Says whether there is somebody to ask. All open questions are to be sent to whoever it is.
    pub fn set_asks(&self, asks: bool) {
        let mut table = self.table();
        table.asks = asks;
        if asks {
            table.misses.values_mut().for_each(|miss| miss.sent = false);
            let _ = signal(Some(&self.event));
        }
    }

    /// Forgets everything. Nothing that was translated may be in use.
    pub fn clear(&self) {
        let mut table = self.table();
        table.entries.clear();
        table.misses.clear();
        table.forgotten = false;
    }

    /// Takes a translation of the addresses from `first` to `last`.
    pub fn insert(&self, first: u64, last: u64, gpa: u64, permissions: Permissions) -> Told {
        let mut table = self.table();
        let mut told = Told::default();
        let new = Entry {
            last,
            gpa,
            permissions,
        };
        for (at, old) in table.overlapping(first, last) {
            let same = old.gpa.wrapping_sub(at) == gpa.wrapping_sub(first);
            told.replaces |= !(same && permissions.contains(old.permissions));
            // What it covers beyond the new one may be in use, and is asked for again.
            table.forgotten |= at < first || old.last > last;
            table.entries.remove(&at);
        }
        table.forget_one();
        table.entries.insert(first, new);
        told.awaited = table.answer(first, last, permissions);
        told
    }

    /// Forgets the addresses from `first` to `last`; returns whether workers may have some of them
    /// in use.
    pub fn remove(&self, first: u64, last: u64) -> bool {
        let mut table = self.table();
        let gone = table.overlapping(first, last);
        for (at, _) in &gone {
            table.entries.remove(at);
        }
        std::mem::take(&mut table.forgotten) || !gone.is_empty()
    }

    /// Returns whether all of the `len` bytes at `iova` can be accessed so; what cannot is asked
    /// for.
    pub fn request(&self, iova: u64, len: u64, access: Access) -> bool {
        let wanted = Permissions::of(access);
        self.table().each_missing(iova, len, wanted, |table, at| {
            // A refusal from before does not hold for good.
            if table.misses.get(&at).is_some_and(|miss| miss.refused) {
                table.misses.remove(&at);
            }
            table.miss(at, wanted, &self.event);
        })
    }

    /// Addresses that are to be asked for, and the access that is wanted.
    #[must_use]
    pub fn questions(&self) -> Vec<(u64, Permissions)> {
        let _ = (&self.event).read(&mut [0; 8]);
        let table = self.table();
        let unsent = table.misses.iter().filter(|(_, miss)| !miss.sent);
        unsent.map(|(iova, miss)| (*iova, miss.wanted)).collect()
    }

    /// The question about `iova` was sent.
    pub fn asked(&self, iova: u64) {
        if let Some(miss) = self.table().misses.get_mut(&iova) {
            miss.sent = true;
        }
    }

    /// Time at which [`Iotlb::give_up`] has something to do, if that comes.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let table = self.table();
        let misses = table.misses.values();
        misses.map(|miss| miss.since + PATIENCE).min()
    }

    /// Counts as refused what was asked too long ago; returns whether there was any. A refusal
    /// holds as long, unless a translation is told meanwhile, and is forgotten then.
    pub fn give_up(&self, now: Instant) -> bool {
        let mut table = self.table();
        let mut refused = false;
        table.misses.retain(|_, miss| {
            if now < miss.since + PATIENCE {
                return true;
            }
            let first = !std::mem::replace(&mut miss.refused, true);
            miss.since = now;
            refused |= first;
            first
        });
        refused
    }

    /// As [`AccessPlatform::translate`] for either access, without a question.
    fn look_up(&self, iova: u64) -> Option<(u64, u64)> {
        let table = self.table();
        let either = [Access::Read, Access::Write].map(Permissions::of);
        either
            .into_iter()
            .find_map(|wanted| table.find(iova, wanted))
    }
}

impl AccessPlatform for Iotlb {
    fn translate(
        &self,
        iova: u64,
        _len: u64,
        access: Access,
    ) -> Result<(u64, u64), TranslateError> {
        let (wanted, mut table) = (Permissions::of(access), self.table());
        match table.find(iova, wanted) {
            Some(there) => Ok(there),
            None if table.miss(iova, wanted, &self.event) => Err(TranslateError::Awaited { iova }),
            None => Err(TranslateError::NotMapped { iova }),
        }
    }

    fn ask_ahead(&self, iova: u64, len: u64, access: Access) -> bool {
        let (wanted, asked_for) = (Permissions::of(access), len.min(AHEAD_LEN));
        let known = self
            .table()
            .each_missing(iova, asked_for, wanted, |table, at| {
                table.ask_ahead(at, wanted, &self.event);
            });
        known && asked_for == len
    }
}

/// The same for who does not wait, and need not know: whoever looks where a ring stands.
///
/// Either access will do. A driver lets the device write the used ring, and need not let it read
/// what it wrote.
#[derive(Debug)]
pub struct Known(pub std::sync::Arc<Iotlb>);

impl AccessPlatform for Known {
    fn translate(
        &self,
        iova: u64,
        _len: u64,
        _access: Access,
    ) -> Result<(u64, u64), TranslateError> {
        let found = self.0.look_up(iova);
        found.ok_or(TranslateError::NotMapped { iova })
    }
}
