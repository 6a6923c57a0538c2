//! The sender.

use std::io::{self, IoSlice};
use std::net::{SocketAddrV4, UdpSocket};
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, sendmmsg};

use super::BATCH;
use super::content::{END, HEADER, Name, Pattern};
use super::report::Sent;

/// Marks at the end of each flow, some time apart: one alone could find a full socket.
const MARKS: u32 = 20;
const BETWEEN_MARKS: Duration = Duration::from_millis(50);

/// End of a transmission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// So many datagrams, over all flows.
    Count(u64),
    /// So long.
    Time(Duration),
}

/// Choices without a short period, the same in each run.
struct Choices(u64);

impl Choices {
    /// A number below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(0xda94_2042_e4dd_58b5).wrapping_add(1);
        ((self.0 >> 33) % bound as u64) as usize
    }
}

/// A batch that is filled again and again, each datagram in a place of its own.
struct Batch {
    bytes: Vec<Vec<u8>>,
    lengths: Vec<usize>,
    flows: Vec<usize>,
}

/// Sends until the end that was asked for.
pub(super) fn run(
    to: SocketAddrV4,
    flows: u16,
    sizes: &RangeInclusive<usize>,
    until: Until,
) -> io::Result<Sent> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let target = |flow| SockaddrIn::from(SocketAddrV4::new(*to.ip(), to.port() + flow));
    let targets: Vec<_> = if flows == 1 {
        // The kernel need not look for the way of each datagram then.
        socket.connect(to)?;
        vec![None]
    } else {
        (0..flows).map(|flow| Some(target(flow))).collect()
    };
    let pattern = Pattern::default();
    let mut choices = Choices(1);
    let mut numbers = vec![0_u64; usize::from(flows)];
    let mut batch = Batch {
        bytes: vec![vec![0; *sizes.end()]; BATCH],
        lengths: vec![0; BATCH],
        flows: vec![0; BATCH],
    };
    let mut sent = Sent::default();
    let start = Instant::now();
    loop {
        let count = match until {
            Until::Count(count) => count.saturating_sub(sent.datagrams).min(BATCH as u64) as usize,
            Until::Time(time) if start.elapsed() < time => BATCH,
            Until::Time(_) => 0,
        };
        if count == 0 {
            break;
        }
        let mut flow = 0;
        for at in 0..count {
            // Runs of several of one flow as well as single ones.
            if choices.below(2) == 0 {
                flow = choices.below(numbers.len());
            }
            let length = sizes.start() + choices.below(sizes.end() - sizes.start() + 1);
            let name = Name {
                flow: flow as u16,
                number: numbers[flow],
            };
            numbers[flow] += 1;
            pattern.write(name, &mut batch.bytes[at][..length]);
            (batch.lengths[at], batch.flows[at]) = (length, flow);
        }
        sent.datagrams += count as u64;
        sent.bytes += batch.lengths[..count].iter().sum::<usize>() as u64;
        batch.send(&socket, &targets, count)?;
    }
    sent.time = start.elapsed();
    end(&socket, &pattern, to, flows)?;
    Ok(sent)
}

impl Batch {
    /// Sends the first `count`.
    fn send(
        &self,
        socket: &UdpSocket,
        targets: &[Option<SockaddrIn>],
        count: usize,
    ) -> io::Result<()> {
        let mut from = 0;
        while from < count {
            let range = from..count;
            let slices: Vec<_> = range
                .clone()
                .map(|at| [IoSlice::new(&self.bytes[at][..self.lengths[at]])])
                .collect();
            let addresses: Vec<_> = range.map(|at| targets[self.flows[at]]).collect();
            let mut headers = MultiHeaders::preallocate(slices.len(), None);
            let none: [ControlMessage<'_>; 0] = [];
            let flags = MsgFlags::empty();
            match sendmmsg(
                socket.as_raw_fd(),
                &mut headers,
                &slices,
                &addresses,
                none,
                flags,
            ) {
                Ok(results) => from += results.count(),
                Err(Errno::EINTR | Errno::ENOBUFS) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Marks the end of every flow.
fn end(socket: &UdpSocket, pattern: &Pattern, to: SocketAddrV4, flows: u16) -> io::Result<()> {
    for _ in 0..MARKS {
        sleep(BETWEEN_MARKS);
        for flow in 0..flows {
            let mut mark = [0; HEADER];
            pattern.write(Name { flow, number: END }, &mut mark);
            match socket.send_to(&mark, (*to.ip(), to.port() + flow)) {
                // The receiver has seen an earlier mark and has ended.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(()),
                other => other?,
            };
        }
    }
    Ok(())
}
