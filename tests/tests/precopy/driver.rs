//! The driver of one pair, its network, and what each of them is still to see.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use net_device::{Features, Layout};
use net_queue::header::HDR_LEN;
use net_queue::testing::packets::{Packet, Sums, on_the_wire};
use net_queue::testing::{Interrupts, LargeFrame, Piece, Random, Shape, TestMemory, Used};
use tests::testbed::{GUEST_MAC, Queue, Rig};

type F = Features;

/// Bytes of a header with a hash.
const HASH_HDR_LEN: usize = 20;
/// Bytes of memory for a frame to send.
const TX_PLACE: u64 = 2048;
/// The same for a received one: as the driver needs it for one segment, or for the longest frame.
const RX_PLACES: [u64; 2] = [2048, 65_600];
/// Streams of the driver.
const FLOWS: u16 = 3;

/// Places of buffers, one behind the other, that are used again and again. The driver does not
/// write to a buffer that it provides again, so only the device's marks tell what is in it.
#[derive(Debug)]
struct Places {
    free: Vec<u64>,
    pub(crate) area: Range<u64>,
}

impl Places {
    fn new(memory: &TestMemory, count: u16, len: u64) -> Self {
        let start = memory.alloc(usize::from(count) * len as usize, 64);
        let end = start + u64::from(count) * len;
        Self {
            free: (start..end).step_by(len as usize).collect(),
            area: start..end,
        }
    }
}

/// Driver and network of one pair.
#[derive(Debug)]
pub(crate) struct Pair {
    number: u16,
    features: Features,
    hdr_len: usize,
    rx: Places,
    rx_len: u64,
    tx: Places,
    flows: Vec<Packet>,
    /// Frames that the network is to see, without a header, by source port.
    sending: BTreeMap<u16, VecDeque<Vec<u8>>>,
    /// Frames that the driver is to see, without a header, and the number of the one that arrived.
    receiving: VecDeque<(u64, Vec<u8>)>,
    arrived: u64,
    /// A received frame of which buffers are still to come.
    partial: Option<(Vec<u8>, u16)>,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// Frames that never came.
    missing: u64,
    /// Frames that the device says it dropped when it stopped in the middle of one.
    dropped: u64,
}

impl Pair {
    pub(crate) fn new(rig: &Rig, number: u16, size: u16, takes_whole: bool) -> Self {
        let features = rig.accepted();
        let rx_len = RX_PLACES[usize::from(takes_whole)];
        let sums = if features.contains(F::VIRTIO_NET_F_CSUM) {
            Sums::Partial
        } else {
            Sums::Complete
        };
        let flow = |flow| Packet {
            ports: (1000 + flow, 80),
            sums,
            ..Packet::tcp(&[])
        };
        let reports = features.contains(F::VIRTIO_NET_F_HASH_REPORT);
        Self {
            number,
            features,
            hdr_len: if reports { HASH_HDR_LEN } else { HDR_LEN },
            rx: Places::new(&rig.memory, size, rx_len),
            rx_len,
            tx: Places::new(&rig.memory, size, TX_PLACE),
            flows: (0..FLOWS).map(flow).collect(),
            sending: BTreeMap::new(),
            receiving: VecDeque::new(),
            arrived: 0,
            partial: None,
            received: 0,
            sent: 0,
            missing: 0,
            dropped: 0,
        }
    }

    /// Memory that the device reads, and never writes.
    pub(crate) fn read_only(&self) -> Range<u64> {
        self.tx.area.clone()
    }

    /// One step of whoever is next.
    pub(crate) fn step(&mut self, rig: &mut Rig, random: &mut Random) {
        match random.below(8) {
            0 | 1 => self.arrive(rig, random),
            2 | 3 => self.send(rig, random),
            4 => self.provide(rig, random),
            _ => self.look(rig, random),
        }
    }

    /// Up to three frames arrive, as long as the driver keeps up.
    fn arrive(&mut self, rig: &Rig, random: &mut Random) {
        let wire = &rig.networks[usize::from(self.number)].wire;
        for _ in 0..random.below(4) {
            if wire.waiting() > 8 {
                return;
            }
            let (bytes, frames) = self.frame(random);
            let bodies = frames.into_iter();
            self.receiving
                .extend(bodies.map(|body| (self.arrived, body)));
            self.arrived += 1;
            wire.inject(bytes);
        }
    }

    /// A frame for the driver, behind the network's header, and what the driver gets of it.
    fn frame(&self, random: &mut Random) -> (Vec<u8>, Vec<Vec<u8>>) {
        let (mut bytes, frames) = if random.below(4) == 0 {
            self.large(random)
        } else {
            let payload = length(random);
            let packet = Packet {
                sums: Sums::Complete,
                v6: random.below(2) == 0,
                tcp: random.below(2) == 0,
                ..Packet::udp(&vec![random.below(256) as u8; payload])
            };
            let mut bytes = packet.bytes();
            bytes[HDR_LEN..HDR_LEN + 6].copy_from_slice(&GUEST_MAC);
            let body = bytes[HDR_LEN..].to_vec();
            (bytes, vec![body])
        };
        bytes.splice(HDR_LEN..HDR_LEN, vec![0; self.hdr_len - HDR_LEN]);
        (bytes, frames)
    }

    fn large(&self, random: &mut Random) -> (Vec<u8>, Vec<Vec<u8>>) {
        let size = 200 + random.below(1200) as u16;
        let large = LargeFrame {
            v6: random.below(2) == 0,
            tcp: random.below(2) == 0,
            size,
            payload: usize::from(size) + 1 + random.below(3000) as usize,
            seed: random.next_u64(),
            ..LargeFrame::default()
        };
        let feature = match (large.tcp, large.v6) {
            (true, false) => F::VIRTIO_NET_F_GUEST_TSO4,
            (true, true) => F::VIRTIO_NET_F_GUEST_TSO6,
            (false, false) => F::VIRTIO_NET_F_GUEST_USO4,
            (false, true) => F::VIRTIO_NET_F_GUEST_USO6,
        };
        let partial = self.features.contains(F::VIRTIO_NET_F_GUEST_CSUM);
        let mut frames = if self.features.contains(feature) {
            vec![large.bytes()]
        } else {
            large.segments(partial)
        };
        for frame in &mut frames {
            frame.drain(..HDR_LEN);
        }
        (large.bytes(), frames)
    }

    /// The driver sends a few packets of one stream, which may leave as one.
    fn send(&mut self, rig: &mut Rig, random: &mut Random) {
        let flow = random.below(FLOWS.into()) as usize;
        let len = 1 + length(random);
        let queue = rig.queue(2 * self.number + 1);
        for _ in 0..1 + random.below(6) {
            let most = queue.ring.free().min(3) as u64;
            if most == 0 {
                break;
            }
            let Some(place) = self.tx.free.pop() else {
                break;
            };
            let packet = self.flows[flow].after(1, &vec![random.below(256) as u8; len]);
            let mut bytes = packet.bytes();
            let frame = on_the_wire(&bytes).remove(0);
            self.sending
                .entry(packet.ports.0)
                .or_default()
                .push_back(frame);
            self.flows[flow] = packet;
            bytes.splice(HDR_LEN..HDR_LEN, vec![0; self.hdr_len - HDR_LEN]);
            queue.ring.memory().write(place, &bytes);
            let pieces = pieces(place, bytes.len() as u64, false, most, random);
            queue
                .ring
                .add_as(shape(queue, pieces.len(), random), &pieces);
        }
        queue.publish();
    }

    /// The driver provides buffers to receive into.
    fn provide(&mut self, rig: &mut Rig, random: &mut Random) {
        let queue = rig.queue(2 * self.number);
        for _ in 0..1 + random.below(8) {
            self.provide_one(queue, random);
        }
        queue.publish();
    }

    fn provide_one(&mut self, queue: &mut Queue, random: &mut Random) -> bool {
        let most = queue.ring.free().min(3) as u64;
        if most == 0 {
            return false;
        }
        let Some(place) = self.rx.free.pop() else {
            return false;
        };
        let mergeable = self.features.contains(F::VIRTIO_NET_F_MRG_RXBUF);
        let len = if mergeable && random.below(2) == 0 {
            self.hdr_len as u64 + random.below(600)
        } else {
            self.rx_len
        };
        let pieces = pieces(place, len, true, most, random);
        queue
            .ring
            .add_as(shape(queue, pieces.len(), random), &pieces);
        true
    }

    /// The driver takes what was used, and says when it wants to hear of more.
    fn look(&mut self, rig: &mut Rig, random: &mut Random) {
        self.take_used(rig);
        let when = match random.below(3) {
            0 => Interrupts::Never,
            _ => Interrupts::Always,
        };
        let queue = 2 * self.number + random.below(2) as u16;
        rig.queue(queue).ring.ask(when);
    }

    /// Takes all chains that were used; returns their number.
    fn take_used(&mut self, rig: &mut Rig) -> usize {
        let sent = rig.queue(2 * self.number + 1).ring.poll_all();
        self.tx.free.extend(sent.iter().map(place_of));
        let queue = rig.queue(2 * self.number);
        let received = queue.ring.poll_all();
        for used in &received {
            let bytes = queue.ring.bytes(used);
            self.rx.free.push(place_of(used));
            self.take_buffer(bytes);
        }
        sent.len() + received.len()
    }

    fn take_buffer(&mut self, bytes: Vec<u8>) {
        let (frame, left) = match self.partial.take() {
            Some((mut frame, left)) => {
                frame.extend(bytes);
                (frame, left)
            }
            None => {
                let buffers = u16::from_le_bytes([bytes[10], bytes[11]]);
                (bytes, buffers)
            }
        };
        if left > 1 {
            self.partial = Some((frame, left - 1));
            return;
        }
        let found = self
            .receiving
            .iter()
            .position(|(_, expected)| frame[self.hdr_len..] == *expected);
        let skipped = found.unwrap_or_else(|| {
            panic!(
                "frame {} of pair {} was received otherwise, or twice",
                self.received, self.number
            )
        });
        self.receiving.drain(..=skipped);
        self.missing += skipped as u64;
        self.received += 1;
    }

    /// The network takes what was sent: each stream in its order, byte by byte.
    pub(crate) fn take_sent(&mut self, rig: &Rig) {
        for mut bytes in rig.networks[usize::from(self.number)].wire.take_sent() {
            bytes.drain(HDR_LEN..self.hdr_len);
            // An announcement of the device that was restored.
            if bytes[HDR_LEN + 12..HDR_LEN + 14] == [0x80, 0x35] {
                continue;
            }
            for frame in on_the_wire(&bytes) {
                let port = u16::from_be_bytes([frame[34], frame[35]]);
                let expected = self.sending.get_mut(&port).and_then(VecDeque::pop_front);
                assert!(
                    Some(&frame) == expected.as_ref(),
                    "frame {} of pair {} was sent otherwise",
                    self.sent,
                    self.number
                );
                self.sent += 1;
            }
        }
    }

    /// The host is left. Frames that have arrived and were not received stay behind, and so does
    /// what the device has dropped of those that it received.
    pub(crate) fn leave(&mut self, rig: &Rig) {
        let wire = &rig.networks[usize::from(self.number)].wire;
        let first = self.arrived - wire.purge() as u64;
        self.receiving.retain(|(number, _)| *number < first);
        self.dropped = self.drops(rig);
        self.take_sent(rig);
    }

    fn drops(&self, rig: &Rig) -> u64 {
        let stats = rig.device.handle().stats();
        stats.rx[usize::from(self.number)].dropped()
    }

    /// The driver as one that sleeps until it is interrupted: provides all the buffers that it has,
    /// and looks. Returns whether nothing is left to be seen.
    pub(crate) fn finish(&mut self, rig: &mut Rig, random: &mut Random) -> bool {
        loop {
            while self.provide_one(rig.queue(2 * self.number), random) {}
            rig.queue(2 * self.number).publish();
            for queue in [2 * self.number, 2 * self.number + 1] {
                rig.queue(queue).ring.ask(Interrupts::Always);
            }
            // Some may have come before the device could see the wish.
            if self.take_used(rig) == 0 {
                break;
            }
        }
        self.take_sent(rig);
        let in_flight = rig.queue(2 * self.number + 1).ring.in_flight();
        let dropped = self.dropped + self.drops(rig);
        let sent = in_flight == 0 && self.sending.values().all(VecDeque::is_empty);
        sent && self.receiving.len() as u64 + self.missing == dropped
    }
}

/// Length of a payload, short ones more often.
fn length(random: &mut Random) -> usize {
    let most = if random.below(4) == 0 { 1400 } else { 200 };
    random.below(most) as usize
}

/// First address of the chain's place.
fn place_of(used: &Used) -> u64 {
    used.pieces[0].addr
}

/// Cuts `len` bytes at `place` into one to `most` buffers.
fn pieces(place: u64, len: u64, writable: bool, most: u64, random: &mut Random) -> Vec<Piece> {
    let (mut at, end) = (place, place + len);
    let mut pieces = Vec::new();
    for left in (1..=1 + random.below(most)).rev() {
        let part = if left == 1 {
            end - at
        } else {
            random.below(end - at)
        };
        pieces.push(Piece {
            addr: at,
            len: part as u32,
            writable,
        });
        at += part;
    }
    pieces
}

/// A form for a chain of so many buffers.
fn shape(queue: &Queue, pieces: usize, random: &mut Random) -> Shape {
    let config = queue.ring.config();
    match random.below(3) {
        0 if config.indirect => Shape::Indirect,
        1 if config.indirect && config.layout == Layout::Split && pieces > 1 => Shape::Mixed(1),
        _ => Shape::Direct,
    }
}
