//! Frames of a driver, and the account of them.

use std::time::Instant;

use net_device::{Pausable, VirtioDevice};
use tests::testbed::{frame_to, resume};

use super::{BURST, LIMIT, Life, PAIRS};
use crate::ledger::numbered;

impl Life {
    /// Frames both ways on every pair.
    pub(super) fn burst(&mut self) {
        self.burst_except(u16::MAX);
    }

    /// The same, but for a queue that has no ring.
    pub(super) fn burst_except(&mut self, index: u16) {
        for pair in 0..PAIRS {
            let count = self.below(BURST);
            if index != 2 * pair + 1 {
                self.send(pair, count);
            }
            if pair < self.pairs {
                let count = self.below(BURST);
                if index != 2 * pair {
                    self.supply(pair, count as usize);
                }
                self.arrive(pair, count);
            }
        }
    }

    pub(super) fn send(&mut self, pair: u16, count: u64) {
        let free = self.rig.queue(2 * pair + 1).ring.free() as u64;
        for _ in 0..count.min(free) {
            let number = self.tx[usize::from(pair)].give();
            let bytes = numbered(pair, number, &mut self.random);
            self.rig.send(pair, &bytes);
            self.moved.posted += 1;
        }
    }

    /// Posts what it takes for `count` frames more, as far as the ring goes.
    pub(super) fn supply(&mut self, pair: u16, count: usize) {
        let waiting = self.rig.networks[usize::from(pair)].wire.waiting();
        let queue = self.rig.queue(2 * pair);
        let polled = queue.ring.poll_all();
        queue.used.extend(polled);
        let ring = &queue.ring;
        let missing = (waiting + count).saturating_sub(ring.in_flight());
        let posted = missing.min(ring.free());
        if posted > 0 {
            self.rig.post(pair, &vec![2048; posted]);
        }
    }

    /// Lets `count` frames of the flow arrive, and sometimes one for somebody else.
    pub(super) fn arrive(&mut self, pair: u16, count: u64) {
        let wire = self.rig.networks[usize::from(pair)].wire.clone();
        for _ in 0..count {
            let number = self.rx[usize::from(pair)].give();
            wire.inject(numbered(pair, number, &mut self.random));
            self.moved.injected += 1;
        }
        if self.below(8) == 0 {
            let seed = self.random.next_u64();
            wire.inject(frame_to([2, 0, 0, 0, 0, 77], 64, seed));
            self.moved.injected += 1;
        }
    }

    /// Frames that no device has received.
    pub(super) fn waiting(&self) -> u64 {
        let networks = self.rig.networks.iter();
        networks.map(|network| network.wire.waiting() as u64).sum()
    }

    /// Takes what came out of the device.
    pub(super) fn collect(&mut self) {
        for pair in 0..PAIRS {
            let at = usize::from(pair);
            for frame in self.rig.networks[at].wire.take_sent() {
                assert!(self.tx[at].take(pair, &frame), "nobody sent this");
                self.moved.sent += 1;
            }
            let queue = self.rig.queue(2 * pair);
            let mut used = std::mem::take(&mut queue.used);
            used.extend(queue.ring.poll_all());
            let frames: Vec<_> = used.iter().map(|used| queue.ring.bytes(used)).collect();
            for frame in &frames {
                self.rx[at].take(pair, frame);
                self.moved.seen += 1;
            }
            let queue = self.rig.queue(2 * pair + 1);
            queue.used.clear();
            queue.ring.poll_all();
        }
    }

    /// Waits until all has come out that will, and compares the accounts.
    pub(super) fn drain_all(&mut self) {
        for pair in 0..PAIRS {
            let irq = self.rig.irq.clone();
            let queue = self.rig.queue(2 * pair + 1);
            let count = queue.ring.in_flight() + queue.used.len();
            queue.wait_used(&irq, count);
        }
        for pair in 0..self.pairs {
            while self.rig.networks[usize::from(pair)].wire.waiting() > 0 {
                self.supply(pair, 0);
                self.drain_pair(pair);
                self.collect();
            }
        }
        Pausable::pause(&mut *self.rig.device).expect("it runs");
        self.collect();
        self.audit();
        resume(&mut self.rig);
    }

    /// Waits until the device has received all that waits for `pair`, or has no buffer left.
    pub(super) fn drain_pair(&mut self, pair: u16) {
        let begin = Instant::now();
        loop {
            let waiting = self.rig.networks[usize::from(pair)].wire.waiting();
            let queue = self.rig.queue(2 * pair);
            let polled = queue.ring.poll_all();
            queue.used.extend(polled);
            if waiting == 0 || queue.ring.in_flight() == 0 {
                return;
            }
            assert!(begin.elapsed() < LIMIT, "pair {pair}: {waiting} are stuck");
            std::thread::yield_now();
        }
    }

    /// Whatever went in has come out, was dropped for a cause, or waits.
    pub(super) fn audit(&mut self) {
        let counters = self.rig.device.counters();
        let dropped = |direction: &str| -> u64 {
            let drops = counters.iter();
            let drops = drops.filter(|(name, _)| name.starts_with(direction));
            drops.map(|(_, count)| count).sum()
        };
        let (rx_dropped, tx_dropped) = (dropped("rx_drop_"), dropped("tx_drop_"));
        let moved = &self.moved;
        assert_eq!(self.rig.counter("tx_frames"), moved.sent, "{moved:?}");
        assert_eq!(self.rig.counter("rx_frames"), moved.seen, "{moved:?}");
        let queues = (0..PAIRS).map(|pair| 2 * pair + 1);
        let held: u64 = queues
            .map(|index| self.rig.queues[&index].ring.in_flight() as u64)
            .sum();
        let sent = moved.sent + moved.abandoned + tx_dropped + held;
        assert_eq!(
            moved.posted, sent,
            "{moved:?}, {tx_dropped} dropped, {held} held"
        );
        let waiting = self.waiting();
        let seen = moved.seen + moved.vanished + rx_dropped + waiting;
        assert_eq!(
            moved.injected, seen,
            "{moved:?}, {rx_dropped} dropped, {waiting} wait"
        );
        assert!(!self.rig.device.needs_reset());
    }

    /// A frame each way on every pair, to the number: nothing is stuck.
    pub(super) fn exchange(&mut self) {
        if !self.up {
            return;
        }
        for pair in 0..PAIRS {
            self.send(pair, 1);
            let mut count = 0;
            if pair < self.pairs {
                let number = self.rx[usize::from(pair)].give();
                self.supply(pair, 1);
                let bytes = numbered(pair, number, &mut self.random);
                self.rig.networks[usize::from(pair)].wire.inject(bytes);
                self.moved.injected += 1;
                count = 1;
            }
            let irq = self.rig.irq.clone();
            let used = self.rig.queue(2 * pair + 1).wait_used(&irq, 1);
            assert_eq!(used.len(), 1);
            let queue = self.rig.queue(2 * pair);
            let used = queue.wait_used(&irq, count);
            assert_eq!(used.len(), count);
            queue.used = used;
        }
        let before = (self.tx, self.rx);
        self.collect();
        for pair in 0..usize::from(PAIRS) {
            assert_eq!(self.tx[pair].missing(), before.0[pair].missing() - 1);
            let received = u64::from(pair < usize::from(self.pairs));
            assert_eq!(self.rx[pair].missing(), before.1[pair].missing() - received);
        }
    }
}
