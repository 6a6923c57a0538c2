//! Changes of a tap's interface, as the kernel tells of them: up and down, carrier, name, MTU.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

use crate::error::Error;
use crate::tap::Tap;

#[cfg(test)]
mod tests;

/// `RTMGRP_LINK` of linux/rtnetlink.h: changes of interfaces.
const GROUP_LINK: u32 = 1;
/// Messages that are looked at before the caller has its turn.
const MOST_MESSAGES: usize = 256;
/// Lengths of `struct nlmsghdr`, and of `struct ifinfomsg` up to the end of `ifi_index`.
const HEADER: usize = 16;
const UP_TO_INDEX: usize = 8;

/// State of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Its name.
    pub name: String,
    /// It is up, and has a carrier.
    pub up: bool,
    /// Its MTU in bytes.
    pub mtu: u16,
}

/// Listens to what the kernel tells of the interface of a tap (rtnetlink, multicast).
///
/// It needs no capability, and costs the data path nothing. It holds the tap's queue by a
/// descriptor of its own, so an interface that is not persistent is there as long as its monitor.
#[derive(Debug)]
pub struct LinkMonitor {
    socket: OwnedFd,
    tap: Tap,
    index: u32,
    /// There is something to look at, whatever the kernel says.
    unseen: bool,
}

impl LinkMonitor {
    /// Listens from now on; the first look is worth while at once.
    ///
    /// # Errors
    ///
    /// [`Error::OtherNamespace`], the limit of open files, or a kernel without rtnetlink.
    pub fn new(tap: &Tap) -> Result<Self, Error> {
        let refused = |request| {
            move |error: Errno| Error::Request {
                request,
                source: error.into(),
            }
        };
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            // NETLINK_ROUTE, which is 0.
            None,
        );
        let socket = socket.map_err(refused("socket(NETLINK_ROUTE)"))?;
        let bound = bind(&socket, &SocketAddrNetlink::new(0, GROUP_LINK));
        bound.map_err(refused("bind(RTMGRP_LINK)"))?;
        Ok(Self {
            socket,
            index: tap.if_index()?,
            tap: tap.try_clone()?,
            unseen: true,
        })
    }

    /// Takes what the kernel has told, and returns whether [`LinkMonitor::state`] may be another
    /// one than at the last call. What is there beyond a bounded number of messages keeps the
    /// descriptor readable.
    ///
    /// # Errors
    ///
    /// The kernel's error: it tells no more.
    pub fn has_changed(&mut self) -> io::Result<bool> {
        let mut changed = std::mem::take(&mut self.unseen);
        let mut message = [0; 4096];
        for _ in 0..MOST_MESSAGES {
            match recv(&self.socket, &mut message[..], RecvFlags::empty()) {
                Ok((_, len)) => changed |= concerns(&message[..len.min(4096)], self.index),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                // Some were lost.
                Err(Errno::NOBUFS) => changed = true,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(changed)
    }

    /// Has the next [`LinkMonitor::has_changed`] say so, for a caller who could not look.
    pub fn look_again(&mut self) {
        self.unseen = true;
    }

    /// The state of the interface as it is now.
    ///
    /// # Errors
    ///
    /// [`Error::OtherNamespace`] when it was moved, `EBADFD` when it was deleted.
    pub fn state(&self) -> Result<LinkState, Error> {
        Ok(LinkState {
            name: self.tap.name()?,
            up: self.tap.carrier()?,
            mtu: self.tap.mtu()?,
        })
    }
}

/// Readable when the kernel has told something.
impl AsFd for LinkMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Returns whether one of the messages in `bytes` is about the interface, or cannot be read.
fn concerns(mut bytes: &[u8], index: u32) -> bool {
    let word = |bytes: &[u8], at: usize| {
        let word = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_ne_bytes(word))
    };
    while !bytes.is_empty() {
        let len = word(bytes, 0).map(|len| len as usize);
        match (len, word(bytes, HEADER + UP_TO_INDEX - 4)) {
            (Some(len @ HEADER..), Some(about)) if about != index => {
                let next = len.saturating_add(3) & !3;
                bytes = bytes.get(next..).unwrap_or_default();
            }
            _ => return true,
        }
    }
    false
}
