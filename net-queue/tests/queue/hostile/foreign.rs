//! A driver that looks for other guests' frames in its own buffers.

use std::sync::Arc;

use net_queue::header::{HDR_LEN, flags, gso};
use net_queue::ring::RingConfig;
use net_queue::testing::{Answer, DirtyRanges, POISON, Piece, ScriptedLimit, TestMemory};
use net_queue::{FrameFilter, MAX_FRAME, Offloads, RxConfig, Stop};

use crate::rig::{MERGE, PLENTY, RxRig, SINGLE, every_ring, frame, packet};

struct OnlyFrom(u8);

impl FrameFilter for OnlyFrom {
    fn admit(&self, head: &[u8]) -> bool {
        head.get(6) == Some(&self.0)
    }
}

/// Byte that nothing else in these tests consists of.
const SECRET: u8 = 0x5c;

/// A queue whose buffers are watched, which expects a long frame and therefore receives directly.
struct Watched {
    rig: RxRig,
    marks: Arc<DirtyRanges>,
    posted: Vec<Piece>,
}

impl Watched {
    fn new(ring: RingConfig, config: RxConfig) -> Self {
        let (memory, marks) = (TestMemory::new(), Arc::new(DirtyRanges::default()));
        let ram = memory.ram().with_dirty_log(Some(marks.clone()));
        let mut rig = RxRig::over(memory, ram, ring, config);
        rig.post(&[6000]);
        let mut own = packet(5000, 9);
        own[HDR_LEN + 6] = 1;
        rig.wire.inject(own);
        rig.run_with(Some(&OnlyFrom(1)), 0, PLENTY);
        rig.take_frame().expect("its own long frame");
        marks.take();
        let _ = rig.wire.take_rooms();
        let posted = Vec::new();
        Self { rig, marks, posted }
    }

    fn post(&mut self, lens: &[usize]) {
        let pieces = self.rig.rooms(lens);
        self.rig.guest.add(&pieces);
        self.rig.guest.publish();
        self.posted.extend(pieces);
    }

    /// Nothing foreign is left in any buffer, and what is not as the driver left it was told to the
    /// dirty log.
    fn nothing_is_left(&self, what: &str) {
        let marks = self.marks.take();
        for piece in &self.posted {
            let bytes = self.rig.guest.memory().read(piece.addr, piece.len as usize);
            for (addr, byte) in (piece.addr..).zip(bytes) {
                let marked = || {
                    marks
                        .iter()
                        .any(|(at, len)| (*at..at + len).contains(&addr))
                };
                assert_ne!(byte, SECRET, "{what}: foreign byte at {addr:#x}");
                assert!(byte == POISON || marked(), "{what}: no mark at {addr:#x}");
            }
        }
    }
}

/// Somebody else's frame of `len` bytes.
fn foreign(len: usize) -> Vec<u8> {
    let mut bytes = vec![SECRET; HDR_LEN + len];
    bytes[..HDR_LEN].fill(0);
    bytes
}

/// The same with a header that no driver gets.
fn misshapen(len: usize) -> Vec<u8> {
    let mut bytes = foreign(len);
    bytes[..2].copy_from_slice(&[flags::NEEDS_CSUM, gso::TCPV4]);
    bytes
}

/// Every way in which a frame that was received directly is not delivered.
#[test]
fn foreign_bytes() {
    let mtu = RxConfig {
        mtu: Some(5000),
        ..MERGE
    };
    let segments = RxConfig {
        offloads: Offloads::all(),
        ..MERGE
    };
    let cases: &[(&str, RxConfig, &[usize], Vec<u8>)] = &[
        ("filtered", MERGE, &[4000], foreign(3000)),
        (
            "filtered, many pieces",
            MERGE,
            &[5, 300, 1, 4000],
            foreign(3000),
        ),
        ("filtered, in part beside", MERGE, &[700], foreign(3000)),
        ("a header of no use", MERGE, &[4000], misshapen(3000)),
        (
            "segments that make no sense",
            segments,
            &[4000],
            misshapen(3000),
        ),
        ("above the MTU", mtu, &[4000], foreign(5100)),
        (
            "longer than any frame",
            MERGE,
            &[4000],
            foreign(MAX_FRAME + 1),
        ),
        ("longer than its chain", SINGLE, &[1000], foreign(3000)),
        ("shorter than a header", MERGE, &[4000], vec![SECRET; 11]),
        ("shorter than a frame", MERGE, &[4000], foreign(13)),
    ];
    every_ring(64, |ring| {
        for (what, config, lens, bytes) in cases {
            let mut watched = Watched::new(ring, *config);
            watched.post(lens);
            watched.rig.wire.inject(bytes.clone());
            watched.rig.run_with(Some(&OnlyFrom(1)), 0, PLENTY);
            assert_eq!(watched.rig.counters.dropped(), 1, "{what}");
            watched.nothing_is_left(what);
        }
    });
}

/// Nobody knows how much of a lost frame was written already.
#[test]
fn foreign_bytes_of_a_lost_frame() {
    every_ring(64, |ring| {
        for answer in [Answer::Refused, Answer::Dead] {
            let mut watched = Watched::new(ring, MERGE);
            watched.post(&[5, 4000]);
            let piece = watched.posted[1];
            // The backend got so far.
            watched.rig.guest.memory().write(piece.addr, &[SECRET; 99]);
            watched.rig.wire.inject(foreign(3000));
            watched.rig.wire.script_recv([answer]);
            watched.rig.run();
            watched.nothing_is_left("lost");
        }
    });
}

#[derive(Clone, Copy, Debug)]
enum End {
    Settle,
    Abandon,
    Filter,
    GiveUp,
}

/// Frames that wait lie in the driver's buffers already, received directly or not.
#[test]
fn foreign_bytes_of_a_frame_that_waited() {
    every_ring(64, |ring| {
        for limited in [false, true] {
            for direct in [false, true] {
                for end in [End::Settle, End::Abandon, End::Filter, End::GiveUp] {
                    println!("{end:?}, limited: {limited}, direct: {direct}");
                    let mut watched = Watched::new(ring, MERGE);
                    for n in 0..if direct { 0 } else { 20 } {
                        watched.rig.post(&[100]);
                        watched.rig.wire.inject(packet(60, n));
                        watched.rig.run();
                        watched.rig.take_frame().expect("a short one");
                    }
                    watched.marks.take();
                    watched.post(&[5, 700]);
                    if limited {
                        watched.post(&[4000]);
                    }
                    watched.rig.limit = ScriptedLimit::holding_after(0, 77);
                    watched.rig.wire.inject(foreign(3000));
                    let stop = watched.rig.run().stop;
                    assert_eq!(matches!(stop, Stop::Limited(_)), limited, "{stop:?}");
                    watched.rig.limit = ScriptedLimit::default();
                    let rig = &mut watched.rig;
                    match end {
                        End::Settle => {
                            rig.engine.drain(&mut rig.limit, Some(&OnlyFrom(1)), 0);
                        }
                        End::Abandon => rig.engine.discard_held(),
                        End::GiveUp if !limited => rig.engine.give_up(),
                        End::GiveUp | End::Filter => {
                            rig.run_with(Some(&OnlyFrom(1)), 0, PLENTY);
                        }
                    }
                    assert_eq!(watched.rig.counters.dropped(), 1);
                    watched.nothing_is_left("waited");
                }
            }
        }
    });
}

/// A chain of no use behind good ones makes the engine give all of them back, with nothing in them.
#[test]
fn foreign_bytes_in_chains_that_are_discarded() {
    every_ring(64, |ring| {
        let mut watched = Watched::new(ring, MERGE);
        watched.post(&[700]);
        watched.post(&[4]);
        watched.rig.wire.inject(foreign(3000));
        watched.rig.run();
        assert_eq!(watched.rig.guest.poll().map(|used| used.len), Some(0));
        watched.nothing_is_left("discarded");
    });
}

/// Direct reception pauses, so that a flood of foreign frames does not reach the driver's buffers
/// at all.
#[test]
fn frames_behind_a_foreign_one_pass_through_private_memory() {
    every_ring(64, |ring| {
        let mut watched = Watched::new(ring, MERGE);
        watched.post(&[9000]);
        for _ in 0..5 {
            watched.rig.wire.inject(foreign(8000));
        }
        watched.rig.run_with(Some(&OnlyFrom(1)), 0, PLENTY);
        let rooms = watched.rig.wire.take_rooms();
        assert_eq!(
            rooms[0],
            rooms[1] + 9000,
            "only the first is received directly"
        );
        assert!(rooms[1..].iter().all(|room| *room == rooms[1]));
        watched.nothing_is_left("flood");
        // The driver's own frames are received as ever.
        let mut own = packet(300, 2);
        own[HDR_LEN + 6] = 1;
        watched.rig.wire.inject(own.clone());
        watched.rig.run_with(Some(&OnlyFrom(1)), 0, PLENTY);
        let (_, bytes, _) = watched.rig.take_frame().expect("its own");
        assert_eq!(
            (bytes.len(), &bytes[..]),
            (frame(300, 2).len(), &own[HDR_LEN..])
        );
    });
}
