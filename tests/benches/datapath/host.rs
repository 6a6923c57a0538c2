//! The host's side: a network of one's own, a socket that feeds a tap, and the bare calls.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::{fs, io, mem, ptr};

use net_device::net_queue::header::HDR_LEN;
use net_device::tap::{Tap, TapOptions};
use net_queue::testing::TestMemory;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestRegionMmap, MmapRegion};

/// Bytes of the header that a packet socket takes: the base header without `num_buffers`.
const SOCKET_HDR_LEN: usize = 10;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Moves this process, which has one thread yet, into new user and network namespaces.
pub(crate) fn enter_private_network() -> io::Result<()> {
    // SAFETY: neither call has arguments or can fail.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    // SAFETY: the call has no pointers.
    check(unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET) })?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    // Or else the kernel would look for neighbours on every tap.
    let quiet = fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    quiet.or_else(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            Ok(())
        } else {
            Err(error)
        }
    })
}

/// The queues of a new interface that is up.
pub(crate) fn open_taps(queues: usize) -> Vec<Tap> {
    TapOptions::new("bench%d")
        .queues(queues)
        .up()
        .open()
        .expect("a tap can be opened")
}

/// The processors on which a thread may run.
pub(crate) type Processors = libc::cpu_set_t;

/// Keeps this thread, and those that it starts from now on, on the first of its processors; returns
/// all of them.
pub(crate) fn stay_on_one_processor() -> io::Result<Processors> {
    // SAFETY: all zeros are an empty set.
    let (mut all, mut one): (Processors, Processors) = unsafe { mem::zeroed() };
    let len = mem::size_of::<Processors>();
    // SAFETY: the set is writable and as long as said.
    check(unsafe { libc::sched_getaffinity(0, len, &raw mut all) })?;
    // SAFETY: the sets are this function's own, and the numbers below their size.
    unsafe {
        let count = libc::CPU_SETSIZE as usize;
        let first = (0..count).find(|&at| libc::CPU_ISSET(at, &all));
        libc::CPU_SET(first.unwrap_or(0), &mut one);
    }
    move_to(&one)?;
    Ok(all)
}

/// Lets this thread run on these processors.
pub(crate) fn move_to(processors: &Processors) -> io::Result<()> {
    let len = mem::size_of::<Processors>();
    // SAFETY: the set is readable and as long as said.
    check(unsafe { libc::sched_setaffinity(0, len, processors) }).map(drop)
}

/// The regions of `memory` as a device gets them whose writes nobody tracks.
pub(crate) fn untracked(memory: &TestMemory) -> GuestMemoryMmap<()> {
    let region = |(addr, len): (u64, usize)| {
        let addr = GuestAddress(addr);
        let host = memory
            .mmap()
            .get_host_address(addr)
            .expect("a region is mapped");
        // SAFETY: the region is mapped with these rights, and outlives the measurement that uses
        // this view of it.
        let mapping = unsafe {
            MmapRegion::build_raw(
                host,
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            )
        };
        GuestRegionMmap::new(mapping.expect("a region starts at a page"), addr)
            .expect("a region has an end")
    };
    GuestMemoryMmap::from_regions(memory.regions().map(region).into())
        .expect("regions do not overlap")
}

/// Names one buffer for the kernel.
pub(crate) fn iovec(host: *mut u8, len: usize) -> libc::iovec {
    libc::iovec {
        iov_base: host.cast(),
        iov_len: len,
    }
}

/// Sends one frame from `pieces`.
#[inline]
pub(crate) fn writev(fd: RawFd, pieces: &[libc::iovec]) -> isize {
    // SAFETY: the pieces are mapped as long as their driver lives.
    unsafe { libc::writev(fd, pieces.as_ptr(), pieces.len() as libc::c_int) }
}

/// Receives one frame into `pieces`.
#[inline]
pub(crate) fn readv(fd: RawFd, pieces: &[libc::iovec]) -> isize {
    // SAFETY: the pieces are mapped as long as their driver lives, and no reference to their bytes
    // exists.
    unsafe { libc::readv(fd, pieces.as_ptr(), pieces.len() as libc::c_int) }
}

/// Sends one frame from `piece`.
#[inline]
pub(crate) fn write(fd: RawFd, piece: &libc::iovec) -> isize {
    // SAFETY: as for `writev`.
    unsafe { libc::write(fd, piece.iov_base, piece.iov_len) }
}

/// Receives one frame into `piece`.
#[inline]
pub(crate) fn read(fd: RawFd, piece: &libc::iovec) -> isize {
    // SAFETY: as for `readv`.
    unsafe { libc::read(fd, piece.iov_base, piece.iov_len) }
}

/// Copies the first bytes of `piece` to `dst`.
#[inline]
pub(crate) fn copy_out(piece: &libc::iovec, dst: &mut [u8]) {
    let len = piece.iov_len.min(dst.len());
    // SAFETY: both sides have so many bytes, and `dst` belongs to no driver.
    unsafe { ptr::copy_nonoverlapping(piece.iov_base.cast(), dst.as_mut_ptr(), len) };
}

/// Copies `src` to the first bytes of `piece`.
#[inline]
pub(crate) fn copy_in(piece: &libc::iovec, src: &[u8]) {
    let len = piece.iov_len.min(src.len());
    // SAFETY: both sides have so many bytes, and `src` belongs to no driver.
    unsafe { ptr::copy_nonoverlapping(src.as_ptr(), piece.iov_base.cast(), len) };
}

/// The bytes of `piece` behind its first `count`.
#[inline]
pub(crate) fn behind(piece: &libc::iovec, count: usize) -> libc::iovec {
    let count = count.min(piece.iov_len);
    iovec(
        piece.iov_base.cast::<u8>().wrapping_add(count),
        piece.iov_len - count,
    )
}

/// A packet socket on one interface.
#[derive(Debug)]
pub(crate) struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// A socket on the interface of `tap`, which also receives frames of `ethertype`, if not 0.
    pub(crate) fn open(tap: &Tap, ethertype: u16) -> io::Result<Self> {
        // SAFETY: the call has no pointers; the descriptor is new and owned from here on.
        let fd = unsafe {
            let fd = check(libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                0,
            ))?;
            OwnedFd::from_raw_fd(fd)
        };
        // SAFETY: all-zero bytes are a valid address.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = ethertype.to_be();
        address.sll_ifindex = tap.if_index().map_err(io::Error::other)? as i32;
        let len = mem::size_of_val(&address) as u32;
        // SAFETY: the address is one and of this length.
        check(unsafe { libc::bind(fd.as_raw_fd(), ptr::from_ref(&address).cast(), len) })?;
        let socket = Self(fd);
        socket.set(libc::PACKET_VNET_HDR)?;
        socket.set(libc::PACKET_QDISC_BYPASS)?;
        Ok(socket)
    }

    fn set(&self, option: libc::c_int) -> io::Result<()> {
        let on: libc::c_int = 1;
        let len = mem::size_of_val(&on) as u32;
        // SAFETY: the option's value is one integer.
        check(unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                libc::SOL_PACKET,
                option,
                ptr::from_ref(&on).cast(),
                len,
            )
        })?;
        Ok(())
    }

    /// Sends header and frame `bytes`, so that the tap has it to be read.
    pub(crate) fn send(&self, bytes: &[u8]) {
        let header = iovec(bytes.as_ptr().cast_mut(), SOCKET_HDR_LEN);
        let frame = iovec(bytes[HDR_LEN..].as_ptr().cast_mut(), bytes.len() - HDR_LEN);
        let pieces = [header, frame];
        // SAFETY: both pieces lie in `bytes`, which the kernel only reads.
        let sent = unsafe { libc::writev(self.0.as_raw_fd(), pieces.as_ptr(), 2) };
        assert_eq!(
            sent,
            (bytes.len() - HDR_LEN + SOCKET_HDR_LEN) as isize,
            "{}",
            io::Error::last_os_error()
        );
    }

    /// Waits for one frame and throws it away.
    pub(crate) fn wait(&self) {
        let mut buffer = [0u8; 2048];
        // SAFETY: the buffer is as long as it says.
        let count =
            unsafe { libc::read(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
        assert!(count > 0, "{}", io::Error::last_os_error());
    }
}

/// Reads and writes that this thread made so far, as the kernel counts them.
pub(crate) fn calls() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/io").expect("the kernel counts");
    let number = |line: &str| line.split_once(": ")?.1.parse::<u64>().ok();
    text.lines()
        .filter(|line| line.starts_with("sysc"))
        .filter_map(number)
        .sum()
}
