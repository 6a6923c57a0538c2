//! A program that was started by the test.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::{Error, Result};

/// Length of the output that is kept for error messages, in bytes.
const TAIL_BYTES: usize = 4096;

/// Interval after which a condition that brings no event of its own is looked at again.
const TICK: Duration = Duration::from_millis(10);

/// Longest time that the kernel may take to end a program and to close its pipes.
const KILL_LIMIT: Duration = Duration::from_secs(60);

enum Event {
    Output(Vec<u8>),
    Exited(ExitStatus),
}

/// A running program in a process group of its own. Dropping it kills the group.
#[derive(Debug)]
pub struct Process {
    name: String,
    group: u32,
    stdin: Option<ChildStdin>,
    events: Receiver<Event>,
    unread: Vec<u8>,
    tail: VecDeque<u8>,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts a program; standard output and standard error are collected together.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be started.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let program = command.get_program().to_string_lossy();
        let name = program.rsplit('/').next().unwrap_or(&program).to_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(Error::io(format!("starting {name}")))?;
        let (sender, events) = mpsc::channel();
        let stdin = child.stdin.take();
        if let Some(stdout) = child.stdout.take() {
            collect(stdout, sender.clone());
        }
        if let Some(stderr) = child.stderr.take() {
            collect(stderr, sender.clone());
        }
        let group = child.id();
        report_exit(child, sender);
        Ok(Self {
            name,
            group,
            stdin,
            events,
            unread: Vec::new(),
            tail: VecDeque::new(),
            status: None,
        })
    }

    /// Writes to the program's standard input.
    ///
    /// # Errors
    /// [`Error::Io`] when it does not read any more.
    pub fn write(&mut self, text: &str) -> Result<()> {
        let name = &self.name;
        let Some(stdin) = &mut self.stdin else {
            return Ok(());
        };
        stdin
            .write_all(text.as_bytes())
            .map_err(Error::io(format!("writing to {name}")))
    }

    /// Waits until the output that was not read yet satisfies `search`, which says how many bytes
    /// it took.
    ///
    /// # Errors
    /// [`Error::Timeout`], or [`Error::Ended`] when the program ends first.
    pub fn read_until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut search: impl FnMut(&[u8]) -> Option<(usize, T)>,
    ) -> Result<T> {
        self.wait(what, limit, |process| {
            let (taken, found) = search(&process.unread)?;
            process.unread.drain(..taken);
            Some(found)
        })
    }

    /// Waits for a condition outside the program, for as long as the program runs.
    ///
    /// # Errors
    /// [`Error::Timeout`], or [`Error::Ended`] when the program ends first.
    pub fn wait_until(
        &mut self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut() -> bool,
    ) -> Result<()> {
        self.wait(what, limit, |_| condition().then_some(()))
    }

    /// Waits for the program's end.
    ///
    /// # Errors
    /// [`Error::Timeout`] when it does not end.
    pub fn wait_exit(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.wait("exit", limit, |process| process.status)
    }

    /// The program's process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.group
    }

    /// Sends a signal, named as `kill` names it, to the program and its children.
    pub fn signal(&self, signal: &str) {
        // Not after the end is known: the number could be somebody else's by then.
        if self.status.is_none() {
            let group = format!("-{}", self.group);
            let sent = Command::new("busybox")
                .args(["kill", "-s", signal, "--", &group])
                .stderr(Stdio::null())
                .status();
            debug_assert!(sent.is_ok());
        }
    }

    /// Kills the program and its children, unless it has ended.
    ///
    /// # Errors
    /// [`Error::Timeout`] when it is stuck in the kernel.
    pub fn kill(&mut self) -> Result<()> {
        if self.is_running() {
            self.signal("KILL");
            self.wait_exit(KILL_LIMIT)?;
        }
        Ok(())
    }

    /// Everything the program has printed that was not read yet, after its end.
    #[must_use]
    pub fn take_output(&mut self) -> String {
        // The pipes close with the program, unless it has left a child behind that still holds
        // them.
        while let Ok(event) = self.events.recv_timeout(KILL_LIMIT) {
            self.take(event);
        }
        String::from_utf8_lossy(&std::mem::take(&mut self.unread)).into_owned()
    }

    /// Returns whether a text is in what was not read yet.
    #[must_use]
    pub fn has_printed(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.unread).contains(text)
    }

    /// The end of all the program has printed.
    #[must_use]
    pub fn tail(&self) -> String {
        let bytes: Vec<u8> = self.tail.iter().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Returns whether the program runs, as far as is known.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        while let Ok(event) = self.events.try_recv() {
            self.take(event);
        }
        self.status.is_none()
    }

    fn wait<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut done: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(value) = done(self) {
                return Ok(value);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left.min(TICK)) {
                Ok(event) => self.take(event),
                Err(RecvTimeoutError::Timeout) if left.is_zero() => {
                    return Err(Error::Timeout {
                        program: self.name.clone(),
                        what: what.to_owned(),
                        limit,
                        tail: self.tail(),
                    });
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(status) = self.status {
                        return done(self).ok_or_else(|| self.ended(what, status));
                    }
                }
                // Both pipes are closed and the exit is reported: nothing more can come.
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.status.unwrap_or_default();
                    return done(self).ok_or_else(|| self.ended(what, status));
                }
            }
        }
    }

    fn ended(&self, what: &str, status: ExitStatus) -> Error {
        Error::Ended {
            program: self.name.clone(),
            what: what.to_owned(),
            status,
            tail: self.tail(),
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Output(bytes) => {
                self.tail.extend(&bytes);
                let surplus = self.tail.len().saturating_sub(TAIL_BYTES);
                self.tail.drain(..surplus);
                self.unread.extend(bytes);
            }
            Event::Exited(status) => self.status = Some(status),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // There is nobody to tell; the end of the process namespace ends it at the latest.
        let _killed = self.kill();
    }
}

/// Forwards what a pipe brings until it is closed.
fn collect(mut pipe: impl Read + Send + 'static, events: Sender<Event>) {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length) = pipe.read(&mut buffer)
            && length > 0
            && events
                .send(Event::Output(buffer[..length].to_vec()))
                .is_ok()
        {}
    });
}

/// Reaps the program and reports how it ended.
fn report_exit(mut child: Child, events: Sender<Event>) {
    thread::spawn(move || {
        if let Ok(status) = child.wait() {
            // The receiver may be gone: then nobody wants to know.
            let _unheard = events.send(Event::Exited(status));
        }
    });
}
