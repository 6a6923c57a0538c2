//! A TCP stream through a guest that lasts as long as its scenario: noise to an echo in the guest,
//! and a look at every byte that comes back.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::guest::error::require;
use crate::guest::testbed::GUEST;
use crate::guest::{Error, Guest, Result};

const PORT: u16 = 7008;
/// Longest time in which nothing may come back, and of a wait for more.
const LIMIT: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(5);
/// Bytes of a write or a read.
const CHUNK: usize = 1 << 16;

/// Progress of both ends.
#[derive(Debug, Default)]
struct Progress {
    received: AtomicU64,
    /// Longest time between two reads, in microseconds.
    pause_us: AtomicU64,
    ends: AtomicBool,
}

/// A running stream. It ends when dropped.
#[derive(Debug)]
pub(super) struct Stream {
    socket: TcpStream,
    progress: Arc<Progress>,
    ends: Option<[JoinHandle<io::Result<u64>>; 2]>,
}

impl Stream {
    /// Starts the echo in the guest, and the stream.
    pub(super) fn open(guest: &mut Guest) -> Result<Self> {
        guest.expect(&format!(
            "nc -l -p {PORT} -e cat >/dev/null 2>&1 &\nuntil netstat -lnt | grep -q :{PORT}; do :; done"
        ))?;
        let connect = || {
            let socket = TcpStream::connect((GUEST, PORT))?;
            socket.set_read_timeout(Some(LIMIT))?;
            Ok((socket.try_clone()?, socket.try_clone()?, socket))
        };
        let (sender, receiver, socket) = connect().map_err(Error::io("connecting to the guest"))?;
        let progress = Arc::<Progress>::default();
        let (sending, receiving) = (progress.clone(), progress.clone());
        Ok(Self {
            socket,
            progress,
            ends: Some([
                thread::spawn(move || send(sender, &sending)),
                thread::spawn(move || receive(receiver, &receiving)),
            ]),
        })
    }

    /// Waits until so many bytes more have come back.
    pub(super) fn await_more(&self, bytes: u64) -> Result<()> {
        let (begin, goal) = (Instant::now(), self.received() + bytes);
        while self.received() < goal {
            let threads = self.ends.iter().flatten();
            require!(
                begin.elapsed() < LIMIT && !threads.into_iter().any(JoinHandle::is_finished),
                "the stream stands still after {} bytes",
                self.received()
            );
            thread::sleep(TICK);
        }
        Ok(())
    }

    /// Bytes that have come back, each as it was sent.
    pub(super) fn received(&self) -> u64 {
        self.progress.received.load(SeqCst)
    }

    /// Longest time between two reads since the last call.
    pub(super) fn take_pause(&self) -> Duration {
        Duration::from_micros(self.progress.pause_us.swap(0, SeqCst))
    }

    /// Ends the stream; all that was sent has to come back. Returns how many bytes that are.
    pub(super) fn finish(mut self) -> Result<u64> {
        self.progress.ends.store(true, SeqCst);
        let Some([sender, receiver]) = self.ends.take() else {
            return Ok(0);
        };
        let received = join(receiver).map_err(Error::io("reading the stream"))?;
        // One that still waits for room gives up.
        let _ended = self.socket.shutdown(Shutdown::Both);
        let sent = join(sender).map_err(Error::io("writing the stream"))?;
        require!(
            sent == received,
            "{received} of {sent} bytes came back before the guest closed"
        );
        Ok(received)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.progress.ends.store(true, SeqCst);
        let _ended = self.socket.shutdown(Shutdown::Both);
    }
}

fn join(end: JoinHandle<io::Result<u64>>) -> io::Result<u64> {
    end.join()
        .unwrap_or_else(|_| Err(io::Error::other("a thread of the stream panicked")))
}

/// Sends noise until the stream is to end.
fn send(mut socket: TcpStream, progress: &Progress) -> io::Result<u64> {
    let (mut noise, mut bytes, mut sent) = (Noise::default(), vec![0; CHUNK], 0);
    while !progress.ends.load(SeqCst) {
        noise.fill(&mut bytes);
        socket.write_all(&bytes)?;
        sent += bytes.len() as u64;
    }
    socket.shutdown(Shutdown::Write)?;
    Ok(sent)
}

/// Compares what comes back until the guest closes.
fn receive(mut socket: TcpStream, progress: &Progress) -> io::Result<u64> {
    let (mut noise, mut bytes, mut wanted) = (Noise::default(), vec![0; CHUNK], vec![0; CHUNK]);
    let mut before = Instant::now();
    loop {
        let count = socket.read(&mut bytes)?;
        let pause = before.elapsed().as_micros() as u64;
        before = Instant::now();
        progress.pause_us.fetch_max(pause, SeqCst);
        let received = progress.received.load(SeqCst);
        if count == 0 {
            return Ok(received);
        }
        noise.fill(&mut wanted[..count]);
        if let Some(at) = (0..count).find(|at| bytes[*at] != wanted[*at]) {
            let text = format!("byte {} is wrong", received + at as u64);
            return Err(io::Error::new(ErrorKind::InvalidData, text));
        }
        progress.received.fetch_add(count as u64, SeqCst);
    }
}

/// Bytes without a short period (a multiplicative congruential generator), the same in each run.
#[derive(Debug)]
pub(super) struct Noise(u64);

impl Default for Noise {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Noise {
    /// Overwrites `bytes` with the next ones.
    pub(super) fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(0xda94_2042_e4dd_58b5);
            *byte = (self.0 >> 56) as u8;
        }
    }
}
