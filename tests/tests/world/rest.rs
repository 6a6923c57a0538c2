//! A world that comes to rest, and the account of everything that happened in it.

use std::time::Duration;

use net_device::{Clock, Lifecycle, VirtioDevice};

use crate::control::ControlQueue;
use crate::network::Network;
use crate::passage::incoming;
use crate::plant::lock;
use crate::queue::DriverQueue;
use crate::vmm::Vmm;
use crate::world::World;

/// Steps after which everything has to have come to rest, beyond those for each frame.
const REST: usize = 2000;
/// Buffers that are enough for the longest frame, whatever their size.
const ROOM: usize = 32;
/// Longest time for which commands let a notification wait, in nanoseconds.
const LONGEST_MODERATION: u64 = 500_000;

impl World {
    /// Everything that is on its way arrives: no trouble is made any more, and whoever acts does so
    /// only because it was told to. Then nothing may be left over.
    pub(crate) fn quiesce(&mut self) {
        self.say(|| "the world comes to rest".to_owned());
        {
            let mut plant = lock(&self.plant);
            plant.calm = true;
            plant.leave_some();
            plant
                .networks
                .iter_mut()
                .for_each(|network| network.make_room(1 << 20));
        }
        let started = self.go_on();
        self.check(started);
        self.come_to_rest();
        let done = self.account();
        let mut plant = lock(&self.plant);
        plant.check(done);
        plant.calm = false;
        plant
            .networks
            .iter_mut()
            .for_each(|network| network.room = 8);
    }

    /// Starts whatever stands still.
    fn go_on(&mut self) -> Result<(), String> {
        let suspension_first = self.below(2) == 0;
        if suspension_first {
            self.unsuspend()?;
        }
        if self.vmm.device.lifecycle() == Lifecycle::Paused {
            self.say_and("resume", Vmm::resume)?;
        }
        self.unsuspend()?;
        while let Some(index) = self.vmm.stopped.keys().next().copied() {
            self.say(|| format!("queue {index} starts"));
            self.vmm.start_queue(index, false)?;
        }
        if !self.vmm.link_up {
            self.say(|| "the link goes up".to_owned());
            self.vmm.set_link(true);
        }
        self.replace_ports()
    }

    /// A device whose port is gone, or whose ring is broken, says so by itself, and works again
    /// after a reset.
    fn replace_ports(&mut self) -> Result<(), String> {
        let failing = lock(&self.plant).failing;
        if !failing {
            return Ok(());
        }
        self.come_to_rest();
        let gone = lock(&self.plant).networks.iter().any(Network::is_dead);
        if gone && !self.vmm.device.needs_reset() {
            return Err("a port is gone, and the device does not say so".to_owned());
        }
        let broken = lock(&self.plant).breaks_device();
        if broken && !self.vmm.device.needs_reset() {
            return Err("a ring is broken, and the device does not say so".to_owned());
        }
        self.check_told()?;
        self.reset()
    }

    fn come_to_rest(&mut self) {
        let frames = {
            let plant = lock(&self.plant);
            let arriving = plant.networks.iter().map(|network| network.arriving.len());
            let queues = plant.queues.iter();
            let waiting =
                queues.map(|queue| queue.outgoing.len() + incoming(&queue.incoming).len());
            arriving.chain(waiting).sum::<usize>()
        };
        for _ in 0..REST + 64 * frames {
            self.vmm.look_around();
            let now = self.vmm.clock.now_ns();
            let able = self
                .vmm
                .workers
                .iter()
                .position(|worker| worker.is_runnable(now));
            let moved = self.look_at_config() | self.quiesce_drivers();
            match able {
                Some(at) => self.vmm.turn(at),
                None if moved || lock(&self.plant).post_last() => {}
                None => match self.next_time() {
                    Some(at) => self.let_pass(at.saturating_sub(now)),
                    None => return,
                },
            }
            if lock(&self.plant).violation.is_some() {
                return;
            }
        }
        self.check(Err("it does not come to rest".to_owned()));
    }

    fn next_time(&self) -> Option<u64> {
        let deadlines = self.vmm.workers.iter().filter_map(|worker| worker.deadline);
        let round = self.vmm.device.next_announcement();
        let round = round.map(|wait| self.vmm.clock.now_ns() + wait.as_nanos() as u64);
        let next = deadlines.chain(self.vmm.clock.next_expiry());
        next.chain(round).min()
    }

    /// Time passes, for which everybody waits.
    fn let_pass(&mut self, ns: u64) {
        let waits = {
            let plant = lock(&self.plant);
            let mut queues = plant.queues.iter();
            queues
                .find(|queue| queue.is_owed())
                .map(|queue| queue.index)
        };
        // One that needs a reset does nothing before that.
        if let Some(index) = waits
            && ns > LONGEST_MODERATION
            && !self.vmm.device.needs_reset()
        {
            self.check(Err(format!(
                "queue {index} lets its driver wait for an interrupt, for {ns} ns"
            )));
        }
        self.vmm.advance(ns);
        if self.vmm.device.next_announcement() == Some(Duration::ZERO) {
            self.vmm.continue_announcement();
        }
    }

    fn quiesce_drivers(&mut self) -> bool {
        let mut plant = lock(&self.plant);
        let plant = &mut *plant;
        let mut moved = false;
        let arriving = plant
            .networks
            .iter()
            .map(|network| !network.arriving.is_empty());
        let arriving: Vec<bool> = arriving.collect();
        let mut result = Ok(());
        for queue in &mut plant.queues {
            let done = queue.quiesce(&mut plant.random);
            moved |= *done.as_ref().unwrap_or(&false);
            result = result.and(done.map(|_| ()));
            // Room for what is still to come, and for what the device has.
            let has_frames = incoming(&queue.incoming).len() > 0 && queue.ring.in_flight() < ROOM;
            if queue.is_rx() && (arriving[usize::from(queue.index / 2)] || has_frames) {
                moved |= queue.post(&mut plant.random, 4) > 0;
            }
        }
        if let Some(control) = &mut plant.control {
            let done = control.quiesce(&mut plant.random, plant.failing);
            moved |= *done.as_ref().unwrap_or(&false);
            result = result.and(done.map(|_| ()));
        }
        plant.check(result);
        moved
    }

    /// Everything is accounted for.
    fn account(&mut self) -> Result<(), String> {
        let mut plant = lock(&self.plant);
        let (mut rx, mut tx, mut vague) = (0, 0, (0, 0));
        // Drivers take all there is before anything is missing: queues may share what comes.
        let mut queues = plant.queues.iter_mut();
        queues.try_for_each(DriverQueue::owed)?;
        for queue in &mut plant.queues {
            if queue.is_rx() {
                let mut incoming = incoming(&queue.incoming);
                incoming.end();
                rx += queue.useless;
                // Of several queues the first counts all.
                if queue.index == 0 || !incoming.is_shared() {
                    rx += incoming.missing;
                    vague.0 += incoming.vague;
                }
            } else if queue.outgoing.len() == 0 && queue.ring.in_flight() == 0 {
                tx += queue.useless + queue.outgoing.cut_off;
                vague.1 += queue.vague + queue.outgoing.vague;
            } else {
                let (waiting, flying) = (queue.outgoing.len(), queue.ring.in_flight());
                return Err(format!(
                    "queue {} stands still with {waiting} frames, {flying} chains",
                    queue.index
                ));
            }
        }
        plant.control.as_mut().map_or(Ok(()), ControlQueue::owed)?;
        for (pair, network) in plant.networks.iter().enumerate() {
            if !network.arriving.is_empty() {
                let waiting = network.arriving.len();
                return Err(format!("{waiting} frames for pair {pair} are not received"));
            }
        }
        drop(plant);
        self.check_config()?;
        self.account_drops((rx, tx), vague)
    }

    /// Looks whether the counters say how many were dropped, and up to `vague` more.
    fn account_drops(&self, (rx, tx): (u64, u64), vague: (u64, u64)) -> Result<(), String> {
        let plant = lock(&self.plant);
        let lost: u64 = plant.networks.iter().map(|network| network.lost).sum();
        let refused: u64 = plant.networks.iter().map(|network| network.refused).sum();
        let (expected, dropped) = ((rx + lost, tx + refused), self.vmm.dropped());
        let receives = expected.0..=expected.0 + vague.0;
        let sends = expected.1..=expected.1 + vague.1;
        if !receives.contains(&dropped.0) || !sends.contains(&dropped.1) {
            return Err(format!(
                "{expected:?} frames were dropped (received, sent), {dropped:?} were counted"
            ));
        }
        Ok(())
    }
}
