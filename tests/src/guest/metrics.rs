//! Counters of the daemon, as its operator reads them.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use super::error::require;
use super::{Error, Result, Testbed};

/// Value of the daemon's `--metrics` in a scenario that reads them.
pub const ADDRESS: &str = "unix:FOLDER/metrics.sock";

/// Side of the device that a queue is of, as the metrics name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Frames to the guest.
    Rx,
    /// Frames from the guest.
    Tx,
}

impl Direction {
    const fn label(self) -> &'static str {
        match self {
            Self::Rx => "direction=\"rx\"",
            Self::Tx => "direction=\"tx\"",
        }
    }
}

/// All counters at one moment.
#[derive(Debug, Clone)]
pub struct Metrics(String);

impl Metrics {
    /// Reads them from the daemon of a test bed that was given [`ADDRESS`].
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn read(bed: &Testbed) -> Result<Self> {
        let failed = || Error::io("asking the daemon for its metrics");
        let path = bed.folder().join("metrics.sock");
        let mut socket = UnixStream::connect(path).map_err(failed())?;
        let mut page = String::new();
        socket
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n")
            .and_then(|()| socket.read_to_string(&mut page))
            .map_err(failed())?;
        require!(page.starts_with("HTTP/1.1 200"), "the daemon says:\n{page}");
        Ok(Self(page))
    }

    /// The sum of a counter over all samples that have all of these labels.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[&str]) -> u64 {
        let begin = format!("vhost_user_net_{name}{{");
        let samples = self.0.lines().filter(|line| {
            line.starts_with(&begin) && labels.iter().all(|label| line.contains(label))
        });
        samples
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    /// A counter of all queues of one direction.
    #[must_use]
    pub fn of(&self, direction: Direction, name: &str) -> u64 {
        self.sum(name, &[direction.label()])
    }

    /// A counter of one queue.
    #[must_use]
    pub fn of_queue(&self, direction: Direction, queue: u16, name: &str) -> u64 {
        self.sum(name, &[direction.label(), &format!("queue=\"{queue}\"")])
    }

    /// Received frames that were dropped for a cause.
    #[must_use]
    pub fn rx_drops(&self, cause: &str) -> u64 {
        let cause = format!("cause=\"{cause}\"");
        self.sum("drops_total", &[Direction::Rx.label(), &cause])
    }
}
