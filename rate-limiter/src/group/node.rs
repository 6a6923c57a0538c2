//! The shared part of a group: its meters, and who waits for them.

use std::fmt;

use super::meter::{Meter, MeterSet};
use super::wake::Wake;
use crate::config::{KINDS, Limit};
use crate::levels::Levels;
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, SeqCst, lock};

#[derive(Debug)]
pub(super) struct Node {
    parent: Option<Arc<Node>>,
    /// Locked by updates, and by a member once after each.
    meters: Mutex<Arc<MeterSet>>,
    /// Changes with the meters, under the lock.
    generation: AtomicU64,
    waiters: Mutex<Vec<Arc<Waiter>>>,
    members: AtomicU64,
    waiting: AtomicU64,
}

impl Node {
    pub(super) fn new(parent: Option<Arc<Self>>, limits: &[Option<Limit>; KINDS]) -> Self {
        Self {
            parent,
            meters: Mutex::new(Arc::new(
                limits
                    .each_ref()
                    .map(|limit| limit.as_ref().map(Meter::new)),
            )),
            generation: AtomicU64::new(0),
            waiters: Mutex::new(Vec::new()),
            members: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
        }
    }

    /// This node and all around it.
    pub(super) fn path(self: &Arc<Self>) -> impl Iterator<Item = Arc<Self>> + use<> {
        std::iter::successors(Some(self.clone()), |node| node.parent.clone())
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(SeqCst)
    }

    pub(super) fn meters(&self) -> (u64, Arc<MeterSet>) {
        let meters = lock(&self.meters);
        (self.generation(), meters.clone())
    }

    pub(super) fn levels(&self, now: u64) -> Levels {
        // Under the lock, or an update might close what is read.
        let meters = lock(&self.meters);
        Levels::from_array(
            meters
                .each_ref()
                .map(|meter| meter.as_ref().map(|m| m.level(now))),
        )
    }

    /// Puts new meters in place of the present ones, with the same limits unless told others and
    /// the same levels but for those told, and wakes all who wait.
    pub(super) fn replace(
        &self,
        now: u64,
        limits: Option<&[Option<Limit>; KINDS]>,
        levels: &Levels,
    ) {
        let mut meters = lock(&self.meters);
        let same = meters
            .each_ref()
            .map(|meter| meter.as_ref().map(Meter::limit));
        let limits = limits.unwrap_or(&same);
        let levels = levels.to_array();
        *meters = Arc::new(std::array::from_fn(|kind| {
            match (&meters[kind], &limits[kind]) {
                (Some(old), Some(limit)) => Some(old.replace(now, limit, levels[kind].as_ref())),
                (None, Some(limit)) => Some(Meter::new(limit)),
                (old, None) => {
                    // A lifted limit must be found closed as well.
                    old.as_ref().map(Meter::close);
                    None
                }
            }
        }));
        self.generation.fetch_add(1, SeqCst);
        drop(meters);
        lock(&self.waiters)
            .iter()
            .for_each(|waiter| waiter.announce());
        self.wake_waiting();
    }

    pub(super) fn join(&self, waiter: Arc<Waiter>) {
        lock(&self.waiters).push(waiter);
        self.members.fetch_add(1, SeqCst);
    }

    pub(super) fn leave(&self, waiter: &Arc<Waiter>) {
        lock(&self.waiters).retain(|other| !Arc::ptr_eq(other, waiter));
        self.members.fetch_sub(1, SeqCst);
    }

    pub(super) fn members(&self) -> u64 {
        self.members.load(SeqCst)
    }

    pub(super) fn begin_wait(&self) {
        self.waiting.fetch_add(1, SeqCst);
    }

    pub(super) fn end_wait(&self) {
        self.waiting.fetch_sub(1, SeqCst);
    }

    pub(super) fn wake_waiting(&self) {
        if self.waiting.load(SeqCst) == 0 {
            return;
        }
        // Woken without the lock, as a waker may do anything.
        let waiters = lock(&self.waiters).clone();
        waiters.iter().for_each(|waiter| waiter.wake());
    }
}

/// Contact of a member.
pub(super) struct Waiter {
    /// Meters of one of its nodes were replaced.
    outdated: AtomicBool,
    waiting: AtomicBool,
    wake: std::sync::Arc<dyn Wake>,
}

impl Waiter {
    pub(super) fn new(wake: std::sync::Arc<dyn Wake>) -> Self {
        Self {
            outdated: AtomicBool::new(false),
            waiting: AtomicBool::new(false),
            wake,
        }
    }

    /// Says that there is a new generation, once it can be seen.
    fn announce(&self) {
        self.outdated.store(true, SeqCst);
    }

    /// Returns whether some node may have a new generation.
    #[inline]
    pub(super) fn is_outdated(&self) -> bool {
        self.outdated.load(SeqCst)
    }

    /// To be called before the generations are compared.
    pub(super) fn catch_up(&self) {
        if self.is_outdated() {
            self.outdated.store(false, SeqCst);
        }
    }

    /// Asks to be woken; whether that is news.
    pub(super) fn wait(&self) -> bool {
        !self.waiting.swap(true, SeqCst)
    }

    pub(super) fn stop_waiting(&self) {
        self.waiting.store(false, SeqCst);
    }

    fn wake(&self) {
        if self.waiting.swap(false, SeqCst) {
            self.wake.wake();
        }
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter")
            .field("outdated", &self.outdated)
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}
