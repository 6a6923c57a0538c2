//! Echo requests from the guest to the kernel's stack.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use smoltcp::iface::SocketHandle;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::icmp::{Endpoint, PacketBuffer, PacketMetadata, Socket};
use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, IpAddress};

use super::error::DemoError;
use super::guest::{Guest, GuestError, Turn};
use super::progress::Progress;

/// Payload of one request in bytes, as `ping` sends.
pub(super) const PAYLOAD: usize = 56;

const IDENT: u16 = 0x6e65;

/// An answer later than this counts as lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// The measurement ends here with what it has, so that a busy machine does not draw it out.
const LIMIT: Duration = Duration::from_secs(5);

/// As many lost requests end the demonstration: nothing flows.
const LOST_LIMIT: u32 = 3;

/// Outcome of the requests.
pub(super) struct Answers {
    /// Requests sent.
    pub(super) sent: u32,
    /// The time that each answer took.
    pub(super) times: Vec<Duration>,
}

/// Sends up to `count` requests one after the other.
pub(super) fn measure(
    guest: &mut Guest,
    host: Ipv4Addr,
    count: u32,
    progress: &mut Progress,
) -> Result<Answers, DemoError> {
    progress.phase("ping: finding the kernel's stack");
    let mut pinger = Pinger::new(guest, host);
    // The first answer includes address resolution and is not a sample.
    let mut lost = u32::from(pinger.ping(guest, 0)?.is_none());
    let end = Instant::now() + LIMIT;
    let mut times = Vec::with_capacity(count as usize);
    let mut sent = 0;
    while sent < count && Instant::now() < end {
        sent += 1;
        match pinger.ping(guest, sent as u16)? {
            Some(time) => times.push(time),
            None => lost += 1,
        }
        if lost >= LOST_LIMIT {
            let sent = sent + 1;
            return Err(DemoError::Lost { lost, sent });
        }
        progress.tick(|| format!("ping: {sent} of {count}"));
    }
    guest.remove(pinger.socket);
    Ok(Answers { sent, times })
}

struct Pinger {
    socket: SocketHandle,
    host: IpAddress,
}

impl Pinger {
    fn new(guest: &mut Guest, host: Ipv4Addr) -> Self {
        let buffer = || PacketBuffer::new(vec![PacketMetadata::EMPTY; 4], vec![0; 1024]);
        let mut socket = Socket::new(buffer(), buffer());
        // A constant identifier on a fresh socket is always free.
        let _ = socket.bind(Endpoint::Ident(IDENT));
        Self {
            socket: guest.add(socket),
            host: host.into(),
        }
    }

    /// One request; `None` when its answer does not come in time.
    fn ping(&mut self, guest: &mut Guest, sequence: u16) -> Result<Option<Duration>, GuestError> {
        let started = Instant::now();
        self.request(guest, sequence);
        let answer = guest.run("an echo reply", PATIENCE, |guest| {
            Ok::<_, GuestError>(if self.answered(guest, sequence) {
                Turn::Done(started.elapsed())
            } else {
                Turn::Idle
            })
        });
        match answer {
            Ok(time) => Ok(Some(time)),
            Err(GuestError::Stalled { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn request(&self, guest: &mut Guest, sequence: u16) {
        let request = Icmpv4Repr::EchoRequest {
            ident: IDENT,
            seq_no: sequence,
            data: &[0x42; PAYLOAD],
        };
        let socket: &mut Socket<'_> = guest.socket(self.socket);
        // A queue that is full of lost requests drops this one too, which then counts as lost.
        if let Ok(bytes) = socket.send(request.buffer_len(), self.host) {
            let mut packet = Icmpv4Packet::new_unchecked(bytes);
            request.emit(&mut packet, &ChecksumCapabilities::default());
        }
    }

    fn answered(&self, guest: &mut Guest, sequence: u16) -> bool {
        let socket: &mut Socket<'_> = guest.socket(self.socket);
        while let Ok((bytes, from)) = socket.recv() {
            let Ok(packet) = Icmpv4Packet::new_checked(bytes) else {
                continue;
            };
            let reply = Icmpv4Repr::parse(&packet, &ChecksumCapabilities::default());
            if let Ok(Icmpv4Repr::EchoReply { seq_no, data, .. }) = reply
                && (from, seq_no) == (self.host, sequence)
                && data == [0x42; PAYLOAD]
            {
                return true;
            }
        }
        false
    }
}
