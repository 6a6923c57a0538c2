//! Dirty marks: each byte that the device wrote is told of after it was written, while somebody
//! wants to know.

use std::sync::{Arc, Mutex};

use net_queue::header::TxRules;
use net_queue::ring::AnyRing;
use net_queue::testing::{DirtyRanges, TestMemory};
use net_queue::{DirtyLog, DirtySwitch, Engine, TxConfig, TxEngine};

use crate::rig::{MERGE, RxRig, TxRig, every_ring, packet};

/// A copy of some memory that is kept up by dirty marks alone, at once, as by a migration that is
/// fast.
struct Replica {
    memory: TestMemory,
    /// First address and bytes of what was copied.
    parts: Mutex<Vec<(u64, Vec<u8>)>>,
}

impl Replica {
    /// A copy of the first bytes of the memory for rings and of that for buffers.
    fn new(memory: &TestMemory) -> Arc<Self> {
        let [(rings, _), _, (buffers, _)] = memory.regions();
        Arc::new(Self {
            memory: memory.clone(),
            parts: Mutex::new(vec![(rings, vec![0; 1024]), (buffers, vec![0; 32 << 10])]),
        })
    }

    fn copy(&self) {
        for (start, bytes) in &mut *self.parts.lock().expect("no panic before") {
            *bytes = self.memory.read(*start, bytes.len());
        }
    }

    fn is_current(&self) -> bool {
        let parts = self.parts.lock().expect("no panic before");
        parts
            .iter()
            .all(|(start, bytes)| *bytes == self.memory.read(*start, bytes.len()))
    }
}

impl DirtyLog for Replica {
    fn mark(&self, gpa: u64, len: u64) {
        for (start, bytes) in &mut *self.parts.lock().expect("no panic before") {
            let end = *start + bytes.len() as u64;
            let (from, to) = (gpa.max(*start), (gpa + len).min(end));
            if from < to {
                let place = (from - *start) as usize..(to - *start) as usize;
                bytes[place].copy_from_slice(&self.memory.read(from, (to - from) as usize));
            }
        }
    }
}

/// A mark that comes before its write is one that is lost.
#[test]
fn marks_follow_every_write() {
    every_ring(16, |config| {
        let memory = TestMemory::new();
        let replica = Replica::new(&memory);
        let ram = memory.ram().with_dirty_log(Some(replica.clone()));
        let mut rig = RxRig::over(memory, ram, config, MERGE);
        for n in 0..40 {
            while rig.guest.free() > 0 {
                rig.post(&[100]);
            }
            rig.wire.inject(packet(150 + n as usize, n));
            replica.copy();
            rig.drain();
            assert!(replica.is_current(), "after a frame");
            rig.engine.enable_notification();
            assert!(replica.is_current(), "after arming");
            rig.engine.disable_notification();
            assert!(replica.is_current(), "after disarming");
            rig.guest.poll_all();
        }
    });
}

/// Buffers that were taken from the ring while the switch was off are marked when they are filled
/// later.
#[test]
fn a_receive_queue_marks_from_the_moment_that_the_switch_is_on() {
    every_ring(16, |config| {
        let memory = TestMemory::new();
        let (replica, switch) = (Replica::new(&memory), DirtySwitch::default());
        switch.set(false);
        let ram = memory.ram().with_dirty_log(Some(replica.clone()));
        let ram = ram.with_dirty_switch(switch.clone());
        let mut rig = RxRig::over(memory, ram, config, MERGE);
        for n in 0..30 {
            let on = n % 3 > 0;
            rig.guest.poll_all();
            while rig.guest.free() > 1 {
                rig.post(&[700, 30]);
            }
            // The first frame, which takes one chain alone, makes the engine hold more of them.
            rig.wire.inject(packet(60, n));
            switch.set(false);
            replica.copy();
            rig.drain();
            assert!(!replica.is_current(), "a frame has changed memory");
            rig.engine.enable_notification();
            switch.set(on);
            replica.copy();
            rig.wire.inject(packet(1500, n));
            rig.drain();
            assert_eq!(replica.is_current(), on, "after a frame");
            replica.copy();
            rig.engine.disable_notification();
            rig.engine.enable_notification();
            assert!(replica.is_current() || !on, "after arming");
        }
    });
}

#[test]
fn a_transmit_queue_marks_from_the_moment_that_the_switch_is_on() {
    every_ring(16, |config| {
        let mut rig = TxRig::new(config);
        let memory = rig.guest.memory().clone();
        let (replica, switch) = (Replica::new(&memory), DirtySwitch::default());
        let ram = memory.ram().with_dirty_log(Some(replica.clone()));
        let ram = ram.with_dirty_switch(switch.clone());
        let ring = AnyRing::new(&ram, &rig.guest.config()).expect("the ring is mapped");
        let rules = TxRules::default();
        rig.engine = TxEngine::new(ring, TxConfig::new(rules), rig.counters.clone());
        for n in 0..40 {
            let on = n % 3 > 0;
            rig.send(&packet(100, n), &[12]);
            rig.send(&packet(200, n), &[12]);
            switch.set(on);
            replica.copy();
            assert_eq!(rig.drain().len(), 2);
            assert_eq!(replica.is_current(), on, "after two frames");
            replica.copy();
            rig.engine.enable_notification();
            rig.engine.disable_notification();
            assert!(replica.is_current() || !on, "after arming");
            rig.guest.poll_all();
        }
    });
}

#[test]
fn no_mark_is_made_while_the_switch_is_off() {
    every_ring(16, |config| {
        let memory = TestMemory::new();
        let (marks, switch) = (Arc::new(DirtyRanges::default()), DirtySwitch::default());
        let ram = memory.ram().with_dirty_log(Some(marks.clone()));
        let ram = ram.with_dirty_switch(switch.clone());
        let mut rig = RxRig::over(memory, ram, config, MERGE);
        assert!(switch.is_on(), "unless told otherwise");
        for on in [true, false, true, false] {
            switch.set(on);
            rig.post(&[100]);
            rig.wire.inject(packet(60, 1));
            rig.drain();
            rig.engine.enable_notification();
            assert_eq!(!marks.take().is_empty(), on);
        }
    });
}
