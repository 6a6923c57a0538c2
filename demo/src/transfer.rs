//! One TCP stream in one direction, every byte compared.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{Socket, State};

use super::direction::Direction;
use super::error::DemoError;
use super::guest::{Guest, Turn};
use super::host::{Moved, Peer};
use super::pattern::{self, Mismatch};
use super::progress::Progress;
use super::units;

/// Nothing moved for so long: the stream has stopped.
const PATIENCE: Duration = Duration::from_secs(3);

/// Something to be done with the guest in the middle of a stream.
pub(super) type Halfway<'a> = &'a mut dyn FnMut(&mut Guest) -> Result<(), DemoError>;

/// Sends from the guest for `time` and returns what the kernel's end received.
pub(super) fn upload(
    guest: &mut Guest,
    host: Ipv4Addr,
    time: Duration,
    halfway: Halfway<'_>,
    progress: &mut Progress,
) -> Result<Moved, DemoError> {
    let direction = Direction::GuestToHost;
    let sink = Peer::sink(host)?;
    let mut stream = Stream::open(guest, host, &sink, direction, progress)?;
    let half = Instant::now() + time / 2;
    for end in [half, half + time / 2] {
        guest.run("room to send", PATIENCE, |guest| {
            stream.send(guest, end, progress)
        })?;
        if end == half {
            halfway(guest)?;
        }
    }
    guest.socket::<Socket<'_>>(stream.socket).close();
    guest.run(
        "the end of its stream to be acknowledged",
        PATIENCE,
        |guest| stream.drain(guest),
    )?;
    let moved = sink.finish(PATIENCE)?;
    guest.remove(stream.socket);
    compare(direction, stream.bytes, moved)
}

/// Receives in the guest what the kernel's end sends for `time`.
pub(super) fn download(
    guest: &mut Guest,
    host: Ipv4Addr,
    time: Duration,
    halfway: Halfway<'_>,
    progress: &mut Progress,
) -> Result<Moved, DemoError> {
    let direction = Direction::HostToGuest;
    let source = Peer::source(host, time)?;
    let mut stream = Stream::open(guest, host, &source, direction, progress)?;
    let half = Instant::now() + time / 2;
    guest.run("data", PATIENCE, |guest| {
        if Instant::now() >= half {
            return Ok(Turn::Done(()));
        }
        // An end that comes early is found again, below.
        let turn = stream.receive(guest, progress)?;
        Ok::<_, DemoError>(match turn {
            Turn::Done(_) => Turn::Done(()),
            Turn::Progress => Turn::Progress,
            Turn::Idle => Turn::Idle,
        })
    })?;
    halfway(guest)?;
    let moved = guest.run("data", PATIENCE, |guest| stream.receive(guest, progress))?;
    let sent = source.finish(PATIENCE)?.bytes;
    guest.remove(stream.socket);
    compare(direction, sent, moved)
}

fn compare(direction: Direction, sent: u64, moved: Moved) -> Result<Moved, DemoError> {
    if let Some(offset) = moved.damage {
        let source = Mismatch { offset };
        return Err(DemoError::Damaged { direction, source });
    }
    let received = moved.bytes;
    if sent != received {
        return Err(DemoError::Short {
            direction,
            sent,
            received,
        });
    }
    Ok(moved)
}

/// The guest's end of a connection.
struct Stream {
    socket: SocketHandle,
    direction: Direction,
    started: Instant,
    bytes: u64,
}

impl Stream {
    fn open(
        guest: &mut Guest,
        host: Ipv4Addr,
        peer: &Peer,
        direction: Direction,
        progress: &mut Progress,
    ) -> Result<Self, DemoError> {
        progress.phase(&format!("tcp {direction}: connecting"));
        let remote = (host, peer.port());
        // Each connection has a remote port of its own, so one local port serves them all.
        let socket = guest.connect(remote, 49_152)?;
        guest.run("a TCP connection", PATIENCE, |guest| {
            let stream: &mut Socket<'_> = guest.socket(socket);
            let established = stream.state() == State::Established;
            Ok::<_, DemoError>(if established {
                Turn::Done(())
            } else {
                Turn::Idle
            })
        })?;
        Ok(Self {
            socket,
            direction,
            started: Instant::now(),
            bytes: 0,
        })
    }

    /// Fills the socket until `end`.
    fn send(
        &mut self,
        guest: &mut Guest,
        end: Instant,
        progress: &mut Progress,
    ) -> Result<Turn<()>, DemoError> {
        let socket: &mut Socket<'_> = guest.socket(self.socket);
        if Instant::now() >= end {
            return Ok(Turn::Done(()));
        }
        let offset = self.bytes;
        let sent = socket.send(|room| {
            pattern::fill(offset, room);
            (room.len(), room.len())
        });
        // An error means that the other end has closed; then nothing moves and the guest gives up.
        let turn = self.moved(sent.unwrap_or(0));
        self.show(progress);
        Ok(turn)
    }

    /// Waits until the other end has everything, the end of the stream included.
    fn drain(&self, guest: &mut Guest) -> Result<Turn<()>, DemoError> {
        let socket: &mut Socket<'_> = guest.socket(self.socket);
        let done = matches!(
            socket.state(),
            State::FinWait2 | State::TimeWait | State::Closed
        );
        Ok(if done { Turn::Done(()) } else { Turn::Idle })
    }

    /// Empties the socket and compares, until the stream ends.
    fn receive(
        &mut self,
        guest: &mut Guest,
        progress: &mut Progress,
    ) -> Result<Turn<Moved>, DemoError> {
        let socket: &mut Socket<'_> = guest.socket(self.socket);
        let offset = self.bytes;
        let received = socket.recv(|data| {
            (
                data.len(),
                pattern::check(offset, data).map(|()| data.len()),
            )
        });
        let (len, damage) = match received {
            Ok(Ok(len)) => (len, None),
            Ok(Err(Mismatch { offset })) => (0, Some(offset)),
            Err(_) => (0, None),
        };
        if damage.is_some() || !socket.may_recv() && len == 0 {
            socket.close();
            return Ok(Turn::Done(Moved {
                bytes: self.bytes,
                time: self.started.elapsed(),
                damage,
            }));
        }
        self.show(progress);
        Ok(self.moved(len))
    }

    fn moved<T>(&mut self, len: usize) -> Turn<T> {
        self.bytes += len as u64;
        if len > 0 { Turn::Progress } else { Turn::Idle }
    }

    fn show(&self, progress: &mut Progress) {
        let (direction, bytes) = (self.direction, self.bytes);
        progress.tick(|| {
            let rate = units::bit_rate(bytes, self.started.elapsed());
            format!("tcp {direction}: {}, {rate}", units::bytes(bytes))
        });
    }
}
