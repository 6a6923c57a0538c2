//! Shares of those who act. They change: a bug may need a driver that is never seen for
//! a while, or a worker that has to wait.

use net_queue::testing::Random;

/// Steps until the mood changes.
const LENGTH: u64 = 256;

/// Somebody who can act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Actor {
    Driver,
    Worker,
    Arrivals,
    Room,
    Clock,
    Owner,
    Rest,
}

const ACTORS: [Actor; 7] = [
    Actor::Driver,
    Actor::Worker,
    Actor::Arrivals,
    Actor::Room,
    Actor::Clock,
    Actor::Owner,
    Actor::Rest,
];

/// Shares of the actors.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mood {
    shares: [u64; ACTORS.len()],
    /// Steps for which it stays.
    pub(crate) left: u64,
}

impl Mood {
    pub(crate) fn new(random: &mut Random) -> Self {
        let mut share = |usual: u64| usual * [0, 1, 4, 16][random.below(4) as usize];
        // Somebody always acts.
        let shares = [
            share(40) + 1,
            share(40) + 1,
            share(8),
            share(8),
            share(5),
            share(1),
            1,
        ];
        Self {
            shares,
            left: LENGTH,
        }
    }

    pub(crate) fn next(&self, random: &mut Random) -> Actor {
        let mut at = random.below(self.shares.iter().sum());
        for (actor, share) in ACTORS.into_iter().zip(self.shares) {
            if at < share {
                return actor;
            }
            at -= share;
        }
        Actor::Rest
    }
}
