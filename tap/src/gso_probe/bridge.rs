//! The kernel of this host as a path: two taps on a bridge, in a network namespace of their own.
//!
//! Frames are written to one tap and read from the other one, which takes no offloads, so the
//! kernel cuts them in between. Everything is made by a child process that ends at once, in
//! [`Trial::run`], and vanishes with it.
#![allow(unsafe_code)]

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use libc::c_int;

use super::frames::{DESTINATION, HEADER, SOURCE};
use super::report::{GsoOutcome, GsoPath, NotTried};
use crate::error::Error;
use crate::name::{IfName, NAME_SIZE};
use crate::open::{attach, open_driver};
use crate::sys::child::{run_in_new_network, wait_readable};
use crate::sys::{self, IfReq, Ipv4Socket, Refused};
use crate::tap::Tap;

/// Longest time that the child spends on frames; one millisecond is usual.
const FRAMES_LIMIT: Duration = Duration::from_millis(100);
/// Longest time that a caller waits; a few milliseconds are usual. What takes longer are locks of
/// the host's network, which may be held for as long as somebody else likes.
const LIMIT: Duration = Duration::from_millis(200);
/// Wait for the first frame before it is sent again.
const RETRY: Duration = Duration::from_millis(1);

/// Room for all frames that come out of a trial.
const ARRIVALS: usize = 96;
/// Room for a frame of a tap's first MTU and its headers.
const FRAME: usize = 2048;

/// IEEE 802's first type for experiments, which no protocol of the kernel listens to.
const MARKER_TYPE: [u8; 2] = [0x88, 0xb5];

/// Names that explain themselves in a log of the kernel.
const BRIDGE: &[u8; NAME_SIZE] = b"gso-probe\0\0\0\0\0\0\0";
const ENTRANCE: &[u8; NAME_SIZE] = b"gso-probe-in\0\0\0\0";
const EXIT: &[u8; NAME_SIZE] = b"gso-probe-out\0\0\0";

/// The kernel that this process runs on.
#[derive(Debug, Default)]
pub struct ThisKernel(());

impl GsoPath for ThisKernel {
    /// Takes the time of a child process and 200 ms at most. If that is not enough, a thread waits
    /// for the child to end.
    fn pass(&mut self, frames: Vec<Vec<u8>>) -> Result<Vec<GsoOutcome>, NotTried> {
        has_bridge()?;
        if cfg!(sanitized) {
            // ThreadSanitizer fails on a child that shares the process's memory.
            return Err(NotTried::Refused {
                step: "clone",
                errno: libc::ENOSYS,
            });
        }
        let mut trial = Trial::new(frames);
        let (done, result) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name("gso-probe".to_owned());
        let thread = thread.spawn(move || {
            // SAFETY: `Trial::run` makes system calls and copies within memory that is there; it
            // has no index and no sum that could fail, allocates nothing and takes no lock. `Error`
            // and `Refused` hold numbers and literals there. This thread ends after it.
            let ended = unsafe { run_in_new_network(&mut trial, Trial::run) };
            let outcome = ended.map_err(NotTried::from).and_then(|()| trial.outcome());
            // Nobody waits any more if it took too long.
            let _ = done.send(outcome);
        });
        let thread = thread.map_err(|error| NotTried::Refused {
            step: "clone",
            errno: error.raw_os_error().unwrap_or(libc::EAGAIN),
        })?;
        let outcome = result.recv_timeout(LIMIT).map_err(|_| NotTried::TimedOut)?;
        // It has nothing left to do. It cannot have panicked either, or there would be no
        // outcome.
        let _ = thread.join();
        outcome
    }
}

/// To make a bridge would load its module. So look first, where one can.
fn has_bridge() -> Result<(), NotTried> {
    let modules = Path::new("/sys/module");
    if modules.exists() && !modules.join("bridge").exists() {
        return Err(NotTried::NoBridge);
    }
    Ok(())
}

impl From<Refused> for NotTried {
    fn from(refused: Refused) -> Self {
        Self::Refused {
            step: refused.request,
            errno: refused.errno().unwrap_or(libc::EIO),
        }
    }
}

/// The work of the child: all of its memory is made before, and read after.
struct Trial {
    sent: Vec<Sent>,
    arrivals: Vec<Arrival>,
    result: Result<(), NotTried>,
}

struct Sent {
    frame: Vec<u8>,
    refused: Option<i32>,
    /// Number of arrivals that followed this frame.
    arrived: usize,
}

struct Arrival {
    len: usize,
    bytes: [u8; FRAME],
}

impl Trial {
    fn new(frames: Vec<Vec<u8>>) -> Self {
        let sent = frames.into_iter().map(|frame| Sent {
            frame,
            refused: None,
            arrived: 0,
        });
        let arrivals = (0..ARRIVALS).map(|_| Arrival {
            len: 0,
            bytes: [0; FRAME],
        });
        Self {
            sent: sent.collect(),
            arrivals: arrivals.collect(),
            // If the child is killed.
            result: Err(NotTried::NoPath),
        }
    }

    /// Runs in the child: see the promise where it is handed over.
    fn run(&mut self) {
        self.result = Bridge::new().and_then(|bridge| self.pass(&bridge));
    }

    fn pass(&mut self, bridge: &Bridge) -> Result<(), NotTried> {
        let deadline = Instant::now() + FRAMES_LIMIT;
        bridge.wait_until_open(deadline)?;
        let mut arrivals = self.arrivals.iter_mut();
        for (number, sent) in (1..).zip(&mut self.sent) {
            sent.refused = bridge.send(&sent.frame).err();
            // What comes before the marker was cut from the frame.
            let marker = marker(number);
            bridge.send(&marker).map_err(|_| NotTried::NoPath)?;
            loop {
                let arrival = arrivals.next().ok_or(NotTried::NoPath)?;
                if !bridge.receive(arrival, &marker, deadline)? {
                    break;
                }
                sent.arrived += 1;
            }
        }
        Ok(())
    }

    /// Findings of the child.
    fn outcome(self) -> Result<Vec<GsoOutcome>, NotTried> {
        self.result?;
        let mut arrivals = self.arrivals.into_iter();
        let outcomes = self.sent.into_iter().map(|sent| {
            // The last one is the marker.
            let mut frames: Vec<_> = arrivals.by_ref().take(sent.arrived + 1).collect();
            frames.pop();
            let frames = frames
                .iter()
                .filter_map(|frame| frame.bytes.get(..frame.len));
            GsoOutcome {
                refused: sent.refused,
                frames: frames.map(<[u8]>::to_vec).collect(),
            }
        });
        Ok(outcomes.collect())
    }
}

/// A plain frame that ends the answer to frame `number`.
fn marker(number: u8) -> [u8; HEADER + 60] {
    let mut frame = [0; HEADER + 60];
    let bytes = DESTINATION.iter().chain(&SOURCE).chain(&MARKER_TYPE);
    let bytes = bytes.chain(std::slice::from_ref(&number));
    for (to, from) in frame.iter_mut().skip(HEADER).zip(bytes) {
        *to = *from;
    }
    frame
}

/// Two taps and the bridge between them.
struct Bridge {
    entrance: Tap,
    exit: Tap,
}

impl Bridge {
    fn new() -> Result<Self, NotTried> {
        let (entrance, exit) = (tap(ENTRANCE)?, tap(EXIT)?);
        let socket = Ipv4Socket::open()?;
        socket.call(&sys::SIOCBRADDBR, &mut BRIDGE.map(|byte| byte as _))?;
        for port in [ENTRANCE, EXIT] {
            let mut request = IfReq::new(IfName::from_kernel(*port));
            socket.call(&sys::SIOCGIFINDEX, &mut request)?;
            let index = request.index();
            let mut request = IfReq::new(IfName::from_kernel(*BRIDGE)).with_index(index);
            socket.call(&sys::SIOCBRADDIF, &mut request)?;
        }
        for interface in [BRIDGE, ENTRANCE, EXIT] {
            let mut request = IfReq::new(IfName::from_kernel(*interface));
            socket.call(&sys::SIOCGIFFLAGS, &mut request)?;
            request.set_flags(request.flags() | libc::IFF_UP);
            socket.call(&sys::SIOCSIFFLAGS, &mut request)?;
        }
        Ok(Self { entrance, exit })
    }

    /// Sends plain frames until one comes out.
    fn wait_until_open(&self, deadline: Instant) -> Result<(), NotTried> {
        let marker = marker(0);
        while Instant::now() < deadline {
            // An interface that is not quite up refuses it.
            let _ = self.send(&marker);
            let mut arrival = Arrival {
                len: 0,
                bytes: [0; FRAME],
            };
            if let Ok(false) = self.receive(&mut arrival, &marker, Instant::now() + RETRY) {
                return Ok(());
            }
        }
        Err(NotTried::NoPath)
    }

    fn send(&self, frame: &[u8]) -> Result<(), i32> {
        let sent = self.entrance.write(frame);
        sent.map(drop)
            .map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))
    }

    /// Waits for the next frame of the probe's; false for the marker. The kernel sends some of its
    /// own, and the first marker may come more than once.
    fn receive(
        &self,
        arrival: &mut Arrival,
        marker: &[u8],
        deadline: Instant,
    ) -> Result<bool, NotTried> {
        let ours = |bytes: &[u8]| bytes.get(HEADER + 6..HEADER + 12) == Some(&SOURCE);
        let kind = |bytes: &[u8]| bytes.get(HEADER + 12..HEADER + 14) == Some(&MARKER_TYPE);
        loop {
            if let Ok(len) = self.exit.read(&mut arrival.bytes) {
                arrival.len = len;
                let bytes = arrival.bytes.get(..len).unwrap_or_default();
                if !ours(bytes) {
                    continue;
                }
                if !kind(bytes) {
                    return Ok(true);
                }
                if bytes.get(HEADER..) == marker.get(HEADER..) {
                    return Ok(false);
                }
                continue;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(NotTried::TimedOut);
            }
            wait_readable(self.exit.as_fd(), left);
        }
    }
}

/// A new tap, which ends with the network namespace and not with its descriptor: by itself it would
/// hold its last user up for tens of milliseconds.
fn tap(name: &[u8; NAME_SIZE]) -> Result<Tap, NotTried> {
    const FLAGS: c_int = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_TUN_EXCL;
    let driver = open_driver().map_err(|error| {
        let (Error::NoDriver(error) | Error::DriverPermission(error) | Error::Driver(error)) =
            &error
        else {
            return NotTried::NoPath;
        };
        NotTried::Refused {
            step: "open of /dev/net/tun",
            errno: error.raw_os_error().unwrap_or(libc::EIO),
        }
    })?;
    attach(&driver, IfName::from_kernel(*name), FLAGS)?;
    let tap = Tap::from_parts(driver, true);
    let mut header = HEADER as c_int;
    sys::TUNSETPERSIST.call(tap.as_fd(), 1)?;
    sys::TUNSETVNETHDRSZ.call(tap.as_fd(), &mut header)?;
    sys::TUNSETVNETLE.call(tap.as_fd(), &mut 1)?;
    Ok(tap)
}
