//! The kernel's end of the TCP streams: ordinary sockets in ordinary threads.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::pattern::{self, Mismatch};

const CHUNK: usize = 256 << 10;

/// Failures at the kernel's end.
#[derive(Debug, Error)]
pub enum HostError {
    /// No listening socket.
    #[error("cannot listen on {address}")]
    Listen {
        /// Address that was to be bound.
        address: Ipv4Addr,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// No thread.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// The connection broke.
    #[error("the connection broke")]
    Stream(#[source] io::Error),
    /// It did not see the end of the stream.
    #[error("the end of the stream did not come within {0:?}")]
    Late(Duration),
    /// The thread is gone without an answer.
    #[error("the thread ended early")]
    Gone,
}

/// View of one end of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moved {
    /// Bytes, up to the first damaged one.
    pub(super) bytes: u64,
    /// From the first byte to the end.
    pub(super) time: Duration,
    /// Place where the stream was damaged.
    pub(super) damage: Option<u64>,
}

/// A thread that serves one connection.
#[derive(Debug)]
pub(super) struct Peer {
    port: u16,
    outcome: Receiver<io::Result<Moved>>,
}

impl Peer {
    /// A peer that reads and compares until the stream ends.
    pub(super) fn sink(address: Ipv4Addr) -> Result<Self, HostError> {
        Self::serve(address, "demo-sink", sink)
    }

    /// A peer that writes for `time`.
    pub(super) fn source(address: Ipv4Addr, time: Duration) -> Result<Self, HostError> {
        Self::serve(address, "demo-source", move |stream| source(stream, time))
    }

    /// The port to connect to.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Waits for the end of the stream.
    pub(super) fn finish(self, patience: Duration) -> Result<Moved, HostError> {
        match self.outcome.recv_timeout(patience) {
            Ok(outcome) => outcome.map_err(HostError::Stream),
            Err(RecvTimeoutError::Timeout) => Err(HostError::Late(patience)),
            Err(RecvTimeoutError::Disconnected) => Err(HostError::Gone),
        }
    }

    /// The thread is not joined: when the guest never connects it waits for ever, and ends with the
    /// process.
    fn serve(
        address: Ipv4Addr,
        name: &str,
        work: impl FnOnce(TcpStream) -> io::Result<Moved> + Send + 'static,
    ) -> Result<Self, HostError> {
        let listen = |source| HostError::Listen { address, source };
        let listener = TcpListener::bind(SocketAddrV4::new(address, 0)).map_err(listen)?;
        let port = listener.local_addr().map_err(listen)?.port();
        let (report, outcome) = mpsc::channel();
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let outcome = listener.accept().and_then(|(stream, _)| work(stream));
                // Nobody listens when the demonstration has failed elsewhere.
                let _ = report.send(outcome);
            })
            .map_err(HostError::Thread)?;
        Ok(Self { port, outcome })
    }
}

fn sink(mut stream: TcpStream) -> io::Result<Moved> {
    let mut chunk = vec![0; CHUNK];
    let mut first = None;
    let mut bytes = 0;
    loop {
        let len = stream.read(&mut chunk)?;
        let started = *first.get_or_insert_with(Instant::now);
        let damage = pattern::check(bytes, &chunk[..len])
            .err()
            .map(|Mismatch { offset }| offset);
        bytes += len as u64;
        if len == 0 || damage.is_some() {
            return Ok(Moved {
                bytes,
                time: started.elapsed(),
                damage,
            });
        }
    }
}

fn source(mut stream: TcpStream, time: Duration) -> io::Result<Moved> {
    let started = Instant::now();
    let mut chunk = vec![0; CHUNK];
    let mut bytes = 0;
    while started.elapsed() < time {
        pattern::fill(bytes, &mut chunk);
        stream.write_all(&chunk)?;
        bytes += chunk.len() as u64;
    }
    // Dropping the stream sends what is queued and then the end.
    Ok(Moved {
        bytes,
        time: started.elapsed(),
        damage: None,
    })
}
