//! A worker and a change of the policy, in all orders that `shuttle` and weakly ordered memory can
//! show.
//!
//! ```text
//!     worker:    go inside      |  fence  |  read the policy   |  act on it  |  go outside
//!     control:   publish a new  |  fence  |  is one inside?    |  wait until it is not  |  "the old one is gone"
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;

use shuttle::sync::atomic::AtomicU64 as Plain;
use shuttle::thread;

use super::{AtomicU64, ReaderEpoch, yield_now};

const RUNS: usize = 500;

#[derive(Default)]
struct Device {
    epoch: ReaderEpoch,
    /// The number of the policy in force, as the threads are shown it.
    policy: AtomicU64,
    /// Policies below this number are gone: no model, but what has happened.
    gone: Plain,
}

impl Device {
    fn work(&self) {
        let inside = self.epoch.enter();
        let policy = self.policy.load(Ordering::Acquire);
        for _ in 0..3 {
            let gone = self.gone.load(Ordering::SeqCst);
            assert!(policy >= gone, "acts on {policy}, but {gone} is in force");
            yield_now();
        }
        drop(inside);
    }

    fn change(&self, number: u64) {
        self.policy.store(number, Ordering::SeqCst);
        self.epoch.wait();
        self.gone.store(number, Ordering::SeqCst);
    }
}

fn scenario() {
    let device = Arc::new(Device::default());
    let worker = {
        let device = device.clone();
        thread::spawn(move || {
            for _ in 0..4 {
                device.work();
            }
        })
    };
    for number in 1..4 {
        device.change(number);
    }
    worker.join().expect("the worker ends");
}

/// Without the fence in [`ReaderEpoch::enter`] a worker goes inside, unseen, and reads the old
/// policy.
#[test]
fn nobody_acts_on_a_policy_after_the_change_is_in_force_net_cvq_03() {
    shuttle::check_random(scenario, RUNS);
    shuttle::check_pct(scenario, RUNS, 3);
}
