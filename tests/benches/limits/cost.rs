//! Cost of a limit that never refuses: the same engine on the same tap, with one and without, in
//! turn.

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use net_device::Layout;
use net_device::net_queue::header::TxRules;
use net_device::net_queue::ring::AnyRing;
use net_device::net_queue::{
    Engine, FrameBackend, QueueCounters, RxEngine, Stop, TxConfig, TxEngine,
};
use net_device::rate_limiter::{Group, Limiter, RateLimiter, RateLimiterConfig, TokenBucketConfig};
use net_device::tap::Tap;

use crate::driver::{self, DriverRing, SIZE, WORKER_BUDGET};
use crate::frames::Kind;
use crate::host::{self, PacketSocket};
use crate::paired::{self, Paired, timed};

/// Bound for the cost of a limit, as a ratio of medians.
const DEAREST: f64 = 1.02;
/// Chains that the driver makes available at once, and whether the cost is judged there. A limiter
/// needs the time once a batch: for a single frame that counts whole here, where waking up for it
/// does not count at all.
const BATCHES: [(u16, bool); 2] = [(1, false), (32, true)];
const KINDS: [Kind; 2] = [Kind::Plain(64), Kind::Plain(1514)];
/// So many that the median stands still to a part of a percent.
const ROUNDS: usize = 1001;

/// Name of a limit in the table, and how to make it.
type NamedLimit = (&'static str, fn() -> Limiter);

const LIMITS: [NamedLimit; 4] = [
    ("bytes", || own(false)),
    ("bytes+frames", || own(true)),
    ("shared", || shared(&group())),
    ("shared twice", || {
        let device = group().within(&endless(true));
        shared(&device.expect("a usable limit"))
    }),
];

/// Bytes without end, which are counted all the same; frames too, if asked for.
fn endless(frames: bool) -> RateLimiterConfig {
    let bucket = |size| TokenBucketConfig {
        size,
        one_time_burst: None,
        refill_time: 100,
    };
    RateLimiterConfig {
        bandwidth: Some(bucket(1 << 50)),
        ops: frames.then(|| bucket(1 << 40)),
        ..RateLimiterConfig::default()
    }
}

fn own(frames: bool) -> Limiter {
    RateLimiter::new(&endless(frames))
        .expect("a usable limit")
        .into()
}

fn group() -> Group {
    Group::new(&endless(true)).expect("a usable limit")
}

fn shared(group: &Group) -> Limiter {
    group.member(Arc::new(|| {})).into()
}

/// The time for a limiter, as the worker looks at it: only where there is one.
fn now(limit: &Limiter) -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    match limit {
        Limiter::Unlimited => 0,
        _ => START.elapsed().as_nanos() as u64,
    }
}

/// One batch by a worker with its own ring.
trait Side {
    fn turn(&mut self, batch: u16) -> u64;
}

struct Tx {
    driver: DriverRing,
    engine: TxEngine<AnyRing>,
    backend: Box<dyn FrameBackend>,
    limit: Limiter,
}

impl Tx {
    fn new(kind: Kind, tap: &Tap, limit: Limiter) -> Self {
        let bytes = kind.bytes();
        let driver = DriverRing::new(Layout::Split, bytes.len(), false);
        for piece in &driver.pieces {
            driver.memory.write(piece.addr, &bytes);
        }
        let rules = TxRules::new(driver::offloads());
        Self {
            engine: TxEngine::new(driver.ring.device(), TxConfig::new(rules), Arc::default()),
            driver,
            backend: backend(tap),
            limit,
        }
    }

    fn step(&mut self) {
        loop {
            self.engine.disable_notification();
            let now = now(&self.limit);
            let budget = driver::budget(WORKER_BUDGET);
            let done = self
                .engine
                .run(&mut *self.backend, &mut self.limit, now, budget);
            match done.stop {
                Stop::Budget => {}
                Stop::Driver if self.engine.enable_notification() => {}
                Stop::Driver => break,
                stop => panic!("the engine stopped: {stop:?}"),
            }
        }
    }
}

impl Side for Tx {
    fn turn(&mut self, batch: u16) -> u64 {
        self.driver.post(batch);
        let time = timed(|| self.step());
        self.driver.collect(batch);
        time
    }
}

struct Rx {
    driver: DriverRing,
    engine: RxEngine<AnyRing>,
    counters: Arc<QueueCounters>,
    backend: Box<dyn FrameBackend>,
    limit: Limiter,
    sender: PacketSocket,
    frame: Vec<u8>,
}

impl Rx {
    fn new(kind: Kind, tap: &Tap, limit: Limiter) -> Self {
        let mut driver = DriverRing::new(Layout::Split, kind.room(), true);
        let counters = Arc::<QueueCounters>::default();
        let engine = driver.receiver(counters.clone());
        driver.post(SIZE);
        Self {
            driver,
            engine,
            counters,
            backend: backend(tap),
            limit,
            sender: PacketSocket::open(tap, 0).expect("a packet socket can be opened"),
            frame: kind.bytes(),
        }
    }

    fn step(&mut self, batch: u16) {
        let end = self.counters.frames() + u64::from(batch);
        while self.counters.frames() < end {
            self.engine.disable_notification();
            let now = now(&self.limit);
            let budget = driver::budget((end - self.counters.frames()) as u32);
            let done = self
                .engine
                .run(&mut *self.backend, &mut self.limit, None, now, budget);
            assert!(
                matches!(done.stop, Stop::Budget),
                "the engine stopped: {:?}",
                done.stop
            );
        }
    }
}

impl Side for Rx {
    fn turn(&mut self, batch: u16) -> u64 {
        for _ in 0..batch {
            self.sender.send(&self.frame);
        }
        let time = timed(|| self.step(batch));
        self.driver.collect(batch);
        self.driver.post(batch);
        time
    }
}

fn backend(tap: &Tap) -> Box<dyn FrameBackend> {
    driver::backend(tap.try_clone().expect("a descriptor can be duplicated"))
}

/// Two workers that differ in nothing but the limit.
struct Match<S> {
    limited: S,
    unlimited: S,
    batch: u16,
}

impl<S: Side> Paired for Match<S> {
    fn device(&mut self) -> u64 {
        self.limited.turn(self.batch)
    }

    fn bare(&mut self) -> u64 {
        self.unlimited.turn(self.batch)
    }
}

fn hold<S: Side>(dir: &str, kind: Kind, side: fn(Kind, &Tap, Limiter) -> S) -> bool {
    let tap = host::open_taps(1).remove(0);
    let mut good = true;
    for (batch, judged) in BATCHES {
        for (name, limit) in LIMITS {
            let mut pair = Match {
                limited: side(kind, &tap, limit()),
                unlimited: side(kind, &tap, Limiter::Unlimited),
                batch,
            };
            let score = paired::hold(&mut pair, batch, ROUNDS);
            let [low, ratio, high] = score.ratio;
            let dear = judged && ratio > DEAREST;
            good &= !dear;
            println!(
                "{dir:<3} {:>5} {batch:>5} {name:<12} {:>10.1} {:>10.1} {ratio:>7.3}   {low:.3}-{high:.3}{}",
                kind.len(),
                score.device,
                score.bare,
                if dear { " too dear" } else { "" }
            );
        }
    }
    good
}

/// Both directions, short and long frames; whether no limit is too dear.
pub(crate) fn run() -> bool {
    if let Err(error) = host::enter_private_network() {
        eprintln!("limits: no private network namespace: {error}");
        return false;
    }
    println!(
        "\n{:<3} {:>5} {:>5} {:<12} {:>10} {:>10} {:>7}   quartiles",
        "dir", "frame", "batch", "limit of", "ns limited", "ns without", "ratio"
    );
    KINDS.into_iter().fold(true, |good, kind| {
        let tx = hold("TX", kind, Tx::new);
        let rx = hold("RX", kind, Rx::new);
        good && tx && rx
    })
}
