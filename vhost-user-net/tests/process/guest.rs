//! A front-end with a guest that sends frames.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Instant;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use vhost::vhost_user::message::VhostUserHeaderFlag;
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use crate::daemon::{Daemon, LIMIT};
use crate::{SET_VRING_CALL, connect, message};

const MEMORY: u64 = 1 << 20;
/// Address of the memory in the front-end.
const USER: u64 = 0x7f00_0000_0000;
/// Places in the memory.
const DESC: u64 = 0;
const AVAIL: u64 = 0x1000;
const USED: u64 = 0x2000;
const FRAME: u64 = 0x3000;
/// Bytes of a frame and its header.
const LEN: u32 = 72;
/// The transmit ring.
pub(crate) const TX: usize = 1;
/// Buffers of a receive ring, and bytes of each.
const BUFFERS: u16 = 256;
const BUFFER: u64 = 1024;
/// Places of a receive ring's parts from its start on, and its length with all its buffers.
const RX_AVAIL: u64 = 0x2000;
const RX_USED: u64 = 0x4000;
const RX_BUFFERS: u64 = 0x8000;
const RX_LEN: u64 = RX_BUFFERS + BUFFERS as u64 * BUFFER;
const VERSION_1: u64 = 1 << 32;
const PROTOCOL_FEATURES: u64 = 1 << 30;

/// Start of the receive ring of `pair` in the memory.
fn receive_ring(pair: usize) -> u64 {
    0x1_0000 + RX_LEN * pair as u64
}

/// A guest that has one frame, which it sends again and again.
pub(crate) struct Guest {
    pub(crate) front_end: Frontend,
    socket: UnixStream,
    memory: File,
    kick: EventFd,
    sent: u16,
}

impl Guest {
    /// One whose front-end has negotiated and shared its memory.
    pub(crate) fn connect(daemon: &Daemon) -> Self {
        Self::share_memory(connect(daemon), false).unwrap()
    }

    /// The same, whose memory cannot shrink if it is `sealed`; or the answer to an offer of it.
    pub(crate) fn try_connect(daemon: &Daemon, sealed: bool) -> Result<Self, vhost::Error> {
        Self::share_memory(connect(daemon), sealed)
    }

    fn share_memory(socket: UnixStream, sealed: bool) -> Result<Self, vhost::Error> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory = File::from(memfd_create("guest", flags).unwrap());
        memory.set_len(MEMORY).unwrap();
        if sealed {
            fcntl_add_seals(&memory, SealFlags::SHRINK).unwrap();
        }
        memory.write_all_at(&FRAME.to_le_bytes(), DESC).unwrap();
        memory.write_all_at(&LEN.to_le_bytes(), DESC + 8).unwrap();
        let mut front_end = Frontend::from_stream(socket.try_clone().unwrap(), 3);
        front_end.set_owner().unwrap();
        front_end.get_features().unwrap();
        let protocol = front_end.get_protocol_features().unwrap();
        front_end.set_protocol_features(protocol).unwrap();
        front_end.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        let region = VhostUserMemoryRegionInfo {
            guest_phys_addr: 0,
            memory_size: MEMORY,
            userspace_addr: USER,
            mmap_offset: 0,
            mmap_handle: memory.as_raw_fd(),
        };
        front_end.set_mem_table(&[region])?;
        Ok(Self {
            front_end,
            socket,
            memory,
            kick: EventFd::new(0).unwrap(),
            sent: 0,
        })
    }

    /// One whose front-end has negotiated over `socket` and shared its memory.
    pub(crate) fn over(socket: UnixStream) -> Self {
        Self::share_memory(socket, false).unwrap()
    }

    /// One whose transmit ring runs, of the device that is at this socket.
    pub(crate) fn start_at(daemon: &Daemon, socket: &str) -> Self {
        let socket = UnixStream::connect(daemon.path(socket)).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let mut guest = Self::over(socket);
        guest.set_up();
        guest.enable();
        guest
    }

    /// Takes its memory away from the device, and from itself.
    pub(crate) fn shrink_memory(&self) {
        self.memory.set_len(0).unwrap();
    }

    /// One whose transmit ring runs.
    pub(crate) fn start(daemon: &Daemon) -> Self {
        let mut guest = Self::connect(daemon);
        guest.set_up();
        guest.enable();
        guest
    }

    /// Tells of the ring, which begins anew.
    pub(crate) fn set_up(&mut self) {
        self.memory.write_all_at(&[0; 4], AVAIL).unwrap();
        self.memory.write_all_at(&[0; 4], USED).unwrap();
        self.sent = 0;
        let front_end = &mut self.front_end;
        front_end
            .set_features(VERSION_1 | PROTOCOL_FEATURES)
            .unwrap();
        front_end.set_vring_num(TX, 8).unwrap();
        front_end.set_vring_base(TX, 0).unwrap();
        let addrs = VringConfigData {
            queue_max_size: 8,
            queue_size: 8,
            flags: 0,
            desc_table_addr: USER + DESC,
            used_ring_addr: USER + USED,
            avail_ring_addr: USER + AVAIL,
            log_addr: None,
        };
        front_end.set_vring_addr(TX, &addrs).unwrap();
        front_end.set_vring_kick(TX, &self.kick).unwrap();
    }

    /// Lets the receive ring of `pair` run, all its buffers available.
    pub(crate) fn receive_by(&mut self, pair: usize) {
        let (ring, start) = (2 * pair, receive_ring(pair));
        let write = |bytes: &[u8], at| self.memory.write_all_at(bytes, at).unwrap();
        for slot in 0..u64::from(BUFFERS) {
            let desc = start + 16 * slot;
            write(&(start + RX_BUFFERS + BUFFER * slot).to_le_bytes(), desc);
            write(&(BUFFER as u32).to_le_bytes(), desc + 8);
            // To be written by the device.
            write(&[2, 0, 0, 0], desc + 12);
            write(
                &(slot as u16).to_le_bytes(),
                start + RX_AVAIL + 4 + 2 * slot,
            );
        }
        write(&BUFFERS.to_le_bytes(), start + RX_AVAIL + 2);
        let front_end = &mut self.front_end;
        front_end.set_vring_num(ring, BUFFERS).unwrap();
        front_end.set_vring_base(ring, 0).unwrap();
        let addrs = VringConfigData {
            queue_max_size: BUFFERS,
            queue_size: BUFFERS,
            flags: 0,
            desc_table_addr: USER + start,
            used_ring_addr: USER + start + RX_USED,
            avail_ring_addr: USER + start + RX_AVAIL,
            log_addr: None,
        };
        front_end.set_vring_addr(ring, &addrs).unwrap();
        let kick = EventFd::new(0).unwrap();
        front_end.set_vring_kick(ring, &kick).unwrap();
        front_end.set_vring_enable(ring, true).unwrap();
    }

    /// Frames that the receive ring of `pair` has brought, each behind its header.
    pub(crate) fn received(&self, pair: usize) -> Vec<Vec<u8>> {
        let start = receive_ring(pair);
        let read = |at, count: u64| {
            let mut bytes = vec![0; count as usize];
            self.memory.read_exact_at(&mut bytes, at).unwrap();
            bytes
        };
        let word = |at| {
            let bytes = read(at, 4).try_into().unwrap();
            u64::from(u32::from_le_bytes(bytes))
        };
        let used = word(start + RX_USED) >> 16;
        let elements = (0..used).map(|at| start + RX_USED + 4 + 8 * at);
        let frame = |at| read(start + RX_BUFFERS + BUFFER * word(at), word(at + 4));
        elements.map(frame).collect()
    }

    pub(crate) fn enable(&mut self) {
        self.front_end.set_vring_enable(TX, true).unwrap();
    }

    /// Disables the ring, and waits until that is done.
    pub(crate) fn disable(&mut self) {
        self.front_end.set_vring_enable(TX, false).unwrap();
        assert_eq!(self.front_end.get_queue_num().unwrap(), 3);
    }

    /// Passes a descriptor to be interrupted through.
    pub(crate) fn set_call(&mut self, call: &File) {
        let bytes = message(SET_VRING_CALL, &(TX as u64).to_ne_bytes());
        self.socket
            .send_with_fd(&bytes[..], call.as_raw_fd())
            .unwrap();
        assert_eq!(self.front_end.get_queue_num().unwrap(), 3);
    }

    /// Makes the frame available once more.
    pub(crate) fn post(&mut self) {
        self.sent = self.sent.wrapping_add(1);
        // All entries name the first descriptor.
        self.memory
            .write_all_at(&self.sent.to_le_bytes(), AVAIL + 2)
            .unwrap();
    }

    pub(crate) fn kick(&self) {
        self.kick.write(1).unwrap();
    }

    /// Frames that came back.
    pub(crate) fn used(&self) -> u16 {
        let mut used = [0; 2];
        self.memory.read_exact_at(&mut used, USED + 2).unwrap();
        u16::from_le_bytes(used)
    }

    /// Sends the frame and waits until it comes back, or until `ended` says that it never will.
    pub(crate) fn send_unless(&mut self, ended: impl Fn() -> bool) {
        self.post();
        self.kick();
        self.await_used_unless(self.sent, ended);
    }

    /// Waits until so many frames came back.
    pub(crate) fn await_used(&self, count: u16) {
        self.await_used_unless(count, || false);
    }

    fn await_used_unless(&self, count: u16, ended: impl Fn() -> bool) {
        let deadline = Instant::now() + LIMIT;
        while self.used() != count && !ended() {
            assert!(Instant::now() < deadline, "frame {count} is stuck");
            thread::yield_now();
        }
    }

    pub(crate) fn send(&mut self) {
        self.send_unless(|| false);
    }
}
