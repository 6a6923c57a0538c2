//! Upkeep of a session between the messages of its front-end.

use std::time::Instant;

use crate::daemon::metrics::FrontEnds;
use crate::protocol::session::{Session, SessionError};
use crate::protocol::stall::{self, RingGauges, RingWatch};

/// Events that ended a wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Woken {
    /// The device's configuration or status changed.
    pub(crate) config: bool,
    /// A transfer of state can go on.
    pub(crate) transfer: bool,
    /// Translations are to be asked for, or are overdue.
    pub(crate) translations: bool,
}

/// The rings of a session, at which somebody looks once in a while.
#[derive(Debug)]
pub(crate) struct Upkeep<'a> {
    gauges: &'a [RingGauges],
    watches: Vec<RingWatch>,
    next_look: Instant,
}

impl<'a> Upkeep<'a> {
    /// For a session with so many rings that begins now, and is shown at `front_ends`.
    pub(crate) fn new(front_ends: &'a FrontEnds, rings: usize) -> Self {
        let gauges = front_ends.for_rings(rings);
        Self {
            gauges,
            watches: gauges.iter().map(|_| RingWatch::default()).collect(),
            next_look: Instant::now() + stall::INTERVAL,
        }
    }

    /// Time at which [`Upkeep::attend`] has something to do whatever happens.
    pub(crate) fn deadline(&self, session: &Session<'_>) -> Option<Instant> {
        let look = session.has_running_rings().then_some(self.next_look);
        let more = session.has_more_to_discard().then(Instant::now);
        look.into_iter().chain(more).min()
    }

    /// Does what is due, after each wait.
    ///
    /// # Errors
    /// The conversation cannot go on.
    pub(crate) fn attend(
        &mut self,
        session: &mut Session<'_>,
        name: &str,
        now: Instant,
        woken: Woken,
    ) -> Result<(), SessionError> {
        session.discard_kicked();
        if woken.transfer {
            session.advance_transfer();
        }
        if woken.translations {
            session.advance_translations(now)?;
        }
        if now >= self.next_look {
            self.next_look = now + stall::INTERVAL;
            session.watch_rings(name, now, &mut self.watches, self.gauges)?;
        }
        if woken.config {
            session.config_changed()?;
        }
        Ok(())
    }
}
