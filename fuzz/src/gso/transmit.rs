//! A driver's frames on their way to a backend that takes groups of them.

use std::collections::VecDeque;
use std::io::{self, Stdin};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use net_queue::header::{HdrSize, NetHdr, TxRules};
use net_queue::ring::{AnyRing, RingConfig, UsedElements};
use net_queue::testing::{GuestRing, TestMemory};
use net_queue::{
    Budget, Caps, Engine, FrameBackend, Gather, LinkConfig, MAX_FRAME, Offloads, QueueCounters,
    RecvError, Scatter, SendError, Stop, TxConfig, TxEngine,
};

use super::frames::{self, Flows, MAX_STEPS, bits};
use crate::Seed;
use crate::bytes::Bytes;
use crate::ports::Gate;
use crate::segmentation::{flow, on_the_wire, raw, transmitted, without_atomic_id};

/// More than any script needs.
const PLENTY: Budget = Budget {
    frames: 1 << 20,
    bytes: u64::MAX,
};

/// Answer of the backend to one frame or group.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    NotNow,
    /// It takes no group, but the frames.
    NoGroup,
}

/// Keeps what it is sent as it is on the wire.
struct Sink {
    size: HdrSize,
    rules: TxRules,
    sent: Vec<Vec<u8>>,
    /// Frames and bytes, as counters count them.
    passed: (u64, u64),
    /// Answers to the next calls; afterwards all pass.
    answers: VecDeque<Option<Answer>>,
    fd: Stdin,
}

impl Sink {
    /// The checked header of `bytes`, and what is behind it.
    fn split<'a>(&self, bytes: &'a [u8]) -> (NetHdr, &'a [u8]) {
        let (header, frame) = (raw(bytes, self.size), &bytes[self.size.bytes()..]);
        let checked = NetHdr::check_tx(&header, frame.len() as u32, self.rules);
        let checked = checked.expect("sent what the check refuses");
        assert_eq!(checked.to_raw(self.size).as_bytes(), header.as_bytes());
        (checked, frame)
    }
}

impl FrameBackend for Sink {
    fn caps(&self) -> Caps {
        Caps::default()
    }

    fn configure(&mut self, _: &LinkConfig) -> io::Result<()> {
        Ok(())
    }

    fn send(&mut self, frame: &Gather<'_>) -> Result<(), SendError> {
        let count = frame.frames();
        match self.answers.pop_front().flatten() {
            Some(Answer::NotNow) => return Err(SendError::WouldBlock),
            Some(Answer::NoGroup) if count > 1 => return Err(SendError::Refused),
            _ => {}
        }
        let mut bytes = vec![0; frame.len()];
        assert!(frame.len() <= MAX_FRAME + self.size.bytes());
        assert_eq!(frame.copy_to(&mut bytes)?, frame.len());
        let (header, whole) = self.split(&bytes);
        let wire = on_the_wire(whole, header);
        assert!(count == 1 || wire.len() == count, "cut at other places");
        let cut: Vec<_> = wire.into_iter().map(without_atomic_id).collect();
        for index in 0..count {
            let mut one = vec![0; frame.len()];
            let len = frame.copy_frame(index, &mut one)?;
            let (header, part) = self.split(&one[..len]);
            if count > 1 {
                let part = on_the_wire(part, header);
                let part = part.into_iter().map(without_atomic_id);
                assert!(part.eq(cut.get(index).cloned()), "shown");
            }
            self.passed.0 += 1;
            self.passed.1 += (len - self.size.bytes()) as u64;
        }
        self.sent.extend(cut);
        Ok(())
    }

    fn recv(&mut self, _: &mut Scatter<'_>) -> Result<usize, RecvError> {
        Err(RecvError::WouldBlock)
    }

    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

struct World {
    memory: TestMemory,
    guest: GuestRing,
    engine: TxEngine<AnyRing>,
    counters: Arc<QueueCounters>,
    config: TxConfig,
    on: Offloads,
    sink: Sink,
    gate: Gate,
    flows: Flows,
    /// Chains that are not used, with their frames as they are to be on the wire.
    waiting: VecDeque<(u16, Vec<Vec<u8>>)>,
    /// Such frames of used chains, since the engine was made.
    done: Vec<Vec<u8>>,
}

/// Terms: bits (1), offloads (1), groups (1), what is cut (1).
pub(super) fn run(input: &mut Bytes<'_>, ring: RingConfig, size: HdrSize) {
    let mut world = World::take(input, ring, size);
    for _ in 0..MAX_STEPS {
        if input.remaining().is_empty() {
            break;
        }
        world.step(input);
    }
    world.finish();
}

impl World {
    fn take(input: &mut Bytes<'_>, ring: RingConfig, size: HdrSize) -> Self {
        let (bits, sends) = (input.u8(), input.u8());
        let [coalesce, cut] =
            [input.u8(), input.u8()].map(|bits| Offloads::from_bits_truncate(bits.into()));
        let on = Offloads::from_bits_truncate(sends.into()) | Offloads::CSUM;
        let segmentation = cut - on - Offloads::UFO;
        let rules = TxRules::new(on);
        let completes = bits & 1 != 0;
        let config = TxConfig {
            size,
            coalesce,
            segmentation,
            ..TxConfig::new(if completes { rules.completing() } else { rules })
        };
        let memory = TestMemory::new();
        let ring = RingConfig {
            used_elements: UsedElements::PerBatch,
            ..ring
        };
        let guest = GuestRing::new(&memory, ring);
        let counters = Arc::<QueueCounters>::default();
        let sink = Sink {
            size,
            // Groups are of kinds that the driver may not send.
            rules: TxRules::new(on | coalesce),
            sent: Vec::new(),
            passed: (0, 0),
            answers: VecDeque::new(),
            fd: io::stdin(),
        };
        Self {
            engine: TxEngine::new(guest.device(), config, counters.clone()),
            memory,
            guest,
            counters,
            config,
            on,
            sink,
            gate: Gate { left: u32::MAX / 2 },
            flows: Flows::default(),
            waiting: VecDeque::new(),
            done: Vec::new(),
        }
    }

    fn step(&mut self, input: &mut Bytes<'_>) {
        match input.u8() % 9 {
            0..=3 => {
                let (frames, cut) = self.flows.next(input);
                for frame in frames {
                    self.post(frame, cut);
                }
            }
            4 => {
                let frame = frames::large(input);
                self.post(frame, None);
            }
            5 => {
                let answers = input.u8();
                let answer = |bit: u8| match (answers >> bit & 1 != 0, bit & 1) {
                    (false, _) => None,
                    (true, 0) => Some(Answer::NotNow),
                    (true, _) => Some(Answer::NoGroup),
                };
                self.sink.answers.extend((0..8).map(answer));
            }
            6 => self.drain(),
            _ => {
                let (left, frames) = (input.u8(), input.u8());
                self.gate.left = left.into();
                let bytes = u64::MAX;
                self.run(Budget {
                    frames: frames.into(),
                    bytes,
                });
            }
        }
    }

    fn post(&mut self, frame: Vec<u8>, cut: Option<usize>) {
        if self.guest.free() < 2 {
            return;
        }
        let bytes = frames::behind(self.config.size, frame);
        let cuts = cut.map(|cut| cut.min(bytes.len()));
        let pieces = self.memory.cut(&bytes, cuts.as_slice());
        let id = self.guest.add(&pieces);
        self.guest.publish();
        let wire = transmitted(&bytes, self.config.size, self.on, self.config.segmentation);
        let wire = wire.into_iter().map(without_atomic_id).collect();
        self.waiting.push_back((id, wire));
    }

    fn run(&mut self, budget: Budget) -> Stop {
        let outcome = self.engine.run(&mut self.sink, &mut self.gate, 0, budget);
        self.poll();
        outcome.stop
    }

    fn poll(&mut self) {
        for used in self.guest.poll_all() {
            let (id, frames) = self.waiting.pop_front().expect("a chain that was posted");
            assert_eq!((used.id, used.len), (id, 0), "used chains");
            self.done.extend(frames);
        }
        let counted = (self.counters.frames(), self.counters.bytes());
        assert_eq!(counted, self.sink.passed, "counters");
    }

    /// Stops as for a snapshot, and goes on with another engine.
    fn drain(&mut self) {
        self.engine.drain(&mut self.sink, &mut self.gate, 0);
        self.poll();
        self.check();
        self.sink.sent.clear();
        self.done.clear();
        let device = RingConfig {
            cursor: self.engine.cursor(),
            ..self.guest.config()
        };
        let device = AnyRing::new(&self.memory.ram(), &device).expect("a cursor of its own");
        self.engine = TxEngine::new(device, self.config, self.counters.clone());
    }

    /// Compares what was sent with what the driver posted: of each flow, and of what is of none,
    /// the first frames in their order, and all of used chains.
    fn check(&self) {
        let waiting = self.waiting.iter().flat_map(|(_, frames)| frames);
        let posted: Vec<_> = self.done.iter().chain(waiting).map(Told::of).collect();
        let sent: Vec<_> = self.sink.sent.iter().map(Told::of).collect();
        let mut flows: Vec<_> = posted.iter().map(|told| &told.flow).collect();
        flows.sort_unstable();
        flows.dedup();
        let known = |told: &Told<'_>| flows.binary_search(&&told.flow).is_ok();
        assert!(sent.iter().all(known), "sent what was never posted");
        for flow in &flows {
            let is_of = |told: &&Told<'_>| told.flow.is_none() || told.flow == **flow;
            let posted: Vec<_> = posted.iter().filter(is_of).map(|told| told.frame).collect();
            let sent: Vec<_> = sent.iter().filter(is_of).map(|told| told.frame).collect();
            let used = self.done.iter().map(Told::of);
            let used = used.filter(|told| is_of(&told)).count();
            assert!(posted.starts_with(&sent), "order or content");
            assert!(sent.len() >= used, "used before it was sent");
        }
    }

    /// With nothing in its way, all leaves.
    fn finish(&mut self) {
        self.sink.answers.clear();
        self.gate.left = u32::MAX / 2;
        let stop = self.run(PLENTY);
        assert!(matches!(stop, Stop::Driver), "{stop:?}");
        assert!(self.waiting.is_empty(), "chains are kept");
        self.check();
        self.drain();
    }
}

/// A frame and its flow.
struct Told<'a> {
    flow: Option<Vec<u8>>,
    frame: &'a [u8],
}

impl<'a> Told<'a> {
    fn of(frame: &'a Vec<u8>) -> Self {
        let flow = flow(frame);
        Self { flow, frame }
    }
}

/// Writes an input as a story; operands are as [`World::step`] takes them.
struct Story(Vec<u8>);

impl Story {
    /// All groups over `ring`; what `cut` says is cut.
    fn new(ring: u8, size: u8, cut: u8) -> Self {
        Self(vec![ring, size, 0, !cut, 0xff, cut])
    }

    /// `count` frames of a flow.
    fn frames(mut self, flow: u8, count: u8, len: u8, bits: u8, more: &[u8]) -> Self {
        self.0.extend([0, flow | (count - 1) << 3, len, bits]);
        self.0.extend(more);
        self
    }

    fn step(mut self, op: u8, operands: &[u8]) -> Self {
        self.0.push(op);
        self.0.extend(operands);
        self
    }

    fn large(self, kind: u8) -> Self {
        self.step(4, &[kind, 0x20, 0x18, 0x10, 0x27, 0xb0, 0x04, 0])
    }

    fn run(self) -> Self {
        self.step(7, &[200, 200])
    }
}

pub(super) fn seeds() -> Vec<Seed> {
    let flows = (0..8).fold(Story::new(0, 0, 0), |story, flow| {
        story.frames(flow, 5, 200, flow & bits::COMPLETE, &[])
    });
    let flows = (0..8).fold(flows, |story, flow| {
        story.frames(flow, 1, 30, bits::FLAGS, &[0x18])
    });
    let refused = Story::new(5, 1, 0)
        .frames(0, 9, 90, bits::SAME_ID, &[])
        .frames(5, 9, 230, 0, &[])
        .step(5, &[0x1a])
        .run()
        .step(6, &[])
        .frames(5, 3, 230, bits::GAP, &[]);
    let cut = Story::new(1, 2, 0x1f)
        .frames(1, 4, 100, 0, &[])
        .large(0x06)
        .frames(1, 4, 100, 0, &[])
        .large(0x21)
        .step(5, &[0x55])
        .run()
        .step(6, &[]);
    // A length, a checksum's place and sum, a tag.
    let lies = [(28, 1), (6, 3), (52, 0xff), (24, 0x80)].into_iter().fold(
        Story::new(4, 0, 0),
        |story, (at, change)| {
            story
                .frames(4, 3, 60, bits::CHANGE, &[at, change])
                .frames(4, 2, 60, bits::CUT, &[20])
        },
    );
    vec![
        ("flows", flows.run().0),
        ("refused_and_held", refused.0),
        ("cut", cut.0),
        ("lies", lies.run().0),
    ]
}
