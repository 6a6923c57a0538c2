//! Facts that the kernel knows of this process.

use std::time::{Duration, Instant};
use std::{fs, thread};

/// Longest time that the kernel may take to forget a thread.
const LIMIT: Duration = Duration::from_secs(60);

/// One thread of this process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Thread {
    /// Its name, cut to 15 bytes by the kernel.
    pub name: String,
    /// Its id.
    pub id: u32,
}

impl Thread {
    /// A line of its `status`.
    #[must_use]
    pub fn status(&self, field: &str) -> Option<String> {
        status_field(&format!("/proc/self/task/{}/status", self.id), field)
    }

    /// Number of times that it went to sleep by itself.
    #[must_use]
    pub fn sleeps(&self) -> u64 {
        self.number("voluntary_ctxt_switches")
    }

    fn number(&self, field: &str) -> u64 {
        let text = self.status(field).expect("the kernel tells");
        text.parse().expect("it is a number")
    }

    /// The state letter: `S` for asleep.
    #[must_use]
    pub fn state(&self) -> String {
        self.status("State").unwrap_or_default()
    }

    /// Clock ticks it spent in user mode and in the kernel.
    #[must_use]
    pub fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/self/task/{}/stat", self.id));
        let stat = stat.expect("the kernel tells");
        // The name, in parentheses, may hold spaces.
        let (_, rest) = stat.rsplit_once(')').expect("a name is there");
        let mut fields = rest.split_whitespace().skip(11);
        let mut next = || fields.next().and_then(|text| text.parse::<u64>().ok());
        next().unwrap_or(0) + next().unwrap_or(0)
    }
}

fn status_field(path: &str, field: &str) -> Option<String> {
    let status = fs::read_to_string(path).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

/// Every thread of this process.
#[must_use]
pub fn threads() -> Vec<Thread> {
    let tasks = fs::read_dir("/proc/self/task").expect("the kernel tells");
    let ids = tasks.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut threads: Vec<Thread> = ids
        .filter_map(|id: u32| {
            let name = fs::read_to_string(format!("/proc/self/task/{id}/comm")).ok()?;
            let name = name.trim_end().to_owned();
            Some(Thread { name, id })
        })
        .collect();
    threads.sort();
    threads
}

/// The threads whose names begin with `prefix`.
#[must_use]
pub fn threads_named(prefix: &str) -> Vec<Thread> {
    let mut threads = threads();
    threads.retain(|thread| thread.name.starts_with(prefix));
    threads
}

/// Returns when this process has `count` threads whose names begin with `prefix`.
///
/// The kernel wakes whoever joins a thread before it takes the thread out of its list: a look right
/// after the join may still see it.
///
/// # Panics
/// There are others after ten seconds.
pub fn await_threads(prefix: &str, count: usize) {
    let begin = Instant::now();
    loop {
        let threads = threads_named(prefix);
        if threads.len() == count {
            return;
        }
        assert!(begin.elapsed() < LIMIT, "not {count} but {threads:?}");
        thread::yield_now();
    }
}

/// Number of open descriptors.
#[must_use]
pub fn open_fds() -> usize {
    // One of them is that of the directory itself, each time.
    fs::read_dir("/proc/self/fd")
        .expect("the kernel tells")
        .count()
}

/// Resident memory in KiB.
#[must_use]
pub fn rss_kib() -> u64 {
    let text = status_field("/proc/self/status", "VmRSS").expect("the kernel tells");
    let number = text.trim_end_matches("kB").trim();
    number.parse().expect("it is a number")
}
