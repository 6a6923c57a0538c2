//! Counters by name.

use std::sync::Arc;

use net_queue::{DropCause, QueueCounters};

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
        let sum = |count: &dyn Fn(&QueueCounters) -> u64| {
            pairs
                .iter()
                .skip(first)
                .step_by(2)
                .map(|queue| count(queue))
                .sum::<u64>()
        };
        all.push((format!("{direction}_bytes"), sum(&QueueCounters::bytes)));
        all.push((format!("{direction}_frames"), sum(&QueueCounters::frames)));
        all.push((
            format!("{direction}_interrupts"),
            sum(&QueueCounters::interrupts),
        ));
        all.push((format!("{direction}_limited"), sum(&QueueCounters::limited)));
        for cause in DropCause::all() {
            all.push((
                format!("{direction}_drop_{}", cause.name()),
                sum(&|queue| queue.drops(cause)),
            ));
        }
    }
    all.push(("ctrl_commands".to_owned(), control.frames()));
    all.push(("ctrl_drops".to_owned(), control.dropped()));
    all.push(("ctrl_limited".to_owned(), control.limited()));
    all.push(("log_withheld".to_owned(), log.withheld()));
    all
}
