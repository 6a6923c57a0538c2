//! The receiver.

use std::fs;
use std::io::{self, IoSliceMut};
use std::net::UdpSocket;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, setsockopt, sockopt};

use super::content::{END, Pattern};
use super::report::Received;
use super::{BATCH, LONGEST};

/// Room that each socket asks for, in bytes.
const ROOM: usize = 64 << 20;
/// Longest wait for the first datagram, and for the next one.
const FIRST: Duration = Duration::from_secs(30);
const NEXT: Duration = Duration::from_secs(5);

/// One flow, as it came so far.
#[derive(Debug)]
pub(super) struct Flow {
    number: u16,
    /// Number that comes next if all is well.
    next: u64,
    received: u64,
    bytes: u64,
    reordered: u64,
    wrong: u64,
    ended: bool,
}

impl Flow {
    pub(super) fn new(number: u16) -> Self {
        Self {
            number,
            next: 0,
            received: 0,
            bytes: 0,
            reordered: 0,
            wrong: 0,
            ended: false,
        }
    }

    /// Counts a datagram; whether it is one with data.
    pub(super) fn take(&mut self, pattern: &Pattern, bytes: &[u8]) -> bool {
        match pattern.read(bytes) {
            Some(name) if name.flow != self.number => self.wrong += 1,
            None => self.wrong += 1,
            Some(name) if name.number == END => {
                self.ended = true;
                return false;
            }
            Some(name) => {
                self.received += 1;
                self.bytes += bytes.len() as u64;
                if name.number < self.next {
                    self.reordered += 1;
                } else {
                    self.next = name.number + 1;
                }
            }
        }
        true
    }

    /// Adds itself to the sum of all flows.
    pub(super) fn add_to(&self, sum: &mut Received) {
        sum.datagrams += self.received;
        sum.bytes += self.bytes;
        sum.lost += self.next.saturating_sub(self.received);
        sum.reordered += self.reordered;
        sum.wrong += self.wrong;
    }
}

/// Receives until every flow has ended, or nothing comes any more.
pub(super) fn run(port: u16, flows: u16) -> io::Result<Received> {
    let sockets = (0..flows)
        .map(|flow| listen(port + flow))
        .collect::<io::Result<Vec<_>>>()?;
    println!("listening");
    let pattern = Pattern::default();
    let mut flows: Vec<_> = (0..flows).map(Flow::new).collect();
    let mut buffers = vec![vec![0; LONGEST + 1]; BATCH];
    let mut moments: Option<(Instant, Instant)> = None;
    while flows.iter().any(|flow| !flow.ended) {
        let limit = if moments.is_none() { FIRST } else { NEXT };
        if !wait(&sockets, limit)? {
            break;
        }
        for (socket, flow) in sockets.iter().zip(&mut flows) {
            if drain(socket, &mut buffers, |bytes| flow.take(&pattern, bytes))? {
                let now = Instant::now();
                moments = Some((moments.map_or(now, |(first, _)| first), now));
            }
        }
    }
    let mut sum = Received::default();
    flows.iter().for_each(|flow| flow.add_to(&mut sum));
    if let Some((first, last)) = moments {
        sum.time = last - first;
    }
    sum.full = refused(port..port + sockets.len() as u16)?;
    Ok(sum)
}

/// Datagrams that the open sockets at these ports had no room for: the last column of the kernel's
/// table, in which an address with its port is the second.
fn refused(ports: Range<u16>) -> io::Result<u64> {
    let table = fs::read_to_string("/proc/net/udp")?;
    let lines = table.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (_, port) = words.nth(1)?.rsplit_once(':')?;
        let ours = ports.contains(&u16::from_str_radix(port, 16).ok()?);
        ours.then(|| words.next_back()?.parse::<u64>().ok())?
    });
    Ok(lines.sum())
}

/// A socket with as much room as it can have.
fn listen(port: u16) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(("0.0.0.0", port))?;
    socket.set_nonblocking(true)?;
    // Beyond the host's limit only root can have it.
    if setsockopt(&socket, sockopt::RcvBufForce, &ROOM).is_err() {
        setsockopt(&socket, sockopt::RcvBuf, &ROOM)?;
    }
    Ok(socket)
}

/// Waits for a datagram; whether one came in time.
fn wait(sockets: &[UdpSocket], limit: Duration) -> io::Result<bool> {
    let mut polled: Vec<_> = sockets
        .iter()
        .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
        .collect();
    let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    loop {
        match poll(&mut polled, limit) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Takes one batch at most from a socket; whether there was one with data in it.
fn drain(
    socket: &UdpSocket,
    buffers: &mut [Vec<u8>],
    mut take: impl FnMut(&[u8]) -> bool,
) -> io::Result<bool> {
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(buffers.len(), None);
    let lengths: Vec<_> = {
        let mut slices: Vec<_> = buffers
            .iter_mut()
            .map(|buffer| [IoSliceMut::new(buffer)])
            .collect();
        let flags = MsgFlags::MSG_DONTWAIT;
        match recvmmsg(
            socket.as_raw_fd(),
            &mut headers,
            slices.iter_mut(),
            flags,
            None,
        ) {
            Ok(messages) => messages.map(|message| message.bytes).collect(),
            Err(Errno::EAGAIN | Errno::EINTR) => Vec::new(),
            Err(error) => return Err(error.into()),
        }
    };
    let mut data = false;
    for (buffer, length) in buffers.iter().zip(lengths) {
        data |= take(&buffer[..length]);
    }
    Ok(data)
}

#[cfg(test)]
mod tests;
