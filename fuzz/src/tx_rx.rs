//! A queue pair: both engines, each on a ring of its own layout, size and place in the lap.
//!
//! The driver starts well-formed, and as long as it is, every byte is accounted for: what it sends
//! goes out unchanged behind a checked header or is counted as dropped, what arrives lies in its
//! buffers, chains come back once and in order, and nothing is written beside a buffer. Then it may
//! turn hostile: spoiled descriptors, ring words overwritten between the steps and during the
//! backend's calls. From there on the engines must stay within their budget, hold what they promise
//! of cursors and faults, and survive.

use std::mem::take;

use net_queue::header::HdrSize;
use net_queue::ring::{Cursor, Layout, RingConfig, UsedElements};
use net_queue::testing::{At, GuestRing, Interrupts, POISON, Piece, RawDesc, Shape, TestMemory};
use net_queue::{Budget, MAX_FRAME, Offloads, RxConfig};

use crate::bytes::{Bytes, hdr_size};
use crate::pair::{RxSide, TxSide};
use crate::ports::{Gate, Mood, Port};
use crate::{Seed, Target};

/// See the module.
pub const TARGET: Target = Target {
    name: "tx_rx",
    run,
    seeds,
};

/// Steps after which a script ends.
const MAX_STEPS: usize = 64;

/// Bytes around each buffer that the device writes, which must stay as they are.
const GUARD: usize = 8;

/// More than any script needs.
const PLENTY: u32 = 1 << 20;

/// Input: transmit ring (4), receive ring (4), header size and bits, offloads of either direction,
/// then steps.
fn run(input: &[u8]) {
    let mut input = Bytes::new(input);
    let mut world = World::take(&mut input);
    for _ in 0..MAX_STEPS {
        if input.remaining().is_empty() {
            break;
        }
        world.step(&mut input);
    }
    world.finish();
}

/// Bits, size, start (2).
fn ring_config(input: &mut Bytes<'_>) -> RingConfig {
    let (bits, size, start) = (input.u8(), u16::from(input.u8()), input.u16());
    let layout = [Layout::Split, Layout::Packed][usize::from(bits & 1)];
    let size = match layout {
        Layout::Split => 1 << (size % 7),
        Layout::Packed => 1 + size % 64,
    };
    let start = match layout {
        Layout::Split => start,
        Layout::Packed => start % size,
    };
    let wrap = bits & 0x10 == 0;
    RingConfig {
        layout,
        size,
        event_idx: bits & 2 != 0,
        in_order: bits & 4 != 0,
        indirect: bits & 8 != 0,
        cursor: Cursor {
            avail: start,
            used: Some(start),
            avail_wrap: wrap,
            used_wrap: wrap,
        },
        ..RingConfig::default()
    }
}

struct World {
    memory: TestMemory,
    tx: TxSide,
    rx: RxSide,
    port: Port,
    gate: Gate,
    size: HdrSize,
    /// The driver has kept to the rules.
    clean: bool,
    /// Makes each frame's content its own.
    frames: u8,
    guards: Vec<u64>,
}

impl World {
    fn take(input: &mut Bytes<'_>) -> Self {
        let (tx, rx) = (ring_config(input), ring_config(input));
        let tx = RingConfig {
            used_elements: UsedElements::PerBatch,
            ..tx
        };
        let (bits, sends, receives) = (input.u8(), input.u8(), input.u8());
        let size = hdr_size(bits);
        let mtu = (bits & 0x80 != 0).then_some(1500);
        let sends = Offloads::from_bits_truncate(sends.into());
        let config = RxConfig {
            size,
            offloads: Offloads::from_bits_truncate(receives.into()),
            merge: bits & 0x40 != 0 && size != HdrSize::Legacy,
            mtu,
            link_mtu: mtu.filter(|_| bits & 0x20 != 0),
        };
        let memory = TestMemory::new();
        let mut port = Port::new(size, sends);
        port.keeps = true;
        Self {
            tx: TxSide::new(GuestRing::new(&memory, tx), size, sends),
            rx: RxSide::new(GuestRing::new(&memory, rx), config),
            port,
            gate: Gate::default(),
            memory,
            size,
            clean: true,
            frames: 0,
            guards: Vec::new(),
        }
    }

    fn step(&mut self, input: &mut Bytes<'_>) {
        match input.u8() % 12 {
            0 | 1 => self.send(input, None),
            2 | 3 => self.post(input, None),
            4 => self.arrive(input),
            5 | 6 => self.run(input.u8().into(), input.u8().into()),
            7 => {
                let moods = [Mood::Willing, Mood::Busy, Mood::Picky, Mood::Gone];
                self.port.mood = moods[usize::from(input.u8() % 4)];
            }
            8 => self.quiet(input.u8()),
            9 => self.resume_at_cursor(),
            10 => {
                let spoil = Spoil::take(input);
                if input.u8() & 1 == 0 {
                    self.send(input, Some(spoil));
                } else {
                    self.post(input, Some(spoil));
                }
            }
            _ => self.overwrite(input),
        }
    }

    /// A frame of the driver: shape, length (2), header, up to three cuts of it.
    fn send(&mut self, input: &mut Bytes<'_>, spoil: Option<Spoil>) {
        let (bits, len, header) = (input.u8(), usize::from(input.u16()), input.array::<12>());
        let most = if bits & 0x80 == 0 {
            4096
        } else {
            MAX_FRAME + 8
        };
        let mut bytes = self.frame(header, len, most);
        dress(&mut bytes[self.size.bytes()..], bits);
        if bits & 0x40 != 0 {
            bytes.truncate(len % (self.size.bytes() + 4));
        }
        let mut cuts: Vec<usize> = (0..bits & 3)
            .map(|_| usize::from(input.u16()) % (bytes.len() + 1))
            .collect();
        cuts.sort_unstable();
        let pieces = self.memory.cut(&bytes, &cuts);
        if !self.clean || !fits(&self.tx.guest, &pieces) {
            return;
        }
        let id = add(&mut self.tx.guest, bits, &pieces, spoil);
        self.clean &= spoil.is_none();
        self.tx.expect(id, &bytes);
    }

    /// A chain to receive into: shape, then up to three lengths (2 each) before a piece that has
    /// room for any header.
    fn post(&mut self, input: &mut Bytes<'_>, spoil: Option<Spoil>) {
        let bits = input.u8();
        let most = if bits & 0x80 == 0 { 0x800 } else { 0x1_0000 };
        let mut lens: Vec<usize> = (0..bits & 3)
            .map(|_| usize::from(input.u16()) % most)
            .collect();
        lens.push(64);
        let room = |&len: &usize| Piece {
            addr: self.memory.room(len + 2 * GUARD).addr + GUARD as u64,
            len: len as u32,
            writable: true,
        };
        let pieces: Vec<Piece> = lens.iter().map(room).collect();
        if !self.clean || !fits(&self.rx.guest, &pieces) {
            return;
        }
        for piece in &pieces {
            let end = piece.addr + u64::from(piece.len);
            self.guards.extend([piece.addr - GUARD as u64, end]);
        }
        add(&mut self.rx.guest, bits, &pieces, spoil);
        self.clean &= spoil.is_none();
    }

    /// A frame from outside: bits, length (2), header.
    fn arrive(&mut self, input: &mut Bytes<'_>) {
        let (bits, len, header) = (input.u8(), usize::from(input.u16()), input.array::<12>());
        let most = if bits & 0x80 == 0 {
            4096
        } else {
            MAX_FRAME + 8
        };
        let mut frame = self.frame(header, len, most);
        dress(&mut frame[self.size.bytes()..], bits);
        if self.port.frames.len() < 16 {
            self.rx.expect(frame.clone());
            self.port.frames.push_back(frame);
        }
    }

    fn frame(&mut self, header: [u8; 12], len: usize, most: usize) -> Vec<u8> {
        self.frames = self.frames.wrapping_add(1);
        let mut bytes = header.to_vec();
        bytes.resize(self.size.bytes(), 0);
        let seed = self.frames;
        bytes.push(seed);
        bytes.extend((0..len * 7 % most).map(|at| (at as u8).wrapping_mul(31) ^ seed));
        bytes
    }

    fn run(&mut self, budget: u32, gate: u32) {
        self.gate.left = gate;
        let budget = Budget {
            frames: budget,
            bytes: u64::MAX,
        };
        let most = budget.frames.max(1);
        self.port.calls = 0;
        self.tx.run(&mut self.port, &mut self.gate, budget);
        assert!(take(&mut self.port.calls) <= most, "budget");
        if self.clean {
            self.tx.check(&mut self.port);
        }
        self.rx.run(&mut self.port, &mut self.gate, budget);
        assert!(self.port.calls <= most, "budget");
        if self.clean {
            self.rx.check(&self.port);
            for &guard in &self.guards {
                assert_eq!(self.memory.read(guard, GUARD), [POISON; GUARD], "beside");
            }
        }
    }

    /// Both sides' wishes to be told.
    fn quiet(&mut self, bits: u8) {
        let whens = [
            Interrupts::Always,
            Interrupts::Never,
            Interrupts::After(1 + u16::from(bits >> 4)),
        ];
        if self.clean {
            let when = whens[usize::from(bits & 3) % 3];
            self.tx.guest.ask(when);
            self.rx.guest.ask(when);
        }
        self.tx.set_notification(bits & 4 != 0);
        self.rx.set_notification(bits & 8 != 0);
    }

    fn resume_at_cursor(&mut self) {
        self.tx.resume_at_cursor();
        self.rx.resume_at_cursor(&mut self.gate);
    }

    /// Place (2), bytes, and whether at once or during the backend's next call.
    fn overwrite(&mut self, input: &mut Bytes<'_>) {
        let (place, at, bytes, later) = (input.u8(), input.u8(), input.array::<4>(), input.u8());
        let ring = [&self.tx.guest, &self.rx.guest][usize::from(place & 1)].config();
        let addrs = [ring.addrs.desc, ring.addrs.driver, ring.addrs.device];
        let addr = addrs[usize::from(place >> 1) % 3] + 2 * u64::from(at);
        let memory = self.memory.clone();
        let len = if place & 0x80 == 0 { 2 } else { 4 };
        let write = move || memory.write(addr, &bytes[..len]);
        self.clean = false;
        if later & 1 == 0 {
            write();
        } else {
            self.port.meanwhile = Some(Box::new(write));
        }
    }

    /// With nothing in their way, both directions come to an end.
    fn finish(&mut self) {
        self.port.mood = Mood::Willing;
        self.run(PLENTY, PLENTY);
        if self.clean {
            self.tx.is_done();
            self.rx.is_done(&self.port);
        }
        self.resume_at_cursor();
        self.run(PLENTY, PLENTY);
    }
}

/// Gives `frame`, if it is long enough, the headers that segmentation needs: TCP over IPv4, the
/// same over IPv6 behind a tag, or UDP over IPv6 behind two.
fn dress(frame: &mut [u8], bits: u8) {
    let (tags, v6, tcp) = match bits >> 4 & 3 {
        1 => (0, false, true),
        2 => (1, true, true),
        3 => (2, true, false),
        _ => return,
    };
    let at = 14 + 4 * tags;
    let start = at + if v6 { 40 } else { 20 };
    let len = frame.len();
    if len < start + 20 {
        return;
    }
    for tag in 0..tags {
        frame[12 + 4 * tag..14 + 4 * tag].copy_from_slice(&[0x81, 0]);
    }
    let protocol = if tcp { 6 } else { 17 };
    if v6 {
        frame[at - 2..at + 1].copy_from_slice(&[0x86, 0xdd, 0x60]);
        frame[at + 6] = protocol;
    } else {
        frame[at - 2..at + 1].copy_from_slice(&[0x08, 0x00, 0x45]);
        frame[at + 9] = protocol;
    }
    if tcp {
        frame[start + 12] = 0x50;
    } else {
        frame[start + 4..start + 6].copy_from_slice(&((len - start) as u16).to_be_bytes());
    }
}

fn fits(guest: &GuestRing, pieces: &[Piece]) -> bool {
    guest.free() >= pieces.len()
}

/// Adds a chain in a shape that the ring may have and shows it to the device.
fn add(guest: &mut GuestRing, bits: u8, pieces: &[Piece], spoil: Option<Spoil>) -> u16 {
    let config = guest.config();
    let shape = match bits >> 2 & 3 {
        1 if config.indirect => Shape::Indirect,
        2 if config.indirect && config.layout == Layout::Split => Shape::Mixed(pieces.len() - 1),
        _ => Shape::Direct,
    };
    let id = guest.add_with(shape, pieces, |at, desc| {
        if let Some(spoil) = spoil {
            spoil.change(at, desc);
        }
    });
    guest.publish();
    id
}

/// Change to one descriptor of a chain.
#[derive(Clone, Copy)]
struct Spoil {
    place: usize,
    kind: u8,
    value: u32,
}

impl Spoil {
    fn take(input: &mut Bytes<'_>) -> Self {
        let bits = input.u8();
        Self {
            place: usize::from(bits & 3),
            kind: bits >> 2,
            value: input.u32(),
        }
    }

    fn change(self, at: At, desc: &mut RawDesc) {
        let (At::Ring(place) | At::Table(place)) = at;
        if place != self.place {
            return;
        }
        match self.kind % 5 {
            0 => desc.addr = u64::from(self.value),
            1 => desc.addr ^= u64::from(self.value) << 32,
            2 => desc.len = self.value,
            3 => desc.flags ^= self.value as u16,
            _ => desc.next = self.value as u16,
        }
    }
}

/// Writes an input as a story; operands are as [`World::step`] takes them.
struct Story(Vec<u8>);

impl Story {
    fn new(tx: [u8; 4], rx: [u8; 4], bits: u8) -> Self {
        Self([tx.as_slice(), &rx, &[bits, 0x7f, 0x7f]].concat())
    }

    fn step(mut self, op: u8, operands: &[u8]) -> Self {
        self.0.push(op);
        self.0.extend(operands);
        self
    }

    fn send(self, bits: u8, len: u16, cuts: &[u16]) -> Self {
        let cuts: Vec<u8> = cuts.iter().flat_map(|cut| cut.to_le_bytes()).collect();
        let len = len.to_le_bytes();
        let operands = [
            &[bits | (cuts.len() / 2) as u8],
            len.as_slice(),
            &[0; 12],
            &cuts,
        ];
        self.step(0, &operands.concat())
    }

    fn post(self, bits: u8, lens: &[u16]) -> Self {
        let lens: Vec<u8> = lens.iter().flat_map(|len| len.to_le_bytes()).collect();
        let operands = [&[bits | (lens.len() / 2) as u8], lens.as_slice()];
        self.step(2, &operands.concat())
    }

    fn arrive(self, bits: u8, len: u16, header: [u8; 12]) -> Self {
        let len = len.to_le_bytes();
        self.step(4, &[&[bits], len.as_slice(), &header].concat())
    }

    fn run(self) -> Self {
        self.step(5, &[8, 8])
    }
}

fn plain(tx: [u8; 4], rx: [u8; 4], bits: u8) -> Story {
    let story = Story::new(tx, rx, bits)
        .post(4, &[0x600])
        .post(0, &[0x500, 20]);
    let story = story.send(0, 200, &[12]).send(4, 9, &[]).send(0x40, 3, &[]);
    let story = story.arrive(0, 100, [0; 12]).arrive(0, 400, [0; 12]).run();
    let story = story
        .step(8, &[0x0c])
        .step(9, &[])
        .post(0, &[])
        .arrive(0, 5, [0; 12]);
    story.send(0x80, 9000, &[100, 2000]).run()
}

fn seeds() -> Vec<Seed> {
    let (split, packed) = ([0x08, 3, 0xfe, 0xff], [0x09, 9, 5, 0]);
    let all = |ring: [u8; 4]| [ring[0] | 0x06, ring[1], ring[2], ring[3]];
    let csum = [1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0];
    let fails = [1, 2, 3, 0]
        .into_iter()
        .fold(plain(split, packed, 0x40), |story, mood| {
            story
                .send(0, 50, &[])
                .arrive(0, 20, csum)
                .step(7, &[mood])
                .run()
        });
    let spoiled = plain(packed, split, 0).step(10, &[0x0c, 0xff, 0xff, 0, 0, 0]);
    let spoiled = Story([spoiled.0, vec![0, 50, 0], vec![0; 12]].concat()).run();
    let large = [(1, 0x10), (4, 0x20), (5, 0x30)].into_iter().fold(
        Story::new(all(split), all(packed), 0x40),
        |story, (gso_type, dressed)| {
            let header = [0, gso_type, 0, 0, 0xe8, 3, 0, 0, 0, 0, 0, 0];
            let sent = [&[dressed], 300u16.to_le_bytes().as_slice(), &header].concat();
            let story = story.step(0, &sent).post(0x80, &[0x4000]);
            story.arrive(dressed, 400, header).run().run()
        },
    );
    let raced = plain(split, split, 0x40).step(11, &[0x02, 1, 9, 9, 9, 9, 1]);
    let raced = raced.step(11, &[0x82, 1, 0xff, 0xff, 0, 0, 0]).run();
    vec![
        ("split", plain(split, split, 0).0),
        ("packed", plain(packed, packed, 0).0),
        ("split_all", plain(all(split), all(split), 0x41).0),
        ("packed_all", plain(all(packed), all(packed), 0xe2).0),
        ("backend_fails", fails.0),
        ("segments", large.0),
        ("spoiled", spoiled.0),
        ("raced", raced.0),
    ]
}
