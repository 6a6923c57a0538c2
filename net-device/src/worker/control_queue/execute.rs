//! Execution of the control queue's commands: receive modes, MAC and VLAN filters, queue pairs,
//! RSS, offloads, notification coalescing, statistics. VirtIO 1.4 §5.1.9.5.
//!
//! Commands are the one way in which a driver makes the host work outside the data path: switching
//! queues or offloads of a tap takes a lock of the whole host, and a changed policy is waited for
//! by every worker. So a command that changes nothing does nothing, and one that does is charged to
//! the device's [`ControlBudget`](crate::shared::control_budget::ControlBudget); while that is used
//! up the control queue waits, and no other queue does.

use std::sync::Arc;

use net_queue::ctrl::{Command, CommandHandler, Reply};
use net_queue::{QueueCounters, Refusal};

use super::device_stats;
use crate::config::MacAddr;
use crate::features::Features;
use crate::log_limited;
use crate::shared::control_budget::{HOST_LOCK, POLICY};
use crate::shared::notf_coal::QueueDirection;
use crate::shared::rss::RssParams;
use crate::shared::rx_filter::RxFilter;
use crate::shared::{Shared, SteerError};

/// Executes parsed commands on the shared state.
pub(super) struct Commands<'a> {
    pub(super) shared: &'a Shared,
    /// Of every queue, the control queue's last.
    pub(super) counters: &'a [Arc<QueueCounters>],
}

impl CommandHandler for Commands<'_> {
    fn admit(&mut self, command: &Command<'_>) -> Result<(), u64> {
        let cost = if self.was_negotiated(command) {
            self.cost(command)
        } else {
            0
        };
        self.shared.control_budget.take(self.shared.now_ns(), cost)
    }

    /// The command is in force when this returns, or has had no effect (NET-CVQ-03, NET-CVQ-05).
    fn execute(&mut self, command: Command<'_>, reply: &mut Reply<'_>) -> Result<(), Refusal> {
        if !self.was_negotiated(&command) {
            return Err(Refusal::NotNegotiated);
        }
        let shared = self.shared;
        match command {
            Command::AckAnnounce => {
                shared.space.set_announce(false);
            }
            Command::SetPairs(pairs) => shared
                .set_pairs(pairs)
                .map_err(|error| self.refused(&format_args!("{pairs} queue pairs"), &error))?,
            Command::SetRss(config) => self.set_rss(RssParams::of_rss(config, shared.pairs()))?,
            Command::SetHash(config) => self.set_rss(RssParams::of_hash(config))?,
            Command::SetGuestOffloads(mask) => {
                let offloads = shared.features.check_guest_offloads(mask);
                let offloads = offloads.map_err(|_| Refusal::Value)?;
                shared
                    .set_offloads(offloads)
                    .map_err(|error| self.refused(&format_args!("offloads {mask:#x}"), &error))?;
            }
            Command::SetTxNotfCoal(notf_coal) => {
                shared.notf_coal.set_all(QueueDirection::Tx, notf_coal);
            }
            Command::SetRxNotfCoal(notf_coal) => {
                shared.notf_coal.set_all(QueueDirection::Rx, notf_coal);
            }
            Command::SetQueueNotfCoal { queue, .. } | Command::GetQueueNotfCoal(queue)
                if !shared.runs(queue) =>
            {
                return Err(Refusal::Value);
            }
            Command::SetQueueNotfCoal { queue, notf_coal } => {
                shared.notf_coal.set(queue, notf_coal);
            }
            Command::GetQueueNotfCoal(queue) => {
                reply.push_notf_coal(shared.notf_coal.get(queue));
            }
            Command::QueryStats => reply.push_types(device_stats::supported(shared.features)),
            Command::GetStats(requests) => {
                device_stats::get(requests, shared, self.counters, reply)?;
            }
            Command::SetMacAddr(mac) if !MacAddr::from(mac).is_station() => {
                return Err(Refusal::Value);
            }
            Command::SetMacAddr(mac) => {
                shared.space.set_mac(mac.into());
                // Without a filter the address is but shown.
                let _ = self.filter(&command);
            }
            Command::SetRxMode { .. }
            | Command::SetMacTable { .. }
            | Command::AddVlan(_)
            | Command::DelVlan(_) => self.filter(&command)?,
        }
        Ok(())
    }
}

impl Commands<'_> {
    /// Returns whether there is such a command for this driver: one that was not negotiated does
    /// not exist (NET-CVQ-04, NET-FEAT-13).
    fn was_negotiated(&self, command: &Command<'_>) -> bool {
        let negotiated = self.shared.features;
        negotiated.contains(Features::required_by(command))
    }

    /// Says why `wish` was not granted, and tells the operator if it was the host that refused.
    fn refused(&self, wish: &dyn std::fmt::Display, error: &SteerError) -> Refusal {
        match error {
            SteerError::Pairs => Refusal::Value,
            SteerError::Link(error) => {
                let (id, log) = (&self.shared.id, &self.shared.status.events().log);
                log_limited!(log, Warn, "{id}: the host refused {wish}: {error}");
                Refusal::Host
            }
        }
    }

    /// Cost of `command` for the host beyond this thread's time: nothing when it is refused, or
    /// changes nothing.
    fn cost(&self, command: &Command<'_>) -> u64 {
        let shared = self.shared;
        match *command {
            Command::SetPairs(pairs) => shared.ports_to_switch(pairs) * HOST_LOCK,
            Command::SetRss(config) => self.cost_of_rss(RssParams::of_rss(config, shared.pairs())),
            Command::SetHash(config) => self.cost_of_rss(RssParams::of_hash(config)),
            Command::SetGuestOffloads(mask) => {
                let offloads = shared.features.check_guest_offloads(mask);
                match offloads {
                    Ok(on) if shared.switches_link(on) => HOST_LOCK,
                    Ok(on) if on != shared.policy().offloads => POLICY,
                    _ => 0,
                }
            }
            Command::SetTxNotfCoal(to) => shared.notf_coal.others(QueueDirection::Tx, to) * POLICY,
            Command::SetRxNotfCoal(to) => shared.notf_coal.others(QueueDirection::Rx, to) * POLICY,
            Command::SetQueueNotfCoal { queue, notf_coal } => {
                u64::from(shared.runs(queue) && shared.notf_coal.get(queue) != notf_coal) * POLICY
            }
            _ => {
                let policy = shared.policy();
                let cost = policy.filter.as_ref().map(|filter| {
                    let mut next = filter.clone();
                    change_filter(&mut next, command);
                    let switches = shared.filter_switches_link(&next);
                    u64::from(next != *filter) * POLICY + u64::from(switches) * HOST_LOCK
                });
                cost.unwrap_or_default()
            }
        }
    }

    /// Takes the driver's hash, and its table if it has one, unless this device has no such.
    fn set_rss(&self, rss: Option<RssParams>) -> Result<(), Refusal> {
        let done = self.shared.set_rss(rss.ok_or(Refusal::Value)?);
        done.map_err(|error| self.refused(&"to feed other queues", &error))
    }

    /// Cost of taking `rss`, unless it is refused before.
    fn cost_of_rss(&self, rss: Option<RssParams>) -> u64 {
        let ports = rss.and_then(|rss| self.shared.ports_to_switch_for(&rss));
        ports.map_or(0, |ports| POLICY + ports * HOST_LOCK)
    }

    /// Changes the filter. Without one there is nothing to change.
    fn filter(&self, command: &Command<'_>) -> Result<(), Refusal> {
        let change = |filter: &mut RxFilter| change_filter(filter, command);
        let changed = self.shared.change_filter(change);
        changed.ok_or(Refusal::NotNegotiated)
    }
}

/// Applies `command` to the filter.
fn change_filter(filter: &mut RxFilter, command: &Command<'_>) {
    match *command {
        Command::SetRxMode { mode, on } => filter.set_mode(mode, on),
        Command::SetMacTable { unicast, multicast } => filter.set_mac_table(unicast, multicast),
        // An address that no station can have would not be restored from a snapshot either.
        Command::SetMacAddr(mac) if MacAddr::from(mac).is_station() => filter.set_mac(mac.into()),
        Command::AddVlan(id) => filter.set_vlan(id, true),
        Command::DelVlan(id) => filter.set_vlan(id, false),
        Command::SetMacAddr(_)
        | Command::AckAnnounce
        | Command::SetPairs(_)
        | Command::SetRss(_)
        | Command::SetHash(_)
        | Command::SetGuestOffloads(_)
        | Command::SetTxNotfCoal(_)
        | Command::SetRxNotfCoal(_)
        | Command::SetQueueNotfCoal { .. }
        | Command::GetQueueNotfCoal(_)
        | Command::QueryStats
        | Command::GetStats(_) => {}
    }
}
