//! Hostile drivers: each known attack on this class of device by its name. Nothing may panic, spin,
//! write where it must not, or lose a chain; the queue goes on, or says that it is broken and can
//! still be stopped. Either way a snapshot of it restores: the rigs look after each run, and what
//! has no rig calls [`restores`](crate::rig::restores).

mod chains;
mod control;
mod foreign;
mod frames;
mod large_frames;
mod memory_holes;
mod overflow;
mod racing;
mod receive;

use net_queue::Engine;
use net_queue::Stop;
use net_queue::testing::Used;

use crate::rig::{RxRig, TxRig, frame, packet};

impl TxRig {
    /// Runs; returns what was used and whether the queue is broken. If it is not, a good frame must
    /// pass.
    fn survive(&mut self) -> (Vec<Used>, bool) {
        let stop = self.run().stop;
        let used = self.guest.poll_all();
        if let Stop::Fault(fault) = stop {
            assert_eq!(self.engine.fault(), Some(fault));
            assert!(matches!(self.run().stop, Stop::Fault(_)), "a fault stays");
            assert!(
                !self.engine.enable_notification(),
                "a broken queue asks for no kick"
            );
            return (used, true);
        }
        assert!(matches!(stop, Stop::Driver), "{stop:?}");
        drop(self.wire.take_sent());
        let good = packet(60, 99);
        self.send(&good, &[12]);
        assert_eq!(self.drain(), [good]);
        assert_eq!(self.guest.poll_all().len(), 1);
        (used, false)
    }
}

impl RxRig {
    /// Posts a good chain and expects a frame in it; returns the chains that came back before it.
    fn survive(&mut self) -> Vec<Used> {
        let good = self.post(&[2000]);
        self.wire.inject(packet(60, 99));
        self.drain();
        let mut used = self.guest.poll_all();
        let last = used.pop().expect("the good chain comes back");
        assert_eq!(last.id, good);
        assert_eq!(self.guest.bytes(&last)[12..], frame(60, 99));
        used
    }
}
