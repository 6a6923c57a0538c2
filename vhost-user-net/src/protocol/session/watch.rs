//! The rings as they are seen from outside, to find those that stall.

use std::time::Instant;

use net_device::{Layout, QueueState, QueueStats, WaitsFor, log_limited};

use super::{Session, SessionError};
use crate::protocol::stall::{Finding, Missing, RingGauges, RingView, RingWatch};
use crate::protocol::vring::State;

/// VIRTIO_F_EVENT_IDX. VirtIO 1.4 §6.
const EVENT_IDX: u64 = 1 << 29;

impl Session<'_> {
    /// Returns whether a ring runs.
    #[must_use]
    pub fn has_running_rings(&self) -> bool {
        let mut rings = self.rings.iter();
        rings.any(|ring| ring.state() == State::Running)
    }

    /// Looks for rings that stall, says so in the log, and notifies both sides of such a ring once.
    /// `watches` and `gauges` have a place for each ring.
    ///
    /// # Errors
    /// A ring could not go on.
    pub fn watch_rings(
        &mut self,
        name: &str,
        now: Instant,
        watches: &mut [RingWatch],
        gauges: &[RingGauges],
    ) -> Result<(), SessionError> {
        let handle = self.device.handle();
        let (states, stats) = (handle.queue_states(), handle.stats());
        for (index, (watch, gauges)) in watches.iter_mut().zip(gauges).enumerate() {
            let state = states.get(index).copied().unwrap_or_default();
            let queues = if index.is_multiple_of(2) {
                &stats.rx
            } else {
                &stats.tx
            };
            let stats = queues.get(index / 2).unwrap_or(&stats.control);
            let Some(view) = self.view(index, state, stats) else {
                *watch = RingWatch::default();
                gauges.clear();
                continue;
            };
            match watch.look(now, view, gauges) {
                None => {}
                Some(Finding::GoesOn) => {
                    log_limited!(
                        self.device.log_limit(),
                        Warn,
                        "{name}: ring {index} goes on"
                    );
                }
                Some(Finding::Stalled(missing)) => {
                    let what = match missing {
                        Missing::Kick => "the driver made entries available and sent no kick",
                        Missing::Interrupt => {
                            "the driver took no used entries, though it was interrupted"
                        }
                    };
                    let depth = view.depth;
                    log_limited!(
                        self.device.log_limit(),
                        Warn,
                        "{name}: ring {index} stalls with {depth} entries: {what}; both sides are \
                         notified once"
                    );
                    // A ring that starts looks at once, and interrupts.
                    self.halt(index, State::Held)?;
                    self.apply_targets()?;
                }
            }
        }
        Ok(())
    }

    /// A ring that runs; `None` for any other, and for one that cannot be read.
    fn view(&self, index: usize, state: QueueState, stats: &QueueStats) -> Option<RingView> {
        let ring = self.rings.get(index)?;
        if ring.state() != State::Running {
            return None;
        }
        let view = RingView {
            progress: stats.frames.wrapping_add(stats.dropped()),
            interrupts: stats.interrupts,
            waits_for: state.waits_for,
            ..RingView::default()
        };
        let addrs = ring.guest_addrs(&self.memory).ok()?;
        match self.layout() {
            Layout::Split => self.split_view(index, addrs.driver, addrs.device, state, view),
            Layout::Packed => {
                let unseen = self.is_available(addrs.desc, state)?;
                Some(RingView {
                    depth: unseen.into(),
                    unseen: unseen.into(),
                    ..view
                })
            }
        }
    }

    fn word(&self, at: u64) -> Option<u16> {
        let mut bytes = [0; 2];
        self.memory.read(at, &mut bytes)?;
        Some(u16::from_le_bytes(bytes))
    }

    fn split_view(
        &self,
        index: usize,
        driver: u64,
        device: u64,
        state: QueueState,
        view: RingView,
    ) -> Option<RingView> {
        let size = self.rings.get(index)?.size()?;
        let (avail, used) = (self.word(driver + 2)?, self.word(device + 2)?);
        let within = |count: u16| if count <= size { count } else { 0 };
        let depth = within(avail.wrapping_sub(used));
        let unseen = within(avail.wrapping_sub(state.avail));
        let is_rx = index.is_multiple_of(2) && index + 1 < self.rings.len();
        // A driver that receives always has buffers posted, unless it did not hear of those used.
        let starves = is_rx && state.waits_for == WaitsFor::Driver && depth == 0;
        let untaken = if starves {
            size
        } else if self
            .features
            .is_some_and(|features| features & EVENT_IDX != 0)
        {
            let event = self.word(driver + 4 + 2 * u64::from(size))?;
            let behind = within(used.wrapping_sub(event));
            // One that sends may have notifications off, which leaves this index far behind or at
            // 0; one that waits for room has set it, and made most of the ring available since.
            let waits = is_rx || within(avail.wrapping_sub(event)) >= size / 8;
            if waits { behind } else { 0 }
        } else {
            0
        };
        Some(RingView {
            depth,
            unseen,
            untaken,
            ..view
        })
    }

    /// Returns whether the slot of a packed ring at which the device waits is available.
    fn is_available(&self, desc: u64, state: QueueState) -> Option<bool> {
        const AVAIL: u16 = 1 << 7;
        const USED: u16 = 1 << 15;
        let flags = self.word(desc + 16 * u64::from(state.avail) + 14)?;
        let (avail, used) = (flags & AVAIL != 0, flags & USED != 0);
        let waits = state.waits_for == WaitsFor::Driver;
        Some(waits && avail == state.avail_wrap && used != state.avail_wrap)
    }
}
