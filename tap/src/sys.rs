//! Every system call of this crate, and all of its `unsafe`.
//!
//! A request is a constant that carries the type of its argument, so a call from outside this
//! module cannot pair a request with the wrong argument. Arguments are always `&mut`: the kernel
//! writes into most of them.
#![allow(unsafe_code)]

use std::io;
use std::marker::PhantomData;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::{c_int, c_ulong};

use crate::name::IfName;

pub(crate) mod bpf;
pub(crate) mod child;
mod frames;
mod ifreq;

pub(crate) use self::ifreq::IfReq;

/// The most queues that one interface can have (`MAX_TAP_QUEUES` of the kernel).
pub const MAX_QUEUES: usize = 256;

/// A system call that failed: which one, and the kernel's answer.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) request: &'static str,
    pub(crate) source: io::Error,
}

impl Refused {
    fn last(request: &'static str) -> Self {
        Self {
            request,
            source: io::Error::last_os_error(),
        }
    }

    /// The error number, if it is one.
    pub(crate) fn errno(&self) -> Option<c_int> {
        self.source.raw_os_error()
    }
}

fn check(result: c_int, request: &'static str) -> Result<c_int, Refused> {
    if result < 0 {
        Err(Refused::last(request))
    } else {
        Ok(result)
    }
}

/// An `ioctl` whose argument is a pointer to an `A`.
pub(crate) struct Request<A> {
    code: libc::Ioctl,
    name: &'static str,
    argument: PhantomData<fn(&mut A)>,
}

impl<A> Request<A> {
    // Private: that `code` reads and writes at most one `A`, and keeps no pointer to it, is
    // established by the list of constants below and nowhere else.
    const fn new(code: libc::Ioctl, name: &'static str) -> Self {
        Self {
            code,
            name,
            argument: PhantomData,
        }
    }

    pub(crate) fn call(&self, fd: BorrowedFd<'_>, argument: &mut A) -> Result<(), Refused> {
        // SAFETY: `fd` is open for the call. `argument` is a live, exclusive, initialised `A`,
        // which is what `code` reads and writes (see `new`), and the pointer ends with the call.
        let result = unsafe { libc::ioctl(fd.as_raw_fd(), self.code, argument as *mut A) };
        check(result, self.name).map(drop)
    }
}

/// An `ioctl` whose argument is a plain number.
pub(crate) struct ValueRequest {
    code: libc::Ioctl,
    name: &'static str,
}

impl ValueRequest {
    pub(crate) fn call(&self, fd: BorrowedFd<'_>, value: c_ulong) -> Result<(), Refused> {
        // SAFETY: `fd` is open for the call and the requests of this type take a number, so the
        // kernel touches no memory of ours.
        check(
            unsafe { libc::ioctl(fd.as_raw_fd(), self.code, value) },
            self.name,
        )
        .map(drop)
    }
}

// linux/if_tun.h. The kernel headers declare most of these with `int` or `unsigned int` as the
// argument; the types here are what drivers/net/tun.c copies in and out.
pub(crate) const TUNSETIFF: Request<IfReq> = Request::new(libc::TUNSETIFF, "TUNSETIFF");
pub(crate) const TUNGETIFF: Request<IfReq> = Request::new(libc::TUNGETIFF, "TUNGETIFF");
pub(crate) const TUNSETQUEUE: Request<IfReq> = Request::new(libc::TUNSETQUEUE, "TUNSETQUEUE");
pub(crate) const TUNSETVNETHDRSZ: Request<c_int> =
    Request::new(libc::TUNSETVNETHDRSZ, "TUNSETVNETHDRSZ");
pub(crate) const TUNGETVNETHDRSZ: Request<c_int> =
    Request::new(libc::TUNGETVNETHDRSZ, "TUNGETVNETHDRSZ");
pub(crate) const TUNSETVNETLE: Request<c_int> = Request::new(libc::TUNSETVNETLE, "TUNSETVNETLE");
pub(crate) const TUNSETSNDBUF: Request<c_int> = Request::new(libc::TUNSETSNDBUF, "TUNSETSNDBUF");
pub(crate) const TUNSETCARRIER: Request<c_int> = Request::new(libc::TUNSETCARRIER, "TUNSETCARRIER");
pub(crate) const TUNSETSTEERINGEBPF: Request<c_int> =
    Request::new(libc::TUNSETSTEERINGEBPF, "TUNSETSTEERINGEBPF");
pub(crate) const TUNSETFILTEREBPF: Request<c_int> =
    Request::new(libc::TUNSETFILTEREBPF, "TUNSETFILTEREBPF");
pub(crate) const TUNSETOFFLOAD: ValueRequest = ValueRequest {
    code: libc::TUNSETOFFLOAD,
    name: "TUNSETOFFLOAD",
};
pub(crate) const TUNSETPERSIST: ValueRequest = ValueRequest {
    code: libc::TUNSETPERSIST,
    name: "TUNSETPERSIST",
};

// The two halves of `attach_filter` and `detach_filter`; the program that the first one points to
// is copied by the kernel, the second one ignores its argument.
const TUNATTACHFILTER: Request<libc::sock_fprog> =
    Request::new(libc::TUNATTACHFILTER, "TUNATTACHFILTER");
const TUNDETACHFILTER: ValueRequest = ValueRequest {
    code: libc::TUNDETACHFILTER,
    name: "TUNDETACHFILTER",
};

// linux/sockios.h, netdevice(7). A tun queue answers the two HWADDR requests too.
pub(crate) const SIOCGIFHWADDR: Request<IfReq> = netdevice(libc::SIOCGIFHWADDR, "SIOCGIFHWADDR");
pub(crate) const SIOCSIFHWADDR: Request<IfReq> = netdevice(libc::SIOCSIFHWADDR, "SIOCSIFHWADDR");
pub(crate) const SIOCGIFINDEX: Request<IfReq> = netdevice(libc::SIOCGIFINDEX, "SIOCGIFINDEX");
pub(crate) const SIOCGIFMTU: Request<IfReq> = netdevice(libc::SIOCGIFMTU, "SIOCGIFMTU");
pub(crate) const SIOCSIFMTU: Request<IfReq> = netdevice(libc::SIOCSIFMTU, "SIOCSIFMTU");
pub(crate) const SIOCGIFFLAGS: Request<IfReq> = netdevice(libc::SIOCGIFFLAGS, "SIOCGIFFLAGS");
pub(crate) const SIOCSIFFLAGS: Request<IfReq> = netdevice(libc::SIOCSIFFLAGS, "SIOCSIFFLAGS");

// linux/sockios.h, which libc does not cover. The first one takes the bridge's name alone.
pub(crate) const SIOCBRADDBR: Request<[libc::c_char; libc::IFNAMSIZ]> =
    Request::new(0x89a0, "SIOCBRADDBR");
pub(crate) const SIOCBRADDIF: Request<IfReq> = netdevice(0x89a2, "SIOCBRADDIF");

// With `Ipv4Socket` they answer with an IPv4 address.
const SIOCGIFADDR: Request<IfReq> = netdevice(libc::SIOCGIFADDR, "SIOCGIFADDR");
const SIOCGIFNETMASK: Request<IfReq> = netdevice(libc::SIOCGIFNETMASK, "SIOCGIFNETMASK");

const fn netdevice(code: c_ulong, name: &'static str) -> Request<IfReq> {
    // All codes are below 0x9000, so they fit whatever integer this libc takes.
    Request::new(code as libc::Ioctl, name)
}

// Only `Ipv4Socket` and `Ipv6Socket` may send these two: the address family of the socket decides
// whether the kernel takes an `ifreq` or an `in6_ifreq`.
const SIOCSIFADDR_V4: Request<IfReq> = netdevice(libc::SIOCSIFADDR, "SIOCSIFADDR");
const SIOCSIFNETMASK_V4: Request<IfReq> = netdevice(libc::SIOCSIFNETMASK, "SIOCSIFNETMASK");
const SIOCSIFADDR_V6: Request<libc::in6_ifreq> =
    Request::new(libc::SIOCSIFADDR as libc::Ioctl, "SIOCSIFADDR");

fn socket(family: c_int) -> Result<OwnedFd, Refused> {
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    let fd = check(fd, "socket")?;
    // SAFETY: the kernel has just made `fd` for us, so nobody else owns or closes it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A socket for requests about interfaces of this network namespace, and their IPv4 addresses.
pub(crate) struct Ipv4Socket(OwnedFd);

impl Ipv4Socket {
    pub(crate) fn open() -> Result<Self, Refused> {
        socket(libc::AF_INET).map(Self)
    }

    pub(crate) fn call<A>(&self, request: &Request<A>, argument: &mut A) -> Result<(), Refused> {
        request.call(self.0.as_fd(), argument)
    }

    pub(crate) fn set_address(&self, name: IfName, ip: Ipv4Addr) -> Result<(), Refused> {
        self.call(&SIOCSIFADDR_V4, &mut IfReq::new(name).with_ipv4(ip))
    }

    pub(crate) fn set_netmask(&self, name: IfName, mask: Ipv4Addr) -> Result<(), Refused> {
        self.call(&SIOCSIFNETMASK_V4, &mut IfReq::new(name).with_ipv4(mask))
    }

    /// The first IPv4 address of an interface, with its mask.
    pub(crate) fn address_and_mask(
        &self,
        name: IfName,
    ) -> Result<Option<(Ipv4Addr, Ipv4Addr)>, Refused> {
        let ask = |request: &Request<IfReq>| {
            let mut argument = IfReq::new(name);
            self.call(request, &mut argument).map(|()| argument.ipv4())
        };
        match ask(&SIOCGIFADDR) {
            Ok(address) => Ok(Some((address, ask(&SIOCGIFNETMASK)?))),
            Err(refused) if refused.errno() == Some(libc::EADDRNOTAVAIL) => Ok(None),
            Err(refused) => Err(refused),
        }
    }

    /// The driver of an interface, and where it says it is plugged in.
    pub(crate) fn driver(&self, name: IfName) -> Result<Driver, Refused> {
        let mut info = EthtoolDrvinfo {
            cmd: ETHTOOL_GDRVINFO,
            driver: [0; 32],
            version: [0; 32],
            fw_version: [0; 32],
            bus_info: [0; 32],
            rest: [0; 64],
        };
        self.ethtool(name, &mut info)?;
        Ok(Driver {
            name: info.driver,
            bus: info.bus_info,
        })
    }

    /// Returns whether an interface is up and has its carrier.
    pub(crate) fn link(&self, name: IfName) -> Result<bool, Refused> {
        let mut value = EthtoolValue {
            cmd: ETHTOOL_GLINK,
            data: 0,
        };
        self.ethtool(name, &mut value)?;
        Ok(value.data != 0)
    }

    fn ethtool<C: EthtoolCommand>(&self, name: IfName, command: &mut C) -> Result<(), Refused> {
        let mut request = IfReq::new(name).with_data((command as *mut C).cast());
        self.call(&SIOCETHTOOL, &mut request)
    }
}

/// A socket for requests about IPv6 addresses.
pub(crate) struct Ipv6Socket(OwnedFd);

impl Ipv6Socket {
    pub(crate) fn open() -> Result<Self, Refused> {
        socket(libc::AF_INET6).map(Self)
    }

    pub(crate) fn add_address(&self, index: u32, ip: Ipv6Addr, prefix: u8) -> Result<(), Refused> {
        let mut request = libc::in6_ifreq {
            ifr6_addr: libc::in6_addr {
                s6_addr: ip.octets(),
            },
            ifr6_prefixlen: prefix.into(),
            ifr6_ifindex: index as c_int,
        };
        SIOCSIFADDR_V6.call(self.0.as_fd(), &mut request)
    }
}

/// Answer of an interface about its driver, NUL-padded.
pub(crate) struct Driver {
    name: [u8; 32],
    bus: [u8; 32],
}

impl Driver {
    pub(crate) fn is_tun_driver(&self) -> bool {
        self.name.starts_with(b"tun\0")
    }

    pub(crate) fn is_tap(&self) -> bool {
        self.is_tun_driver() && self.bus.starts_with(b"tap\0")
    }
}

// linux/ethtool.h, which libc does not cover. Only `Ipv4Socket::ethtool` sends SIOCETHTOOL, and
// points its `ifreq` at an `EthtoolCommand`.
const SIOCETHTOOL: Request<IfReq> = netdevice(libc::SIOCETHTOOL, "SIOCETHTOOL");
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GLINK: u32 = 0x0a;

/// The argument of an ethtool command.
///
/// # Safety
///
/// The structure starts with a command number for which the kernel reads and writes no more than
/// the structure, and any bytes are a value of it.
unsafe trait EthtoolCommand {}

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct EthtoolDrvinfo {
    cmd: u32,
    driver: [u8; 32],
    version: [u8; 32],
    fw_version: [u8; 32],
    bus_info: [u8; 32],
    /// `erom_version[32]`, `reserved2[12]` and five `u32`.
    rest: [u8; 64],
}

const _: () = assert!(mem::size_of::<EthtoolDrvinfo>() == 196);

// SAFETY: made with `ETHTOOL_GDRVINFO` only, whose size is asserted above; integers only.
unsafe impl EthtoolCommand for EthtoolDrvinfo {}

/// `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    cmd: u32,
    data: u32,
}

// SAFETY: made with `ETHTOOL_GLINK` only, which writes two `u32`.
unsafe impl EthtoolCommand for EthtoolValue {}

/// Gives the attached queues of a tap a filter that lets every frame pass whole.
pub(crate) fn attach_filter(fd: BorrowedFd<'_>) -> Result<(), Refused> {
    let mut pass = libc::sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: u32::MAX,
    };
    let mut program = libc::sock_fprog {
        len: 1,
        filter: &mut pass,
    };
    TUNATTACHFILTER.call(fd, &mut program)
}

/// Takes the filter away again.
pub(crate) fn detach_filter(fd: BorrowedFd<'_>) -> Result<(), Refused> {
    TUNDETACHFILTER.call(fd, 0)
}

/// Makes a descriptor that was handed in non-blocking and close-on-exec.
pub(crate) fn set_nonblocking_cloexec(fd: BorrowedFd<'_>) -> Result<(), Refused> {
    let fd = fd.as_raw_fd();
    // SAFETY: `fd` is open for the calls, and none of these commands takes memory.
    unsafe {
        let status = check(libc::fcntl(fd, libc::F_GETFL), "fcntl(F_GETFL)")?;
        let status = status | libc::O_NONBLOCK;
        check(libc::fcntl(fd, libc::F_SETFL, status), "fcntl(F_SETFL)")?;
        let flags = check(libc::fcntl(fd, libc::F_GETFD), "fcntl(F_GETFD)")?;
        let flags = flags | libc::FD_CLOEXEC;
        check(libc::fcntl(fd, libc::F_SETFD, flags), "fcntl(F_SETFD)")?;
    }
    Ok(())
}
