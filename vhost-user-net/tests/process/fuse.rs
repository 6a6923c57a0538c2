//! A front-end that passes a file of its own FUSE mount, which it serves as it likes.
//!
//! It runs in a user and mount namespace, so in a process of its own: the test is started again
//! there, and does there what this module says.

use std::env;
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

/// Set in the process of the front-end, to the path of the daemon's socket.
const SOCKET: &str = "TEST_FUSE_SOCKET";
/// Set likewise, to the bytes of its message in hexadecimal.
const MESSAGE: &str = "TEST_FUSE_MESSAGE";
/// Set likewise where FLUSH is answered from the beginning.
const ANSWERS: &str = "TEST_FUSE_ANSWERS";

/// Lines that the front-end prints.
const SENT: &str = "the message is sent";
const ENDED: &str = "the connection is over";
/// Lines by which it is told what to do.
const ANSWER: &str = "answer";
const LEAVE: &str = "leave";

/// The front-end, as the test sees it. Its mount goes with it.
pub(crate) struct FuseFrontEnd(Child);

impl FuseFrontEnd {
    /// Returns whether this process is the front-end. It has then done all that it has to.
    pub(crate) fn is_here() -> bool {
        let Ok(socket) = env::var(SOCKET) else {
            return false;
        };
        serve(Path::new(&socket), &env::var(MESSAGE).unwrap());
        true
    }

    /// Starts `test` as the front-end of the daemon at `socket`, and returns when it has sent
    /// `message` with one descriptor. Its server never answers FLUSH unless it `answers`.
    pub(crate) fn start(test: &str, socket: &Path, message: &[u8], answers: bool) -> Self {
        let hex = message.iter().map(|byte| format!("{byte:02x}"));
        let mut command = Command::new("unshare");
        command
            .args(["--user", "--map-root-user", "--mount", "--"])
            .arg(env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(SOCKET, socket)
            .env(MESSAGE, hex.collect::<String>())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if answers {
            command.env(ANSWERS, "");
        }
        let mut front_end = Self(command.spawn().expect("these tests need `unshare`"));
        front_end.says(SENT);
        front_end
    }

    /// Waits until it has seen the end of its connection.
    pub(crate) fn is_cut_off(&mut self) {
        self.says(ENDED);
    }

    /// Has it shut its connection.
    pub(crate) fn leave(&mut self) {
        self.tell(LEAVE);
    }

    /// Lets its server answer, also what it was asked before.
    pub(crate) fn answer(&mut self) {
        self.tell(ANSWER);
    }

    fn tell(&mut self, line: &str) {
        let stdin = self.0.stdin.as_mut().unwrap();
        stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn says(&mut self, text: &str) {
        let mut line = Vec::new();
        let stdout = self.0.stdout.as_mut().unwrap();
        while !line.ends_with(text.as_bytes()) {
            let mut byte = [0];
            let read = stdout.read(&mut byte).unwrap();
            assert_ne!(
                read,
                0,
                "the front-end failed: {}",
                String::from_utf8_lossy(&line)
            );
            line.extend(byte);
        }
    }
}

impl Drop for FuseFrontEnd {
    fn drop(&mut self) {
        // The end of its input is its own, which it does not come to if it was killed.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// The front-end's process.
fn serve(socket: &Path, message: &str) {
    let directory = tempfile::tempdir().unwrap();
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    let device = device.expect("these tests need /dev/fuse: as root, `modprobe fuse`");
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0",
        device.as_raw_fd()
    );
    let options = CString::new(options).unwrap();
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("test", directory.path(), "fuse", flags, &*options).expect("a FUSE mount");
    let server = Server {
        device,
        held: Mutex::new(env::var(ANSWERS).is_err().then(Vec::new)),
    };
    thread::scope(|scope| {
        scope.spawn(|| server.run());
        converse(&directory.path().join("file"), socket, message, &server);
        // Ends whatever waits for an answer, and the server with it.
        unmount(directory.path(), UnmountFlags::FORCE | UnmountFlags::DETACH).unwrap();
    });
}

/// Passes the file, and does as it is told by the test until that ends.
fn converse(file: &Path, socket: &Path, message: &str, server: &Server) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(file)
        .unwrap();
    let digits: Vec<_> = message.chars().collect();
    let byte = |pair: &[char]| u8::from_str_radix(&String::from_iter(pair), 16).unwrap();
    let message: Vec<_> = digits.chunks(2).map(byte).collect();
    let connection = UnixStream::connect(socket).unwrap();
    connection
        .send_with_fd(&message[..], file.as_raw_fd())
        .unwrap();
    println!("{SENT}");
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = (&connection).read(&mut [0; 64]);
            println!("{ENDED}");
        });
        for line in io::stdin().lock().lines() {
            match line.unwrap().as_str() {
                ANSWER => server.answer(),
                LEAVE => connection.shutdown(Shutdown::Both).unwrap(),
                other => panic!("{other}"),
            }
        }
        let _ = connection.shutdown(Shutdown::Both);
    });
    // Only a server that answers lets this process close it.
    server.answer();
}

/// The server of a mount with one file, in the format of Linux' fuse.h.
struct Server {
    device: File,
    /// Requests to close the file that wait for an answer, as long as none gets any.
    held: Mutex<Option<Vec<u64>>>,
}

/// Bytes of a request before what belongs to its kind.
const HEADER: usize = 40;
const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const BATCH_FORGET: u32 = 42;
const ENOSYS: i32 = 38;
const FILE: u64 = 2;

impl Server {
    fn run(&self) {
        let mut request = vec![0; 1 << 17];
        loop {
            match (&self.device).read(&mut request) {
                Ok(len) => self.handle(&request[..len]),
                // A request that was taken back.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(_) => return,
            }
        }
    }

    fn handle(&self, request: &[u8]) {
        assert!(request.len() >= HEADER);
        let u64_at = |at: usize| u64::from_ne_bytes(request[at..at + 8].try_into().unwrap());
        let code = u32::from_ne_bytes(request[4..8].try_into().unwrap());
        let (unique, node) = (u64_at(8), u64_at(16));
        let reply = match code {
            INIT => words(&[
                7,
                31,
                0,
                0,
                0x000c_0010,
                0x1_0000,
                1,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
            ]),
            LOOKUP => [longs(&[FILE, 1, 1, 1, 0]), attributes(FILE)].concat(),
            GETATTR => [longs(&[1, 0]), attributes(node)].concat(),
            OPEN => longs(&[1, 0]),
            FLUSH => match &mut *self.held.lock().unwrap() {
                Some(held) => return held.push(unique),
                None => Vec::new(),
            },
            FORGET | BATCH_FORGET => return,
            _ => return self.reply(unique, -ENOSYS, &[]),
        };
        self.reply(unique, 0, &reply);
    }

    fn answer(&self) {
        let held = self.held.lock().unwrap().take();
        for unique in held.into_iter().flatten() {
            self.reply(unique, 0, &[]);
        }
    }

    fn reply(&self, unique: u64, error: i32, body: &[u8]) {
        let len = (16 + body.len()) as u32;
        let head = [
            &len.to_ne_bytes()[..],
            &error.to_ne_bytes(),
            &unique.to_ne_bytes(),
        ]
        .concat();
        // Whoever asked may be gone.
        let _ = (&self.device).write(&[&head, body].concat());
    }
}

fn words(values: &[u32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_ne_bytes())
        .collect()
}

fn longs(values: &[u64]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_ne_bytes())
        .collect()
}

/// Attributes of a node: the one file, or the directory with it.
fn attributes(node: u64) -> Vec<u8> {
    let mode = if node == FILE { 0o100_666 } else { 0o40_777 };
    let times = words(&[0, 0, 0, mode, 1, 0, 0, 0, 4096, 0]);
    [longs(&[node, 4096, 8, 0, 0, 0]), times].concat()
}
