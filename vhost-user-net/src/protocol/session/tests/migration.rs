//! Pre-copy: the guest's memory follows the dirty log to another front-end while rings run, and the
//! guest goes on there.

mod host;

use std::collections::VecDeque;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;

use net_queue::ring::RingConfig;
use net_queue::testing::{GuestRing, Interrupts, Piece, Random, Shape, TestMemory, Used};
use vm_memory::MmapRegion;

use super::*;
use host::{Copying, Host, LOG, file, in_use};

type F = Features;

const RUNS: u64 = 48;
const PAGE: u64 = 4096;
/// Address of the first of two pages that are nobody's memory, at which used rings are marked.
const USED_LOG: u64 = 0x4000;
/// Bytes of memory for a buffer.
const BUFFER: u64 = 2048;
const LONGEST: usize = 1500;

/// Features that a driver has or not; all have VERSION_1.
const CHOICES: [Features; 5] = [
    F::VIRTIO_F_RING_PACKED,
    F::VIRTIO_F_EVENT_IDX,
    F::VIRTIO_F_INDIRECT_DESC,
    F::VIRTIO_F_IN_ORDER,
    F::VIRTIO_NET_F_MRG_RXBUF,
];

/// Driver and network around the device.
struct Guest {
    features: Features,
    rings: [GuestRing; 2],
    places: [VecDeque<u64>; 2],
    kick: File,
    call: File,
    /// Numbers of frames: posted by the driver, seen by the network; arrived, received.
    posted: u64,
    sent: u64,
    arrived: u64,
    received: u64,
    /// Number of the frame that was received last.
    last: Option<u64>,
    partial: Option<(Vec<u8>, u16)>,
}

/// Frame `number` behind its header.
fn frame(number: u64) -> Vec<u8> {
    let len = FRAME + (number as usize * 97) % (LONGEST - FRAME);
    let mut bytes = vec![number as u8; HEADER + len];
    bytes[..HEADER].fill(0);
    bytes[HEADER + 20..HEADER + 28].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn number(bytes: &[u8]) -> u64 {
    let number = u64::from_le_bytes(bytes[HEADER + 20..HEADER + 28].try_into().unwrap());
    assert!(
        bytes[HEADER..] == frame(number)[HEADER..],
        "a frame is damaged"
    );
    number
}

impl Guest {
    fn new(host: &Host, random: &mut Random) -> Self {
        let chosen = CHOICES.iter().filter(|_| random.below(2) == 0);
        let features = chosen.fold(F::VIRTIO_F_VERSION_1, |all, one| all | *one);
        let config = RingConfig {
            layout: if features.contains(F::VIRTIO_F_RING_PACKED) {
                Layout::Packed
            } else {
                Layout::Split
            },
            size: 8 << random.below(4),
            event_idx: features.contains(F::VIRTIO_F_EVENT_IDX),
            indirect: features.contains(F::VIRTIO_F_INDIRECT_DESC),
            in_order: features.contains(F::VIRTIO_F_IN_ORDER),
            ..RingConfig::default()
        };
        let places = || {
            let start = host
                .memory
                .alloc(usize::from(config.size) * BUFFER as usize, 64);
            (0..u64::from(config.size))
                .map(|at| start + at * BUFFER)
                .collect()
        };
        Self {
            features,
            places: [places(), places()],
            rings: [(); 2].map(|()| GuestRing::new(&host.memory, config)),
            kick: crate::sys::event().unwrap(),
            call: crate::sys::event().unwrap(),
            posted: 0,
            sent: 0,
            arrived: 0,
            received: 0,
            last: None,
            partial: None,
        }
    }

    fn addresses(&self, ring: u32, flags: u32) -> Request {
        let addrs = self.rings[ring as usize].config().addrs;
        let user = |gpa: u64| USER + gpa - TestMemory::REGIONS[0].0;
        Request::SetVringAddr(VhostUserVringAddr {
            index: ring,
            flags,
            descriptor: user(addrs.desc),
            used: user(addrs.device),
            available: user(addrs.driver),
            log: USED_LOG + PAGE * u64::from(ring),
        })
    }

    /// A session with this guest's rings where they stand.
    fn start<'a>(&self, device: &'a mut NetDevice, host: &Host, bases: [u32; 2]) -> Session<'a> {
        let mut session = Session::new(device).unwrap();
        let features = self.features.bits() as u64 | PROTOCOL;
        let requests = [
            Request::SetProtocolFeatures(PROTOCOL_FEATURES.bits()),
            Request::SetFeatures(features),
            host.table(),
        ];
        all(&mut session, requests);
        for (ring, value) in (RX..).zip(bases) {
            let fd = |event| RingFd {
                ring,
                fd: Some(own(event)),
            };
            let size = u32::from(self.rings[ring as usize].config().size);
            let requests = [
                Request::SetVringNum(RingValue { ring, value: size }),
                Request::SetVringBase(RingValue { ring, value }),
                self.addresses(ring, 0),
                Request::SetVringKick(fd(&self.kick)),
                Request::SetVringCall(fd(&self.call)),
                Request::SetVringEnable(ring, true),
            ];
            all(&mut session, requests);
        }
        session
    }

    /// Switches the log on, in QEMU's order.
    fn start_log(&self, session: &mut Session<'_>) -> Arc<MmapRegion> {
        let log = file(LOG);
        let features = self.features.bits() as u64 | PROTOCOL | LOG_ALL;
        let requests = [
            Request::SetLogBase(VhostUserLog::new(LOG, 0), own(&log)),
            Request::SetFeatures(features),
            self.addresses(RX, 1),
            self.addresses(TX, 1),
        ];
        all(session, requests);
        let log = MmapRegion::from_file(FileOffset::new(log, 0), LOG as usize);
        Arc::new(log.unwrap())
    }

    /// Goes on while memory is copied in a thread of its own; what each round saw.
    fn run_while_copied(
        &mut self,
        copying: &Arc<Copying>,
        rounds: u64,
        wire: &Wire,
        random: &mut Random,
    ) -> Vec<(usize, bool)> {
        let steps = Arc::new(AtomicU64::new(0));
        let (copying, counted) = (copying.clone(), steps.clone());
        let thread = thread::spawn(move || {
            copying.all();
            let round = |_| {
                let until = counted.load(SeqCst) + 8;
                while counted.load(SeqCst) < until {
                    thread::yield_now();
                }
                copying.round()
            };
            (0..rounds).map(round).collect::<Vec<_>>()
        });
        while !thread.is_finished() {
            self.step(wire, random);
            steps.fetch_add(1, SeqCst);
        }
        thread.join().unwrap()
    }

    fn publish(&mut self, ring: u32) {
        if self.rings[ring as usize].publish() {
            crate::protocol::interrupts::signal(Some(&self.kick)).unwrap();
        }
    }

    /// Adds a chain of one or two buffers, if there is room.
    fn add(&mut self, ring: u32, bytes: Option<Vec<u8>>, random: &mut Random) -> bool {
        let side = &mut self.rings[ring as usize];
        if side.free() < 2 {
            return false;
        }
        let Some(place) = self.places[ring as usize].pop_front() else {
            return false;
        };
        let small = self.features.contains(F::VIRTIO_NET_F_MRG_RXBUF) && random.below(2) == 0;
        let len = match &bytes {
            Some(bytes) => bytes.len() as u64,
            None if small => HEADER as u64 + 600 + random.below(300),
            None => BUFFER,
        };
        side.memory()
            .write(place, &bytes.clone().unwrap_or_default());
        let first = random.below(len);
        let piece = |addr, len| Piece {
            addr,
            len: len as u32,
            writable: bytes.is_none(),
        };
        let pieces = [piece(place, first), piece(place + first, len - first)];
        let indirect = side.config().indirect && random.below(2) == 0;
        side.add_as(
            if indirect {
                Shape::Indirect
            } else {
                Shape::Direct
            },
            &pieces,
        );
        true
    }

    fn step(&mut self, wire: &Wire, random: &mut Random) {
        match random.below(4) {
            0 => {
                // As long as the driver keeps up.
                let count = if wire.waiting() < 8 {
                    random.below(4)
                } else {
                    0
                };
                for _ in 0..count {
                    wire.inject(frame(self.arrived));
                    self.arrived += 1;
                }
            }
            1 => {
                for _ in 0..random.below(6) {
                    if self.add(TX, Some(frame(self.posted)), random) {
                        self.posted += 1;
                    }
                }
                self.publish(TX);
            }
            2 => {
                for _ in 0..random.below(6) {
                    self.add(RX, None, random);
                }
                self.publish(RX);
            }
            _ => {
                self.take(wire);
                let when = [Interrupts::Always, Interrupts::Never][random.below(2) as usize];
                self.rings[random.below(2) as usize].ask(when);
            }
        }
    }

    /// Takes what was sent and what was used; returns how much that is.
    fn take(&mut self, wire: &Wire) -> usize {
        for bytes in wire.take_sent() {
            assert_eq!(number(&bytes), self.sent, "lost, doubled or out of order");
            self.sent += 1;
        }
        let [received, sent] = [RX, TX].map(|ring| self.rings[ring as usize].poll_all());
        let place = |used: &Used| used.pieces[0].addr;
        self.places[TX as usize].extend(sent.iter().map(place));
        self.places[RX as usize].extend(received.iter().map(place));
        for used in &received {
            let bytes = self.rings[RX as usize].bytes(used);
            self.receive(bytes);
        }
        received.len() + sent.len()
    }

    fn receive(&mut self, bytes: Vec<u8>) {
        let (bytes, left) = match self.partial.take() {
            Some((before, left)) => ([before, bytes].concat(), left),
            None => {
                let buffers = u16::from_le_bytes([bytes[10], bytes[11]]);
                (bytes, buffers)
            }
        };
        if left > 1 {
            self.partial = Some((bytes, left - 1));
            return;
        }
        let number = number(&bytes);
        assert!(self.last < Some(number), "doubled or out of order");
        self.last = Some(number);
        self.received += 1;
    }

    /// Goes on, by interrupts alone, until all but `lost` frames have come.
    fn finish(&mut self, wire: &Wire, random: &mut Random, lost: impl Fn() -> u64) {
        loop {
            while self.add(RX, None, random) {}
            self.publish(RX);
            self.rings
                .iter_mut()
                .for_each(|ring| ring.ask(Interrupts::Always));
            if self.take(wire) > 0 {
                continue;
            }
            let flying = self.rings[TX as usize].in_flight();
            if flying == 0 && self.received + lost() == self.arrived {
                break assert_eq!(self.sent, self.posted);
            }
            let fd = self.call.as_fd();
            let ready = crate::sys::is_ready(fd, Interest::Readable, Some(10_000)).unwrap();
            assert!(
                ready,
                "{} received, {} sent, no interrupt",
                self.received, self.sent
            );
            let _ = self.call.read(&mut [0; 8]);
        }
    }
}

/// Frames that the device of `session` has dropped.
fn dropped(device: &NetDevice) -> u64 {
    device.handle().stats().rx[0].dropped()
}

/// The run of `seed`; returns the pages that were copied again.
fn migrate(seed: u64) -> usize {
    let mut random = Random::new(seed);
    let (here, rounds) = (Host::new(), 1 + random.below(4));
    let there = here.another();
    let mut guest = Guest::new(&here, &mut random);
    let (mut device, wires) = super::device(1);
    let packed = guest.features.contains(F::VIRTIO_F_RING_PACKED);
    let start = if packed { 0x8000_8000 } else { 0 };
    let mut session = guest.start(&mut device, &here, [start; 2]);
    (0..random.below(30)).for_each(|_| guest.step(&wires[0], &mut random));

    let log = guest.start_log(&mut session);
    let copying = Arc::new(Copying {
        from: here.memory.clone(),
        to: there.memory.clone(),
        log,
    });
    let mut seen = guest.run_while_copied(&copying, rounds, &wires[0], &mut random);

    let stopped = [RX, TX].map(|ring| session.handle(Request::GetVringBase(ring)).unwrap());
    seen.push(copying.round());
    for range in in_use(&here.memory) {
        assert!(
            here.read(range) == there.read(range),
            "{range:x?} of seed {seed}"
        );
    }
    let bases = stopped.map(|answer| match answer {
        Answer::RingBase(RingValue { value, .. }) => value,
        other => panic!("{other:?}"),
    });
    drop(session);
    guest.take(&wires[0]);
    let lost = dropped(&device) + wires[0].purge() as u64;

    let (mut device, wires) = super::device(1);
    for ring in &mut guest.rings {
        ring.move_to(&there.memory);
    }
    let handle = device.handle();
    let _session = guest.start(&mut device, &there, bases);
    (0..10).for_each(|_| guest.step(&wires[0], &mut random));
    let lost = || lost + handle.stats().rx[0].dropped();
    guest.finish(&wires[0], &mut random, lost);
    let pages = seen.iter().map(|(pages, _)| pages).sum();
    assert!(
        pages == 0 || seen.iter().any(|(_, ring)| *ring),
        "used rings are written, too"
    );
    pages
}

#[test]
fn memory_that_follows_the_log_is_the_memory_of_the_guest() {
    let busy = (1..=RUNS).filter(|seed| migrate(*seed) > 0).count() as u64;
    assert!(busy > RUNS / 2, "the device wrote in {busy} runs");
}
