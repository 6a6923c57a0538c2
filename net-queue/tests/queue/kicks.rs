//! Notifications of the driver, for which engines ask or not.

use net_queue::Engine;
use net_queue::testing::GuestRing;

use crate::ctrl::CtrlRig;
use crate::rig::{MERGE, RxRig, TxRig, every_ring};

/// Makes a chain available; returns whether the driver notifies.
fn offer(guest: &mut GuestRing) -> bool {
    let piece = guest.memory().room(64);
    guest.add(&[piece]);
    guest.publish()
}

/// Runs `test` for an engine of each kind with an empty ring.
fn every_engine(test: impl Fn(&mut GuestRing, &mut dyn Engine)) {
    every_ring(16, |config| {
        let mut rx = RxRig::new(config, MERGE);
        let mut tx = TxRig::new(config);
        let mut ctrl = CtrlRig::new(config);
        test(&mut rx.guest, &mut rx.engine);
        test(&mut tx.guest, &mut tx.engine);
        test(&mut ctrl.guest, &mut ctrl.engine);
    });
}

#[test]
fn engines_hear_of_a_chain_once_they_ask() {
    every_engine(|guest, engine| {
        assert!(!engine.enable_notification(), "there is nothing to do");
        assert!(offer(guest));
        assert!(engine.enable_notification(), "there is something to do");
    });
}

#[test]
fn engines_hear_of_no_chain_while_they_do_not_ask() {
    every_engine(|guest, engine| {
        engine.disable_notification();
        assert!(!offer(guest));
    });
}
