//! Counters by name.

use std::sync::Arc;

use net_queue::{QueueCounters, QueueStats, Refusal};

use crate::log_limit::LogLimit;

/// Sums over the queues of each direction, by name.
///
/// `counters` holds one entry for each queue: receive, transmit, receive, …, and the control queue last.
/// `log` is the limit for lines about the device.
pub(crate) fn named(counters: &[Arc<QueueCounters>], log: &LogLimit) -> Vec<(String, u64)> {
    let Some((control, pairs)) = counters.split_last() else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for (direction, first) in [("rx", 0), ("tx", 1)] {
        let queues = pairs.iter().skip(first).step_by(2);
        let sum: QueueStats = queues.map(|queue| &**queue).sum();
        // Of frames none is refused as a command.
        let counters = sum.iter().filter(|(name, _)| !name.starts_with("refused_"));
        all.extend(counters.map(|(name, count)| (format!("{direction}_{name}"), count)));
    }
    let control = control.stats();
    all.push(("ctrl_commands".to_owned(), control.frames));
    all.push(("ctrl_drops".to_owned(), control.dropped()));
    for cause in Refusal::ALL {
        all.push((format!("ctrl_{}", cause.name()), control.refusals(*cause)));
    }
    all.push(("ctrl_limited".to_owned(), control.limited));
    all.push(("log_withheld".to_owned(), log.withheld()));
    all
}
