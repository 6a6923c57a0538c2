//! Raw frames to and from a device: a tap of the test's own on one bridge with the device's tap.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use tap::{Tap, TapOptions};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::{Error, Result, host};

const BRIDGE: &str = "probe-br";
const NAME: &str = "probe";

/// Set for local experiments (IEEE 802): nothing else on the bridge sends frames of this type.
const ETHER_TYPE: [u8; 2] = [0x88, 0xb5];
/// Bytes that a tap puts before each frame.
const HEADER_LEN: usize = tap::VNET_HEADER_LEN as usize;
/// Bytes of addresses and type.
const ETHERNET_LEN: usize = 14;

/// Longest time that a frame may take there and back.
const LIMIT: Duration = Duration::from_secs(60);

/// The far end of the wire.
pub struct Probe {
    tap: Tap,
    readable: Epoll,
    buffer: Vec<u8>,
}

impl Probe {
    /// Joins the tap of a device, for frames of up to `longest` bytes.
    ///
    /// # Errors
    /// When an interface cannot be made.
    pub fn on(device: &str, longest: usize) -> Result<Self> {
        let failed = |error: tap::Error| Error::Unexpected(format!("making a tap: {error}"));
        let mtu = u16::try_from(longest - ETHERNET_LEN).unwrap_or(u16::MAX);
        let options = TapOptions::new(NAME).mtu(mtu).up();
        let tap = options.open().map_err(failed)?.remove(0);
        let readable = Epoll::new().map_err(Error::io("making an epoll descriptor"))?;
        let event = EpollEvent::new(EventSet::IN, 0);
        readable
            .ctl(ControlOperation::Add, tap.as_raw_fd(), event)
            .map_err(Error::io("watching a tap"))?;
        host::run(&format!("ip link add {BRIDGE} type bridge"))?;
        for port in [device, NAME] {
            host::run(&format!("ip link set {port} master {BRIDGE}"))?;
        }
        host::run(&format!("ip link set {BRIDGE} up"))?;
        let buffer = vec![0; HEADER_LEN + (1 << 16)];
        Ok(Self {
            tap,
            readable,
            buffer,
        })
    }

    /// Sends frames.
    ///
    /// # Errors
    /// When the tap fails.
    pub fn send(&self, frames: &[Vec<u8>]) -> Result<()> {
        let header = [0; HEADER_LEN];
        for frame in frames {
            let written = self
                .tap
                .write_vectored(&[IoSlice::new(&header), IoSlice::new(frame)]);
            written.map_err(Error::io(format!("sending {} bytes", frame.len())))?;
        }
        Ok(())
    }

    /// Sends frames and gives what comes back: as many, or fewer when that takes too long.
    ///
    /// # Errors
    /// When the tap fails.
    pub fn exchange(&mut self, frames: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
        self.send(frames)?;
        let mut back = Vec::new();
        let deadline = Instant::now() + LIMIT;
        while back.len() < frames.len() {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.receive() {
                Ok(frame) if frame[12..ETHERNET_LEN] == ETHER_TYPE => back.push(frame),
                Ok(_noise) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if left.is_zero() {
                        break;
                    }
                    let millis = i32::try_from(left.as_millis()).unwrap_or(i32::MAX);
                    self.readable
                        .wait(millis, &mut [EpollEvent::default()])
                        .map_err(Error::io("waiting for a frame"))?;
                }
                Err(error) => return Err(Error::io("receiving a frame")(error)),
            }
        }
        Ok(back)
    }

    /// Takes the wire away.
    ///
    /// # Errors
    /// When an interface cannot be removed.
    pub fn close(self) -> Result<()> {
        host::run(&format!("ip link del {BRIDGE}")).map(drop)
    }

    fn receive(&mut self) -> io::Result<Vec<u8>> {
        let len = self
            .tap
            .read_vectored(&mut [IoSliceMut::new(&mut self.buffer)])?;
        Ok(self.buffer[HEADER_LEN..len].to_vec())
    }
}

/// A frame whose bytes differ from those of every other length and of every other round.
#[must_use]
pub fn frame(len: usize, round: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    frame.extend(ETHER_TYPE);
    frame.push(round);
    let body = (frame.len()..len).map(|at| (at * 7 + len * 13) as u8);
    frame.extend(body);
    frame
}
