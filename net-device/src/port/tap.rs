//! A TAP queue as a port.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use net_queue::{Caps, FrameBackend, Gather, LinkConfig, Offloads, RecvError, Scatter, SendError};
use tap::Tap;

use super::gso::GsoPolicy;
use super::{Port, PortControl};

#[cfg(test)]
mod tests;

/// The two crates' names for one thing; neither knows the other.
const OFFLOADS: [(Offloads, tap::Offloads); 9] = [
    (Offloads::CSUM, tap::Offloads::CSUM),
    (Offloads::TSO4, tap::Offloads::TSO4),
    (Offloads::TSO6, tap::Offloads::TSO6),
    (Offloads::ECN, tap::Offloads::ECN),
    (Offloads::UFO, tap::Offloads::UFO),
    (Offloads::USO4, tap::Offloads::USO4),
    (Offloads::USO6, tap::Offloads::USO6),
    (Offloads::UDP_TUNNEL, tap::Offloads::UDP_TUNNEL),
    (Offloads::UDP_TUNNEL_CSUM, tap::Offloads::UDP_TUNNEL_CSUM),
];

fn to_tap(offloads: Offloads) -> tap::Offloads {
    let on = OFFLOADS.iter().filter(|(ours, _)| offloads.contains(*ours));
    let set: tap::Offloads = on.map(|(_, theirs)| *theirs).collect();
    // The kernel takes the two UDP families together or not at all; the frames that come are
    // checked one by one.
    let uso = tap::Offloads::USO4 | tap::Offloads::USO6;
    if set.intersects(uso) { set | uso } else { set }
}

fn from_tap(offloads: tap::Offloads) -> Offloads {
    let on = OFFLOADS
        .iter()
        .filter(|(_, theirs)| offloads.contains(*theirs));
    on.map(|(ours, _)| *ours).collect()
}

/// Makes a port of one tap queue, and asks the kernel what it can do.
///
/// # Errors
/// The offloads cannot be probed, or the descriptor cannot be duplicated.
pub fn tap_port(tap: Tap, multi_queue: bool, gso: GsoPolicy) -> Result<Port, tap::Error> {
    let control = Box::new(TapControl {
        tap: tap.try_clone()?,
        multi_queue,
    });
    let backend = TapBackend::new(tap, multi_queue, gso)?;
    Ok(Port::new(Box::new(backend), control))
}

/// A queue of a tap, which carries frames behind the header that the driver negotiated.
///
/// [`tap_port`] puts it into a [`Port`]. By itself it serves the engines of `net_queue`, or a
/// backend that does more.
#[derive(Debug)]
pub struct TapBackend {
    tap: Tap,
    caps: Caps,
}

impl TapBackend {
    /// Takes one queue of a tap, and asks the kernel what it can do, of which `gso` leaves out what
    /// it does wrongly. `multi_queue`: the interface has other queues.
    ///
    /// # Errors
    /// The offloads cannot be probed.
    pub fn new(tap: Tap, multi_queue: bool, gso: GsoPolicy) -> Result<Self, tap::Error> {
        let taken = tap.probe_offloads()?;
        // A tap from another network namespace cannot be asked: then any frame size is possible.
        let mtu = tap.mtu().ok();
        // The kernel takes frames with any of these undone, whatever it was told to deliver.
        let caps = Caps {
            tx: from_tap(taken - gso.refused),
            rx: from_tap(taken),
            coalesce: from_tap(taken & gso.coalesced),
            mtu,
            multi_queue,
        };
        Ok(Self { tap, caps })
    }
}

impl FrameBackend for TapBackend {
    fn caps(&self) -> Caps {
        self.caps
    }

    fn mtu(&self) -> Option<u16> {
        // To ask takes a descriptor: without one, what is known stays.
        self.tap.mtu().ok().or(self.caps.mtu)
    }

    fn configure(&mut self, link: &LinkConfig) -> io::Result<()> {
        self.tap
            .set_vnet_header_len(link.hdr_len as u32)
            .map_err(io::Error::other)?;
        self.tap
            .set_offloads(to_tap(link.rx))
            .map_err(io::Error::other)?;
        Ok(())
    }

    #[inline]
    fn send(&mut self, frame: &Gather<'_>) -> Result<(), SendError> {
        match frame.write_to(&self.tap).map_err(SendError::from) {
            Ok(_) => Ok(()),
            Err(SendError::Dead(error)) if !is_gone(&error) => Err(SendError::Refused),
            Err(error) => Err(error),
        }
    }

    #[inline]
    fn recv(&mut self, room: &mut Scatter<'_>) -> Result<usize, RecvError> {
        match room.read_from(&self.tap).map_err(RecvError::from) {
            Err(RecvError::Dead(error)) if is_transient(&error) => Err(RecvError::Lost),
            received => received,
        }
    }

    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.tap.as_fd()
    }

    /// The kernel reports an error for a tap whose interface is being deleted or is gone, and for
    /// no other. To ask it would not help: for a moment such a tap still looks like one without
    /// frames.
    fn check(&self) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(libc::EBADFD))
    }
}

/// The interface was deleted under the descriptor.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EBADFD | libc::EBADF | libc::ENODEV)
    )
}

/// The kernel consumed a frame or was short of memory; the next read may work. Anything else would
/// fail again at once and for ever.
fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::ENOMEM | libc::ENOBUFS)
    )
}

struct TapControl {
    tap: Tap,
    multi_queue: bool,
}

impl PortControl for TapControl {
    fn attach(&self, on: bool) -> io::Result<()> {
        if !self.multi_queue {
            return Ok(());
        }
        let done = if on {
            self.tap.attach_queue()
        } else {
            self.tap.detach_queue()
        };
        done.map_err(io::Error::other)
    }

    fn set_offloads(&self, rx: Offloads) -> io::Result<()> {
        self.tap.set_offloads(to_tap(rx)).map_err(io::Error::other)
    }

    fn set_steering(&self, program: Option<BorrowedFd<'_>>) -> io::Result<()> {
        self.tap.set_steering(program).map_err(io::Error::other)
    }

    fn set_filter(&self, program: Option<BorrowedFd<'_>>) -> io::Result<()> {
        self.tap.set_filter(program).map_err(io::Error::other)
    }
}
