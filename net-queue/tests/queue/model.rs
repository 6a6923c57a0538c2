//! Random drivers and networks against a model that a page holds: every byte, length and order must
//! agree.

use std::collections::VecDeque;

use net_queue::ring::{AnyRing, Cursor, Layout, RingConfig};
use net_queue::testing::{Answer, Shape};
use net_queue::{Budget, DropCause, Engine, RxEngine, Stop, TxConfig, TxEngine};
use proptest::prelude::*;

use crate::rig::{MERGE, PLENTY, RxRig, SINGLE, TxRig, frame, packet, ring};

/// A ring of any layout and size, anywhere in its lap.
fn any_ring() -> impl Strategy<Value = RingConfig> {
    let split = (2_u32..7, any::<u16>()).prop_map(|(log, start)| (Layout::Split, 1 << log, start));
    let packed =
        (5_u16..60, any::<u16>()).prop_map(|(size, start)| (Layout::Packed, size, start % size));
    (prop_oneof![split, packed], any::<[bool; 3]>()).prop_map(
        |(at, [event_idx, in_order, wrap])| {
            let (layout, size, start) = at;
            RingConfig {
                event_idx,
                in_order,
                cursor: Cursor {
                    avail: start,
                    used: Some(start),
                    avail_wrap: wrap,
                    used_wrap: wrap,
                },
                ..ring(layout, size)
            }
        },
    )
}

fn any_shape() -> impl Strategy<Value = Shape> {
    prop_oneof![3 => Just(Shape::Direct), 1 => Just(Shape::Indirect)]
}

#[derive(Clone, Debug)]
enum TxStep {
    /// A frame of that length, cut at these places of it (per mille).
    Send(usize, Vec<usize>, Shape),
    /// A chain that is shorter than a header.
    Junk(usize),
    /// A run with that budget, after which the backend may have blocked.
    Run(u32, Option<usize>),
    /// Another engine goes on from the cursor.
    Restart,
}

fn tx_step() -> impl Strategy<Value = TxStep> {
    // A table may be longer than the smallest rings.
    let cuts = prop::collection::vec(0_usize..=1000, 0..8);
    prop_oneof![
        6 => (14_usize..3000, cuts, any_shape()).prop_map(|(len, cuts, shape)| TxStep::Send(len, cuts, shape)),
        1 => (0_usize..12).prop_map(TxStep::Junk),
        3 => (1_u32..20, prop::option::of(0_usize..5)).prop_map(|(budget, blocks)| TxStep::Run(budget, blocks)),
        1 => Just(TxStep::Restart),
    ]
}

/// Chains in the order they were made available: their frame, or nothing for junk.
type TxModel = VecDeque<(u16, Option<Vec<u8>>)>;

/// Compares one run with the model.
fn tx_run(rig: &mut TxRig, model: &mut TxModel, frames: u32, blocks: Option<usize>) {
    if let Some(after) = blocks {
        let passes = vec![Answer::Pass; after];
        rig.wire
            .script_send(passes.into_iter().chain([Answer::WouldBlock]));
    }
    let stop = rig.run_at(0, Budget { frames, ..PLENTY }).stop;
    let used = rig.guest.poll_all();
    let done: Vec<_> = model.drain(..used.len()).collect();
    assert!(used.iter().all(|used| used.len == 0));
    assert!(
        used.iter()
            .map(|used| used.id)
            .eq(done.iter().map(|(id, _)| *id))
    );
    let expected: Vec<_> = done.into_iter().filter_map(|(_, frame)| frame).collect();
    assert_eq!(rig.wire.take_sent(), expected);
    match stop {
        Stop::Driver => assert!(model.is_empty()),
        Stop::Budget => assert_eq!(used.len(), frames as usize),
        Stop::Backend => assert!(blocks.is_some() && !model.is_empty()),
        other => panic!("{other:?}"),
    }
}

#[derive(Clone, Debug)]
enum RxStep {
    /// A chain of buffers of these lengths.
    Post(Vec<usize>, Shape),
    /// A frame of that length arrives.
    Inject(usize),
    /// A run.
    Run,
    /// The queue stops, and another engine goes on.
    Restart,
}

fn rx_step() -> impl Strategy<Value = RxStep> {
    let piece = prop_oneof![
        Just(0_usize),
        1_usize..30,
        100_usize..600,
        Just(1526),
        Just(4096)
    ];
    let lens = prop::collection::vec(piece, 1..8);
    let long_enough = lens.prop_map(|mut lens| {
        // Below this a chain is of no use, which has its own tests.
        lens.push(26);
        lens
    });
    prop_oneof![
        6 => (long_enough, any_shape()).prop_map(|(lens, shape)| RxStep::Post(lens, shape)),
        3 => prop_oneof![14_usize..2000, 5000_usize..30_000].prop_map(RxStep::Inject),
        3 => Just(RxStep::Run),
        1 => Just(RxStep::Restart),
    ]
}

struct Posted {
    id: u16,
    room: usize,
    slots: usize,
}

/// The chains that a frame takes and the bytes in each, then the frame's length and seed.
type Delivery = (Vec<(u16, usize)>, (usize, u64));

/// Model of reception: frames wait for chains, chains for frames.
struct RxModel {
    merge: bool,
    size: usize,
    posted: VecDeque<Posted>,
    waiting: VecDeque<(usize, u64)>,
    /// The first waiting frame has left the backend already.
    held: bool,
    dropped: u64,
}

impl RxModel {
    /// The next frame that is delivered.
    fn next(&mut self) -> Option<Delivery> {
        loop {
            let first = self.posted.front()?.room;
            let (len, seed) = *self.waiting.front()?;
            let total = len + 12;
            let room: usize = self.posted.iter().map(|chain| chain.room).sum();
            if self.merge && total > room && self.may_post_more() {
                self.held = true;
                return None;
            }
            self.waiting.pop_front();
            self.held = false;
            if total > if self.merge { room } else { first } {
                self.dropped += 1;
                continue;
            }
            let mut left = total;
            let mut chains = Vec::new();
            while left > 0 {
                let chain = self.posted.pop_front()?;
                chains.push((chain.id, left.min(chain.room)));
                left -= left.min(chain.room);
            }
            return Some((chains, (len, seed)));
        }
    }

    fn may_post_more(&self) -> bool {
        let slots: usize = self.posted.iter().map(|chain| chain.slots).sum();
        let last = self.posted.back().map_or(0, |chain| chain.slots);
        slots + last - 1 < self.size
    }

    fn resume(&mut self) {
        if std::mem::take(&mut self.held) {
            self.waiting.pop_front();
            self.dropped += 1;
        }
    }
}

fn rx_run(rig: &mut RxRig, model: &mut RxModel) {
    let stop = rig.run().stop;
    while let Some((chains, (len, seed))) = model.next() {
        let (header, bytes, used) = rig.take_frame().expect("the model's frame");
        let count = if model.merge { chains.len() } else { 1 };
        assert_eq!(header[..10], [0; 10]);
        assert_eq!(
            usize::from(u16::from_le_bytes([header[10], header[11]])),
            count
        );
        assert_eq!(bytes, frame(len, seed));
        let used: Vec<_> = used
            .iter()
            .map(|used| (used.id, used.len as usize))
            .collect();
        assert_eq!(used, chains);
    }
    assert_eq!(rig.guest.poll(), None, "the model has no more");
    assert_eq!(rig.dropped_for_any(), model.dropped);
    assert_eq!(
        rig.wire.waiting() + usize::from(model.held),
        model.waiting.len()
    );
    let starved = model.posted.is_empty() || model.held;
    assert_eq!(matches!(stop, Stop::Driver), starved, "{stop:?}");
}

fn restart_rx(rig: &mut RxRig, model: &mut RxModel) {
    rig.engine.drain(&mut rig.limit, None, 0);
    model.resume();
    let config = RingConfig {
        cursor: rig.engine.cursor(),
        ..rig.guest.config()
    };
    let ram = rig.guest.memory().ram();
    let device = AnyRing::new(&ram, &config).expect("a settled cursor");
    let rx = if model.merge { MERGE } else { SINGLE };
    rig.engine = RxEngine::new(device, config.size, rx, rig.counters.clone());
}

impl RxRig {
    fn dropped_for_any(&self) -> u64 {
        let held = self.counters.drops(DropCause::Stopped) + self.counters.drops(DropCause::NoRoom);
        assert_eq!(self.counters.dropped(), held);
        held
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn transmit(config in any_ring(), steps in prop::collection::vec(tx_step(), 1..60)) {
        let mut rig = TxRig::new(config);
        let mut model = TxModel::new();
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                TxStep::Send(len, mut cuts, shape)
                    if rig.guest.free() > if shape == Shape::Direct { cuts.len() } else { 0 } =>
                {
                    let bytes = packet(len, n as u64);
                    cuts.iter_mut().for_each(|cut| *cut = *cut * bytes.len() / 1000);
                    cuts.sort_unstable();
                    let pieces = rig.guest.memory().cut(&bytes, &cuts);
                    model.push_back((rig.guest.add_as(shape, &pieces), Some(bytes)));
                }
                TxStep::Junk(len) if rig.guest.free() > 0 => {
                    let pieces = rig.guest.memory().cut(&vec![1; len], &[]);
                    model.push_back((rig.guest.add(&pieces), None));
                }
                TxStep::Run(frames, blocks) => {
                    rig.guest.publish();
                    tx_run(&mut rig, &mut model, frames, blocks);
                    rig.wire.clear_scripts();
                }
                TxStep::Restart => {
                    let config = RingConfig { cursor: rig.engine.cursor(), ..rig.guest.config() };
                    let device = AnyRing::new(&rig.guest.memory().ram(), &config).expect("its cursor");
                    rig.engine = TxEngine::new(device, TxConfig::default(), rig.counters.clone());
                }
                TxStep::Send(..) | TxStep::Junk(_) => {}
            }
        }
        rig.guest.publish();
        tx_run(&mut rig, &mut model, PLENTY.frames, None);
        prop_assert!(model.is_empty());
    }

    #[test]
    fn receive(config in any_ring(), merge: bool, steps in prop::collection::vec(rx_step(), 1..80)) {
        let mut rig = RxRig::new(config, if merge { MERGE } else { SINGLE });
        let mut model = RxModel {
            merge,
            size: usize::from(config.size),
            posted: VecDeque::new(),
            waiting: VecDeque::new(),
            held: false,
            dropped: 0,
        };
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                RxStep::Post(lens, shape) => {
                    let slots = if shape == Shape::Direct { lens.len() } else { 1 };
                    if rig.guest.free() >= slots {
                        let pieces = rig.rooms(&lens);
                        let id = rig.guest.add_as(shape, &pieces);
                        rig.guest.publish();
                        model.posted.push_back(Posted { id, room: lens.iter().sum(), slots });
                    }
                }
                RxStep::Inject(len) => {
                    rig.wire.inject(packet(len, n as u64));
                    model.waiting.push_back((len, n as u64));
                }
                RxStep::Run => rx_run(&mut rig, &mut model),
                RxStep::Restart => restart_rx(&mut rig, &mut model),
            }
        }
        rx_run(&mut rig, &mut model);
    }
}
