//! What the workers of an activated device share.

mod epoch;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use net_queue::Offloads;
use rate_limiter::Wake;

pub(crate) use self::epoch::Epoch;
use crate::control::ControlBudget;
use crate::events::DeviceEvent;
use crate::features::Features;
use crate::filter::RxFilter;
use crate::health::Health;
use crate::limits::LimitTimer;
use crate::log_limited;
use crate::persist::Saved;
use crate::port::PortControl;
use crate::space::ConfigSpace;
use crate::traits::{Interrupt, InterruptSource};

/// What the driver decided about receiving, by negotiation and by command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RxPolicy {
    /// Work that frames may carry undone now.
    pub(crate) offloads: Offloads,
    /// Which frames the driver wants; `None`: all of them.
    pub(crate) filter: Option<RxFilter>,
    /// Pairs below this number receive (NET-MQ-01, NET-MQ-02).
    pub(crate) pairs: u16,
}

impl RxPolicy {
    /// What holds when the driver has negotiated `features` and given no command yet.
    pub(crate) fn initial(features: Features, space: &ConfigSpace) -> Self {
        let filtered = Features::VIRTIO_NET_F_CTRL_RX
            | Features::VIRTIO_NET_F_CTRL_RX_EXTRA
            | Features::VIRTIO_NET_F_CTRL_VLAN;
        let filter = features
            .intersects(filtered)
            .then(|| RxFilter::new(features, space.mac()));
        Self {
            offloads: features.rx_offloads(),
            filter,
            pairs: u16::MAX,
        }
    }
}

/// A worker's copy of the policy.
#[derive(Debug)]
pub(crate) struct PolicyReader {
    version: u64,
    policy: Arc<RxPolicy>,
}

/// The state that the workers and the device share while it is activated.
pub(crate) struct Live {
    pub(crate) id: String,
    pub(crate) features: Features,
    pub(crate) space: Arc<ConfigSpace>,
    pub(crate) health: Arc<Health>,
    /// Of the device, over all its activations.
    pub(crate) control_budget: Arc<ControlBudget>,
    interrupt: Arc<dyn Interrupt>,
    version: AtomicU64,
    policy: Mutex<Arc<RxPolicy>>,
    /// One for each pair.
    epochs: Vec<Epoch>,
    /// What ends the wait of each pair's receive queue for its limit.
    rx_timers: Vec<Mutex<Option<Arc<LimitTimer>>>>,
    steering: Mutex<Steering>,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live")
            .field("id", &self.id)
            .field("features", &self.features)
            .finish_non_exhaustive()
    }
}

/// The policy was not changed: the link did not follow.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SteerError {
    #[error("pairs are not set up")]
    Pairs,
    #[error("link refused")]
    Link(#[from] std::io::Error),
}

/// A lock whose holder panicked guards plain values that are whole after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Live {
    pub(crate) fn new(
        id: &str,
        features: Features,
        space: Arc<ConfigSpace>,
        health: Arc<Health>,
        control_budget: Arc<ControlBudget>,
        interrupt: Arc<dyn Interrupt>,
        controls: Vec<Box<dyn PortControl>>,
    ) -> Self {
        let pairs = controls.len();
        Self {
            id: id.to_owned(),
            policy: Mutex::new(Arc::new(RxPolicy::initial(features, &space))),
            features,
            space,
            health,
            control_budget,
            interrupt,
            version: AtomicU64::new(0),
            epochs: (0..pairs).map(|_| Epoch::default()).collect(),
            rx_timers: (0..pairs).map(|_| Mutex::default()).collect(),
            steering: Mutex::new(Steering::new(features, controls)),
        }
    }

    pub(crate) fn interrupt(&self) -> Arc<dyn Interrupt> {
        self.interrupt.clone()
    }

    /// Tells the driver; an interrupt that cannot be delivered is the VMM's to notice.
    pub(crate) fn trigger(&self, source: InterruptSource) {
        if let Err(error) = self.interrupt.trigger(source) {
            log_limited!(
                self.health.events().log,
                Debug,
                "{}: interrupt {source:?} not delivered: {error}",
                self.id
            );
        }
    }

    /// The device cannot go on: DEVICE_NEEDS_RESET and a configuration interrupt (DEV-LIFE-04, DEV-LIFE-05).
    /// Returns whether it could until now.
    pub(crate) fn fail(&self, what: &dyn std::fmt::Display) -> bool {
        let first = self.health.fail(what);
        if first {
            self.trigger(InterruptSource::Config);
        }
        first
    }

    /// The port of `pair` is lost: its device fails, and shows a link that is down.
    pub(crate) fn port_died(&self, pair: usize, error: &std::io::Error) {
        let what = format_args!("network port of pair {pair} is gone: {error}");
        let was_up = self.space.is_link_up();
        let changed = self.space.lose_link();
        if was_up {
            let events = self.health.events();
            events.emit(&DeviceEvent::Link { up: false });
        }
        if !self.fail(&what) && changed {
            self.trigger(InterruptSource::Config);
        }
    }

    /// A worker is lost: the device fails, and the VMM is told.
    pub(crate) fn worker_panicked(&self, name: &str) {
        self.fail(&format_args!("worker {name} panicked"));
        self.health.worker_lost(name);
    }

    pub(crate) fn reader(&self) -> PolicyReader {
        PolicyReader {
            version: self.version.load(Ordering::Acquire),
            policy: self.policy(),
        }
    }

    /// Brings `reader` up to date; returns whether anything changed. To be called inside the worker's epoch.
    #[inline]
    pub(crate) fn refresh(&self, reader: &mut PolicyReader) -> bool {
        let version = self.version.load(Ordering::Acquire);
        if version == reader.version {
            return false;
        }
        *reader = PolicyReader {
            version,
            policy: self.policy(),
        };
        true
    }

    pub(crate) fn policy(&self) -> Arc<RxPolicy> {
        lock(&self.policy).clone()
    }

    pub(crate) fn epoch(&self, pair: u16) -> Option<&Epoch> {
        self.epochs.get(usize::from(pair))
    }

    /// Tells what the receive queue of `pair` waits for when its limit is used up.
    pub(crate) fn set_rx_timer(&self, pair: u16, timer: Option<Arc<LimitTimer>>) {
        if let Some(slot) = self.rx_timers.get(usize::from(pair)) {
            *lock(slot) = timer;
        }
    }

    /// Puts a changed policy in force: when this returns, no worker acts on the old one any more. Changes by
    /// several threads follow each other. A change to what is in force already costs the workers nothing.
    pub(crate) fn change_policy<T>(&self, change: impl FnOnce(&mut RxPolicy) -> T) -> T {
        let result = {
            let mut policy = lock(&self.policy);
            let mut next = RxPolicy::clone(&policy);
            let result = change(&mut next);
            if next == **policy {
                return result;
            }
            *policy = Arc::new(next);
            self.version.fetch_add(1, Ordering::SeqCst);
            result
        };
        for epoch in &self.epochs {
            epoch.wait();
        }
        result
    }

    /// Switches the offloads of the link, then those of the workers (NET-CVQ-19).
    pub(crate) fn set_offloads(&self, offloads: Offloads) -> Result<(), SteerError> {
        let steering = lock(&self.steering);
        if self.policy().offloads == offloads {
            return Ok(());
        }
        steering.set_offloads(offloads)?;
        self.change_policy(|policy| policy.offloads = offloads);
        Ok(())
    }

    /// The driver's choice of pairs (NET-MQ-02, NET-MQ-04).
    pub(crate) fn set_pairs(&self, pairs: u16) -> Result<(), SteerError> {
        let mut steering = lock(&self.steering);
        let before = steering.chosen;
        steering.choose(pairs)?;
        let done = self.feed(&mut steering);
        if done.is_err() {
            steering.chosen = before;
            // What worked a moment ago works again, or the link is dying and says so by itself.
            let _ = self.feed(&mut steering);
        }
        Ok(done?)
    }

    /// How many ports VQ_PAIRS_SET with this number would switch: 0 for one that is refused, or in force already.
    pub(crate) fn ports_to_switch(&self, pairs: u16) -> u64 {
        let steering = lock(&self.steering);
        if steering.can_feed(pairs) {
            steering.to_switch(pairs).count() as u64
        } else {
            0
        }
    }

    /// Makes the link feed the pairs that shall receive, and the workers of no others receive.
    ///
    /// A worker learns of frames once, when they come. So it has to be ready before its port lets them in.
    fn feed(&self, steering: &mut Steering) -> std::io::Result<()> {
        let pairs = steering.pairs();
        if pairs > self.policy().pairs {
            self.change_policy(|policy| policy.pairs = pairs);
        }
        let done = steering.apply();
        if pairs < self.policy().pairs {
            self.change_policy(|policy| policy.pairs = pairs);
            // A pair that waits for its limit has nothing to wait for any more: its turn is for others.
            for timer in self.rx_timers.iter().skip(usize::from(pairs)) {
                lock(timer).iter().for_each(|timer| timer.wake());
            }
        }
        done
    }

    /// Starts from what a saved driver had set, before any queue is there.
    pub(crate) fn restore(&self, saved: &Saved) {
        lock(&self.steering).chosen = saved.pairs;
        self.change_policy(|policy| {
            policy.offloads = saved.offloads;
            if let Some(filter) = &mut policy.filter {
                filter.set_tables(saved.tables.clone());
            }
        });
    }

    /// The pairs that the driver asked for, if it did.
    pub(crate) fn chosen_pairs(&self) -> Option<u16> {
        lock(&self.steering).chosen
    }

    /// Tells which queues run, so that the link feeds those and no others.
    pub(crate) fn queue_changed(&self, change: impl FnOnce(&mut Running)) {
        let mut steering = lock(&self.steering);
        change(&mut steering.running);
        if let Err(error) = self.feed(&mut steering) {
            log_limited!(
                self.health.events().log,
                Warn,
                "{}: cannot attach or detach a queue: {error}",
                self.id
            );
        }
    }

    /// Hands the ports' handles on to the device's next life.
    pub(crate) fn release(&self) -> Vec<Box<dyn PortControl>> {
        std::mem::take(&mut lock(&self.steering).controls)
    }
}

impl PolicyReader {
    #[inline]
    pub(crate) fn get(&self) -> &RxPolicy {
        &self.policy
    }
}

/// Which queues run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Running {
    pub(crate) rx: Vec<bool>,
    pub(crate) tx: Vec<bool>,
}

/// Which ports of the link are fed.
struct Steering {
    running: Running,
    /// `VIRTIO_NET_F_CTRL_VQ` was negotiated.
    commanded: bool,
    /// What the driver asked for by command.
    chosen: Option<u16>,
    controls: Vec<Box<dyn PortControl>>,
    attached: Vec<Option<bool>>,
}

impl Steering {
    fn new(features: Features, controls: Vec<Box<dyn PortControl>>) -> Self {
        let pairs = controls.len();
        let running = Running {
            rx: vec![false; pairs],
            tx: vec![false; pairs],
        };
        Self {
            running,
            commanded: features.contains(Features::VIRTIO_NET_F_CTRL_VQ),
            chosen: None,
            attached: vec![None; pairs],
            controls,
        }
    }

    /// A driver that negotiated a control queue says there how many pairs receive, and starts with
    /// one, whether that queue runs yet or not (NET-MQ-01). Otherwise (a VMM that serves that queue
    /// itself starts and stops the others) every pair that runs does.
    fn pairs(&self) -> u16 {
        let initial = if self.commanded { 1 } else { u16::MAX };
        self.chosen.unwrap_or(initial)
    }

    fn set_offloads(&self, offloads: Offloads) -> Result<(), SteerError> {
        match self.controls.first() {
            Some(control) => Ok(control.set_offloads(offloads)?),
            None => Err(SteerError::Pairs),
        }
    }

    /// Whether all of these pairs are set up.
    fn can_feed(&self, pairs: u16) -> bool {
        let count = usize::from(pairs);
        let up = |queues: &[bool]| {
            queues
                .get(..count)
                .is_some_and(|queues| queues.iter().all(|runs| *runs))
        };
        pairs != 0 && up(&self.running.rx) && up(&self.running.tx)
    }

    /// Takes the driver's choice, if all of these pairs are set up.
    fn choose(&mut self, pairs: u16) -> Result<(), SteerError> {
        if !self.can_feed(pairs) {
            return Err(SteerError::Pairs);
        }
        self.chosen = Some(pairs);
        Ok(())
    }

    /// The ports that are not yet as they should be when `pairs` receive, and whether each is to be attached.
    fn to_switch(&self, pairs: u16) -> impl Iterator<Item = (usize, bool)> {
        let pairs = usize::from(pairs);
        // A link needs one queue even when nothing is to be received; the first one stays.
        let wanted = move |pair| pair == 0 || (pair < pairs && self.running.rx[pair]);
        let ports = (0..self.controls.len()).map(move |pair| (pair, wanted(pair)));
        ports.filter(|(pair, on)| self.attached[*pair] != Some(*on))
    }

    /// Attaches and detaches what is not yet as it should be.
    fn apply(&mut self) -> std::io::Result<()> {
        let ports: Vec<_> = self.to_switch(self.pairs()).collect();
        for (pair, on) in ports {
            self.controls[pair].attach(on)?;
            self.attached[pair] = Some(on);
        }
        Ok(())
    }
}
