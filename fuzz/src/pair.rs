//! The two sides of a queue pair: an engine, the driver of its ring, and what both have promised
//! each other so far.

use std::collections::VecDeque;
use std::mem::take;
use std::sync::Arc;

use net_queue::header::{
    HdrError, HdrSize, NUM_BUFFERS_OFFSET, NetHdr, RawHdr, RxRules, TxRules, gso,
};
use net_queue::ring::{AnyRing, Cursor, RingConfig};
use net_queue::testing::GuestRing;
use net_queue::{
    Budget, Engine, MAX_FRAME, Offloads, Outcome, QueueCounters, RxConfig, RxEngine, Stop,
    TxConfig, TxEngine,
};

use crate::ports::{Gate, Mood, Port};
use crate::ring::at_rest;
use crate::segmentation::{begin_checksum, cut, packet};

/// The device's end of `guest`'s ring, at `cursor`.
fn device(guest: &GuestRing, cursor: Cursor) -> AnyRing {
    let config = RingConfig {
        cursor,
        ..guest.config()
    };
    AnyRing::new(&guest.memory().ram(), &config).expect("a ring in memory, at a cursor of its own")
}

/// The base header of `frame`, and the length of what is behind its header.
fn header(frame: &[u8], size: HdrSize) -> Option<(RawHdr, u32)> {
    let len = frame.len().checked_sub(size.bytes())?;
    let mut raw = RawHdr::new(size);
    raw.as_mut_bytes().copy_from_slice(&frame[..size.bytes()]);
    Some((raw, len as u32))
}

/// Number of buffers that a frame with this header takes: one, where the header does not say.
fn num_buffers(header: &[u8]) -> u16 {
    let field = header.get(NUM_BUFFERS_OFFSET..NUM_BUFFERS_OFFSET + 2);
    field.map_or(1, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
}

/// Makes of a frame that asks for its checksum the one that a driver gets who does not take such
/// frames.
fn complete(arrived: &mut [u8], config: &RxConfig) {
    let size = config.size.bytes();
    let Some((raw, len)) = header(arrived, config.size) else {
        return;
    };
    if NetHdr::check_rx(&raw, len, RxRules::new(config.offloads)) == Err(HdrError::GsoWithoutCsum) {
        begin_checksum(arrived, size);
        return;
    }
    let check = |offloads| NetHdr::check_rx(&raw, len, RxRules::new(offloads));
    let (Err(HdrError::CsumNotNegotiated), Ok(partial)) =
        (check(config.offloads), check(Offloads::CSUM))
    else {
        return;
    };
    let start = size + usize::from(partial.csum_start());
    // Word by word, as RFC 1071 defines it.
    let words = arrived[start..].chunks(2);
    let sum: u64 = words
        .map(|word| u64::from(word[0]) << 8 | word.get(1).copied().map_or(0, u64::from))
        .sum();
    let folded = (0..4).fold(sum, |sum, _| (sum & 0xffff) + (sum >> 16));
    let checksum = match !(folded as u16) {
        0 => 0xffff,
        other => other,
    };
    let field = start + usize::from(partial.csum_offset());
    arrived[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
    arrived[..size].fill(0);
}

/// Transmit.
pub struct TxSide {
    /// The driver.
    pub guest: GuestRing,
    engine: TxEngine<AnyRing>,
    counters: Arc<QueueCounters>,
    config: TxConfig,
    /// Chains in order, with the frame that goes out for it, if one does.
    waiting: VecDeque<(u16, Option<Vec<u8>>)>,
    /// Frames and bytes sent, chains dropped.
    passed: (u64, u64, u64),
    stop: Option<Stop>,
}

impl TxSide {
    /// An engine on the ring of `guest`.
    pub fn new(guest: GuestRing, size: HdrSize, offloads: Offloads) -> Self {
        let counters = Arc::<QueueCounters>::default();
        let config = TxConfig {
            size,
            ..TxConfig::new(TxRules::new(offloads))
        };
        let device = device(&guest, guest.config().cursor);
        Self {
            engine: TxEngine::new(device, config, counters.clone()),
            guest,
            counters,
            config,
            waiting: VecDeque::new(),
            passed: (0, 0, 0),
            stop: None,
        }
    }

    /// The driver has added `bytes` as chain `id`.
    pub fn expect(&mut self, id: u16, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        let frame = header(&bytes, self.config.size).and_then(|(raw, _)| {
            if NetHdr::check_tx(&raw, u32::MAX, self.config.rules) == Err(HdrError::GsoWithoutCsum)
            {
                begin_checksum(&mut bytes, self.config.size.bytes());
            }
            let (raw, len) = header(&bytes, self.config.size)?;
            let hdr = NetHdr::check_tx(&raw, len, self.config.rules).ok()?;
            let raw = hdr.to_raw(self.config.size);
            let whole = || [raw.as_bytes(), &bytes[self.config.size.bytes()..]].concat();
            (len as usize <= MAX_FRAME).then(whole)
        });
        self.waiting.push_back((id, frame));
    }

    /// Lets the engine work.
    pub fn run(&mut self, port: &mut Port, gate: &mut Gate, budget: Budget) {
        let Outcome {
            stop, interrupt, ..
        } = self.engine.run(port, gate, 0, budget);
        assert!(at_rest(self.engine.cursor()), "a chain was kept");
        let fault = self.engine.fault();
        assert_eq!(fault.is_some(), matches!(stop, Stop::Fault(_)));
        if fault.is_some() {
            let again = self.engine.run(port, gate, 0, budget);
            assert_eq!((self.engine.fault(), again.interrupt), (fault, false));
        }
        assert!(!interrupt || self.counters.interrupts() > 0, "not counted");
        self.stop = Some(stop);
    }

    /// Compares what went out and came back with what the driver posted.
    pub fn check(&mut self, port: &mut Port) {
        let sent = take(&mut port.sent);
        let used = self.guest.poll_all();
        let done: Vec<_> = self.waiting.drain(..used.len()).collect();
        let ids = used.iter().map(|used| (used.id, used.len));
        assert!(ids.eq(done.iter().map(|(id, _)| (*id, 0))), "used chains");
        let frames: Vec<_> = done.into_iter().filter_map(|(_, frame)| frame).collect();
        match port.mood {
            Mood::Willing => assert!(sent == frames, "sent frames"),
            Mood::Picky => assert!(sent.is_empty()),
            Mood::Busy | Mood::Gone => assert!(sent.is_empty() && frames.is_empty()),
        }
        self.passed.0 += sent.len() as u64;
        let bytes = |frame: &Vec<u8>| (frame.len() - self.config.size.bytes()) as u64;
        self.passed.1 += sent.iter().map(bytes).sum::<u64>();
        self.passed.2 += (used.len() - sent.len()) as u64;
        let counters = &self.counters;
        let counted = (counters.frames(), counters.bytes(), counters.dropped());
        assert_eq!(counted, self.passed, "counters");
        if matches!(self.stop, Some(Stop::Driver)) {
            self.is_done();
        }
    }

    /// All that the driver posted is done.
    pub fn is_done(&self) {
        assert!(self.waiting.is_empty(), "{:?}", self.stop);
    }

    /// Asks for kicks or not.
    pub fn set_notification(&mut self, on: bool) {
        if on {
            self.engine.enable_notification();
        } else {
            self.engine.disable_notification();
        }
    }

    /// Goes on with another engine.
    pub fn resume_at_cursor(&mut self) {
        let device = device(&self.guest, self.engine.cursor());
        self.engine = TxEngine::new(device, self.config, self.counters.clone());
    }
}

/// Receive.
pub struct RxSide {
    /// The driver.
    pub guest: GuestRing,
    /// Frames given to the backend that did not come out yet, and how many there ever were.
    arriving: VecDeque<Vec<u8>>,
    /// Of each frame given to the backend, the number of frames that it becomes.
    parts: Vec<u64>,
    engine: RxEngine<AnyRing>,
    counters: Arc<QueueCounters>,
    config: RxConfig,
    /// Frames and bytes delivered.
    passed: (u64, u64),
    stop: Option<Stop>,
}

impl RxSide {
    /// An engine on the ring of `guest`.
    pub fn new(guest: GuestRing, config: RxConfig) -> Self {
        let counters = Arc::<QueueCounters>::default();
        let device = device(&guest, guest.config().cursor);
        Self {
            engine: engine(&guest, device, config, &counters),
            guest,
            arriving: VecDeque::new(),
            parts: Vec::new(),
            counters,
            config,
            passed: (0, 0),
            stop: None,
        }
    }

    /// The backend will deliver `frame`.
    pub fn expect(&mut self, frame: Vec<u8>) {
        let frames = cut(&frame, self.config.size, self.config.offloads);
        self.parts.push(frames.len() as u64);
        self.arriving.extend(frames);
    }

    /// Lets the engine work.
    pub fn run(&mut self, port: &mut Port, gate: &mut Gate, budget: Budget) {
        let outcome = self.engine.run(port, gate, None, 0, budget);
        let fault = self.engine.fault();
        assert_eq!(fault.is_some(), matches!(outcome.stop, Stop::Fault(_)));
        if fault.is_some() {
            let again = self.engine.run(port, gate, None, 0, budget);
            assert_eq!((self.engine.fault(), again.interrupt), (fault, false));
        }
        self.stop = Some(outcome.stop);
    }

    /// Compares what the driver got with what arrived.
    pub fn check(&mut self, port: &Port) {
        while let Some((header, frame)) = self.next_frame() {
            let size = self.config.size.bytes();
            let arrived = loop {
                let mut arrived = self.arriving.pop_front().expect("a frame that arrived");
                complete(&mut arrived, &self.config);
                if arrived.get(size..) == Some(&frame[..]) {
                    break arrived;
                }
            };
            let (raw, len) = self::header(&arrived, self.config.size).expect("behind a header");
            let rules = RxRules::new(self.config.offloads);
            let mut hdr = NetHdr::check_rx(&raw, len, rules).expect("a header that may pass");
            let ethertype = packet(&frame).map(|(kind, _)| kind);
            hdr.check_family(ethertype, rules)
                .expect("a family that it takes");
            hdr.set_num_buffers(num_buffers(&header));
            assert_eq!(hdr.to_raw(self.config.size).as_bytes(), header, "header");
            // What is to be segmented is longer than what travels.
            let link = packet(&frame).map_or(14, |(_, at)| at);
            let most = self.config.mtu.map(|mtu| usize::from(mtu) + link);
            let most = most.filter(|_| hdr.gso_type() == gso::NONE);
            assert!(
                most.is_none_or(|most| frame.len() <= most),
                "beyond the MTU"
            );
            self.passed.0 += 1;
            self.passed.1 += frame.len() as u64;
        }
        let counted = (self.counters.frames(), self.counters.bytes());
        assert_eq!(counted, self.passed, "counters");
        // What the backend loses is one frame, into however many it would have been cut.
        for &lost in &port.lost {
            self.parts[lost] = 1;
        }
        let taken = &self.parts[..self.parts.len() - port.frames.len()];
        let held = taken.iter().sum::<u64>();
        let held = held.checked_sub(self.passed.0 + self.counters.dropped());
        // Only an engine that asked the backend for more holds no frame, and no part of one.
        let most = match self.stop {
            Some(Stop::Backend) => 0,
            _ => taken.last().copied().unwrap_or_default(),
        };
        assert!(
            held.is_some_and(|held| held <= most),
            "{held:?} frames are held"
        );
    }

    /// All that arrived is with the driver, as far as it has buffers.
    pub fn is_done(&self, port: &Port) {
        match self.stop {
            Some(Stop::Backend) => assert!(port.frames.is_empty()),
            Some(Stop::Driver) => {}
            ref stop => panic!("{stop:?}"),
        }
    }

    /// The next frame that the driver was given: header and content.
    fn next_frame(&mut self) -> Option<(Vec<u8>, Vec<u8>)> {
        let first = self.guest.poll()?;
        let mut bytes = self.guest.bytes(&first);
        let header = bytes.get(..self.config.size.bytes());
        let count = num_buffers(header.expect("a whole header"));
        assert!(
            count == 1 || self.config.merge && count > 1,
            "num_buffers {count}"
        );
        for _ in 1..count {
            let more = self.guest.poll().expect("as many as the header says");
            bytes.extend(self.guest.bytes(&more));
        }
        let frame = bytes.split_off(self.config.size.bytes());
        Some((bytes, frame))
    }

    /// Asks for kicks or not.
    pub fn set_notification(&mut self, on: bool) {
        if on {
            self.engine.enable_notification();
        } else {
            self.engine.disable_notification();
        }
    }

    /// Stops as for a snapshot, and goes on with another engine.
    pub fn resume_at_cursor(&mut self, gate: &mut Gate) {
        self.engine.drain(gate, None, 0);
        let cursor = self.engine.cursor();
        assert!(at_rest(cursor), "a chain was kept");
        let device = device(&self.guest, cursor);
        self.engine = engine(&self.guest, device, self.config, &self.counters);
    }
}

fn engine(
    guest: &GuestRing,
    device: AnyRing,
    config: RxConfig,
    counters: &Arc<QueueCounters>,
) -> RxEngine<AnyRing> {
    RxEngine::new(device, guest.config().size, config, counters.clone())
}
