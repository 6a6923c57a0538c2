//! An engine between a scripted driver and a scripted backend.

use std::sync::Arc;

use net_queue::header::{HDR_LEN, HdrSize, TxRules};
use net_queue::ring::{AnyRing, Cursor, Layout, Ring, RingConfig, UsedElements};
use net_queue::testing::{
    GuestRing, LAYOUTS, Piece, Random, ScriptedBackend, ScriptedLimit, TakenChain, TestMemory,
    Used, Wire,
};
use net_queue::{
    Budget, DropCause, Engine, FrameFilter, GuestRam, Offloads, Outcome, QueueCounters, RxConfig,
    RxEngine, Stop, TxConfig, TxEngine,
};

/// A device that stopped at `cursor` can be saved, and another one goes on there: every run of a
/// rig ends here, however hostile its driver was and whether or not the queue is broken. The other
/// one takes no more than a ring holds before the driver was told of any.
pub(crate) fn restores(memory: &TestMemory, config: RingConfig, cursor: Cursor) {
    let config = RingConfig { cursor, ..config };
    let mut next = AnyRing::new(&memory.ram(), &config)
        .unwrap_or_else(|error| panic!("a snapshot that does not restore: {error}: {cursor:?}"));
    assert_eq!(next.cursor(), cursor);
    let chains = std::iter::from_fn(|| TakenChain::next(&mut next));
    let taken = chains.map(drop).take(usize::from(config.size) + 1).count();
    assert!(taken <= config.size.into(), "more than the ring holds");
}

/// More than any test needs.
pub(crate) const PLENTY: Budget = Budget {
    frames: 1 << 20,
    bytes: 1 << 40,
};

/// A ring of `size` in `layout` with indirect tables allowed.
pub(crate) fn ring(layout: Layout, size: u16) -> RingConfig {
    RingConfig {
        layout,
        size,
        indirect: true,
        ..RingConfig::default()
    }
}

/// Runs `test` once for each layout; a failure's output names it.
pub(crate) fn every_layout(test: impl Fn(Layout)) {
    for layout in LAYOUTS {
        println!("layout: {layout:?}");
        test(layout);
    }
}

/// Runs `test` for each layout, with and without `EVENT_IDX` and `IN_ORDER`.
pub(crate) fn every_ring(size: u16, test: impl Fn(RingConfig)) {
    every_layout(|layout| {
        for (event_idx, in_order) in [(false, false), (true, false), (false, true), (true, true)] {
            println!("event_idx: {event_idx}, in_order: {in_order}");
            test(RingConfig {
                event_idx,
                in_order,
                ..ring(layout, size)
            });
        }
    });
}

/// A frame of `len` bytes whose content depends on `seed`: no VLAN tag, no multicast address.
pub(crate) fn frame(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = Random::new(seed).bytes(len);
    for (at, byte) in [(0, 2), (12, 8), (13, 0)] {
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
    }
    bytes
}

/// The frame behind a header of a complete frame.
pub(crate) fn packet(len: usize, seed: u64) -> Vec<u8> {
    [vec![0; HDR_LEN], frame(len, seed)].concat()
}

/// A transmit queue.
pub(crate) struct TxRig {
    pub(crate) guest: GuestRing,
    /// The engine's ring, and where it lies.
    ring: (TestMemory, RingConfig),
    pub(crate) engine: TxEngine<AnyRing>,
    pub(crate) backend: ScriptedBackend,
    pub(crate) wire: Wire,
    pub(crate) limit: ScriptedLimit,
    pub(crate) counters: Arc<QueueCounters>,
}

impl TxRig {
    pub(crate) fn new(config: RingConfig) -> Self {
        Self::with(config, HdrSize::Base, Offloads::empty())
    }

    pub(crate) fn with(config: RingConfig, size: HdrSize, offloads: Offloads) -> Self {
        Self::on(&TestMemory::new(), config, size, offloads)
    }

    /// In memory that is there already.
    pub(crate) fn on(
        memory: &TestMemory,
        config: RingConfig,
        size: HdrSize,
        offloads: Offloads,
    ) -> Self {
        let config = RingConfig {
            used_elements: UsedElements::PerBatch,
            ..config
        };
        let guest = GuestRing::new(memory, config);
        let (backend, wire) = Wire::new();
        let counters = Arc::<QueueCounters>::default();
        let rules = TxRules::new(offloads);
        let config = TxConfig {
            size,
            ..TxConfig::new(rules)
        };
        let engine = TxEngine::new(guest.device(), config, counters.clone());
        Self {
            ring: (guest.memory().clone(), guest.config()),
            guest,
            engine,
            backend,
            wire,
            limit: ScriptedLimit::default(),
            counters,
        }
    }

    /// A device alone, on a ring that is laid out already.
    pub(crate) fn over(memory: &TestMemory, config: RingConfig) -> Self {
        let mut rig = Self::new(RingConfig { size: 1, ..config });
        let device = AnyRing::new(&memory.ram(), &config).expect("the ring was laid out for it");
        let rules = TxRules::new(Offloads::all());
        rig.engine = TxEngine::new(device, TxConfig::new(rules), rig.counters.clone());
        rig.ring = (memory.clone(), config);
        rig
    }

    /// Adds `bytes` as one chain, cut after each offset in `cuts`, and publishes it.
    pub(crate) fn send(&mut self, bytes: &[u8], cuts: &[usize]) -> u16 {
        let pieces = self.guest.memory().cut(bytes, cuts);
        let id = self.guest.add(&pieces);
        self.guest.publish();
        id
    }

    pub(crate) fn run(&mut self) -> Outcome {
        self.run_at(0, PLENTY)
    }

    pub(crate) fn run_at(&mut self, now: u64, budget: Budget) -> Outcome {
        let outcome = self
            .engine
            .run(&mut self.backend, &mut self.limit, now, budget);
        restores(&self.ring.0, self.ring.1, self.engine.cursor());
        outcome
    }

    /// Runs until the ring is empty and returns what went out.
    pub(crate) fn drain(&mut self) -> Vec<Vec<u8>> {
        let outcome = self.run();
        assert!(matches!(outcome.stop, Stop::Driver), "{:?}", outcome.stop);
        self.wire.take_sent()
    }

    /// Drops counted so far, which must all be for `cause`.
    pub(crate) fn dropped_for(&self, cause: DropCause) -> u64 {
        assert_eq!(
            self.counters.dropped(),
            self.counters.drops(cause),
            "other causes too"
        );
        self.counters.dropped()
    }
}

/// Every length of the header.
pub(crate) const SIZES: [HdrSize; 4] = [
    HdrSize::Legacy,
    HdrSize::Base,
    HdrSize::HashReport,
    HdrSize::Tunnel,
];

/// Features that most receive tests negotiate: merging, nothing else.
pub(crate) const MERGE: RxConfig = RxConfig {
    size: HdrSize::Base,
    offloads: Offloads::empty(),
    merge: true,
    mtu: None,
    link_mtu: None,
};

/// The same without merging.
pub(crate) const SINGLE: RxConfig = RxConfig {
    merge: false,
    ..MERGE
};

/// A receive queue.
pub(crate) struct RxRig {
    pub(crate) guest: GuestRing,
    pub(crate) engine: RxEngine<AnyRing>,
    pub(crate) backend: ScriptedBackend,
    pub(crate) wire: Wire,
    pub(crate) limit: ScriptedLimit,
    pub(crate) counters: Arc<QueueCounters>,
}

impl RxRig {
    pub(crate) fn new(ring: RingConfig, config: RxConfig) -> Self {
        let memory = TestMemory::new();
        let ram = memory.ram();
        Self::over(memory, ram, ring, config)
    }

    /// With the engine's own view of the memory.
    pub(crate) fn over(
        memory: TestMemory,
        ram: GuestRam,
        ring: RingConfig,
        config: RxConfig,
    ) -> Self {
        let guest = GuestRing::new(&memory, ring);
        let (backend, wire) = Wire::new();
        let counters = Arc::<QueueCounters>::default();
        let device = AnyRing::new(&ram, &guest.config()).expect("the ring was laid out for it");
        let engine = RxEngine::new(device, ring.size, config, counters.clone());
        Self {
            guest,
            engine,
            backend,
            wire,
            limit: ScriptedLimit::default(),
            counters,
        }
    }

    /// Posts one chain of writable buffers with the given lengths.
    pub(crate) fn post(&mut self, lens: &[usize]) -> u16 {
        let pieces = self.rooms(lens);
        let id = self.guest.add(&pieces);
        self.guest.publish();
        id
    }

    /// Poisoned buffers of the given lengths.
    pub(crate) fn rooms(&self, lens: &[usize]) -> Vec<Piece> {
        lens.iter()
            .map(|len| self.guest.memory().room(*len))
            .collect()
    }

    pub(crate) fn run(&mut self) -> Outcome {
        self.run_with(None, 0, PLENTY)
    }

    pub(crate) fn run_with(
        &mut self,
        filter: Option<&dyn FrameFilter>,
        now: u64,
        budget: Budget,
    ) -> Outcome {
        let outcome = self
            .engine
            .run(&mut self.backend, &mut self.limit, filter, now, budget);
        restores(
            self.guest.memory(),
            self.guest.config(),
            self.engine.cursor(),
        );
        outcome
    }

    /// Runs until the backend is empty.
    pub(crate) fn drain(&mut self) {
        let stop = self.run().stop;
        let done = matches!(stop, Stop::Backend | Stop::Driver);
        assert!(done && self.wire.waiting() == 0, "{stop:?}");
    }

    /// Receives one frame only.
    pub(crate) fn drain_one(&mut self) {
        let one = Budget {
            frames: 1,
            ..PLENTY
        };
        let stop = self.run_with(None, 0, one).stop;
        assert!(matches!(stop, Stop::Budget), "{stop:?}");
    }

    /// Takes the next delivered frame as a driver does: the header says how many chains it has.
    /// Returns header, frame, and the chains.
    pub(crate) fn take_frame(&mut self) -> Option<(Vec<u8>, Vec<u8>, Vec<Used>)> {
        let first = self.guest.poll()?;
        let mut bytes = self.guest.bytes(&first);
        let mut chains = vec![first];
        let count = u16::from_le_bytes([bytes[10], bytes[11]]);
        for _ in 1..count {
            let used = self
                .guest
                .poll()
                .expect("all chains of a frame are used together");
            bytes.extend(self.guest.bytes(&used));
            chains.push(used);
        }
        let frame = bytes.split_off(HDR_LEN);
        Some((bytes, frame, chains))
    }

    /// Drops counted so far, which must all be for `cause`.
    pub(crate) fn dropped_for(&self, cause: DropCause) -> u64 {
        assert_eq!(
            self.counters.dropped(),
            self.counters.drops(cause),
            "other causes too"
        );
        self.counters.dropped()
    }
}
