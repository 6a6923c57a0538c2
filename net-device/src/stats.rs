//! Counters of a device: by queue, and by name.

use std::sync::Arc;

use net_queue::{DropCause, QueueCounters, QueueStats, Refusal};

use crate::shared::device_status::DeviceStatus;

/// Counters of a device, since it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceStats {
    /// Receive queues, by pair.
    pub rx: Vec<QueueStats>,
    /// Transmit queues, by pair.
    pub tx: Vec<QueueStats>,
    /// Control queue.
    pub control: QueueStats,
    /// Frames that the kernel dropped by the driver's filter, so that the device never had them.
    /// They are among those that the first receive queue filtered.
    pub kernel_filtered: u64,
    /// Log lines that were withheld, see [`LogLimit`](crate::log_limit::LogLimit).
    pub log_withheld: u64,
}

impl DeviceStats {
    /// Reads all counters. `pairs` holds one entry for each queue of a pair: receive, transmit,
    /// receive, … `status` is that of the device.
    pub(crate) fn new(
        pairs: &[Arc<QueueCounters>],
        control: &QueueCounters,
        status: &DeviceStatus,
    ) -> Self {
        let every_other = |first| {
            let queues = pairs.iter().skip(first).step_by(2);
            queues.map(|queue| queue.stats()).collect()
        };
        let kernel_filtered = status.kernel_filtered();
        let mut rx: Vec<QueueStats> = every_other(0);
        if let Some(first) = rx.first_mut() {
            first.add_drops(DropCause::Filtered, kernel_filtered);
        }
        Self {
            rx,
            tx: every_other(1),
            control: control.stats(),
            kernel_filtered,
            log_withheld: status.events().log.withheld(),
        }
    }

    /// Sums over the queues of each direction, by name.
    #[must_use]
    pub fn named(&self) -> Vec<(String, u64)> {
        let mut all = Vec::new();
        for (direction, queues) in [("rx", &self.rx), ("tx", &self.tx)] {
            let mut sum = QueueStats::default();
            queues.iter().for_each(|queue| sum += queue);
            // Of frames none is refused as a command, and of those received none is coalesced.
            let counters = sum.iter().filter(|(name, _)| {
                !name.starts_with("refused_") && (direction == "tx" || !name.starts_with("group"))
            });
            all.extend(counters.map(|(name, count)| (format!("{direction}_{name}"), count)));
        }
        all.push(("rx_kernel_filtered".to_owned(), self.kernel_filtered));
        all.push(("ctrl_commands".to_owned(), self.control.frames));
        all.push(("ctrl_drops".to_owned(), self.control.dropped()));
        for cause in Refusal::ALL {
            all.push((
                format!("ctrl_{}", cause.name()),
                self.control.refusals(*cause),
            ));
        }
        all.push(("ctrl_kicks".to_owned(), self.control.kicks));
        all.push(("ctrl_interrupts".to_owned(), self.control.interrupts));
        all.push(("ctrl_limited".to_owned(), self.control.limited));
        all.push(("log_withheld".to_owned(), self.log_withheld));
        all
    }
}
