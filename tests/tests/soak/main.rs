//! Everything that can happen to a device while its driver sends and receives, in random order, for
//! as long as wanted.
//!
//! ```text
//!   main    one life of a device after the other; what is left behind by none of them
//!   life    a driver on four pairs, and the steps it goes through
//!   steered one that steers by tables, and frames of many flows
//!   ledger  who has each frame: numbered on each pair and direction, counted by the device
//! ```
//!
//! `SOAK_SECONDS` says for how long (a few seconds otherwise), `SOAK_SEED` where to begin: a
//! failure prints both seed and steps of the life in which it happened.

mod ledger;
mod life;
mod steered;

use std::env;
use std::time::{Duration, Instant};

use life::Life;
use net_queue::testing::Random;
use tests::testbed::alone;
use tests::testbed::process::{await_threads, open_fds, rss_kib, threads};

/// Steps of one life.
const STEPS: u32 = 120;
/// KiB of the ways between four pairs, of which an allocator may keep those of one life.
const WAYS_KIB: u64 = 16 << 10;
/// Steps of the life of a driver that steers, whose frames are more.
const STEERED_STEPS: u32 = 50;
/// Lives after which the process has all that it keeps.
const WARM_UP: u64 = 3;
/// KiB by which the process may grow afterwards in a long run, and in each life of a short one: an
/// allocator gives not everything back at once. What leaks in every life or step is more.
const GROWTH_KIB: u64 = 16 << 10;
const GROWTH_OF_LIFE_KIB: u64 = 1 << 10;

fn number(name: &str, default: u64) -> u64 {
    let value = env::var(name).ok();
    value.map_or(default, |text| text.parse().expect("a number"))
}

/// Lives one life after the other, each from a seed of its own that `life` gets and of which it
/// returns the number of frames. The process may grow by as many KiB as `growth` says for the lives
/// after the first ones.
fn go_on(mut life: impl FnMut(Random) -> u64, growth: impl Fn(u64) -> u64) {
    let limit = Duration::from_secs(number("SOAK_SECONDS", 4));
    let first = number("SOAK_SEED", 1);
    let begin = Instant::now();
    let (fds, others) = (open_fds(), threads().len());
    let (mut lives, mut frames, mut rss) = (0, 0, 0);
    while lives <= WARM_UP || begin.elapsed() < limit {
        frames += life(Random::new(first + lives));
        await_threads("", others);
        assert_eq!(open_fds(), fds, "descriptors after life {lives}");
        lives += 1;
        if lives == WARM_UP {
            rss = rss_kib();
        }
    }
    let now = rss_kib();
    let most = rss + growth(lives - WARM_UP);
    // A sanitizer's notes of what threads did grow with them.
    assert!(
        now < most || cfg!(sanitized),
        "{rss} KiB became {now}, at most {most} were to"
    );
    println!("{lives} lives from seed {first}, {frames} frames");
}

#[test]
fn nothing_is_lost_reordered_or_left_behind() {
    alone(|| {
        go_on(
            |random| {
                let mut life = Life::new(random);
                life.run(STEPS);
                life.end()
            },
            |lives| GROWTH_KIB.min(GROWTH_OF_LIFE_KIB * lives),
        );
    });
}

#[test]
fn tables_that_change_lose_reorder_and_leave_behind_nothing() {
    alone(|| {
        go_on(
            |random| {
                let mut life = steered::Life::new(random);
                life.run(STEERED_STEPS);
                life.end()
            },
            |_| WAYS_KIB,
        );
    });
}
