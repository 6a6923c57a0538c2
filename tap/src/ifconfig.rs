//! The interface around the queues.
//!
//! MAC and carrier go through the queue and work wherever the interface lives. The rest finds the
//! interface by name, so it works only in the interface's own network namespace.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

use libc::c_int;

use crate::error::Error;
use crate::name::IfName;
use crate::sys::{self, IfReq, Ipv4Socket, Ipv6Socket, Refused, Request};
use crate::tap::{Identity, Tap};

/// The interface of a tap, found by name in this network namespace.
struct Local {
    socket: Ipv4Socket,
    name: IfName,
}

impl Local {
    /// Finds the interface. Another one may have the same name here when the tap comes from
    /// another namespace, so the MAC must agree too: the kernel gives each tap a random one.
    fn find(tap: &Tap) -> Result<Self, Error> {
        let expected = tap.identity()?;
        let socket = Ipv4Socket::open()?;
        let name = expected.name;
        let mut request = IfReq::new(name);
        let found = match socket.call(&sys::SIOCGIFHWADDR, &mut request) {
            Ok(()) => Some(Identity {
                name,
                mac: request.mac(),
            }),
            Err(refused) if refused.errno() == Some(libc::ENODEV) => None,
            Err(refused) => return Err(refused.into()),
        };
        if found == Some(expected) {
            Ok(Self { socket, name })
        } else {
            Err(Error::OtherNamespace {
                name: name.to_string(),
            })
        }
    }

    fn get(&self, request: &Request<IfReq>) -> Result<IfReq, Error> {
        let mut argument = IfReq::new(self.name);
        self.socket.call(request, &mut argument)?;
        Ok(argument)
    }

    /// Changes one flag and keeps the others: the kernel takes the whole set.
    fn set_flag(&self, flag: c_int, on: bool) -> Result<(), Error> {
        let mut argument = self.get(&sys::SIOCGIFFLAGS)?;
        let flags = argument.flags();
        if (flags & flag != 0) == on {
            return Ok(());
        }
        argument.set_flags(if on { flags | flag } else { flags & !flag });
        Ok(self.socket.call(&sys::SIOCSIFFLAGS, &mut argument)?)
    }
}

/// The interface of the tap: it is the same for all queues.
///
/// Methods that find it by name fail with [`Error::OtherNamespace`] when it lives in another
/// network namespace, and open a socket for the call. Setters are not for an interface that
/// existed before ([`Tap::was_created`]) unless its owner asks for it. What is set already is not
/// set again, and then needs no capability.
impl Tap {
    /// The MAC address; works from any network namespace.
    ///
    /// # Errors
    ///
    /// `EBADFD` when the interface is gone.
    pub fn mac(&self) -> Result<[u8; 6], Error> {
        let mut request = IfReq::empty();
        sys::SIOCGIFHWADDR.call(self.as_fd(), &mut request)?;
        Ok(request.mac())
    }

    /// Sets the MAC address of the host's end; works from any network namespace, also while up.
    ///
    /// Not for an interface that existed before, unless asked to.
    ///
    /// # Errors
    ///
    /// `EADDRNOTAVAIL` for a multicast or zero address.
    pub fn set_mac(&self, mac: [u8; 6]) -> Result<(), Error> {
        if self.mac()? == mac {
            return Ok(());
        }
        let mut request = IfReq::empty().with_mac(mac);
        Ok(sys::SIOCSIFHWADDR.call(self.as_fd(), &mut request)?)
    }

    /// The index of the interface in this network namespace.
    ///
    /// # Errors
    ///
    /// [`Error::OtherNamespace`].
    pub fn if_index(&self) -> Result<u32, Error> {
        Ok(Local::find(self)?.get(&sys::SIOCGIFINDEX)?.index() as u32)
    }

    /// The MTU in bytes, without the Ethernet header.
    ///
    /// # Errors
    ///
    /// [`Error::OtherNamespace`]: go on without an MTU to advertise.
    pub fn mtu(&self) -> Result<u16, Error> {
        let mtu = Local::find(self)?.get(&sys::SIOCGIFMTU)?.mtu();
        // A tap's MTU is at most 65521.
        Ok(u16::try_from(mtu).unwrap_or(u16::MAX))
    }

    /// Sets the MTU in bytes, without the Ethernet header.
    ///
    /// Not for an interface that existed before, unless asked to.
    ///
    /// # Errors
    ///
    /// `EINVAL` outside 68 to 65521, [`Error::NeedsNetAdmin`], [`Error::OtherNamespace`].
    pub fn set_mtu(&self, mtu: u16) -> Result<(), Error> {
        let local = Local::find(self)?;
        if local.get(&sys::SIOCGIFMTU)?.mtu() == c_int::from(mtu) {
            return Ok(());
        }
        let mut request = IfReq::new(local.name).with_mtu(mtu);
        Ok(local.socket.call(&sys::SIOCSIFMTU, &mut request)?)
    }

    /// Sets the IPv4 address of the host's end, in place of the one it has.
    ///
    /// Not for an interface that existed before, unless asked to.
    ///
    /// # Errors
    ///
    /// [`Error::Prefix`] above 32, [`Error::NeedsNetAdmin`], [`Error::OtherNamespace`].
    pub fn set_ipv4(&self, address: Ipv4Addr, prefix: u8) -> Result<(), Error> {
        let mask = ipv4_mask(prefix)?;
        let local = Local::find(self)?;
        if local.socket.address_and_mask(local.name)? == Some((address, mask)) {
            return Ok(());
        }
        // In this order: a new address comes with the mask of its historic class.
        local.socket.set_address(local.name, address)?;
        Ok(local.socket.set_netmask(local.name, mask)?)
    }

    /// Adds an IPv6 address to the host's end; one that is there already is left as it is.
    ///
    /// Not for an interface that existed before, unless asked to.
    ///
    /// # Errors
    ///
    /// [`Error::Prefix`] above 128, [`Error::NeedsNetAdmin`], [`Error::OtherNamespace`],
    /// `EAFNOSUPPORT` without IPv6.
    pub fn add_ipv6(&self, address: Ipv6Addr, prefix: u8) -> Result<(), Error> {
        ipv6_prefix(prefix)?;
        let index = self.if_index()?;
        if has_ipv6(index, address) {
            return Ok(());
        }
        match Ipv6Socket::open()?.add_address(index, address, prefix) {
            Err(refused) if refused.errno() == Some(libc::EEXIST) => Ok(()),
            result => Ok(result?),
        }
    }

    /// Brings the interface up and leaves its other flags alone.
    ///
    /// # Errors
    ///
    /// [`Error::NeedsNetAdmin`], [`Error::OtherNamespace`].
    pub fn up(&self) -> Result<(), Error> {
        Local::find(self)?.set_flag(libc::IFF_UP, true)
    }

    /// Takes the interface down and leaves its other flags alone.
    ///
    /// # Errors
    ///
    /// [`Error::NeedsNetAdmin`], [`Error::OtherNamespace`].
    pub fn down(&self) -> Result<(), Error> {
        Local::find(self)?.set_flag(libc::IFF_UP, false)
    }

    /// Returns whether the interface is administratively up.
    ///
    /// # Errors
    ///
    /// [`Error::OtherNamespace`].
    pub fn is_up(&self) -> Result<bool, Error> {
        let flags = Local::find(self)?.get(&sys::SIOCGIFFLAGS)?.flags();
        Ok(flags & libc::IFF_UP != 0)
    }

    /// Returns whether the interface is up and has a carrier.
    ///
    /// # Errors
    ///
    /// [`Error::OtherNamespace`].
    pub fn carrier(&self) -> Result<bool, Error> {
        let local = Local::find(self)?;
        Ok(local.socket.link(local.name)?)
    }

    /// Plugs or unplugs the cable, as the host sees it; works from any network namespace.
    ///
    /// # Errors
    ///
    /// `EPERM` when plugging while every queue is detached.
    pub fn set_carrier(&self, on: bool) -> Result<(), Error> {
        // Here EPERM is about queues and not about capabilities.
        sys::TUNSETCARRIER
            .call(self.as_fd(), &mut c_int::from(on))
            .map_err(|Refused { request, source }| Error::Request { request, source })
    }
}

/// Returns whether the interface has this address; `false` when the kernel does not say.
fn has_ipv6(index: u32, address: Ipv6Addr) -> bool {
    // The thread's namespace, which may be another one than the process'.
    let Ok(table) = std::fs::read_to_string("/proc/thread-self/net/if_inet6") else {
        return false;
    };
    let address = format!("{:032x}", u128::from(address));
    table.lines().any(|line| {
        let mut columns = line.split_whitespace();
        let found = columns.next();
        let found_index = columns.next().map(|text| u32::from_str_radix(text, 16));
        found == Some(&*address) && found_index == Some(Ok(index))
    })
}

/// The mask of a prefix length, checked.
pub(crate) fn ipv4_mask(prefix: u8) -> Result<Ipv4Addr, Error> {
    match prefix {
        0..=32 => Ok(u32::MAX
            .checked_shl(32 - u32::from(prefix))
            .unwrap_or(0)
            .into()),
        _ => Err(Error::Prefix { prefix, bits: 32 }),
    }
}

/// Checks a prefix length.
pub(crate) fn ipv6_prefix(prefix: u8) -> Result<(), Error> {
    match prefix {
        0..=128 => Ok(()),
        _ => Err(Error::Prefix { prefix, bits: 128 }),
    }
}
