//! A daemon in user and network namespaces of its own, and what it writes to its log.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_vhost-user-net");

/// Ends a test that would hang.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The daemon. It is killed when dropped.
pub(crate) struct Daemon {
    directory: TempDir,
    process: Option<Child>,
    lines: Option<Receiver<String>>,
    log: Vec<String>,
}

impl Daemon {
    /// One that is not started yet.
    pub(crate) fn prepare() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            process: None,
            lines: None,
            log: Vec::new(),
        }
    }

    /// One that listens, with `options` beside those for its socket and its tap.
    pub(crate) fn serve(options: &[&str]) -> Self {
        Self::serve_after("", options)
    }

    /// One that listens, in this network, with frames going to `backend`.
    pub(crate) fn serve_with_backend(backend: &str) -> Self {
        let mut daemon = Self::prepare();
        daemon.start_with_backend(backend, &[]);
        daemon
    }

    /// The same, of one that was prepared, and with `options`.
    pub(crate) fn start_with_backend(&mut self, backend: &str, options: &[&str]) {
        let options = [&["--backend", backend], options].concat();
        self.start_in(&["--user", "--map-root-user"], "", &options);
        self.log_with("vhost-user-net: ");
    }

    /// As [`Daemon::serve`], started by a shell in its namespaces that does `setup` before; the
    /// daemon's command line is in `"$@"`.
    pub(crate) fn serve_after(setup: &str, options: &[&str]) -> Self {
        let mut daemon = Self::prepare();
        daemon.start(setup, options);
        // It says what it serves once everything is open.
        daemon.log_with("vhost-user-net: tap");
        daemon
    }

    pub(crate) fn start(&mut self, setup: &str, options: &[&str]) {
        self.start_in(&["--user", "--map-root-user", "--net"], setup, options);
    }

    /// Starts it as the root that this test is, with a network of its own.
    pub(crate) fn start_as_root(&mut self, options: &[&str]) {
        self.start_in(&["--net"], "", options);
    }

    fn start_in(&mut self, namespaces: &[&str], setup: &str, options: &[&str]) {
        let tap: &[_] = if options.iter().any(|it| ["--tap", "--backend"].contains(it)) {
            &[]
        } else {
            &["--tap", "vmtap0"]
        };
        let mut command = Command::new("env");
        command
            // The daemon leaves alone what its starter ignores, as a shell does for its background.
            .args(["--default-signal", "unshare"])
            .args(namespaces)
            .args(["--", "sh", "-ec"])
            .arg(format!("{setup}\nexec \"$@\""))
            .args(["sh", BINARY, "serve", "--socket-path", "net.sock"])
            .args(tap)
            .args(options)
            .current_dir(self.directory.path())
            .stderr(Stdio::piped());
        let mut process = command.spawn().expect("these tests need `unshare`");
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let (sender, receiver) = channel();
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        self.process = Some(process);
        self.lines = Some(receiver);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("net.sock")
    }

    /// Its process, which is the shell's and `unshare`'s too.
    pub(crate) fn id(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    pub(crate) fn signal(&self, name: &str) {
        run("kill", &["-s", name, &self.id().to_string()]);
    }

    /// Runs `ip` in its namespaces, see [`ip_in`].
    pub(crate) fn ip(&self, commands: &str) {
        ip_in(self.id(), commands);
    }

    /// Waits for a line with `text`, and returns it.
    pub(crate) fn log_with(&mut self, text: &str) -> String {
        loop {
            match self.lines.as_ref().unwrap().recv_timeout(LIMIT) {
                Ok(line) => {
                    self.log.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(error) => panic!("{error}: no line with {text:?} in {:#?}", self.log),
            }
        }
    }

    /// Waits until it ends by itself, and takes in the rest of its log.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        loop {
            match self.lines.as_ref().unwrap().recv_timeout(LIMIT) {
                Ok(line) => self.log.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end: {:#?}", self.log),
            }
        }
        self.process.take().unwrap().wait().unwrap()
    }

    /// Lines so far that have `text`.
    pub(crate) fn lines_with(&self, text: &str) -> usize {
        self.log.iter().filter(|line| line.contains(text)).count()
    }

    /// Processes that receive messages for it, and that are not gone.
    pub(crate) fn receivers(&self) -> Vec<u32> {
        let own = children(self.id());
        own.into_iter().flat_map(children).collect()
    }

    /// Waits until all that belongs to a connection is gone.
    pub(crate) fn has_no_receiver(&self) {
        let deadline = Instant::now() + LIMIT;
        while !self.receivers().is_empty() {
            assert!(Instant::now() < deadline, "a receiver does not end");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until no more than so many are there.
    pub(crate) fn receivers_are_at_most(&self, count: usize) {
        let deadline = Instant::now() + LIMIT;
        while self.receivers().len() > count {
            assert!(Instant::now() < deadline, "receivers do not end");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets it open so many files beyond those that it has.
    pub(crate) fn allow_more_files(&self, count: usize) {
        let numbers = self.files_at_rest();
        // The lowest ones that are free are taken first.
        let free = (0..).filter(|number| !numbers.contains(number)).nth(count);
        self.allow_files(free.unwrap());
    }

    /// Descriptors that it has open while it waits for something to happen. A moment earlier it may
    /// have more, by which it asks for the state of its interface, say.
    pub(crate) fn files_at_rest(&self) -> Vec<u64> {
        let deadline = Instant::now() + LIMIT;
        loop {
            assert!(Instant::now() < deadline, "it never rests");
            if self.rests() {
                let before = self.files();
                if self.rests() && self.files() == before {
                    return before;
                }
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn files(&self) -> Vec<u64> {
        let open = fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap();
        let numbers = open.map(|entry| entry.unwrap().file_name());
        let numbers = numbers.filter_map(|name| name.to_str()?.parse().ok());
        numbers.collect()
    }

    /// Returns whether its first thread sleeps until something happens, which it does at one place.
    fn rests(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        // After its name, which may be of any characters.
        status
            .rsplit(')')
            .next()
            .is_some_and(|it| it.starts_with(" S"))
    }

    /// Changes its soft limit of open files.
    pub(crate) fn allow_files(&self, soft: u64) {
        let pid = self.id().to_string();
        run("prlimit", &["--pid", &pid, &format!("--nofile={soft}:")]);
    }

    /// Lets it open as many as it had itself allow at its start.
    pub(crate) fn allow_all_files(&self) {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        self.allow_files(limit.maximum.unwrap());
    }
}

/// Processes that a process has started, and that are not gone.
pub(crate) fn children(process: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task"));
    let tasks = tasks.into_iter().flatten().flatten();
    let lists = tasks.flat_map(|task| fs::read_to_string(task.path().join("children")));
    let lists: Vec<_> = lists.collect();
    let numbers = lists.iter().flat_map(|list| list.split_whitespace());
    numbers.map(|number| number.parse().unwrap()).collect()
}

/// Frames that the interface has taken from its guest; `None` if there is no such interface.
pub(crate) fn taken(daemon: &Daemon, name: &str) -> Option<u64> {
    let table = fs::read_to_string(format!("/proc/{}/net/dev", daemon.id())).unwrap();
    let mut rows = table.lines().filter_map(|line| line.split_once(':'));
    let (_, counts) = rows.find(|(row, _)| row.trim() == name)?;
    counts.split_whitespace().nth(1)?.parse().ok()
}

/// Runs `ip` with each of the commands, which semicolons separate, in the namespaces of a process.
pub(crate) fn ip_in(process: u32, commands: &str) {
    // A daemon that may make a user namespace has one by now; its first child is in the other one.
    let target = children(process).first().copied().unwrap_or(process);
    let target = target.to_string();
    let enter = ["--user", "--net", "--preserve-credentials", "ip"];
    for command in commands.split(';') {
        let words: Vec<_> = command.split_whitespace().collect();
        let target = ["--target", &target];
        run("nsenter", &[&target, &enter[..], &words[..]].concat());
    }
}

fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).status();
    let status = status.unwrap_or_else(|error| panic!("these tests need `{program}`: {error}"));
    assert!(status.success(), "{program} {args:?}: {status}");
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        if thread::panicking() {
            self.log.extend(self.lines.iter().flatten());
            println!("log of the daemon: {:#?}", self.log);
        }
    }
}
