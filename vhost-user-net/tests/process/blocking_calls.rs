//! A front-end that fills the descriptor by which it is interrupted, and makes writes to it wait.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::thread;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use vhost::vhost_user::message::VhostUserHeaderFlag;
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use crate::daemon::Daemon;
use crate::{SET_VRING_CALL, connect, message, rings};

const MEMORY: u64 = 1 << 20;
/// Address of the memory in the front-end.
const USER: u64 = 0x7f00_0000_0000;
/// Places in the memory.
const DESC: u64 = 0;
const AVAIL: u64 = 0x1000;
const USED: u64 = 0x2000;
const FRAME: u64 = 0x3000;
/// The transmit ring.
const TX: usize = 1;
const VERSION_1: u64 = 1 << 32;
const PROTOCOL_FEATURES: u64 = 1 << 30;

/// A front-end whose device has sent one frame, of which it cannot tell.
struct Hostile {
    front_end: Frontend,
    _call: File,
    _reader: Option<std::io::PipeReader>,
}

/// Memory with one frame in its transmit ring.
fn memory() -> File {
    let memory = tempfile::tempfile_in("/dev/shm").unwrap();
    memory.set_len(MEMORY).unwrap();
    let put = |bytes: &[u8], at| memory.write_all_at(bytes, at).unwrap();
    put(&FRAME.to_le_bytes(), DESC);
    put(&72u32.to_le_bytes(), DESC + 8);
    put(&[0, 0, 1, 0, 0, 0], AVAIL);
    memory
}

impl Hostile {
    fn start(daemon: &Daemon, pipe: bool) -> Self {
        let memory = memory();
        let (reader, call) = if pipe {
            let (reader, writer) = std::io::pipe().unwrap();
            (Some(reader), OwnedFd::from(writer))
        } else {
            (None, eventfd(0, EventfdFlags::empty()).unwrap())
        };
        let call = File::from(call);
        let socket = connect(daemon);
        let mut front_end = Frontend::from_stream(socket.try_clone().unwrap(), 3);
        front_end.set_owner().unwrap();
        front_end.get_features().unwrap();
        let protocol = front_end.get_protocol_features().unwrap();
        front_end.set_protocol_features(protocol).unwrap();
        front_end.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        front_end
            .set_features(VERSION_1 | PROTOCOL_FEATURES)
            .unwrap();
        let region = VhostUserMemoryRegionInfo {
            guest_phys_addr: 0,
            memory_size: MEMORY,
            userspace_addr: USER,
            mmap_offset: 0,
            mmap_handle: memory.as_raw_fd(),
        };
        front_end.set_mem_table(&[region]).unwrap();
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
        let bytes = message(SET_VRING_CALL, &(TX as u64).to_ne_bytes());
        socket.send_with_fd(&bytes[..], call.as_raw_fd()).unwrap();
        front_end
            .set_vring_kick(TX, &EventFd::new(0).unwrap())
            .unwrap();
        while (&call).write(&(u64::MAX - 1).to_ne_bytes()).is_ok() {}
        let flags = fcntl_getfl(&call).unwrap();
        fcntl_setfl(&call, flags - OFlags::NONBLOCK).unwrap();
        front_end.set_vring_enable(TX, true).unwrap();
        let mut used = [0; 2];
        while used == [0; 2] {
            thread::yield_now();
            memory.read_exact_at(&mut used, USED + 2).unwrap();
        }
        Self {
            front_end,
            _call: call,
            _reader: reader,
        }
    }
}

#[test]
fn a_call_that_waits_holds_up_neither_its_ring_nor_the_next_front_end_nor_the_end() {
    for pipe in [false, true] {
        let other = [
            "--tap",
            "vmtap0",
            "--and",
            "--socket-path",
            "other.sock",
            "--tap",
            "vmtap1",
        ];
        let mut daemon = Daemon::serve(&other);
        let hostile = Hostile::start(&daemon, pipe);
        assert_eq!(hostile.front_end.get_vring_base(TX).unwrap(), 1);
        drop(hostile);
        // One that leaves meanwhile.
        drop(Hostile::start(&daemon, pipe));
        daemon.has_no_receiver();
        assert_eq!(rings(&connect(&daemon)), 3);
        let _hostile = Hostile::start(&daemon, pipe);
        let neighbour = UnixStream::connect(daemon.path("other.sock")).unwrap();
        assert_eq!(rings(&neighbour), 3);
        daemon.signal("TERM");
        assert!(daemon.wait().success());
    }
}
