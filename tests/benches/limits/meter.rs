//! The tap's byte counters over a time.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tests::guest::{Error, Result};

use crate::case::Direction;

/// Between two looks for the next frame: far less than a window.
const LOOK: Duration = Duration::from_micros(100);
/// Longest time that the next frame may take.
const STALL: Duration = Duration::from_secs(10);

/// A counter of the tap, seen from the process's own network namespace.
#[derive(Debug)]
pub(crate) struct Meter {
    prefix: String,
    column: usize,
}

impl Meter {
    /// The counter of frames that go this way through `tap`.
    pub(crate) fn open(tap: &str, direction: Direction) -> Result<Self> {
        // Received bytes stand in the first column, sent ones in the ninth; what the host sends the
        // guest receives.
        let column = match direction {
            Direction::Tx => 0,
            Direction::Rx => 8,
        };
        let meter = Self {
            prefix: format!("{tap}:"),
            column,
        };
        meter.bytes().map(|_| meter)
    }

    fn bytes(&self) -> Result<u64> {
        const TABLE: &str = "/proc/net/dev";
        let table = fs::read_to_string(TABLE).map_err(Error::io(format!("reading {TABLE}")))?;
        table
            .lines()
            .find_map(|line| {
                let columns = line.trim_start().strip_prefix(&self.prefix)?;
                columns.split_whitespace().nth(self.column)?.parse().ok()
            })
            .ok_or_else(|| Error::Unexpected(format!("no {} in:\n{table}", self.prefix)))
    }

    /// The moment at which the next frame passes, and the bytes until then with it.
    fn edge(&self) -> Result<(Instant, u64)> {
        let start = Instant::now();
        let before = self.bytes()?;
        loop {
            let bytes = self.bytes()?;
            let now = Instant::now();
            if bytes != before {
                return Ok((now, bytes));
            }
            if now - start > STALL {
                return Err(Error::Unexpected("no frame passes any more".into()));
            }
            sleep(LOOK);
        }
    }

    /// Bits per second over `window`, or little more: from the passing of a frame to the passing of
    /// another. A slow limit lets a large frame pass only now and then, and a window that ends
    /// between two would count it or not by chance.
    pub(crate) fn rate(&self, window: Duration) -> Result<f64> {
        let (start, before) = self.edge()?;
        sleep(window);
        let (end, after) = self.edge()?;
        Ok((after - before) as f64 * 8.0 / (end - start).as_secs_f64())
    }
}
