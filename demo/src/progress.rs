//! One line that says what is going on.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Time between two lines when they stay on the screen, and between two updates of one line.
const LINE: Duration = Duration::from_secs(1);
const UPDATE: Duration = Duration::from_millis(200);

/// Progress on standard error: one line that is rewritten on a terminal, a line a second elsewhere.
#[derive(Debug)]
pub(super) struct Progress {
    terminal: bool,
    started: Instant,
    shown: Option<Instant>,
}

impl Progress {
    /// Progress that is counted from now.
    pub(super) fn new() -> Self {
        Self {
            terminal: io::stderr().is_terminal(),
            started: Instant::now(),
            shown: None,
        }
    }

    /// Time since the start.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Starts a phase: its first line is shown at once.
    pub(super) fn phase(&mut self, text: &str) {
        self.shown = None;
        self.tick(|| text.to_owned());
    }

    /// Shows the text when it is time to.
    pub(super) fn tick(&mut self, text: impl FnOnce() -> String) {
        let pause = if self.terminal { UPDATE } else { LINE };
        if self.shown.is_some_and(|shown| shown.elapsed() < pause) {
            return;
        }
        self.shown = Some(Instant::now());
        let seconds = self.elapsed().as_secs_f64();
        let (before, after) = if self.terminal {
            ("\r\x1b[K", "")
        } else {
            ("", "\n")
        };
        // Progress that cannot be shown is not a reason to stop.
        let _ = write!(io::stderr(), "{before}  {seconds:4.1} s  {}{after}", text());
        let _ = io::stderr().flush();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
