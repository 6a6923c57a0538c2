//! Frames on their way through the device, in both directions.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::frames::{Numbers, flow_of};

/// Frames that a driver has posted.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    numbers: Numbers,
    /// Those that the network has not seen.
    waiting: VecDeque<u64>,
    /// Those that it has seen, and whose chains have not come back.
    sent: Vec<u64>,
    /// Those of `sent` that may be sent once more: the device stood still, and what had not left
    /// went back to the ring, with all behind it.
    repeatable: Vec<u64>,
    /// Those that may be dropped, since the link was down; all if it is.
    droppable: Option<Numbers>,
    /// Those that were.
    pub(crate) cut_off: u64,
    /// Those that were sent, and may have been dropped as well when they were taken once more.
    pub(crate) vague: u64,
}

impl Outgoing {
    pub(crate) fn new() -> Self {
        Self {
            droppable: Some(Numbers::default()),
            ..Self::default()
        }
    }

    /// Posts the next frame of `flow`.
    pub(crate) fn post(&mut self, flow: usize) -> u64 {
        let number = self.numbers.take(flow);
        self.waiting.push_back(number);
        number
    }

    pub(crate) fn link_changes(&mut self, up: bool) {
        self.droppable = up.then(|| self.numbers.clone());
    }

    /// The device has stood still for a moment.
    pub(crate) fn paused(&mut self) {
        self.repeatable.clone_from(&self.sent);
    }

    /// The ring is laid out anew.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
        self.sent.clear();
        self.repeatable.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    fn is_droppable(&self, number: u64) -> bool {
        let droppable = self.droppable.as_ref();
        droppable.is_none_or(|numbers| numbers.include(number))
    }

    /// The first frame of the flow of `number` that waits.
    fn next(&self, number: u64) -> Option<(usize, u64)> {
        let waiting = self.waiting.iter().copied().enumerate();
        let mut flow = waiting.filter(|(_, next)| flow_of(*next) == flow_of(number));
        flow.next()
    }

    /// The network takes frame `number`.
    ///
    /// # Errors
    /// It was posted after one that is not sent, or is sent already.
    pub(crate) fn taken(&mut self, number: u64) -> Result<(), String> {
        // The driver may not have seen yet what was dropped.
        while let Some((at, next)) = self.next(number)
            && next < number
            && self.is_droppable(next)
        {
            self.waiting.remove(at);
            self.cut_off += 1;
        }
        match self.next(number) {
            Some((at, next)) if next == number => {
                self.waiting.remove(at);
                self.sent.push(number);
                Ok(())
            }
            next => {
                let again = self.repeatable.iter().position(|sent| *sent == number);
                let again = again.map(|at| self.repeatable.remove(at));
                again.map_or_else(
                    || Err(format!("frame {number} was sent, not {next:?}")),
                    |_| Ok(()),
                )
            }
        }
    }

    /// The chain of frame `number` comes back.
    ///
    /// # Errors
    /// It was not sent, nor may it have been dropped.
    pub(crate) fn used(&mut self, number: u64) -> Result<(), String> {
        self.sent.retain(|sent| *sent != number);
        if self.repeatable.contains(&number) && self.is_droppable(number) {
            self.vague += 1;
        }
        self.repeatable.retain(|sent| *sent != number);
        let Some(at) = self.waiting.iter().position(|next| *next == number) else {
            return Ok(());
        };
        if !self.is_droppable(number) {
            return Err(format!("frame {number} came back, and was not sent"));
        }
        self.waiting.remove(at);
        self.cut_off += 1;
        Ok(())
    }
}

/// A frame that the device has received.
#[derive(Clone, Copy, Debug)]
struct Coming {
    number: u64,
    /// The first of the frames that came as one, and how many these are.
    first: u64,
    count: u64,
    /// The pair that it is for, if that was certain, and commands that were given until then.
    to: Option<usize>,
    given: u64,
    /// It was perhaps between two workers when their device ended, and lost with them.
    vanishes: bool,
}

/// Frames on their way to a driver, of one pair or of all.
pub(crate) type SharedIncoming = Arc<Mutex<Incoming>>;

/// Looks at them.
pub(crate) fn incoming(shared: &SharedIncoming) -> MutexGuard<'_, Incoming> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Frames that the network has delivered, and the driver has not seen.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    waiting: VecDeque<Coming>,
    is_shared: bool,
    /// By pair and flow, the frame that was received last.
    last: BTreeMap<(usize, usize), Coming>,
    /// Frames that never came: the device has to have counted them.
    pub(crate) missing: u64,
    /// Frames of those that came as one with others, of which none was seen: they may have been
    /// counted by themselves, or been dropped before they were cut.
    pub(crate) vague: u64,
}

impl Incoming {
    /// Frames of all pairs, any of which may receive them: one that is overtaken is not missing
    /// before the world is at rest.
    pub(crate) fn together() -> Self {
        Self {
            is_shared: true,
            ..Self::default()
        }
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// The network delivers frames as one, each for the pair that `to` says, after so many commands
    /// were given.
    pub(crate) fn arrive(
        &mut self,
        numbers: &[u64],
        given: u64,
        to: impl Fn(u64) -> Option<usize>,
    ) {
        let (first, count) = (numbers[0], numbers.len() as u64);
        let coming = numbers.iter().map(|number| Coming {
            number: *number,
            first,
            count,
            to: to(*number),
            given,
            vanishes: false,
        });
        self.waiting.extend(coming);
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The driver receives frame `number` in the queue of `pair`.
    ///
    /// # Errors
    /// It did not come, or came before; it is for another pair, or behind a later one of its flow.
    pub(crate) fn received(&mut self, pair: usize, number: u64) -> Result<(), String> {
        let at = self.waiting.iter().position(|next| next.number == number);
        let at =
            at.ok_or_else(|| format!("received {number}, which did not come or came before"))?;
        if !self.is_shared {
            self.miss(at);
            self.waiting.pop_front();
            return Ok(());
        }
        let Some(frame) = self.waiting.remove(at) else {
            return Ok(());
        };
        if frame.to.is_some_and(|to| to != pair) {
            return Err(format!("received {number}, which is for {:?}", frame.to));
        }
        let last = self.last.insert((pair, flow_of(number)), frame);
        let overtaken = |last: Coming| last.given == frame.given && last.number > number;
        if frame.to.is_some() && last.is_some_and(overtaken) {
            return Err(format!("received {number} behind {last:?}"));
        }
        Ok(())
    }

    /// The device is reset, or goes on elsewhere. Frames on their way from worker to worker do not.
    pub(crate) fn device_ends(&mut self) {
        for frame in &mut self.waiting {
            frame.vanishes = self.is_shared;
        }
    }

    /// The ring of a queue is laid out anew: what it had is lost, unless another one gets it.
    pub(crate) fn ring_ends(&mut self) {
        if !self.is_shared {
            self.end();
        }
    }

    /// Whatever has not come will not.
    pub(crate) fn end(&mut self) {
        self.miss(self.waiting.len());
    }

    /// The first `count` frames did not come.
    fn miss(&mut self, count: usize) {
        let missing: Vec<Coming> = self.waiting.drain(..count).collect();
        for together in missing.chunk_by(|one, next| one.first == next.first) {
            let (count, all) = (together.len() as u64, together[0].count);
            if together[0].vanishes {
                self.vague += count;
            } else if count == all {
                self.missing += 1;
                self.vague += count - 1;
            } else {
                self.missing += count;
            }
        }
    }
}
