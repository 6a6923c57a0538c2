//! Interrupts that are decided about later than the driver was shown what it is to hear of.

use net_queue::ring::{AnyRing, BufferRules, Direction, PoppedChain, Ring, RingConfig};
use net_queue::testing::{GuestRing, Interrupts, Shape, TestMemory};
use net_queue::{Engine, QueueCounters};

use crate::ctrl::CtrlRig;
use crate::rig::{MERGE, RxRig, TxRig, every_ring, packet};

const RULES: BufferRules = BufferRules {
    direction: Direction::Readable,
    most_segments: 64,
};

struct Rig {
    guest: GuestRing,
    ring: AnyRing,
}

impl Rig {
    fn new(config: RingConfig) -> Self {
        let guest = GuestRing::new(&TestMemory::new(), config);
        let ram = guest.memory().ram();
        let ring = AnyRing::new(&ram, &guest.config()).expect("the ring was laid out for it");
        Self { guest, ring }
    }

    /// Makes `count` chains available, uses and publishes them; the answer of the publish.
    fn pass(&mut self, count: usize) -> bool {
        for _ in 0..count {
            let piece = self.guest.memory().filled(&[0; 20]);
            self.guest.add(&[piece]);
        }
        self.guest.publish();
        for _ in 0..count {
            let popped = self.ring.pop(&mut Vec::new(), RULES);
            let PoppedChain { chain, .. } = popped.expect("it was made available");
            self.ring.push_used(chain, 0);
        }
        self.ring.publish()
    }
}

#[test]
fn what_was_published_is_decided_about_once_and_as_of_then_net_cvq_26() {
    every_ring(64, |config| {
        let mut rig = Rig::new(config);
        assert!(rig.pass(1), "the driver asks from the beginning");
        rig.guest.poll_all();
        rig.guest.ask(Interrupts::Always);
        rig.ring.defer_interrupts(true);
        assert!(!rig.ring.is_undecided() && !rig.ring.decide_interrupt());
        for _ in 0..3 {
            assert!(!rig.pass(2));
            assert!(rig.ring.is_undecided());
        }
        assert!(rig.ring.decide_interrupt());
        assert!(!rig.ring.is_undecided() && !rig.ring.decide_interrupt());
        // The driver has found out by itself, and wants none for now.
        rig.guest.poll_all();
        rig.guest.ask(Interrupts::Always);
        assert!(!rig.pass(2));
        rig.guest.poll_all();
        rig.guest.ask(if config.event_idx {
            Interrupts::After(9)
        } else {
            Interrupts::Never
        });
        assert!(rig.ring.is_undecided() && !rig.ring.decide_interrupt());
        rig.guest.ask(Interrupts::Always);
        rig.ring.defer_interrupts(false);
        assert!(rig.pass(1));
    });
}

#[test]
fn any_number_may_be_decided_about_at_once() {
    every_ring(16, |config| {
        for laps in [1, 2, 3, 5000] {
            let mut rig = Rig::new(config);
            rig.pass(1);
            rig.guest.poll_all();
            rig.guest.ask(Interrupts::Always);
            rig.ring.defer_interrupts(true);
            // The driver looks at its ring all the time, and never says again what it wants.
            for _ in 0..laps {
                assert!(!rig.pass(16));
                rig.guest.poll_all();
            }
            assert!(rig.ring.decide_interrupt(), "{laps} laps");
        }
    });
}

#[test]
fn engines_decide_about_what_they_have_shown_and_count_it() {
    every_ring(64, |config| {
        let mut rx = RxRig::new(config, MERGE);
        let mut tx = TxRig::new(config);
        let mut ctrl = CtrlRig::new(config);
        rx.post(&[200]);
        rx.wire.inject(packet(60, 1));
        tx.send(&packet(60, 1), &[]);
        ctrl.command(Shape::Direct, &[0, 0, 1], &[2], &[1]);
        rx.engine.defer_interrupts(true);
        tx.engine.defer_interrupts(true);
        ctrl.engine.defer_interrupts(true);
        assert!(!rx.run().interrupt && !tx.run().interrupt);
        ctrl.run();
        let engines: [(&mut dyn Engine, &QueueCounters); 3] = [
            (&mut rx.engine, &rx.counters),
            (&mut tx.engine, &tx.counters),
            (&mut ctrl.engine, &ctrl.counters),
        ];
        for (engine, counters) in engines {
            assert!(engine.is_undecided());
            assert!(engine.decide_interrupt());
            assert!(!engine.is_undecided() && !engine.decide_interrupt());
            engine.count_kick();
            let stats = counters.stats();
            assert_eq!((stats.interrupts, stats.kicks), (1, 1));
        }
    });
}
