//! State that the workers of an activated device share.

pub(crate) mod config_space;
pub(crate) mod control_budget;
pub(crate) mod device_status;
pub(crate) mod exchange;
mod frame_ring;
pub(crate) mod kernel_filter;
pub(crate) mod kernel_programs;
pub(crate) mod kernel_steering;
pub(crate) mod notf_coal;
pub(crate) mod queue_states;
pub(crate) mod reader_epoch;
pub(crate) mod rss;
pub(crate) mod rx_filter;
pub(crate) mod rx_policy;
mod steering;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use net_queue::Offloads;
use rate_limiter::Wake;

use self::config_space::ConfigSpace;
use self::control_budget::ControlBudget;
use self::device_status::DeviceStatus;
use self::exchange::Exchange;
use self::kernel_programs::KernelPrograms;
use self::notf_coal::NotfCoal;
use self::reader_epoch::ReaderEpoch;
use self::rss::RssParams;
use self::rx_filter::{FilterTables, RxFilter};
use self::rx_policy::{PolicyReader, RxPolicy};
pub(crate) use self::steering::{LinkPorts, SteerError};
use self::steering::{Running, Steering};
use crate::clock::Clock;
use crate::events::DeviceEvent;
use crate::features::Features;
use crate::log_limited;
use crate::port::PortControl;
use crate::transport::{Interrupt, InterruptSource};
use crate::wake_timer::WakeTimer;

/// Parts of a device that last over all its activations.
pub(crate) struct DeviceParts {
    pub(crate) space: Arc<ConfigSpace>,
    pub(crate) status: Arc<DeviceStatus>,
    pub(crate) control_budget: Arc<ControlBudget>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// The state that the workers and the device share while it is activated.
pub(crate) struct Shared {
    pub(crate) id: String,
    pub(crate) features: Features,
    pub(crate) space: Arc<ConfigSpace>,
    pub(crate) status: Arc<DeviceStatus>,
    /// Of the device, over all its activations.
    pub(crate) control_budget: Arc<ControlBudget>,
    /// When each queue's driver is notified.
    pub(crate) notf_coal: NotfCoal,
    pub(crate) clock: Arc<dyn Clock>,
    interrupt: Arc<dyn Interrupt>,
    version: AtomicU64,
    policy: Mutex<Arc<RxPolicy>>,
    /// One for each pair.
    epochs: Vec<ReaderEpoch>,
    /// Timer that ends the wait of each pair's receive queue for its limit.
    rx_timers: Vec<Mutex<Option<Arc<WakeTimer>>>>,
    /// Frames between pairs, if the driver can steer by a table.
    pub(crate) exchange: Option<Arc<Exchange>>,
    steering: Mutex<Steering>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("id", &self.id)
            .field("features", &self.features)
            .finish_non_exhaustive()
    }
}

/// A lock whose holder panicked guards plain values that are whole after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(
        id: &str,
        features: Features,
        parts: DeviceParts,
        interrupt: Arc<dyn Interrupt>,
        ports: LinkPorts,
    ) -> Self {
        let DeviceParts {
            space,
            status,
            control_budget,
            clock,
        } = parts;
        let pairs = ports.controls.len();
        Self {
            id: id.to_owned(),
            policy: Mutex::new(Arc::new(RxPolicy::initial(features, &space))),
            features,
            space,
            status,
            control_budget,
            notf_coal: NotfCoal::new(pairs),
            clock,
            interrupt,
            version: AtomicU64::new(0),
            epochs: (0..pairs).map(|_| ReaderEpoch::default()).collect(),
            rx_timers: (0..pairs).map(|_| Mutex::default()).collect(),
            exchange: features
                .contains(Features::VIRTIO_NET_F_RSS)
                .then(|| Arc::new(Exchange::new(pairs as u16))),
            steering: Mutex::new(Steering::new(features, ports)),
        }
    }

    /// The time, on the device's clock.
    #[inline]
    pub(crate) fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    pub(crate) fn interrupt(&self) -> Arc<dyn Interrupt> {
        self.interrupt.clone()
    }

    /// Tells the driver; an interrupt that cannot be delivered is the VMM's to notice.
    pub(crate) fn trigger(&self, source: InterruptSource) {
        if source == InterruptSource::Config && self.space.withholds_interrupt() {
            return;
        }
        if let Err(error) = self.interrupt.trigger(source) {
            log_limited!(
                self.status.events().log,
                Debug,
                "{}: interrupt {source:?} not delivered: {error}",
                self.id
            );
        }
    }

    /// The device cannot go on: DEVICE_NEEDS_RESET and a configuration interrupt (DEV-LIFE-04,
    /// DEV-LIFE-05). Returns whether it could until now.
    pub(crate) fn fail(&self, what: &dyn std::fmt::Display) -> bool {
        let first = self.status.fail(what);
        if first {
            self.trigger(InterruptSource::Config);
        }
        first
    }

    /// The host refuses frames that were coalesced on transmit queue `index`.
    #[cold]
    pub(crate) fn groups_refused(&self, index: u16, kinds: Offloads) {
        self.status.events().groups_refused(index, kinds);
    }

    /// The port of `pair` is lost: its device fails, and shows a link that is down.
    pub(crate) fn port_died(&self, pair: usize, error: &std::io::Error) {
        self.status.lose_port();
        let what = format!("network port of pair {pair} is gone: {error}");
        let was_up = self.space.is_link_up();
        let changed = self.space.lose_link();
        if was_up {
            let events = self.status.events();
            events.emit(&DeviceEvent::Link { up: false });
        }
        if !self.fail(&what) && changed {
            self.trigger(InterruptSource::Config);
        }
    }

    /// A worker is lost: the device fails, and the VMM is told.
    pub(crate) fn worker_panicked(&self, name: &str) {
        self.fail(&format_args!("worker {name} panicked"));
        self.status.worker_lost(name);
    }

    pub(crate) fn reader(&self) -> PolicyReader {
        PolicyReader {
            version: self.version.load(Ordering::Acquire),
            policy: self.policy(),
        }
    }

    /// Brings `reader` up to date; returns whether anything changed. To be called inside the
    /// worker's epoch.
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

    /// Number of pairs.
    pub(crate) fn pairs(&self) -> u16 {
        self.epochs.len() as u16
    }

    pub(crate) fn epoch(&self, pair: u16) -> Option<&ReaderEpoch> {
        self.epochs.get(usize::from(pair))
    }

    /// Tells what the receive queue of `pair` waits for when its limit is used up.
    pub(crate) fn set_rx_timer(&self, pair: u16, timer: Option<Arc<WakeTimer>>) {
        if let Some(slot) = self.rx_timers.get(usize::from(pair)) {
            *lock(slot) = timer;
        }
    }

    /// Puts a changed policy in force: when this returns, no worker acts on the old one any more.
    /// Changes by several threads follow each other. A change to what is in force already costs the
    /// workers nothing.
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

    /// Changes the driver's filter, where it has one, here and in the kernel.
    pub(crate) fn change_filter<T>(&self, change: impl FnOnce(&mut RxFilter) -> T) -> Option<T> {
        let mut steering = lock(&self.steering);
        let done = self.change_policy(|policy| policy.filter.as_mut().map(change));
        steering.filter_by(self.policy().filter.as_ref());
        done
    }

    /// Returns whether the link has to be told of a driver with this filter.
    pub(crate) fn filter_switches_link(&self, filter: &RxFilter) -> bool {
        lock(&self.steering).filter_switches_link(filter)
    }

    /// Offloads that the link has on: what the driver does not take is done here.
    pub(crate) fn link_offloads(&self) -> Offloads {
        let offloads = self.policy().offloads;
        lock(&self.steering).link_offloads(offloads)
    }

    /// Returns whether the link has to be told of a driver that takes `offloads` from now on.
    pub(crate) fn switches_link(&self, offloads: Offloads) -> bool {
        let before = self.policy().offloads;
        let steering = lock(&self.steering);
        steering.link_offloads(offloads) != steering.link_offloads(before)
    }

    /// Switches the offloads of the link, where it has any to switch, then those of the workers
    /// (NET-CVQ-19).
    pub(crate) fn set_offloads(&self, offloads: Offloads) -> Result<(), SteerError> {
        let steering = lock(&self.steering);
        let before = self.policy().offloads;
        if before == offloads {
            return Ok(());
        }
        steering.set_offloads(before, offloads)?;
        self.change_policy(|policy| policy.offloads = offloads);
        Ok(())
    }

    /// The driver's choice of pairs, among which the device steers (NET-MQ-02, NET-MQ-04,
    /// NET-MQ-05).
    pub(crate) fn set_pairs(&self, pairs: u16) -> Result<(), SteerError> {
        self.steer(|steering| {
            steering.choose(pairs)?;
            if let Some(rss) = &mut steering.rss {
                *rss = rss.without_table();
            }
            Ok(())
        })
    }

    /// Takes the driver's hash, and its table if it has one (NET-MQ-08, NET-MQ-11, NET-MQ-17).
    pub(crate) fn set_rss(&self, rss: RssParams) -> Result<(), SteerError> {
        self.steer(|steering| {
            if !steering.takes(&rss) {
                return Err(SteerError::Pairs);
            }
            steering.rss = Some(rss);
            Ok(())
        })
    }

    /// Changes how frames are steered, or leaves all as it is.
    fn steer(
        &self,
        change: impl FnOnce(&mut Steering) -> Result<(), SteerError>,
    ) -> Result<(), SteerError> {
        let mut steering = lock(&self.steering);
        let before = (steering.chosen, steering.rss.clone());
        change(&mut steering)?;
        let done = self.apply_active_pairs(&mut steering);
        if done.is_err() {
            (steering.chosen, steering.rss) = before;
            // What worked a moment ago works again, or the link is dying and says so by itself.
            let _ = self.apply_active_pairs(&mut steering);
        }
        Ok(done?)
    }

    /// Hash and table that the driver has set.
    pub(crate) fn rss(&self) -> Option<RssParams> {
        lock(&self.steering).rss.clone()
    }

    /// Number of ports that taking `rss` would switch; `None` if it is refused, or in force
    /// already.
    pub(crate) fn ports_to_switch_for(&self, rss: &RssParams) -> Option<u64> {
        let steering = lock(&self.steering);
        let changes = steering.takes(rss) && steering.rss.as_ref() != Some(rss);
        let pairs = if rss.steers {
            u16::MAX
        } else {
            steering.chosen.unwrap_or(1)
        };
        changes.then(|| steering.to_switch(pairs).count() as u64)
    }

    /// Number of ports that VQ_PAIRS_SET with this number would switch: 0 for one that is refused,
    /// or in force already.
    pub(crate) fn ports_to_switch(&self, pairs: u16) -> u64 {
        let steering = lock(&self.steering);
        if steering.can_activate_pairs(pairs) {
            steering.to_switch(pairs).count() as u64
        } else {
            0
        }
    }

    /// Makes the link feed the pairs that shall receive, and the workers of no others receive.
    ///
    /// A worker learns of frames once, when they come. So it has to be ready before its port lets
    /// them in.
    fn apply_active_pairs(&self, steering: &mut Steering) -> std::io::Result<()> {
        let pairs = steering.pairs();
        let hasher = steering.rss.as_ref().map(|rss| Arc::new(rss.hasher()));
        let table = steering.table().map(Arc::new);
        self.change_policy(|policy| {
            policy.pairs = policy.pairs.max(pairs);
            (policy.hasher, policy.table) = (hasher, table);
        });
        let done = steering.apply();
        steering.filter_by(self.policy().filter.as_ref());
        if pairs < self.policy().pairs {
            self.change_policy(|policy| policy.pairs = pairs);
            // A pair that waits for its limit has nothing to wait for any more: its turn is for
            // others.
            for timer in self.rx_timers.iter().skip(usize::from(pairs)) {
                lock(timer).iter().for_each(|timer| timer.wake());
            }
        }
        done
    }

    /// Starts from what a saved driver had set, before any queue is there.
    pub(crate) fn restore(
        &self,
        pairs: Option<u16>,
        rss: Option<&RssParams>,
        offloads: Offloads,
        tables: &FilterTables,
    ) {
        {
            let mut steering = lock(&self.steering);
            (steering.chosen, steering.rss) = (pairs, rss.cloned());
        }
        self.change_policy(|policy| {
            policy.offloads = offloads;
            if let Some(filter) = &mut policy.filter {
                filter.set_tables(tables.clone());
            }
        });
    }

    /// The pairs that the driver asked for, if it did.
    pub(crate) fn chosen_pairs(&self) -> Option<u16> {
        lock(&self.steering).chosen
    }

    /// Returns whether `queue` is one of a pair that was started and not stopped.
    pub(crate) fn runs(&self, queue: u16) -> bool {
        let steering = lock(&self.steering);
        let queues = if queue.is_multiple_of(2) {
            &steering.running.rx
        } else {
            &steering.running.tx
        };
        queues.get(usize::from(queue / 2)) == Some(&true)
    }

    /// Tells which queues run, so that the link feeds those and no others.
    pub(crate) fn queue_changed(&self, change: impl FnOnce(&mut Running)) {
        let mut steering = lock(&self.steering);
        change(&mut steering.running);
        if let Err(error) = self.apply_active_pairs(&mut steering) {
            log_limited!(
                self.status.events().log,
                Warn,
                "{}: cannot attach or detach a queue: {error}",
                self.id
            );
        }
    }

    /// Hands the ports' handles on to the device's next life.
    pub(crate) fn release(&self) -> (Vec<Box<dyn PortControl>>, KernelPrograms) {
        lock(&self.steering).release()
    }
}
