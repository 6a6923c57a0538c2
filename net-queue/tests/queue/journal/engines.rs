//! Engines that are killed at each store of their work in turn.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use net_queue::header::{HDR_LEN, HdrSize, TxRules};
use net_queue::ring::{AnyRing, RingConfig, UsedElements};
use net_queue::testing::{
    GuestRing, ScriptedBackend, ScriptedLimit, TestMemory, Wire, is_killed, kill_after, revive,
};
use net_queue::{
    Caps, FrameBackend, Gather, LinkConfig, Offloads, RecvError, RxEngine, Scatter, SendError,
    TxConfig, TxEngine,
};

use super::Kept;
use crate::rig::{MERGE, PLENTY, every_layout, packet, ring};

/// A backend of whose system calls a killed device makes none.
struct Mortal(ScriptedBackend);

impl FrameBackend for Mortal {
    fn caps(&self) -> Caps {
        self.0.caps()
    }

    fn configure(&mut self, link: &LinkConfig) -> io::Result<()> {
        self.0.configure(link)
    }

    fn send(&mut self, frame: &Gather<'_>) -> Result<(), SendError> {
        if is_killed() {
            return Err(SendError::WouldBlock);
        }
        self.0.send(frame)
    }

    fn recv(&mut self, room: &mut Scatter<'_>) -> Result<usize, RecvError> {
        if is_killed() {
            return Err(RecvError::WouldBlock);
        }
        self.0.recv(room)
    }

    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.0.poll_fd()
    }
}

/// Runs `life` with devices that are killed after none, one, two, … stores, until one lives on; it
/// gets the number of stores.
fn at_each_store(mut life: impl FnMut(u64) -> bool) {
    let died = (0..).take_while(|stores| life(*stores)).count();
    assert!(died > 10, "the devices do next to nothing: {died} stores");
}

const FRAMES: u64 = 8;

#[test]
fn a_transmit_queue_sends_one_frame_twice_at_most_and_uses_each_chain_once() {
    every_layout(|layout| {
        for in_order in [false, true] {
            at_each_store(|stores| {
                let config = RingConfig {
                    in_order,
                    used_elements: UsedElements::PerBatch,
                    ..ring(layout, 16)
                };
                let mut guest = GuestRing::new(&TestMemory::new(), config);
                let kept = Kept::new(layout, 16);
                let (backend, wire) = Wire::new();
                let mut backend = Mortal(backend);
                let memory = guest.memory().clone();
                for number in 0..FRAMES {
                    guest.add(&memory.cut(&packet(100, number), &[30]));
                }
                guest.publish();
                let mut run = |device: AnyRing| {
                    let tx = TxConfig {
                        size: HdrSize::Base,
                        ..TxConfig::new(TxRules::new(Offloads::empty()))
                    };
                    let mut engine = TxEngine::new(device, tx, Arc::default());
                    engine.run(&mut backend, &mut ScriptedLimit::default(), 0, PLENTY);
                };
                let device = guest.device().with_journal(kept.journal.clone());
                kill_after(stores);
                run(device);
                let died = revive();
                if died {
                    run(kept.replacement(guest.memory(), guest.config()));
                }
                assert_eq!(guest.poll_all().len() as u64, FRAMES);
                let mut sent = wire.take_sent();
                let all = sent.len() as u64;
                sent.dedup();
                let expected: Vec<_> = (0..FRAMES).map(|number| packet(100, number)).collect();
                assert_eq!(sent, expected, "after {stores} stores");
                assert!(all <= FRAMES + u64::from(died), "after {stores} stores");
                died
            });
        }
    });
}

/// Reads frames as a driver does that merges buffers, by the number in each header.
fn delivered(guest: &mut GuestRing) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some(first) = guest.poll() {
        let mut bytes = guest.bytes(&first);
        for _ in 1..u16::from_le_bytes([bytes[10], bytes[11]]) {
            let used = guest.poll().expect("a frame comes as a whole");
            bytes.extend(guest.bytes(&used));
        }
        frames.push(bytes.split_off(HDR_LEN));
    }
    frames
}

#[test]
fn a_receive_queue_loses_one_frame_at_most_and_delivers_each_once_and_as_a_whole() {
    every_layout(|layout| {
        // Two buffers for each frame of 100 bytes and its header, or one.
        for room in [64, 128] {
            at_each_store(|stores| {
                let mut guest = GuestRing::new(&TestMemory::new(), ring(layout, 32));
                let kept = Kept::new(layout, 32);
                let (backend, wire) = Wire::new();
                let mut backend = Mortal(backend);
                let memory = guest.memory().clone();
                for _ in 0..20 {
                    guest.add(&[memory.room(room)]);
                }
                guest.publish();
                for number in 0..FRAMES {
                    wire.inject(packet(100, number));
                }
                let mut run = |device: AnyRing| {
                    let mut engine = RxEngine::new(device, 32, MERGE, Arc::default());
                    let limit = &mut ScriptedLimit::default();
                    engine.run(&mut backend, limit, None, 0, PLENTY);
                };
                let device = guest.device().with_journal(kept.journal.clone());
                kill_after(stores);
                run(device);
                let died = revive();
                if died {
                    run(kept.replacement(guest.memory(), guest.config()));
                }
                let frames = delivered(&mut guest);
                let mut expected: Vec<_> = (0..FRAMES)
                    .map(|number| packet(100, number).split_off(HDR_LEN))
                    .collect();
                let lost = expected.len() - frames.len();
                assert!(lost <= usize::from(died), "after {stores} stores: {lost}");
                expected.retain(|frame| frames.contains(frame));
                assert_eq!(frames, expected, "after {stores} stores");
                died
            });
        }
    });
}
