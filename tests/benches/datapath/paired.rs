//! Two sides that do the same work in turn.

use std::sync::LazyLock;
use std::time::Instant;

/// Frames that each side moves in one round, at least.
const FRAMES_PER_ROUND: u16 = 128;
/// Rounds whose figures are not kept: caches and predictors get used to the work.
const WARM_UP: usize = 10;

/// One kind of work, done by the device and by a bare loop.
pub(crate) trait Paired {
    /// One batch by the device; nanoseconds of what counts.
    fn device(&mut self) -> u64;
    /// The same batch by a bare loop; nanoseconds of what counts.
    fn bare(&mut self) -> u64;
}

/// Outcome of a paired measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Score {
    /// Nanoseconds per frame of the device, median.
    pub(crate) device: f64,
    /// Nanoseconds per frame of the bare loop, median.
    pub(crate) bare: f64,
    /// Device to bare: lower quartile, median and upper quartile of the rounds.
    pub(crate) ratio: [f64; 3],
}

/// Lets both sides of `paired` do `rounds` rounds of `batch` frames in turn.
pub(crate) fn hold(paired: &mut dyn Paired, batch: u16, rounds: usize) -> Score {
    let turns = FRAMES_PER_ROUND.div_ceil(batch);
    let frames = f64::from(turns) * f64::from(batch);
    let mut results = Vec::with_capacity(rounds);
    for round in 0..rounds + WARM_UP {
        let (mut device, mut bare) = (0, 0);
        for turn in 0..usize::from(turns) {
            // Each side goes first as often as the other.
            if (turn + round).is_multiple_of(2) {
                device += paired.device();
                bare += paired.bare();
            } else {
                bare += paired.bare();
                device += paired.device();
            }
        }
        if round >= WARM_UP {
            results.push((device as f64 / frames, bare as f64 / frames));
        }
    }
    let of = |f: &dyn Fn(&(f64, f64)) -> f64| quartiles(results.iter().map(f).collect());
    Score {
        device: of(&|(device, _)| *device)[1],
        bare: of(&|(_, bare)| *bare)[1],
        ratio: of(&|(device, bare)| device / bare),
    }
}

/// Lower quartile, median, upper quartile.
pub(crate) fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = (values.len().saturating_sub(1)) as f64 * share;
        values
            .get(place.round() as usize)
            .copied()
            .unwrap_or(f64::NAN)
    };
    [at(0.25), at(0.5), at(0.75)]
}

/// Nanoseconds that `work` takes, less those that looking at the clock takes.
pub(crate) fn timed(work: impl FnOnce()) -> u64 {
    static CLOCK: LazyLock<u64> = LazyLock::new(|| {
        let looks = (0..1000).map(|_| raw(|| {}) as f64).collect();
        quartiles(looks)[1] as u64
    });
    let clock = *CLOCK;
    raw(work).saturating_sub(clock)
}

fn raw(work: impl FnOnce()) -> u64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as u64
}
