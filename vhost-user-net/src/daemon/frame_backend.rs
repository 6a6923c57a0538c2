//! Other places for frames than a tap: programs behind a socket, and macvtap interfaces.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::process;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};

use net_device::port::{Link, datagram_port, stream_port};
use net_device::tap::Tap;
use net_device::{MacAddr, NetConfig, NewError};
use rustix::net::{SendFlags, send};

use crate::sys;

#[cfg(test)]
mod tests;

/// First datagram to gvproxy, by which it learns of a client.
const VFKIT_HELLO: &[u8] = b"VFKT";

/// A place for frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendSpec {
    /// A program that takes frames from a stream: passt, or QEMU.
    Passt(PathBuf),
    /// gvproxy, at its socket for vfkit.
    Gvproxy(PathBuf),
    /// A program that takes frames as datagrams.
    Datagrams(PathBuf),
    /// A macvtap interface.
    Macvtap(String),
}

/// Reasons why a place for frames cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// Several queues would have no order.
    #[error("{0} has one queue; --queue-pairs has to be 1")]
    OneQueue(BackendSpec),
    /// Nobody is there, or the kernel refuses.
    #[error("cannot connect to {0}")]
    Connect(BackendSpec, #[source] io::Error),
    /// There is no such interface, or it is none that can be opened.
    #[error("cannot open {0}")]
    Open(BackendSpec, #[source] io::Error),
    /// The device cannot use it.
    #[error("cannot use {0}")]
    Use(BackendSpec, #[source] Box<NewError>),
}

impl BackendSpec {
    /// Checks what can be checked without opening anything.
    ///
    /// # Errors
    /// It cannot serve a device with so many pairs.
    pub fn check(&self, queue_pairs: u16) -> Result<(), BackendError> {
        match self {
            Self::Macvtap(_) => Ok(()),
            _ if queue_pairs == 1 => Ok(()),
            _ => Err(BackendError::OneQueue(self.clone())),
        }
    }

    /// Address that the guest has to have, if it cannot have any other.
    #[must_use]
    pub fn mac(&self) -> Option<MacAddr> {
        let Self::Macvtap(name) = self else {
            return None;
        };
        let text = fs::read_to_string(format!("/sys/class/net/{name}/address")).ok()?;
        text.trim().parse().ok()
    }

    /// Opens it.
    ///
    /// # Errors
    /// It is not there, or cannot be used.
    pub fn open(&self, config: &NetConfig) -> Result<Link, BackendError> {
        match self {
            Self::Macvtap(name) => self.open_macvtap(name, config),
            _ => self.link_over(self.connect()),
        }
    }

    /// Returns whether it is a program behind a socket, which can be connected to again.
    pub(super) fn is_program(&self) -> bool {
        !matches!(self, Self::Macvtap(_))
    }

    /// Connects to the program at once or not at all.
    pub(super) fn connect(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Passt(path) => Ok(sys::connect(path)?.into()),
            Self::Gvproxy(path) => {
                let socket = datagrams(path)?;
                send(
                    &socket,
                    VFKIT_HELLO,
                    SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
                )?;
                Ok(socket.into())
            }
            Self::Datagrams(path) => Ok(datagrams(path)?.into()),
            Self::Macvtap(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// A link of what [`connect`](Self::connect) returned, here or in another process.
    pub(super) fn link_over(&self, socket: io::Result<OwnedFd>) -> Result<Link, BackendError> {
        let port = socket.and_then(|socket| match self {
            Self::Passt(_) => stream_port(socket.into()),
            _ => datagram_port(socket.into()),
        });
        let port = port.map_err(|error| BackendError::Connect(self.clone(), error))?;
        Ok(Link {
            ports: vec![port],
            host: None,
            monitor: None,
        })
    }

    fn open_macvtap(&self, name: &str, config: &NetConfig) -> Result<Link, BackendError> {
        let open = || {
            let index = fs::read_to_string(format!("/sys/class/net/{name}/ifindex"))?;
            let path = format!("/dev/tap{}", index.trim());
            let file = || OpenOptions::new().read(true).write(true).open(&path);
            let files = (0..config.queue_pairs).map(|_| file().map(Into::into));
            files.collect::<io::Result<Vec<_>>>()
        };
        let fds = open().map_err(|error| BackendError::Open(self.clone(), error))?;
        let unusable = |error| BackendError::Use(self.clone(), Box::new(error));
        let taps = Tap::from_fds(fds).map_err(|error| unusable(error.into()))?;
        Link::on_taps(config, taps).map_err(unusable)
    }
}

/// A datagram socket with a name of its own, to which the peer can answer.
fn datagrams(path: &PathBuf) -> io::Result<UnixDatagram> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("vhost-user-net-{}-{count}", process::id());
    // Without a file, which would be left behind by a process that is killed.
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
    socket.connect(path)?;
    Ok(socket)
}

impl FromStr for BackendSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const KINDS: &str = "passt:PATH, gvproxy:PATH, datagrams:PATH or macvtap:NAME";
        let refused = || format!("{text:?} is none of {KINDS}");
        let (kind, place) = text.split_once(':').ok_or_else(refused)?;
        if place.is_empty() {
            return Err(refused());
        }
        match kind {
            "passt" => Ok(Self::Passt(place.into())),
            "gvproxy" => Ok(Self::Gvproxy(place.into())),
            "datagrams" => Ok(Self::Datagrams(place.into())),
            // The name is a part of a path.
            "macvtap" if !place.contains('/') && place != ".." => Ok(Self::Macvtap(place.into())),
            _ => Err(refused()),
        }
    }
}

impl fmt::Display for BackendSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passt(path) => write!(f, "passt at {}", path.display()),
            Self::Gvproxy(path) => write!(f, "gvproxy at {}", path.display()),
            Self::Datagrams(path) => write!(f, "datagrams at {}", path.display()),
            Self::Macvtap(name) => write!(f, "macvtap {name}"),
        }
    }
}
