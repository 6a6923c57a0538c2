//! A guest whose memory is copied while it runs, by what its driver and the device marked, and that
//! goes on over the copy.

mod driver;
mod memory;
mod profile;
mod run;

use std::panic::catch_unwind;

use run::Seen;

/// Runs that are lived in parallel.
const THREADS: u64 = 2;

fn setting(name: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(name) else {
        return default;
    };
    let number = text.parse();
    number.unwrap_or_else(|_| panic!("{name}={text} is not a number"))
}

/// Lives the run of `seed`, or tells how to see what happened.
fn live(seed: u64) -> Seen {
    catch_unwind(|| run::live(seed)).unwrap_or_else(|_| {
        panic!(
            "in the run of seed {seed}; once more:\n\
             PRECOPY_SEED={seed} PRECOPY_RUNS=1 cargo test -q -p tests --test precopy"
        )
    })
}

/// A thousand runs, or `PRECOPY_RUNS` from `PRECOPY_SEED` on.
#[test]
fn memory_that_is_copied_by_the_marks_is_the_memory_of_the_guest() {
    let (runs, first) = (setting("PRECOPY_RUNS", 1000), setting("PRECOPY_SEED", 1));
    let seeds = move |thread: u64| (first + thread..first + runs).step_by(THREADS as usize);
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| std::thread::spawn(move || seeds(thread).map(live).collect::<Vec<_>>()))
        .collect();
    let seen: Vec<Seen> = threads
        .into_iter()
        .flat_map(|thread| thread.join().expect("see above"))
        .collect();
    assert_eq!(seen.len() as u64, runs);
    let sum = |of: fn(&Seen) -> u64| seen.iter().map(of).sum::<u64>();
    let (received, sent) = (sum(|it| it.received), sum(|it| it.sent));
    println!("{runs} runs, {received} frames received, {sent} sent");
    // Runs say nothing in which the device wrote nothing at the wrong time.
    let busy = |of: fn(&Seen) -> usize| seen.iter().filter(|it| of(it) > 0).count();
    let (rounds, last) = (busy(|it| it.rounds), busy(|it| it.last_round));
    println!("the device wrote between rounds in {rounds} runs, before the last in {last}");
    assert!(runs < 100 || rounds.min(last) as u64 > runs / 2);
}
