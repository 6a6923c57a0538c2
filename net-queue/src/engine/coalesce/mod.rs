//! Frame coalescing: frames of one flow that lie in the ring together leave as one.
//!
//! A system call costs the same for one frame and for forty. So consecutive frames of a flow are
//! put together in the shape of one that is to be segmented, which the host takes through its
//! stack as one and cuts where it must; `rules` says which. Nothing waits: what a run of the
//! engine took is sent before it ends, and a frame behind which the ring is empty goes at once.
//!
//! - A few groups are open at a time, one for a flow. A frame that cannot join the group of its
//!   flow sends that group first, one whose flow cannot be told sends all; so the order within a
//!   flow is the driver's. Frames of different flows may overtake each other.
//! - A frame is copied before anything is decided, like any short frame, into the buffer that
//!   becomes its group's if it opens one. Behind a frame that joined a group only the headers are,
//!   and the payload goes to where it is to leave from.
//! - Most frames repeat the one before but for what counts up. So the group that took a frame last
//!   is asked first, by a comparison that takes no look at the frame's flow.
//! - Chains are used in the order in which they were taken, when their frames have left: see
//!   `pending`.
//! - A backend without room leaves groups open and chains taken, and the next run begins with
//!   them. When the queue is stopped meanwhile, the chains go back to the ring from the first whose
//!   frame has not left. A ring's position is one number, so frames of other flows behind that one
//!   which have left will be sent twice; none is lost. To save what groups hold would spare that,
//!   and would make frames a part of every snapshot.
//! - A group that is refused is sent frame by frame. If they pass, its kind is not tried again by
//!   this engine.
//! - The limiter charges, and counters count, frames and not groups.

mod group;
mod outlet;
mod pending;
mod rules;
mod staged_frame;

pub(super) use outlet::Outlet;
pub(super) use rules::HEADERS as CANDIDATE_HEADERS;
pub(super) use staged_frame::StagedFrame;

use group::{Joined, OpenGroup};
use pending::{Pending, SENT};
use rules::Candidate;

use crate::backend::{FrameBackend, SendError};
use crate::counters::{GroupEnd, QueueCounters};
use crate::drop_cause::DropCause;
use crate::engine::limit::Limit;
use crate::offload::Offloads;
use crate::ring::{Chain, Ring};

/// Groups that are open at a time.
const GROUPS: usize = 8;
/// Frames after which a group that took none of them makes room for another flow's.
const IDLE: u64 = 4 * GROUPS as u64;
/// Frames in a row that joined no group after which traffic counts as such that cannot be merged,
/// and frames that are not looked at then, before as many are tried again: looking costs a tenth
/// of what sending a short frame does.
const TRIED: u32 = 8 * GROUPS as u32;
const PASSED_OVER: u32 = 7 * TRIED;

/// Kinds of groups that there are.
pub(super) const KINDS: Offloads = Offloads::TSO4
    .union(Offloads::TSO6)
    .union(Offloads::USO4)
    .union(Offloads::USO6);

/// The group that holds a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    slot: usize,
    ticket: u64,
    /// The group is to be sent once the frame's chain is kept.
    complete: Option<GroupEnd>,
}

/// Open groups, and the chains whose frames are in them.
#[derive(Debug)]
pub(super) struct Coalescer {
    /// Kinds of groups that are on.
    on: Offloads,
    /// Kinds that were refused since anybody asked.
    refused: Offloads,
    groups: [OpenGroup; GROUPS],
    /// Number of each group among all that were ever opened, or [`SENT`] where none is open.
    tickets: [u64; GROUPS],
    /// Flow of each group.
    flows: [u32; GROUPS],
    /// Number of groups that are open.
    open: usize,
    last_ticket: u64,
    /// The group that took a frame last: where the next one is looked for first.
    recent: usize,
    /// Number of frames that were looked at.
    now: u64,
    /// That number when each group took its last frame.
    last_grown: [u64; GROUPS],
    /// Frames since the last that joined a group, those not looked at included.
    misses: u32,
    pending: Pending,
}

impl Coalescer {
    /// For frames behind headers of `header` bytes.
    pub(super) fn new(on: Offloads, header: usize) -> Self {
        Self {
            on: on & KINDS,
            refused: Offloads::empty(),
            groups: std::array::from_fn(|_| OpenGroup::new(header)),
            tickets: [SENT; GROUPS],
            flows: [0; GROUPS],
            open: 0,
            last_ticket: SENT,
            recent: 0,
            now: 0,
            last_grown: [0; GROUPS],
            misses: 0,
            pending: Pending::new(),
        }
    }

    /// Returns whether no frame is held.
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        self.open == 0
    }

    /// Returns whether no chain is kept: then no frame is held either.
    #[inline]
    pub(super) fn keeps_none(&self) -> bool {
        self.pending.is_empty()
    }

    /// Returns whether the last frame joined a group.
    #[inline]
    pub(super) fn is_growing(&self) -> bool {
        self.misses == 0
    }

    /// Returns whether the next frame is not worth a look, since none of the last could be merged;
    /// no group is open then.
    ///
    /// # Errors
    /// A group that has to leave before it cannot.
    #[inline]
    pub(super) fn passes_over<B, L>(
        &mut self,
        out: &mut Outlet<'_, B, L>,
    ) -> Result<bool, SendError>
    where
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
    {
        if self.misses < TRIED {
            return Ok(false);
        }
        self.send_all(GroupEnd::Evicted, out)?;
        self.misses += 1;
        if self.misses == TRIED + PASSED_OVER {
            self.misses = 0;
        }
        Ok(true)
    }

    /// Kinds of groups that the backend refused since the last call, although it takes the frames.
    pub(super) fn take_refused(&mut self) -> Offloads {
        std::mem::take(&mut self.refused)
    }

    /// Finds out what becomes of `frame`, which `more` says whether another one follows. Nothing is
    /// returned for one that is to be sent by itself, now.
    ///
    /// # Errors
    /// A group that has to leave before it cannot: neither can the frame. Or the guest's memory
    /// cannot be read.
    #[inline]
    pub(super) fn admit<B, L>(
        &mut self,
        mut frame: StagedFrame<'_>,
        more: bool,
        out: &mut Outlet<'_, B, L>,
    ) -> Result<Option<Held>, SendError>
    where
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
    {
        self.now += 1;
        self.misses += 1;
        if self.tickets[self.recent] != SENT {
            let joined = self.groups[self.recent].join_repeat(&frame)?;
            if let Some(end) = joined.end() {
                return Ok(Some(self.grown(self.recent, end)));
            }
        }
        let (head, len) = (frame.head(), frame.frame_len());
        let Some(candidate) = Candidate::of(head, len, frame.header, self.on) else {
            self.send_all(GroupEnd::Order, out)?;
            return Ok(None);
        };
        let begins = candidate.begins(head);
        if let Some(slot) = self.find(candidate.flow) {
            let joined = if candidate.mergeable {
                self.groups[slot].join(&mut frame, &candidate)?
            } else {
                Joined::No
            };
            if let Some(end) = joined.end() {
                return Ok(Some(self.grown(slot, end)));
            }
            self.send(slot, GroupEnd::Order, out)?;
        }
        if !more || !begins {
            return Ok(None);
        }
        let Some(slot) = self.make_room(out)? else {
            return Ok(None);
        };
        self.groups[slot].open(&mut frame, &candidate)?;
        self.last_ticket += 1;
        self.tickets[slot] = self.last_ticket;
        self.flows[slot] = candidate.flow;
        self.open += 1;
        Ok(Some(self.held(slot, None)))
    }

    /// Keeps the chain of a frame of `bytes` for which `held` was the answer, and sends what is
    /// complete by it.
    ///
    /// # Errors
    /// That cannot be sent; the frame is held all the same.
    #[inline]
    pub(super) fn keep<R, B, L>(
        &mut self,
        ring: &mut R,
        chain: Chain,
        bytes: u64,
        held: Held,
        out: &mut Outlet<'_, B, L>,
    ) -> Result<(), SendError>
    where
        R: Ring,
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
    {
        self.pending.push(chain, bytes, held.ticket);
        if let Some(end) = held.complete {
            self.send(held.slot, end, out)?;
        }
        self.make_way(ring, out)
    }

    /// Marks the chain of a frame that has left, or never will, as used once those before it are.
    ///
    /// # Errors
    /// As for [`Self::keep`].
    #[inline]
    pub(super) fn pass<R, B, L>(
        &mut self,
        ring: &mut R,
        chain: Chain,
        out: &mut Outlet<'_, B, L>,
    ) -> Result<(), SendError>
    where
        R: Ring,
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
    {
        if self.pending.is_empty() {
            ring.push_used(chain, 0);
            return Ok(());
        }
        self.pending.push(chain, 0, SENT);
        self.make_way(ring, out)
    }

    /// Sends every group, in the order in which they were opened.
    ///
    /// # Errors
    /// One of them cannot leave; it stays, and so do those after it.
    #[inline]
    pub(super) fn send_all<B, L>(
        &mut self,
        end: GroupEnd,
        out: &mut Outlet<'_, B, L>,
    ) -> Result<(), SendError>
    where
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
    {
        if self.is_idle() {
            return Ok(());
        }
        self.send_open(end, out)
    }

    #[inline(never)]
    fn send_open<B, L>(
        &mut self,
        end: GroupEnd,
        out: &mut Outlet<'_, B, L>,
    ) -> Result<(), SendError>
    where
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
    {
        for _ in 0..self.open {
            let opened = (0..GROUPS).filter(|slot| self.tickets[*slot] != SENT);
            if let Some(oldest) = opened.min_by_key(|slot| self.tickets[*slot]) {
                self.send(oldest, end, out)?;
            }
        }
        Ok(())
    }

    /// Marks the chains used up to the first whose frame is held.
    #[inline]
    pub(super) fn release<R: Ring>(&mut self, ring: &mut R) {
        let tickets = &self.tickets;
        self.pending
            .release(ring, |ticket| tickets.contains(&ticket));
    }

    /// Gives the chains back from the first whose frame is held on, and forgets what is held.
    pub(super) fn undo<R: Ring, L: Limit + ?Sized>(&mut self, ring: &mut R, limit: &mut L) {
        self.release(ring);
        let tickets = &self.tickets;
        self.pending
            .undo(ring, limit, |ticket| tickets.contains(&ticket));
        self.forget();
    }

    /// Drops what is held.
    #[cold]
    pub(super) fn discard<R: Ring>(
        &mut self,
        ring: &mut R,
        cause: DropCause,
        counters: &QueueCounters,
    ) {
        for slot in 0..GROUPS {
            if self.tickets[slot] != SENT {
                for _ in 0..self.groups[slot].left() {
                    counters.add_drop(cause);
                }
            }
        }
        self.forget();
        self.release(ring);
    }

    fn forget(&mut self) {
        self.tickets = [SENT; GROUPS];
        self.open = 0;
    }

    #[inline]
    fn find(&self, flow: u32) -> Option<usize> {
        if self.open == 0 {
            return None;
        }
        (0..GROUPS).find(|slot| self.flows[*slot] == flow && self.tickets[*slot] != SENT)
    }

    fn grown(&mut self, slot: usize, complete: Option<GroupEnd>) -> Held {
        self.misses = 0;
        self.held(slot, complete)
    }

    fn held(&mut self, slot: usize, complete: Option<GroupEnd>) -> Held {
        self.last_grown[slot] = self.now;
        self.recent = slot;
        Held {
            slot,
            ticket: self.tickets[slot],
            complete,
        }
    }

    /// Finds a group that can be opened. If all are, one makes room that has taken none of the last
    /// [`IDLE`] frames; if there is none either, the frame has to go alone. So more flows than
    /// groups, in turn, do not end each other's groups before a second frame comes.
    #[inline]
    fn make_room<B, L>(&mut self, out: &mut Outlet<'_, B, L>) -> Result<Option<usize>, SendError>
    where
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
    {
        if self.open < GROUPS {
            return Ok(self.tickets.iter().position(|ticket| *ticket == SENT));
        }
        let Some(slot) = (0..GROUPS).min_by_key(|slot| self.last_grown[*slot]) else {
            return Ok(None);
        };
        if self.now - self.last_grown[slot] < IDLE {
            return Ok(None);
        }
        self.send(slot, GroupEnd::Evicted, out)?;
        Ok(Some(slot))
    }

    /// Sends all groups when no more chains can be kept.
    #[inline]
    fn make_way<R, B, L>(
        &mut self,
        ring: &mut R,
        out: &mut Outlet<'_, B, L>,
    ) -> Result<(), SendError>
    where
        R: Ring,
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
    {
        if self.pending.is_full() {
            self.send_all(GroupEnd::Full, out)?;
            self.release(ring);
        }
        Ok(())
    }

    /// Sends one group.
    fn send<B, L>(
        &mut self,
        slot: usize,
        end: GroupEnd,
        out: &mut Outlet<'_, B, L>,
    ) -> Result<(), SendError>
    where
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
    {
        if self.groups[slot].send(out)? {
            let kind = self.groups[slot].kind();
            self.on.remove(kind);
            self.refused.insert(kind);
        }
        out.counters.add_group_end(end);
        self.tickets[slot] = SENT;
        self.open -= 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
