//! Transmit rings that were disabled while they ran, and the kicks of their drivers.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use net_device::Cursor;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use crate::sys::{self, Interest, Wanted};

/// Kicks that are taken at once: one of each transmit ring that has a number.
const EVENTS: usize = 128;

/// Such a ring.
#[derive(Debug)]
pub(super) struct DisabledRing {
    /// Position at which it stands.
    pub(super) cursor: Cursor,
    /// A copy, since the front-end can replace the ring's own at any time.
    kick: OwnedFd,
    /// It is to be looked at: a kick came, or its driver was too fast to be followed to the end.
    pub(super) due: bool,
}

/// Such rings of a session, by their index.
#[derive(Debug, Default)]
pub(super) struct DisabledRings {
    /// Tells of each kick once, so that none has to be read: a front-end could make the reader
    /// wait. Made for the first ring.
    kicks: Option<OwnedFd>,
    pub(super) rings: BTreeMap<usize, DisabledRing>,
}

impl DisabledRings {
    /// Keeps a ring, whose driver has its kicks told from now on.
    pub(super) fn add(&mut self, index: usize, cursor: Cursor, kick: OwnedFd) -> io::Result<()> {
        let kicks = match self.kicks.take() {
            Some(kicks) => kicks,
            None => epoll::create(CreateFlags::CLOEXEC)?,
        };
        let data = EventData::new_u64(index as u64);
        let added = epoll::add(&kicks, &kick, data, EventFlags::IN | EventFlags::ET);
        self.kicks = Some(kicks);
        added?;
        // Kicks from before, which were not read either, are told of at first; what they are for is
        // discarded right away.
        self.take_kicks();
        let due = false;
        self.rings.insert(index, DisabledRing { cursor, kick, due });
        Ok(())
    }

    /// Forgets a ring, if it is one of these.
    pub(super) fn remove(&mut self, index: usize) {
        if let (Some(ring), Some(kicks)) = (self.rings.remove(&index), &self.kicks) {
            // It would tell of kicks for as long as the front-end has the descriptor open.
            let _ = epoll::delete(kicks, &ring.kick);
        }
    }

    /// Marks the rings that were kicked.
    pub(super) fn take_kicks(&mut self) {
        let Some(kicks) = &self.kicks else { return };
        let none = Event {
            flags: EventFlags::empty(),
            data: EventData::new_u64(0),
        };
        let (mut events, at_once) = ([none; EVENTS], Timespec::default());
        // What does not fit is told of by the next call.
        let taken = sys::retry(|| epoll::wait(kicks, &mut events, Some(&at_once)));
        for event in &events[..taken.unwrap_or(0)] {
            // The end of a pipe says nothing.
            let Event { flags, data } = *event;
            let kicked = !flags.intersects(EventFlags::HUP | EventFlags::ERR);
            if let Some(ring) = self.rings.get_mut(&(data.u64() as usize)) {
                ring.due |= kicked;
            }
        }
    }

    /// Descriptor that becomes readable with a kick.
    pub(super) fn wanted(&self) -> Option<Wanted<'_>> {
        let kicks = self.kicks.as_ref()?;
        Some((kicks.as_fd(), Interest::Readable))
    }
}
