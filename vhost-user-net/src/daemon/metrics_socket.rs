//! The endpoint that a Prometheus server scrapes.
//!
//! It speaks as much HTTP as that takes: one request for a connection, `GET` or `HEAD` of
//! `/metrics`. Nobody who connects is trusted. It is served in the one wait of a device's thread
//! and never blocks; requests have a largest size and connections a longest life, only so many are
//! kept, and a page is made at most ten times a second and shared by all who ask meanwhile.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::daemon::clients::{self, Clients};
use crate::daemon::listener::{Access, BoundListener, ListenError, OwnPath, is_transient};
use crate::daemon::metrics::{CONTENT_TYPE, Reported, page};
use crate::sys::{self, Interest, Wanted};

#[cfg(test)]
mod tests;

/// Longest head of a request, in bytes.
const MAX_REQUEST: usize = 8192;
/// Longest life of a connection.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// Age up to which a page is handed out again.
const PAGE_AGE: Duration = Duration::from_millis(100);

/// Name in messages.
const NAME: &str = "metrics";

/// Places to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricsAddress {
    /// A path.
    Unix(PathBuf),
    /// An address and a port.
    Tcp(SocketAddr),
}

impl FromStr for MetricsAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        let address = text.parse().map_err(|_| {
            format!("{text:?} is neither unix:PATH nor an address such as 127.0.0.1:9101")
        })?;
        Ok(Self::Tcp(address))
    }
}

impl fmt::Display for MetricsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "http://{address}/metrics"),
        }
    }
}

/// Failures to open the endpoint.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The path cannot be used.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The address cannot be used.
    #[error("cannot listen at {address}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// A listening endpoint and its clients.
#[derive(Debug)]
pub struct MetricsSocket {
    clients: Clients<Client>,
    address: MetricsAddress,
    devices: Vec<Reported>,
    last: Option<(Instant, Arc<str>)>,
}

impl MetricsSocket {
    /// Listens at `address`.
    ///
    /// # Errors
    /// It is taken, or cannot be used.
    pub fn listen(address: &MetricsAddress) -> Result<Self, MetricsError> {
        let (bound, address) = match address {
            MetricsAddress::Unix(path) => {
                let bound = BoundListener::bind(path, &Access::default())?;
                (bound, address.clone())
            }
            &MetricsAddress::Tcp(address) => {
                let failed = |source| MetricsError::Address { address, source };
                let listener = TcpListener::bind(address).map_err(failed)?;
                listener.set_nonblocking(true).map_err(failed)?;
                // The kernel chooses the port when it is zero.
                let address = listener.local_addr().map_err(failed)?;
                let bound = BoundListener::without_path(listener.into());
                (bound, MetricsAddress::Tcp(address))
            }
        };
        Ok(Self {
            clients: Clients::of(bound),
            address,
            devices: Vec::new(),
            last: None,
        })
    }

    /// The path that is listened at.
    pub(crate) fn own_path(&self) -> Option<&OwnPath> {
        self.clients.own_path()
    }

    /// The same endpoint, which reports `devices`.
    #[must_use]
    pub fn reporting(mut self, devices: Vec<Reported>) -> Self {
        self.devices = devices;
        self
    }

    /// Place where it listens, with the port that the kernel chose.
    #[must_use]
    pub fn address(&self) -> &MetricsAddress {
        &self.address
    }

    /// Events to wait for before [`MetricsSocket::serve`] is called.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = Wanted<'_>> {
        self.clients.wanted()
    }

    /// Milliseconds after which [`MetricsSocket::serve`] is to be called whatever happens, and
    /// [`MetricsSocket::wanted`] asked again.
    pub(crate) fn timeout_ms(&self) -> Option<u16> {
        let pause = self.clients.pause_ms();
        // The first came first, and all have the same time.
        let first = self.clients.connected.front().map(|client| {
            let left = client.deadline.saturating_duration_since(Instant::now());
            // At least one, so that the wait does not end before the connection does.
            u16::try_from(left.as_millis() + 1).unwrap_or(u16::MAX)
        });
        pause.into_iter().chain(first).min()
    }

    /// Answers those who are ready, and leaves those whose time is up.
    pub(crate) fn serve(&mut self) {
        self.clients.accept(NAME, "the metrics socket");
        let now = Instant::now();
        let (devices, last) = (&self.devices, &mut self.last);
        let mut body = || match last {
            Some((made, page)) if now.duration_since(*made) < PAGE_AGE => page.clone(),
            _ => {
                let page: Arc<str> = page(devices).into();
                last.insert((now, page)).1.clone()
            }
        };
        self.clients
            .serve(|client| Ok(now < client.deadline && client.advance(&mut body)?));
        if self.clients.connected.is_empty() {
            // It may be large, and is old by the next time.
            self.last = None;
        }
    }
}

/// One connection, for one request.
#[derive(Debug)]
struct Client {
    socket: File,
    deadline: Instant,
    request: Vec<u8>,
    answer: Option<Answer>,
}

/// An answer on its way.
#[derive(Debug)]
struct Answer {
    head: String,
    body: Arc<str>,
    /// Bytes of both that were sent.
    sent: usize,
}

impl clients::Client for Client {
    fn new(socket: OwnedFd) -> io::Result<Self> {
        sys::set_nonblocking(socket.as_fd())?;
        Ok(Self {
            socket: socket.into(),
            deadline: Instant::now() + TIME_LIMIT,
            request: Vec::new(),
            answer: None,
        })
    }

    fn wanted(&self) -> Wanted<'_> {
        let interest = match self.answer {
            None => Interest::Readable,
            Some(_) => Interest::Writable,
        };
        (self.socket.as_fd(), interest)
    }
}

impl Client {
    /// Does what the socket is ready for, reading once at most. Whether the client stays.
    fn advance(&mut self, body: impl FnOnce() -> Arc<str>) -> io::Result<bool> {
        if self.answer.is_none() {
            let mut bytes = [0; 1024];
            match self.socket.read(&mut bytes) {
                Ok(0) => return Ok(false),
                Ok(count) => self.request.extend(&bytes[..count]),
                Err(error) if is_transient(&error) => return Ok(true),
                Err(error) => return Err(error),
            }
            let end = self.request.windows(4).any(|four| four == b"\r\n\r\n");
            self.answer = if end {
                Some(answer(&self.request, body))
            } else if self.request.len() > MAX_REQUEST {
                Some(Answer::refusal("431 Request Header Fields Too Large", ""))
            } else {
                None
            };
        }
        match &mut self.answer {
            Some(answer) => answer.send(&mut self.socket),
            None => Ok(true),
        }
    }
}

/// The answer to a whole request.
fn answer(request: &[u8], body: impl FnOnce() -> Arc<str>) -> Answer {
    let line = request.split(|byte| *byte == b'\r').next();
    let line = str::from_utf8(line.unwrap_or_default()).unwrap_or_default();
    let words: Vec<_> = line.split(' ').collect();
    let [method, target, version] = words[..] else {
        return Answer::refusal("400 Bad Request", "");
    };
    if !version.starts_with("HTTP/1.") {
        return Answer::refusal("505 HTTP Version Not Supported", "");
    }
    if !matches!(method, "GET" | "HEAD") {
        return Answer::refusal("405 Method Not Allowed", "Allow: GET, HEAD\r\n");
    }
    if target.split('?').next() != Some("/metrics") {
        return Answer::refusal("404 Not Found", "");
    }
    let mut answer = Answer::new("200 OK", "", body());
    if method == "HEAD" {
        answer.body = "".into();
    }
    answer
}

impl Answer {
    fn new(status: &str, field: &str, body: Arc<str>) -> Self {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {}\r\n{field}\
             Connection: close\r\n\r\n",
            body.len()
        );
        Self {
            head,
            body,
            sent: 0,
        }
    }

    fn refusal(status: &str, field: &str) -> Self {
        Self::new(status, field, format!("{status}\n").into())
    }

    /// Sends what the socket takes, and whether there is more.
    fn send(&mut self, socket: &mut File) -> io::Result<bool> {
        loop {
            let (head, body) = (self.head.as_bytes(), self.body.as_bytes());
            let rest = match self.sent.checked_sub(head.len()) {
                None => &head[self.sent..],
                Some(sent) => &body[sent..],
            };
            if rest.is_empty() {
                return Ok(false);
            }
            match socket.write(rest) {
                Ok(count) => self.sent += count,
                Err(error) if is_transient(&error) => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }
}
