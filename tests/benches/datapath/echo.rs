//! Round trips: a frame comes out of a tap and goes back in.
//!
//! ```text
//!   device   this thread --socket--> tap -> worker: read, used, interrupt -> guest: post, kick -> worker: write
//!   bare     this thread --socket--> tap -> thread: wait, read, write
//! ```
//!
//! The guest answers in its interrupt, so what differs from the bare loop is the device: its rings,
//! the kick's eventfd, and one more read to see that no further frame is there. A second device
//! looks for events for a while before it sleeps. All threads share one processor: what it costs to
//! wake another one has nothing to do with the device, is ten times as long, and is paid or not as
//! the scheduler likes.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering, fence};
use std::thread;
use std::time::Instant;

use net_device::net_queue::ring::RingConfig;
use net_device::tap::Tap;
use net_device::{
    Activation, Cursor, Features, Interrupt, InterruptSource, NetConfig, NetDevice, QueueSetup,
    VirtioDevice,
};
use net_queue::testing::{GuestRing, RawDesc, SplitFields, TestMemory};
use virtio_queue::Queue;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::frames::{ETHERTYPE, Kind};
use crate::host::{self, PacketSocket};
use crate::paired::quartiles;

const SIZE: u16 = 64;
const BUFFER: u32 = 2048;
const ROUNDS: usize = 60;
const TRIPS: usize = 100;
/// Microseconds for which the second device polls.
const POLL_US: u16 = 50;

/// A driver that sends each frame back from the buffer it came in, in the least work that this can
/// be.
struct Guest {
    memory: TestMemory,
    rx: SplitFields,
    tx: SplitFields,
    configs: [RingConfig; 2],
    buffers: u64,
    kicks: [EventFd; 2],
    /// Frames answered so far.
    answered: AtomicU16,
}

impl Guest {
    fn new() -> Self {
        let memory = TestMemory::new();
        let config = RingConfig {
            size: SIZE,
            event_idx: true,
            ..RingConfig::default()
        };
        let configs = [(); 2].map(|()| GuestRing::new(&memory, config).config());
        let [rx, tx] = configs.map(|config| SplitFields::of(&config));
        let guest = Self {
            buffers: memory.alloc((u32::from(SIZE) * BUFFER) as usize, 4096),
            kicks: [(); 2].map(|()| EventFd::new(EFD_NONBLOCK).expect("an eventfd can be made")),
            answered: AtomicU16::new(0),
            memory,
            rx,
            tx,
            configs,
        };
        for slot in 0..SIZE {
            guest.describe(guest.rx.desc(slot), slot, BUFFER, RawDesc::WRITE);
            guest.memory.store(guest.rx.avail_element(slot), slot);
        }
        guest.memory.store(guest.rx.avail_idx(), SIZE);
        guest
    }

    /// Describes buffer `slot` at `desc`.
    fn describe(&self, desc: u64, slot: u16, len: u32, flags: u16) {
        self.memory
            .store(desc, self.buffers + u64::from(slot) * u64::from(BUFFER));
        self.memory
            .store(desc + 8, u64::from(len) | u64::from(flags) << 32);
    }

    /// Sends frame `count` back, and posts the buffer of the one before it again.
    fn answer(&self, count: u16) {
        let memory = &self.memory;
        let used = self.rx.used_element(count);
        let slot = memory.load::<u32>(used) as u16;
        self.describe(self.tx.desc(slot), slot, memory.load(used + 4), 0);
        memory.store(self.tx.avail_element(count), slot);
        memory.store(self.tx.avail_idx(), count.wrapping_add(1));
        memory.store(self.rx.used_event(), count.wrapping_add(1));
        fence(Ordering::SeqCst);
        if memory.load::<u16>(self.tx.avail_event()) == count {
            self.kicks[1].write(1).expect("a kick does not overflow");
        }
        if let Some(before) = count.checked_sub(1) {
            let sent = memory.load::<u32>(self.tx.used_element(before)) as u16;
            memory.store(self.rx.avail_element(before.wrapping_add(SIZE)), sent);
            memory.store(self.rx.avail_idx(), count.wrapping_add(SIZE));
        }
    }

    fn setups(&self) -> Vec<QueueSetup> {
        let setup = |index: usize| {
            let kick = self.kicks[index]
                .try_clone()
                .expect("an eventfd can be duplicated");
            QueueSetup {
                size: SIZE,
                addrs: self.configs[index].addrs,
                cursor: Cursor::default(),
                ..QueueSetup::from_queue(index as u16, &Queue::default(), kick)
            }
        };
        (0..2).map(setup).collect()
    }
}

impl Interrupt for Guest {
    fn trigger(&self, source: InterruptSource) -> io::Result<()> {
        if let InterruptSource::Queue(0) = source {
            let mut count = self.answered.load(Ordering::Relaxed);
            while count != self.memory.load::<u16>(self.rx.used_idx()) {
                self.answer(count);
                count = count.wrapping_add(1);
            }
            self.answered.store(count, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// A device with its guest; the guest's memory lives as long as the device does.
fn device(tap: Tap, poll_us: u16) -> NetDevice {
    let config = NetConfig::builder().poll_us(poll_us).build();
    let config = config.expect("it is a usable configuration");
    let mut device = NetDevice::from_taps(config, vec![tap]).expect("the device can be made");
    let accepted = Features::VIRTIO_F_VERSION_1
        | Features::VIRTIO_F_EVENT_IDX
        | Features::VIRTIO_NET_F_MRG_RXBUF;
    device
        .ack_features(accepted.bits())
        .expect("these are offered");
    let guest = Guest::new();
    let activation = Activation {
        memory: guest.memory.ram(),
        queues: guest.setups(),
        interrupt: Arc::new(guest),
    };
    device.activate(activation).expect("the device starts");
    device
}

/// Sends back what comes out of `tap`, until `stop` is signalled.
fn bare(tap: &Tap, stop: &EventFd) -> io::Result<()> {
    let epoll = Epoll::new()?;
    for (fd, data) in [(tap.as_fd().as_raw_fd(), 0), (stop.as_raw_fd(), 1)] {
        epoll.ctl(
            ControlOperation::Add,
            fd,
            EpollEvent::new(EventSet::IN, data),
        )?;
    }
    let mut buffer = [0; BUFFER as usize];
    loop {
        let mut events = [EpollEvent::default()];
        if epoll.wait(-1, &mut events)? == 1 && events[0].data() == 1 {
            return Ok(());
        }
        let len = tap.read(&mut buffer)?;
        tap.write(&buffer[..len])?;
    }
}

/// Nanoseconds of each round trip.
fn trips(socket: &PacketSocket, frame: &[u8]) -> Vec<f64> {
    let trip = |_| {
        let start = Instant::now();
        socket.send(frame);
        socket.wait();
        start.elapsed().as_nanos() as f64
    };
    (0..TRIPS).map(trip).collect()
}

/// Median and 99th percentile.
fn percentiles(mut times: Vec<f64>) -> [f64; 2] {
    times.sort_by(f64::total_cmp);
    [50, 99].map(|percent| times[times.len() * percent / 100])
}

/// A device that polls for so long against the bare loop, in turn.
fn paired(poll_us: u16) {
    let frame = Kind::Plain(64).bytes();
    let open = || {
        let tap = host::open_taps(1).remove(0);
        let socket = PacketSocket::open(&tap, ETHERTYPE).expect("a packet socket can be opened");
        (tap, socket)
    };
    let ((tap, by_device), (other, by_bare)) = (open(), open());
    let device = device(tap, poll_us);
    let stop = EventFd::new(EFD_NONBLOCK).expect("an eventfd can be made");
    let (mut all, mut medians) = ([Vec::new(), Vec::new()], Vec::new());
    thread::scope(|scope| {
        let loop_thread = scope.spawn(|| bare(&other, &stop));
        for round in 0..ROUNDS {
            let first = round % 2;
            let sockets = [&by_device, &by_bare];
            let mut round = [const { Vec::new() }; 2];
            for side in [first, 1 - first] {
                round[side] = trips(sockets[side], &frame);
            }
            let [device, bare] = round.each_ref().map(|times| percentiles(times.clone())[0]);
            medians.push(device / bare);
            for (all, times) in all.iter_mut().zip(round) {
                all.extend(times);
            }
        }
        stop.write(1).expect("an event does not overflow");
        let ended = loop_thread.join().expect("the bare loop does not panic");
        ended.expect("the bare loop can move frames");
    });
    drop(device);
    let [[p50, p99], [bare50, bare99]] = all.map(|times| percentiles(times).map(|ns| ns / 1e3));
    let [low, ratio, high] = quartiles(medians);
    println!(
        "poll {poll_us:>3} us   device p50 {p50:5.1} p99 {p99:5.1}   bare p50 {bare50:5.1} p99 {bare99:5.1}   \
         ratio p50 {ratio:.3} ({low:.3}-{high:.3}) p99 {:.3}",
        p99 / bare99
    );
}

/// Without and with polling.
pub(crate) fn run() {
    println!("\necho of 64 bytes, us");
    let others = host::stay_on_one_processor().expect("a thread may choose its processor");
    paired(0);
    paired(POLL_US);
    host::move_to(&others).expect("a thread may go where it was");
}
