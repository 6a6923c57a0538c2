//! One virtqueue as a strict driver drives it, and what it knows of its chains.
//!
//! Strict: the driver kicks only when the device asks for it, and once it has gone to sleep it
//! looks at the ring only when it was interrupted. So a notification that is owed and does not come
//! stops the queue, which is found when the world comes to rest.

use std::collections::VecDeque;

use net_device::net_queue::ring::RingConfig;
use net_device::{Cursor, Layout};
use net_queue::header::HDR_LEN;
use net_queue::testing::{
    GuestRing, Interrupts, Piece, Random, RawDesc, Shape, SplitFields, TestMemory, Used,
};

use crate::frames;

/// Bytes of memory for each buffer.
const BUFFER: u64 = 2048;

/// A chain in flight.
#[derive(Clone, Copy, Debug)]
struct Flight {
    place: u64,
    /// Ring slots that it takes.
    slots: u16,
    content: Content,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// A frame to send.
    Frame(u64),
    /// Nothing that could be sent: too short for its header.
    Useless,
    /// Room for a received frame.
    Room,
}

/// Makes more available than a ring has, or a chain that has no end; returns whether there was room
/// for that.
pub(crate) fn break_ring(ring: &mut GuestRing, buffer: Piece, random: &mut Random) -> bool {
    let config = ring.config();
    if ring.free() == 0 {
        return false;
    }
    if config.layout == Layout::Split && random.below(2) == 0 {
        let idx = SplitFields::of(&config).avail_idx();
        let now: u16 = ring.memory().load(idx);
        ring.memory().store(idx, now.wrapping_add(config.size + 1));
        return true;
    }
    ring.add_with(Shape::Direct, &[buffer], |_, desc| {
        desc.flags |= RawDesc::NEXT;
        // A packed ring goes on with the next descriptor, which is not available.
        desc.next = config.size;
    });
    ring.publish();
    true
}

/// A received frame of which buffers are still to come.
#[derive(Debug)]
struct Partial {
    bytes: Vec<u8>,
    left: u16,
}

/// A queue of a pair. Faults of the device are returned as texts.
#[derive(Debug)]
pub(crate) struct DriverQueue {
    pub(crate) index: u16,
    pub(crate) ring: GuestRing,
    mergeable: bool,
    places: Vec<u64>,
    flights: Vec<Option<Flight>>,
    /// The driver looks at the ring only when it was interrupted, and wants to be after this many
    /// units (chains of a split ring, slots of a packed one).
    asleep: Option<u16>,
    pub(crate) interrupted: bool,
    /// A kick that the VMM has not heard of.
    pub(crate) kicked: bool,
    /// Frames that the driver posted and the network has not seen, or the network sent and the
    /// driver has not seen, in order.
    pub(crate) waiting: VecDeque<u64>,
    next: u64,
    partial: Option<Partial>,
    /// Chains that came back, and stood for nothing.
    pub(crate) useless: u64,
    /// Frames that never came: the device has to have counted them.
    pub(crate) missing: u64,
    /// Frames below this number may be dropped, since the link was down.
    pub(crate) droppable: u64,
    /// Frames that were dropped for it.
    pub(crate) cut_off: u64,
    pub(crate) passed: u64,
    /// The driver has broken the ring, and leaves it alone until it is laid out anew.
    pub(crate) is_broken: bool,
    /// Chains that the driver still posts while the world comes to rest.
    pub(crate) last: u64,
}

impl DriverQueue {
    pub(crate) fn new(
        memory: &TestMemory,
        index: u16,
        config: RingConfig,
        mergeable: bool,
    ) -> Self {
        let size = config.size;
        let places = (0..u64::from(size)).map(|_| memory.alloc_ring(BUFFER as usize, 64));
        Self {
            index,
            ring: GuestRing::new(memory, config),
            mergeable,
            places: places.collect(),
            flights: vec![None; usize::from(size)],
            asleep: None,
            interrupted: false,
            kicked: false,
            waiting: VecDeque::new(),
            next: 0,
            partial: None,
            useless: 0,
            missing: 0,
            droppable: 0,
            cut_off: 0,
            passed: 0,
            is_broken: false,
            last: 0,
        }
    }

    /// Returns whether `addr` lies in a buffer that the device may write to now.
    pub(crate) fn has_lent(&self, addr: u64) -> bool {
        let mut flights = self.flights.iter().flatten();
        flights.any(|flight| {
            flight.content == Content::Room && (flight.place..flight.place + BUFFER).contains(&addr)
        })
    }

    /// Begins anew with a ring that is empty, after a reset of the queue or of its device.
    pub(crate) fn begin_again(&mut self, memory: &TestMemory) {
        let config = RingConfig {
            cursor: Cursor::default(),
            ..self.ring.config()
        };
        for flight in &mut self.flights {
            self.places.extend(flight.take().map(|flight| flight.place));
        }
        self.ring = GuestRing::new(memory, config);
        (self.asleep, self.is_broken) = (None, false);
        self.partial = None;
        if self.is_rx() {
            self.missing += self.waiting.len() as u64;
        }
        self.waiting.clear();
    }

    /// The link goes up or down.
    pub(crate) fn link_changes(&mut self, up: bool) {
        self.droppable = if up { self.next } else { u64::MAX };
    }

    pub(crate) fn is_rx(&self) -> bool {
        self.index.is_multiple_of(2)
    }

    /// Shows the device what was added, and kicks if it asks for that.
    fn publish(&mut self) {
        self.kicked |= self.ring.publish();
    }

    /// Posts up to `count` chains, as far as there is room.
    pub(crate) fn post(&mut self, random: &mut Random, count: u64) -> u64 {
        let mut posted = 0;
        while posted < count && self.post_one(random) {
            posted += 1;
        }
        if posted > 0 {
            self.publish();
        }
        posted
    }

    /// Posts one of the last chains, if one is left and there is room.
    pub(crate) fn post_last(&mut self, random: &mut Random) -> bool {
        let posts = self.last > 0 && self.post(random, 1) > 0;
        self.last -= u64::from(posts);
        posts
    }

    /// Breaks the ring, if there is room for that.
    pub(crate) fn break_ring(&mut self, random: &mut Random) -> bool {
        let Some(place) = self.places.last() else {
            return false;
        };
        let buffer = Piece {
            writable: self.is_rx(),
            ..Piece::readable(*place, 64)
        };
        let broken = !self.is_broken && break_ring(&mut self.ring, buffer, random);
        self.kicked |= broken;
        self.is_broken |= broken;
        broken
    }

    fn post_one(&mut self, random: &mut Random) -> bool {
        if self.is_broken || self.ring.free() == 0 {
            return false;
        }
        let Some(place) = self.places.pop() else {
            return false;
        };
        let (content, pieces) = if self.is_rx() {
            (
                Content::Room,
                vec![Piece::writable(place, self.room(random))],
            )
        } else {
            self.frame(random, place)
        };
        let (shape, slots) = self.shape(random, pieces.len());
        let id = self.ring.add_as(shape, &pieces);
        self.flights[usize::from(id)] = Some(Flight {
            place,
            slots,
            content,
        });
        true
    }

    fn room(&self, random: &mut Random) -> u32 {
        if self.mergeable && random.below(2) == 0 {
            HDR_LEN as u32 + random.below(600) as u32
        } else {
            BUFFER as u32 - random.below(64) as u32
        }
    }

    /// Writes the next frame at `place`, in one to three buffers.
    fn frame(&mut self, random: &mut Random, place: u64) -> (Content, Vec<Piece>) {
        let memory = self.ring.memory();
        if random.below(64) == 0 {
            let len = 1 + random.below(HDR_LEN as u64 - 1) as u32;
            return (Content::Useless, vec![Piece::readable(place, len)]);
        }
        let number = self.next;
        let spread = if random.below(8) == 0 {
            frames::LONGEST - frames::SHORTEST
        } else {
            64
        };
        let len = frames::SHORTEST + random.below(spread as u64 + 1) as usize;
        let bytes = frames::build(number, len);
        let most = self.ring.free().min(3) as u64;
        let mut pieces = Vec::new();
        let (mut from, mut at) = (0, place);
        for _ in 1..1 + random.below(most) {
            let to = from + random.below((bytes.len() - from) as u64) as usize;
            memory.write(at, &bytes[from..to]);
            pieces.push(Piece::readable(at, (to - from) as u32));
            at += (to - from) as u64 + random.below(32);
            from = to;
        }
        memory.write(at, &bytes[from..]);
        pieces.push(Piece::readable(at, (bytes.len() - from) as u32));
        self.next += 1;
        self.waiting.push_back(number);
        (Content::Frame(number), pieces)
    }

    /// A form for a chain of so many buffers, and the slots it takes.
    fn shape(&self, random: &mut Random, pieces: usize) -> (Shape, u16) {
        let config = self.ring.config();
        if !config.indirect || random.below(2) == 0 {
            return (Shape::Direct, pieces as u16);
        }
        if config.layout == Layout::Split && pieces > 1 && random.below(2) == 0 {
            return (Shape::Mixed(1), 2);
        }
        (Shape::Indirect, 1)
    }

    /// The network takes the next frame.
    pub(crate) fn taken(&mut self, number: u64) -> Result<(), String> {
        // The driver may not have seen yet what was dropped.
        while self
            .waiting
            .front()
            .is_some_and(|next| *next < number.min(self.droppable))
        {
            self.waiting.pop_front();
            self.cut_off += 1;
        }
        match self.waiting.pop_front() {
            Some(next) if next == number => {
                self.passed += 1;
                Ok(())
            }
            next => Err(format!(
                "queue {} sent frame {number}, not {next:?}",
                self.index
            )),
        }
    }

    /// Takes up to `most` used chains; returns how many there were.
    pub(crate) fn poll(&mut self, most: usize) -> Result<usize, String> {
        let mut count = 0;
        // A batch that is used in order is taken whole, or its ids would be given out again.
        let most = if self.ring.config().in_order {
            usize::MAX
        } else {
            most
        };
        while count < most
            && let Some(used) = self.ring.poll()
        {
            self.used(&used)?;
            count += 1;
        }
        Ok(count)
    }

    fn used(&mut self, used: &Used) -> Result<u16, String> {
        let flight = self.flights[usize::from(used.id)].take();
        let Flight {
            place,
            slots,
            content,
        } = flight.ok_or("a chain came back twice")?;
        self.places.push(place);
        if let Content::Frame(number) = content
            && self.waiting.front() == Some(&number)
            && number < self.droppable
        {
            self.waiting.pop_front();
            self.cut_off += 1;
        }
        match content {
            Content::Frame(number) if self.waiting.front().is_some_and(|next| *next <= number) => {
                Err(format!(
                    "queue {} gave frame {number} back, which was not sent",
                    self.index
                ))
            }
            Content::Frame(_) | Content::Useless if used.len != 0 => {
                Err(format!("queue {} wrote into a frame to send", self.index))
            }
            Content::Frame(_) => Ok(slots),
            Content::Useless => {
                self.useless += 1;
                Ok(slots)
            }
            Content::Room => self.received(used).map(|()| slots),
        }
    }

    fn received(&mut self, used: &Used) -> Result<(), String> {
        let bytes = self.ring.bytes(used);
        if bytes.is_empty() {
            self.useless += 1;
            return Ok(());
        }
        let partial = match self.partial.take() {
            Some(mut partial) => {
                partial.bytes.extend(bytes);
                partial.left -= 1;
                partial
            }
            None if bytes.len() < HDR_LEN => return Err("a frame without a header".to_owned()),
            None => {
                let buffers = u16::from_le_bytes([bytes[10], bytes[11]]);
                let left = buffers.checked_sub(1).ok_or("a frame in no buffers")?;
                Partial { bytes, left }
            }
        };
        if partial.left > 0 {
            self.partial = Some(partial);
            return Ok(());
        }
        let number = frames::number(&partial.bytes)?;
        let before = self.waiting.iter().position(|next| *next == number);
        let skipped = before.ok_or_else(|| {
            format!(
                "queue {} received {number}, which did not come or came before",
                self.index
            )
        })?;
        self.waiting.drain(..=skipped);
        self.missing += skipped as u64;
        self.passed += 1;
        Ok(())
    }

    /// One step of the driver: it answers an interrupt, looks, posts, or goes to sleep.
    pub(crate) fn step(&mut self, random: &mut Random) -> Result<(), String> {
        if self.is_broken {
            return Ok(());
        }
        self.wake_up(random);
        if self.asleep.is_none() && random.below(2) == 0 {
            let most = 1 + random.below(8) as usize;
            if self.poll(most)? < most {
                self.go_to_sleep(random)?;
            }
        }
        if random.below(2) == 0 {
            let most = 1 + random.below(4);
            self.post(random, most);
        }
        self.kicked |= random.below(256) == 0;
        Ok(())
    }

    fn wake_up(&mut self, random: &mut Random) {
        if std::mem::take(&mut self.interrupted) {
            self.asleep = None;
            if random.below(2) == 0 {
                self.ring.ask(Interrupts::Never);
            }
        }
    }

    /// Asks for an interrupt, looks once more, and sleeps if there is nothing.
    fn go_to_sleep(&mut self, random: &mut Random) -> Result<(), String> {
        let flying = self.ring.in_flight() as u64;
        let units = if self.ring.config().event_idx && flying > 1 && random.below(4) == 0 {
            1 + random.below(flying) as u16
        } else {
            1
        };
        self.ring.ask(if units == 1 {
            Interrupts::Always
        } else {
            Interrupts::After(units)
        });
        if self.poll(usize::MAX)? == 0 {
            self.asleep = Some(units);
        }
        Ok(())
    }

    /// Acts as a driver that has nothing new to do: it answers interrupts and frees its ring then,
    /// and no more. Returns whether it did anything.
    pub(crate) fn quiesce(&mut self, random: &mut Random) -> Result<bool, String> {
        if self.is_broken {
            return Ok(false);
        }
        let woken = self.interrupted;
        self.wake_up(random);
        if self.asleep.is_some() {
            return Ok(woken);
        }
        while self.poll(usize::MAX)? > 0 {}
        // From here on nothing may be left to wait for.
        self.ring.ask(Interrupts::Always);
        if self.poll(usize::MAX)? == 0 {
            self.asleep = Some(1);
        }
        Ok(true)
    }

    /// Returns whether it waits for an interrupt that may not come much later.
    pub(crate) fn is_owed(&self) -> bool {
        self.asleep == Some(1) && !self.interrupted && !self.is_broken && self.ring.has_used()
    }

    /// Takes what was used while the driver slept.
    ///
    /// # Errors
    /// It should have been interrupted for that.
    pub(crate) fn owed(&mut self) -> Result<(), String> {
        let (Some(units), false) = (self.asleep, self.interrupted || self.is_broken) else {
            return Ok(());
        };
        let mut unseen = 0;
        while let Some(used) = self.ring.poll() {
            let slots = self.used(&used)?;
            let packed = self.ring.config().layout == Layout::Packed;
            unseen += if packed { slots } else { 1 };
        }
        self.asleep = None;
        if unseen < units {
            return Ok(());
        }
        Err(format!(
            "queue {} used {unseen} and did not interrupt its driver, who asked for it after {units}",
            self.index
        ))
    }
}
