//! The device in a simulated world. Every interleaving comes from a seed and time is a value; after
//! each step nothing may be lost, doubled, out of order or left standing.

mod bucket;
mod config;
mod control;
mod event_loop;
mod fault;
mod frames;
mod ledger;
mod limit_checks;
mod limits;
mod listener;
mod mood;
mod network;
mod passage;
mod plant;
mod port;
mod profile;
mod queue;
mod rest;
mod seen;
mod steering;
mod suspend;
mod suspension;
mod vmm;
mod watch;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use fault::Fault;
use world::World;

/// Steps of one world.
const STEPS: u64 = 5_000;

/// One life of a world.
#[derive(Clone, Copy, Debug, Default)]
struct Life {
    seed: u64,
    /// It is saved and restored all the time.
    restless: bool,
    trace: bool,
    fault: Option<Fault>,
}

/// Step in which a world ended, and why.
type End = (u64, String);

impl Life {
    /// Lives it; the number of restorations.
    fn live(self) -> Result<u64, End> {
        let mut step = 0;
        let lived = catch_unwind(AssertUnwindSafe(|| {
            let mut world = World::new(self.seed, self.trace, self.fault);
            while step < STEPS {
                if self.restless {
                    world.step_and_cut()?;
                } else {
                    world.step()?;
                }
                step += 1;
            }
            Ok(world.cuts)
        }));
        match lived {
            Ok(cuts) => cuts.map_err(|what| (step, what)),
            Err(panic) => Err((step, text(&*panic))),
        }
    }

    /// Lives it, or tells how to see what happened.
    fn live_or_tell(self) -> u64 {
        match self.live() {
            Ok(cuts) => cuts,
            Err((step, what)) => panic!(
                "{what}\nin step {step} of seed {seed}; to see all of it:\n\
                 SIMULATE_SEED={seed} SIMULATE_STEPS=1 SIMULATE_TRACE=1 cargo test -q -p tests --test world \
                 {test} -- --nocapture",
                seed = self.seed,
                test = if self.restless { RESTLESS } else { PLAIN },
            ),
        }
    }
}

const PLAIN: &str = "nothing_is_lost_doubled_or_left_standing";
const RESTLESS: &str = "a_device_that_is_saved_at_any_step_goes_on_elsewhere";

/// Message of a panic.
fn text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    text.unwrap_or_default()
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Lives of worlds from `SIMULATE_SEED` on, `SIMULATE_STEPS` in all or else `steps`; returns the
/// number of restorations. With `SIMULATE_TRACE` the first of them tells what happens.
fn lives(steps: u64, restless: bool) -> u64 {
    let steps = match setting("SIMULATE_STEPS") {
        // Restorations are what takes time.
        Some(steps) if restless => steps.div_ceil(10),
        Some(steps) => steps,
        None => steps,
    };
    let first = setting("SIMULATE_SEED").unwrap_or(1);
    let trace = setting("SIMULATE_TRACE").is_some();
    let seeds = first..first + steps.div_ceil(STEPS);
    let lives = seeds.clone().map(|seed| Life {
        seed,
        restless,
        trace: trace && seed == first,
        fault: None,
    });
    let cuts = lives.map(Life::live_or_tell).sum();
    println!("{steps} steps, seeds {seeds:?}, {cuts} restorations");
    cuts
}

#[test]
fn nothing_is_lost_doubled_or_left_standing() {
    lives(1_000_000, false);
}

#[test]
fn a_device_that_is_saved_at_any_step_goes_on_elsewhere() {
    let steps = 180_000;
    let cuts = lives(steps, true);
    assert!(
        cuts > 10_000 || setting("SIMULATE_STEPS").is_some(),
        "{cuts}"
    );
}

/// The world would notice: each fault is found within 100,000 steps.
#[test]
fn every_fault_that_is_put_in_is_found() {
    for fault in Fault::ALL {
        let lives = (1..=20).map(|seed| Life {
            seed,
            fault: Some(fault),
            ..Life::default()
        });
        let ends = lives.enumerate().find_map(|(before, life)| {
            let (step, what) = life.live().err()?;
            Some((STEPS * before as u64 + step, what))
        });
        let (steps, what) = ends.unwrap_or_else(|| panic!("{fault:?} is not found"));
        println!("{fault:?}: {what} (after {steps} steps)");
    }
}
