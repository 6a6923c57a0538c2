//! Transmit rings that the front-end disabled while they ran: what their drivers post is discarded.
//!
//! The protocol has a back-end go on with such a ring and lose its frames, so that no driver waits
//! for a frame that is never sent. User-mode Linux, however, frees a ring's memory as soon as the
//! ring is disabled, without stopping it. So the ring is looked at in the request that disables it,
//! for whose end the front-end waits, and at each kick, which only a driver sends that still has
//! its ring; at no other time.

use net_device::{Cursor, NetDevice, log_limited};

use super::Session;
use crate::protocol::device_state::Transfer;
use crate::protocol::disabled_rings::DisabledRings;
use crate::sys::Wanted;

impl Session<'_> {
    /// The device, for the time of a wait, and descriptors: once the first is ready,
    /// [`Session::advance_transfer`] is to be called, and once the second is,
    /// [`Session::discard_kicked`].
    pub fn device_and_events(&mut self) -> (&mut NetDevice, [Option<Wanted<'_>>; 2]) {
        let transfer = self.transfer.as_ref().and_then(Transfer::wanted);
        (self.device, [transfer, self.disabled.wanted()])
    }

    /// Returns whether [`Session::discard_kicked`] is to be called without a wait.
    #[must_use]
    pub fn has_more_to_discard(&self) -> bool {
        self.disabled.rings.values().any(|ring| ring.due)
    }

    /// Discards what was posted in disabled transmit rings that were kicked. To be called before
    /// the next message is handled, so that a ring which that enables sends nothing older.
    pub fn discard_kicked(&mut self) {
        self.disabled.take_kicks();
        let rings = self.disabled.rings.iter();
        let due: Vec<_> = rings
            .filter(|(_, ring)| ring.due)
            .map(|(index, _)| *index)
            .collect();
        for index in due {
            self.discard(index);
        }
    }

    /// A ring was disabled at `cursor`. Receive rings and the control ring wait.
    pub(super) fn begin_discarding(&mut self, index: usize, cursor: Cursor) {
        if index.is_multiple_of(2) {
            return;
        }
        let added = self.rings[index]
            .copy_of_kick()
            .and_then(|kick| self.disabled.add(index, cursor, kick));
        match added {
            Ok(()) => self.discard(index),
            Err(error) => self.say_that_it_waits(index, &error),
        }
    }

    /// A ring is enabled, stopped or set up anew: nothing of it is touched any more.
    pub(super) fn end_discarding(&mut self, index: usize) {
        self.disabled.remove(index);
    }

    /// All rings begin anew.
    pub(super) fn end_all_discarding(&mut self) {
        self.disabled = DisabledRings::default();
    }

    fn discard(&mut self, index: usize) {
        let Some(ring) = self.disabled.rings.get(&index) else {
            return;
        };
        let done = self
            .ring_setup(index, Some(ring.cursor))
            .and_then(|setup| Ok(self.device.discard_posted(&setup)?));
        match done {
            Ok(done) => {
                let layout = self.layout();
                self.rings[index].stopped_at(layout, &done.cursor);
                if let Some(ring) = self.disabled.rings.get_mut(&index) {
                    ring.cursor = done.cursor;
                    ring.due = done.more;
                }
                if done.interrupt {
                    self.interrupt(index);
                }
            }
            // What is wrong with it is told when it is enabled.
            Err(error) => {
                self.end_discarding(index);
                self.say_that_it_waits(index, &error);
            }
        }
    }

    fn say_that_it_waits(&self, index: usize, error: &dyn std::error::Error) {
        let log = self.device.log_limit();
        log_limited!(
            log,
            Debug,
            "ring {index} is disabled, and its frames wait: {error}"
        );
    }
}
