//! `struct ifreq`, the argument of most requests.
#![allow(unsafe_code)]

use std::mem;
use std::net::Ipv4Addr;

use libc::{c_char, c_int};

use crate::name::{IfName, NAME_SIZE};

/// A name, and a union that starts zeroed, so that every field of
/// it is initialised whichever one is read.
pub(crate) struct IfReq(libc::ifreq);

impl IfReq {
    pub(crate) fn new(name: IfName) -> Self {
        // SAFETY: an `ifreq` is integers, byte arrays and a pointer, for all of which zero is a
        // value.
        let mut request: libc::ifreq = unsafe { mem::zeroed() };
        request.ifr_name = name.bytes().map(|byte| byte as c_char);
        Self(request)
    }

    /// A request about no name in particular, for the kernel to fill in.
    pub(crate) fn empty() -> Self {
        Self::new(IfName::from_kernel([0; NAME_SIZE]))
    }

    pub(crate) fn with_flags(mut self, flags: c_int) -> Self {
        self.set_flags(flags);
        self
    }

    pub(crate) fn with_mac(mut self, mac: [u8; 6]) -> Self {
        let mut address = zeroed_sockaddr(libc::ARPHRD_ETHER);
        for (to, from) in address.sa_data.iter_mut().zip(mac) {
            *to = from as c_char;
        }
        self.0.ifr_ifru.ifru_hwaddr = address;
        self
    }

    pub(crate) fn with_mtu(mut self, mtu: u16) -> Self {
        self.0.ifr_ifru.ifru_mtu = mtu.into();
        self
    }

    pub(crate) fn with_index(mut self, index: c_int) -> Self {
        self.0.ifr_ifru.ifru_ifindex = index;
        self
    }

    pub(super) fn with_ipv4(mut self, ip: Ipv4Addr) -> Self {
        // sockaddr_in: the port takes the first two bytes of the data, the address the next four.
        let mut address = zeroed_sockaddr(libc::AF_INET as u16);
        for (to, from) in address.sa_data.iter_mut().skip(2).zip(ip.octets()) {
            *to = from as c_char;
        }
        self.0.ifr_ifru.ifru_addr = address;
        self
    }

    /// Points the request at an ethtool command.
    pub(super) fn with_data(mut self, data: *mut c_char) -> Self {
        self.0.ifr_ifru.ifru_data = data;
        self
    }

    pub(crate) fn set_flags(&mut self, flags: c_int) {
        self.0.ifr_ifru.ifru_flags = flags as libc::c_short;
    }

    pub(crate) fn name(&self) -> IfName {
        IfName::from_kernel(self.0.ifr_name.map(|byte| byte as u8))
    }

    /// The flags, zero-extended: the kernel's field is a signed 16 bits.
    pub(crate) fn flags(&self) -> c_int {
        // SAFETY: the union was zeroed at creation and holds integers only, so any field is
        // initialised and valid.
        c_int::from(unsafe { self.0.ifr_ifru.ifru_flags } as u16)
    }

    pub(crate) fn mac(&self) -> [u8; 6] {
        // SAFETY: as in `flags`.
        let [a, b, c, d, e, f, ..] = unsafe { self.0.ifr_ifru.ifru_hwaddr.sa_data };
        [a, b, c, d, e, f].map(|byte| byte as u8)
    }

    /// The address of a `sockaddr_in`: the port takes the first two bytes of the data.
    pub(super) fn ipv4(&self) -> Ipv4Addr {
        // SAFETY: as in `flags`.
        let [_, _, a, b, c, d, ..] = unsafe { self.0.ifr_ifru.ifru_addr.sa_data };
        Ipv4Addr::from([a, b, c, d].map(|byte| byte as u8))
    }

    pub(crate) fn mtu(&self) -> c_int {
        // SAFETY: as in `flags`.
        unsafe { self.0.ifr_ifru.ifru_mtu }
    }

    pub(crate) fn index(&self) -> c_int {
        // SAFETY: as in `flags`.
        unsafe { self.0.ifr_ifru.ifru_ifindex }
    }
}

fn zeroed_sockaddr(family: u16) -> libc::sockaddr {
    libc::sockaddr {
        sa_family: family,
        sa_data: [0; 14],
    }
}
