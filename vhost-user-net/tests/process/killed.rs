//! Daemons that are killed under load, and those that take their place.
//!
//! The front-end keeps the guest's rings and the in-flight region. The network is a datagram socket
//! of the test, on which numbered frames come and go all the time; the driver looks at what is used
//! as drivers do.

use std::collections::VecDeque;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::time::{Duration, Instant};

use vhost::vhost_user::message::{VhostUserHeaderFlag, VhostUserInflight};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vmm_sys_util::eventfd::EventFd;

use crate::daemon::{Daemon, LIMIT};

const MEMORY: u64 = 1 << 20;
/// Address of the memory in the front-end.
const USER: u64 = 0x7f00_0000_0000;
/// Offsets in the part of a ring: its areas, and a buffer for each descriptor.
const DRIVER: u64 = 0x4000;
const DEVICE: u64 = 0x8000;
const BUFFERS: u64 = 0x1_0000;
const STRIDE: u64 = 0x100;
/// Descriptors of a ring.
const SIZE: u16 = 256;

const VERSION_1: u64 = 1 << 32;
const PROTOCOL_FEATURES: u64 = 1 << 30;
const MRG_RXBUF: u64 = 1 << 15;
const PACKED: u64 = 1 << 34;
const IN_ORDER: u64 = 1 << 35;

const HEADER: usize = 12;
/// Bytes of a frame, and those of a receive buffer: each frame takes three.
const FRAME: usize = 150;
const ROOM: u32 = 64;
const WRITE: u16 = 2;
/// Frames on their way to the guest at most, fewer than the socket holds.
const WINDOW: usize = 6;

/// A frame with its number behind the addresses and the type.
fn frame(number: u32) -> Vec<u8> {
    let mut bytes = vec![number as u8; FRAME];
    bytes[..6].fill(0xff);
    bytes[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    bytes[12..14].copy_from_slice(&[0x88, 0xb5]);
    bytes[14..18].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn number(frame: &[u8]) -> u32 {
    u32::from_le_bytes(frame[14..18].try_into().unwrap())
}

/// Place in the ring of chain `number`.
fn slot(number: u32) -> u64 {
    u64::from(number % u32::from(SIZE))
}

/// The driver's side of a ring whose chains have one buffer each, and ids that are their slots.
struct Driver {
    index: usize,
    packed: bool,
    in_order: bool,
    /// Chains so far.
    posted: u32,
    used: u32,
}

impl Driver {
    fn new(index: usize, features: u64) -> Self {
        Self {
            index,
            packed: features & PACKED != 0,
            in_order: features & IN_ORDER != 0,
            posted: 0,
            used: 0,
        }
    }

    fn base(&self) -> u64 {
        0x4_0000 * self.index as u64
    }

    fn buffer(&self, number: u32) -> u64 {
        self.base() + BUFFERS + STRIDE * slot(number)
    }

    /// Lap of a number: the wrap counter in a packed ring.
    fn wrap(number: u32) -> bool {
        (number / u32::from(SIZE)).is_multiple_of(2)
    }

    fn is_full(&self) -> bool {
        self.posted - self.used == u32::from(SIZE)
    }

    /// Makes the next chain available.
    fn post(&mut self, memory: &File, len: u32, flags: u16) {
        let (number, base) = (self.posted, self.base());
        let put = |bytes: &[u8], at| memory.write_all_at(bytes, at).unwrap();
        let desc = base + 16 * slot(number);
        let id = slot(number) as u16;
        put(&self.buffer(number).to_le_bytes(), desc);
        put(&len.to_le_bytes(), desc + 8);
        if self.packed {
            put(&id.to_le_bytes(), desc + 12);
            let lap = if Self::wrap(number) { 1 << 7 } else { 1 << 15 };
            put(&(flags | lap).to_le_bytes(), desc + 14);
        } else {
            put(&flags.to_le_bytes(), desc + 12);
            put(&id.to_le_bytes(), base + DRIVER + 4 + 2 * slot(number));
            let index = (number as u16).wrapping_add(1).to_le_bytes();
            put(&index, base + DRIVER + 2);
        }
        self.posted += 1;
    }

    /// Number and length of the chains that the device has used since the last call: each once, and
    /// in order.
    fn take(&mut self, memory: &File) -> Vec<(u32, u32)> {
        let mut taken = Vec::new();
        while let Some((id, len)) = self.peek(memory) {
            let ahead = (u64::from(id) + u64::from(SIZE) - slot(self.used)) % u64::from(SIZE);
            assert!(
                self.in_order || ahead == 0,
                "chain {} is used as {id}",
                self.used
            );
            for _ in 0..=ahead {
                assert!(self.used < self.posted, "a chain is used twice");
                taken.push((self.used, len));
                self.used += 1;
            }
        }
        taken
    }

    /// Id and length of the next used element.
    fn peek(&self, memory: &File) -> Option<(u32, u32)> {
        if self.packed {
            let [_, _, len, id_and_flags] = words(memory, self.base() + 16 * slot(self.used));
            let flags = id_and_flags >> 16;
            let lap = Self::wrap(self.used);
            let is_used = (flags & 1 << 15 != 0) == lap && (flags & 1 << 7 != 0) == lap;
            return (self.used < self.posted && is_used).then_some((id_and_flags & 0xffff, len));
        }
        let [word] = words(memory, self.base() + DEVICE);
        let ahead = ((word >> 16) as u16).wrapping_sub(self.used as u16);
        let posted = self.posted - self.used;
        assert!(u32::from(ahead) <= posted, "more is used than was posted");
        let [id, len] = words(memory, self.base() + DEVICE + 4 + 8 * slot(self.used));
        (ahead > 0).then_some((id, len))
    }
}

fn words<const N: usize>(memory: &File, at: u64) -> [u32; N] {
    let mut bytes = vec![0; 4 * N];
    memory.read_exact_at(&mut bytes, at).unwrap();
    let word = |at: usize| u32::from_le_bytes(bytes[4 * at..][..4].try_into().unwrap());
    std::array::from_fn(word)
}

/// Parts of a machine and of its network that outlive the daemon.
struct Machine {
    features: u64,
    memory: File,
    kick: EventFd,
    region: Option<(VhostUserInflight, File)>,
    rx: Driver,
    tx: Driver,
    network: UnixDatagram,
    /// Address at which the daemon takes datagrams, once it has sent one.
    daemon: Option<SocketAddr>,
    /// Frames sent by the guest that have arrived, and those that came once more.
    arrived: u32,
    repeated: u32,
    /// Frames sent to the guest, those on their way, and the last one that it got.
    sent: u32,
    under_way: VecDeque<u32>,
    delivered: u32,
    /// Frames that the guest got no longer after a daemon was killed.
    lost: u32,
}

impl Machine {
    fn new(features: u64, network: UnixDatagram) -> Self {
        let memory = tempfile::tempfile_in("/dev/shm").unwrap();
        memory.set_len(MEMORY).unwrap();
        network.set_nonblocking(true).unwrap();
        Self {
            features,
            memory,
            kick: EventFd::new(0).unwrap(),
            region: None,
            rx: Driver::new(0, features),
            tx: Driver::new(1, features),
            network,
            daemon: None,
            arrived: 0,
            repeated: 0,
            sent: 0,
            under_way: VecDeque::new(),
            delivered: 0,
            lost: 0,
        }
    }

    /// Connects, and starts both rings as a front-end does that does not know where they stand.
    fn connect(&mut self, daemon: &Daemon) -> Frontend {
        let socket = UnixStream::connect(daemon.socket()).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let mut front_end = Frontend::from_stream(socket, 2);
        front_end.set_owner().unwrap();
        front_end.get_features().unwrap();
        let protocol = front_end.get_protocol_features().unwrap();
        front_end.set_protocol_features(protocol).unwrap();
        front_end.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        let features = VERSION_1 | PROTOCOL_FEATURES | self.features;
        front_end.set_features(features).unwrap();
        let region = VhostUserMemoryRegionInfo {
            guest_phys_addr: 0,
            memory_size: MEMORY,
            userspace_addr: USER,
            mmap_offset: 0,
            mmap_handle: self.memory.as_raw_fd(),
        };
        front_end.set_mem_table(&[region]).unwrap();
        let (inflight, file) = self.region.get_or_insert_with(|| {
            let asked = VhostUserInflight::new(0, 0, 2, SIZE);
            front_end.get_inflight_fd(&asked).unwrap()
        });
        let file = file.as_raw_fd();
        front_end.set_inflight_fd(inflight, file).unwrap();
        for driver in [&self.rx, &self.tx] {
            self.start(&mut front_end, driver);
        }
        front_end
    }

    fn start(&self, front_end: &mut Frontend, driver: &Driver) {
        let (index, base) = (driver.index, USER + driver.base());
        let addrs = VringConfigData {
            queue_max_size: SIZE,
            queue_size: SIZE,
            flags: 0,
            desc_table_addr: base,
            used_ring_addr: base + DEVICE,
            avail_ring_addr: base + DRIVER,
            log_addr: None,
        };
        front_end.set_vring_num(index, SIZE).unwrap();
        let fresh = if driver.packed { 0x8000 } else { 0 };
        front_end.set_vring_base(index, fresh).unwrap();
        front_end.set_vring_addr(index, &addrs).unwrap();
        front_end.set_vring_kick(index, &self.kick).unwrap();
        front_end.set_vring_enable(index, true).unwrap();
    }

    /// The guest takes what is used and posts anew, frames go both ways.
    fn turn(&mut self) {
        self.tx.take(&self.memory);
        while !self.tx.is_full() {
            let bytes = [vec![0; HEADER], frame(self.tx.posted)].concat();
            let at = self.tx.buffer(self.tx.posted);
            self.memory.write_all_at(&bytes, at).unwrap();
            self.tx.post(&self.memory, bytes.len() as u32, 0);
        }
        self.deliver();
        while !self.rx.is_full() {
            self.rx.post(&self.memory, ROOM, WRITE);
        }
        self.kick.write(1).unwrap();
        self.exchange();
    }

    /// The guest takes frames, each as a whole, and none twice.
    fn deliver(&mut self) {
        let mut used = self.rx.take(&self.memory).into_iter();
        while let Some(first) = used.next() {
            let mut bytes = self.content(first);
            for _ in 1..u16::from_le_bytes([bytes[10], bytes[11]]) {
                let next = used.next().expect("a frame comes as a whole");
                bytes.extend(self.content(next));
            }
            let content = &bytes[HEADER..];
            let number = number(content);
            assert_eq!(content, frame(number));
            // Those before it went with the daemon that had them.
            while let Some(waiting) = self.under_way.pop_front()
                && waiting != number
            {
                self.lost += 1;
            }
            assert!(number > self.delivered, "{number} comes again");
            self.delivered = number;
        }
    }

    fn content(&self, (number, len): (u32, u32)) -> Vec<u8> {
        let mut bytes = vec![0; len as usize];
        let at = self.rx.buffer(number);
        self.memory.read_exact_at(&mut bytes, at).unwrap();
        bytes
    }

    /// Frames leave the guest in order, and others go there.
    fn exchange(&mut self) {
        let mut bytes = [0; 2048];
        loop {
            let (len, from) = match self.network.recv_from(&mut bytes) {
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            };
            self.daemon = Some(from);
            let number = number(&bytes[..len]);
            assert_eq!(bytes[..len], frame(number));
            if number == self.arrived {
                self.arrived += 1;
            } else {
                assert_eq!(number + 1, self.arrived, "frames are lost, or sent again");
                self.repeated += 1;
            }
        }
        let Some(daemon) = &self.daemon else {
            return;
        };
        while self.under_way.len() < WINDOW {
            let next = self.sent + 1;
            if self.network.send_to_addr(&frame(next), daemon).is_err() {
                break;
            }
            self.under_way.push_back(next);
            self.sent = next;
        }
    }

    /// Turns until the guest has sent and got so many frames more.
    fn run(&mut self, frames: u32) {
        let deadline = Instant::now() + LIMIT;
        let (sent, got) = (self.arrived + frames, self.delivered + frames);
        while self.arrived < sent || self.delivered < got {
            self.turn();
            assert!(
                Instant::now() < deadline,
                "stuck at {} of {sent} frames sent, {} of {got} delivered",
                self.arrived,
                self.delivered
            );
        }
    }

    /// The daemon is gone, and so is what it had not read.
    fn killed(&mut self) {
        // Whatever it showed and sent last.
        self.turn();
        self.daemon = None;
        self.lost += self.under_way.len() as u32;
        self.under_way.clear();
    }
}

fn goes_on_where_it_was_killed(features: u64) {
    const KILLED: u32 = 5;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network");
    let network = UnixDatagram::bind(&path).unwrap();
    let backend = format!("datagrams:{}", path.display());
    let mut machine = Machine::new(features | MRG_RXBUF, network);
    for round in 0..=KILLED {
        let mut daemon = Daemon::serve_with_backend(&backend);
        let front_end = machine.connect(&daemon);
        machine.run(250);
        if round == KILLED {
            break;
        }
        // At another moment each time, with the rings full and the device at work.
        let until = Instant::now() + Duration::from_micros(u64::from(round) * 137);
        while Instant::now() < until {
            machine.turn();
        }
        daemon.signal("KILL");
        let _ = daemon.wait();
        drop(front_end);
        machine.killed();
    }
    let Machine { repeated, lost, .. } = machine;
    println!("{KILLED} times: {repeated} frames were sent twice, {lost} lost with a socket");
    assert!(repeated <= KILLED);
    // Those that the socket held, and one that the daemon had read.
    assert!(lost <= KILLED * WINDOW as u32);
}

#[test]
fn split_rings_go_on_where_their_device_was_killed() {
    goes_on_where_it_was_killed(0);
}

#[test]
fn packed_rings_go_on_where_their_device_was_killed() {
    goes_on_where_it_was_killed(PACKED);
}

#[test]
fn split_rings_in_order_go_on_where_their_device_was_killed() {
    goes_on_where_it_was_killed(IN_ORDER);
}

#[test]
fn packed_rings_in_order_go_on_where_their_device_was_killed() {
    goes_on_where_it_was_killed(PACKED | IN_ORDER);
}
