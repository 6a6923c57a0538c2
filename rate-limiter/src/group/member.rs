//! One consumer of a group.

use super::holding::Holding;
use super::meter::{Meter, MeterSet, Stale};
use super::node::{Node, Waiter};
use super::{Group, Wake};
use crate::config::{KINDS, costs};
use crate::credit::Credit;
use crate::deadline::Deadline;
use crate::sync::Arc;

/// One consumer of a [`Group`]: a queue, usually. It belongs to one thread at a time.
///
/// It takes tokens from its group in small advances, and from these without writing anything
/// shared. Its tokens go back at [`idle`](Self::idle) and when it is dropped.
#[derive(Debug)]
pub struct Member {
    group: Group,
    /// Tokens that all stages hold, unless their limits change.
    credit: Credit,
    /// From the innermost group outwards.
    stages: Box<[Stage]>,
    waiter: Arc<Waiter>,
    /// The latest time seen.
    last_ns: u64,
    /// The stage that the last take waits for.
    blocked: Option<usize>,
}

/// A member's part in one group.
#[derive(Debug)]
struct Stage {
    node: Arc<Node>,
    meters: Arc<MeterSet>,
    generation: u64,
    holdings: [Holding; KINDS],
}

impl Member {
    pub(super) fn new(group: &Group, wake: std::sync::Arc<dyn Wake>) -> Self {
        let waiter = Arc::new(Waiter::new(wake));
        let stages = group
            .node
            .path()
            .map(|node| Stage::new(node, &waiter))
            .collect();
        Self {
            group: group.clone(),
            credit: Credit::default(),
            stages,
            waiter,
            last_ns: 0,
            blocked: None,
        }
    }

    /// The innermost group.
    #[must_use]
    pub fn group(&self) -> Group {
        self.group.clone()
    }

    /// Takes `bytes` and `ops` from every group on the way out, or nothing from any.
    ///
    /// # Errors
    /// The [`Deadline`] at which to try again. Until then a place is kept for this member, which no
    /// other overtakes. If it can go on earlier because others gave tokens back or the limits were
    /// changed, it is woken. A deadline may be followed by another: when a further group is short,
    /// or when the bucket was full in between because others were late to use what they hold.
    #[inline]
    pub fn take(&mut self, now_ns: u64, bytes: u64, ops: u64) -> Result<(), Deadline> {
        // No look at each group: an update of any outdates the member.
        if self.blocked.is_none() && !self.waiter.is_outdated() && self.credit.take(bytes, ops) {
            self.last_ns = self.last_ns.max(now_ns);
            return Ok(());
        }
        self.take_from_holdings(now_ns, &costs(bytes, ops))
    }

    /// When `bytes` and `ops` can be taken; `None` is now. Uses nothing, but keeps a place until
    /// [`idle`](Self::idle).
    #[inline]
    pub fn deadline(&mut self, now_ns: u64, bytes: u64, ops: u64) -> Option<Deadline> {
        self.charge_credit(now_ns);
        let costs = costs(bytes, ops);
        if self.covers(&costs) {
            None
        } else {
            self.reserve_all(&costs)
        }
    }

    /// Takes `bytes` and `ops` at once; what is missing becomes debt of the groups.
    pub fn force(&mut self, now_ns: u64, bytes: u64, ops: u64) {
        self.charge_credit(now_ns);
        let costs = costs(bytes, ops);
        for stage in &mut self.stages {
            stage.force(self.last_ns, &costs);
        }
        self.spend(&costs);
    }

    /// Gives back what was taken but not used. A small part stays for this member's next frame.
    pub fn refund(&mut self, bytes: u64, ops: u64) {
        self.charge_credit(0);
        let costs = costs(bytes, ops);
        for stage in &mut self.stages {
            stage.refund(self.last_ns, &costs);
        }
    }

    /// Gives back everything held: this member has nothing to send. A place in the queue lapses
    /// when others wait behind it.
    pub fn idle(&mut self, now_ns: u64) {
        self.charge_credit(now_ns);
        self.unblock();
        for stage in &mut self.stages {
            stage.release(self.last_ns);
        }
    }

    #[inline(never)]
    fn take_from_holdings(&mut self, now_ns: u64, costs: &[u64; KINDS]) -> Result<(), Deadline> {
        self.charge_credit(now_ns);
        self.waiter.catch_up();
        if self.covers(costs) {
            self.spend(costs);
        } else if let Some(deadline) = self.reserve_all(costs) {
            return Err(deadline);
        } else {
            self.spend(costs);
            // What is shared was touched anyway, and the others had better know.
            self.stages.iter_mut().for_each(Stage::report);
        }
        self.credit = Credit::of(self.funds());
        Ok(())
    }

    fn covers(&self, costs: &[u64; KINDS]) -> bool {
        self.blocked.is_none() && self.stages.iter().all(|stage| stage.covers(costs))
    }

    /// Charges the holdings for what was taken on credit up to the last call, and moves to
    /// `now_ns`.
    fn charge_credit(&mut self, now_ns: u64) {
        if let Some(costs) = self.credit.close() {
            self.spend(&costs);
        }
        self.last_ns = self.last_ns.max(now_ns);
    }

    fn spend(&mut self, costs: &[u64; KINDS]) {
        for stage in &mut self.stages {
            for (holding, cost) in stage.holdings.iter_mut().zip(costs) {
                holding.spend(self.last_ns, *cost);
            }
        }
    }

    /// Tokens that the holdings of each kind have at least.
    fn funds(&self) -> [Option<u64>; KINDS] {
        std::array::from_fn(|kind| {
            let holdings = self.stages.iter().map(|stage| &stage.holdings[kind]);
            holdings.filter_map(Holding::funds).min()
        })
    }

    fn reserve_all(&mut self, costs: &[u64; KINDS]) -> Option<Deadline> {
        loop {
            let Some((short, deadline)) = self.reserve(costs) else {
                self.unblock();
                return None;
            };
            // Tokens that came back before the others could see us waiting woke nobody: look again.
            if !self.block(short) {
                return Some(deadline);
            }
        }
    }

    /// Inner groups first, so that a member that waits for its own device holds nothing of what
    /// others share.
    fn reserve(&mut self, costs: &[u64; KINDS]) -> Option<(usize, Deadline)> {
        let now = self.last_ns;
        let mut stages = self.stages.iter_mut().enumerate();
        stages.find_map(|(index, stage)| Some((index, stage.reserve(now, costs)?)))
    }

    /// Counts this member among those that wait for `stage`; whether it was not among them before.
    fn block(&mut self, stage: usize) -> bool {
        if self.blocked != Some(stage) {
            self.unblock();
            self.stages[stage].node.begin_wait();
            self.blocked = Some(stage);
        }
        self.waiter.wait()
    }

    fn unblock(&mut self) {
        if let Some(stage) = self.blocked.take() {
            self.stages[stage].node.end_wait();
            self.waiter.stop_waiting();
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.idle(self.last_ns);
        for stage in &mut self.stages {
            stage.close();
            stage.node.leave(&self.waiter);
        }
    }
}

impl Stage {
    fn new(node: Arc<Node>, waiter: &Arc<Waiter>) -> Self {
        node.join(waiter.clone());
        let (generation, meters) = node.meters();
        let holdings = std::array::from_fn(|kind| Holding::new(meters[kind].as_ref()));
        Self {
            node,
            meters,
            generation,
            holdings,
        }
    }

    fn covers(&self, costs: &[u64; KINDS]) -> bool {
        // An unlimited holding covers everything, so it alone would never notice an update.
        self.generation == self.node.generation()
            && self
                .holdings
                .iter()
                .zip(costs)
                .all(|(holding, cost)| holding.covers(*cost))
    }

    fn reserve(&mut self, now: u64, costs: &[u64; KINDS]) -> Option<Deadline> {
        let members = self.node.members();
        self.current(|stage| {
            for (meter, holding, cost) in stage.limited(costs) {
                if let Some(deadline) = holding.reserve(meter, now, cost, members)? {
                    return Ok(Some(deadline));
                }
            }
            Ok(None)
        })
    }

    fn force(&mut self, now: u64, costs: &[u64; KINDS]) {
        self.current(|stage| {
            let mut limited = stage.limited(costs);
            limited.try_for_each(|(meter, holding, cost)| holding.force(meter, now, cost))
        });
    }

    fn report(&mut self) {
        self.current(|stage| {
            let mut limited = stage.limited(&[0; KINDS]);
            limited.try_for_each(|(meter, holding, _)| holding.report(meter))
        });
    }

    fn refund(&mut self, now: u64, costs: &[u64; KINDS]) {
        let members = self.node.members();
        let mut costs = *costs;
        let woken = self.current(|stage| {
            let mut woken = false;
            let holdings = stage.meters.iter().zip(&mut stage.holdings).zip(&mut costs);
            for ((meter, holding), cost) in holdings {
                // A second round, after an update, goes on where the first one stopped.
                let cost = std::mem::take(cost);
                if let Some(meter) = meter {
                    woken |= holding.refund(meter, cost, members)? && meter.holds_all(now);
                }
            }
            Ok(woken)
        });
        if woken {
            self.node.wake_waiting();
        }
    }

    fn release(&mut self, now: u64) {
        let woken = self.current(|stage| {
            let mut woken = false;
            for (meter, holding, _) in stage.limited(&[0; KINDS]) {
                woken |= holding.release(meter, now)? && meter.holds_all(now);
            }
            Ok(woken)
        });
        if woken {
            self.node.wake_waiting();
        }
    }

    fn limited<'a>(
        &'a mut self,
        costs: &'a [u64; KINDS],
    ) -> impl Iterator<Item = (&'a Meter, &'a mut Holding, u64)> {
        let holdings = self.meters.iter().zip(&mut self.holdings).zip(costs);
        holdings.filter_map(|((meter, holding), cost)| Some((meter.as_ref()?, holding, *cost)))
    }

    /// Lets go even the fractions.
    fn close(&mut self) {
        self.current(|stage| {
            let mut limited = stage.limited(&[0; KINDS]);
            limited.try_for_each(|(meter, holding, _)| holding.close(meter))
        });
    }

    /// Does `work` on the present meters: again, when an update comes in between.
    fn current<T>(&mut self, mut work: impl FnMut(&mut Self) -> Result<T, Stale>) -> T {
        let mut stale = self.generation != self.node.generation();
        loop {
            if !(stale && self.migrate().is_err())
                && let Ok(done) = work(self)
            {
                return done;
            }
            stale = true;
        }
    }

    /// Follows an update. Every holding, even after one found its meter closed by the next update:
    /// they must all be of the same set of meters.
    fn migrate(&mut self) -> Result<(), Stale> {
        (self.generation, self.meters) = self.node.meters();
        let mut done = Ok(());
        for (holding, meter) in self.holdings.iter_mut().zip(self.meters.iter()) {
            done = holding.migrate(meter.as_ref()).and(done);
        }
        done
    }
}
