//! The worker of the control queue, and what its commands do. VirtIO 1.4 §5.1.9.5.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use log::error;
use net_queue::ctrl::{Ack, Command, CtrlEngine, CtrlStop, Handler};
use net_queue::ring::{AnyRing, RingConfig};
use vmm_sys_util::eventfd::EventFd;

use crate::error::ActivateError;
use crate::fd;
use crate::features::Features;
use crate::filter::RxFilter;
use crate::live::Live;
use crate::mac::MacAddr;
use crate::poll::{Poller, Source};
use crate::thread::Work;
use crate::traits::InterruptSource;

/// Commands that are executed before the stop event gets its turn.
const BUDGET: u32 = 64;

/// The control queue while it runs.
pub(crate) struct CtrlQueue {
    pub(crate) index: u16,
    pub(crate) engine: CtrlEngine<AnyRing>,
    pub(crate) kick: OwnedFd,
    /// What the ring was made from, to make it again over other memory.
    pub(crate) config: RingConfig,
}

impl CtrlQueue {
    /// What the ring is made from to go on where it stands.
    pub(crate) fn position(&self) -> RingConfig {
        RingConfig {
            cursor: self.engine.cursor(),
            ..self.config
        }
    }
}

/// Executes the commands of the control queue.
pub(crate) struct CtrlWorker {
    live: Arc<Live>,
    pub(crate) queue: CtrlQueue,
    /// Made by `prepare`, used up by one run.
    poller: Option<Poller>,
    pub(crate) interrupt_first: bool,
}

impl CtrlWorker {
    pub(crate) fn new(live: Arc<Live>, queue: CtrlQueue) -> Self {
        Self {
            live,
            queue,
            poller: None,
            interrupt_first: false,
        }
    }

    /// Executes what is there; returns whether there is more to do at once.
    fn step(&mut self) -> bool {
        let mut commands = Commands { live: &self.live };
        let (stop, interrupt) = self.queue.engine.run(&mut commands, BUDGET);
        if interrupt {
            self.live.trigger(InterruptSource::Queue(self.queue.index));
        }
        match stop {
            CtrlStop::Budget => true,
            CtrlStop::Empty => self.queue.engine.arm(),
            CtrlStop::Fault(fault) => {
                self.live.fail(&format_args!("control queue: {fault}"));
                false
            }
        }
    }
}

impl Work for CtrlWorker {
    fn prepare(&mut self, stop: &EventFd) -> Result<(), ActivateError> {
        let poller = Poller::new().map_err(ActivateError::Poll)?;
        poller
            .add_level(fd::of(stop), Source::Stop)
            .map_err(ActivateError::Poll)?;
        let index = self.queue.index;
        let kick = self.queue.kick.as_fd();
        poller
            .add_edge(kick, Source::CtrlKick)
            .map_err(|source| ActivateError::Kick { index, source })?;
        self.poller = Some(poller);
        Ok(())
    }

    fn run(&mut self, _stop: &EventFd) {
        if std::mem::take(&mut self.interrupt_first) {
            self.live.trigger(InterruptSource::Queue(self.queue.index));
        }
        let Some(poller) = self.poller.take() else {
            return;
        };
        let mut busy = true;
        loop {
            if busy {
                busy = self.step();
            }
            let mut stopped = false;
            let mut kicked = false;
            let waited = poller.wait(busy, |ready| match ready.source {
                Source::Stop => stopped = true,
                _ => kicked = true,
            });
            if let Err(error) = waited {
                error!("{}: control worker cannot wait: {error}", self.live.id);
                self.live.fail(&"the control worker cannot wait for events");
                return;
            }
            if stopped {
                return;
            }
            busy |= kicked && self.queue.engine.fault().is_none();
        }
    }
}

/// Executes parsed commands on the shared state.
struct Commands<'a> {
    live: &'a Live,
}

impl Handler for Commands<'_> {
    fn command(&mut self, bytes: &[u8]) -> Ack {
        let Ok(command) = Command::parse(bytes) else {
            return Ack::Err;
        };
        // What was not negotiated does not exist (NET-CVQ-04, NET-FEAT-13).
        if !self.live.features.contains(Features::required_by(&command)) {
            return Ack::Err;
        }
        if self.execute(command) {
            Ack::Ok
        } else {
            Ack::Err
        }
    }
}

impl Commands<'_> {
    /// Each command is in force when this returns, or has had no effect (NET-CVQ-03, NET-CVQ-05).
    fn execute(&self, command: Command<'_>) -> bool {
        let live = self.live;
        match command {
            Command::SetRxMode { mode, on } => self.filter(|filter| filter.set_mode(mode, on)),
            Command::SetMacTable { unicast, multicast } => {
                self.filter(|filter| filter.set_mac_table(unicast, multicast))
            }
            Command::SetMacAddr(mac) => self.set_mac(mac.into()),
            Command::AddVlan(id) => self.filter(|filter| filter.set_vlan(id, true)),
            Command::DelVlan(id) => self.filter(|filter| filter.set_vlan(id, false)),
            Command::AckAnnounce => {
                live.space.set_announce(false);
                true
            }
            Command::SetPairs(pairs) => live.set_pairs(pairs).is_ok(),
            Command::SetGuestOffloads(mask) => live
                .features
                .check_guest_offloads(mask)
                .is_ok_and(|offloads| live.set_offloads(offloads).is_ok()),
        }
    }

    /// An address that no station can have would not be restored from a snapshot either.
    fn set_mac(&self, mac: MacAddr) -> bool {
        if mac.is_station() {
            self.live.space.set_mac(mac);
            self.filter(|filter| filter.set_mac(mac));
        }
        mac.is_station()
    }

    /// Changes the filter. Without one there is nothing to change.
    fn filter(&self, change: impl FnOnce(&mut RxFilter)) -> bool {
        self.live
            .change_policy(|policy| policy.filter.as_mut().map(change).is_some())
    }
}
