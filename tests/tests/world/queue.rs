//! One virtqueue as a strict driver drives it, and what it knows of its chains.
//!
//! Strict: the driver kicks only when the device asks for it, and once it has gone to sleep it
//! looks at the ring only when it was interrupted. So a notification that is owed and does not come
//! stops the queue, which is found when the world comes to rest.

mod posting;

pub(crate) use posting::break_ring;

use net_device::Cursor;
use net_device::net_queue::ring::RingConfig;
use net_queue::header::HDR_LEN;
use net_queue::testing::{GuestRing, Interrupts, Random, TestMemory, Used};

use crate::frames;
use crate::listener::Listener;
use crate::passage::{Outgoing, SharedIncoming, incoming};
use crate::profile::Kinds;

/// Bytes of memory for each buffer.
const BUFFER: u64 = 2048;

/// Place of the number of buffers in the header of a received frame.
const BUFFERS: u64 = 10;

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
    pub(crate) listener: Listener,
    /// A kick that the VMM has not heard of.
    pub(crate) kicked: bool,
    /// Frames that the driver posted.
    pub(crate) outgoing: Outgoing,
    /// Frames that the network delivered.
    pub(crate) incoming: SharedIncoming,
    pub(crate) kinds: Kinds,
    /// Flow of the frames that are posted.
    flow: usize,
    partial: Option<Partial>,
    /// Frames that the driver received.
    received: u64,
    /// Chains that came back, and stood for nothing.
    pub(crate) useless: u64,
    /// Chains of those that the device may have counted and given back to the ring.
    pub(crate) vague: u64,
    /// Chains that the driver still posts while the world comes to rest.
    pub(crate) last: u64,
}

impl DriverQueue {
    pub(crate) fn new(
        memory: &TestMemory,
        index: u16,
        config: RingConfig,
        moderated: bool,
        mergeable: bool,
        kinds: Kinds,
    ) -> Self {
        let size = config.size;
        let places = (0..u64::from(size)).map(|_| memory.alloc_ring(BUFFER as usize, 64));
        Self {
            index,
            ring: GuestRing::new(memory, config),
            mergeable,
            places: places.collect(),
            flights: vec![None; usize::from(size)],
            listener: Listener::new(index, moderated),
            kicked: false,
            outgoing: Outgoing::new(),
            incoming: SharedIncoming::default(),
            kinds,
            flow: frames::PLAIN,
            partial: None,
            received: 0,
            useless: 0,
            vague: 0,
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

    /// The device has stood still for a moment. What waits behind frames that leave as one goes
    /// back to the ring then, and is taken once more.
    pub(crate) fn paused(&mut self) {
        self.listener.owner_acts();
        self.vague += self.waiting_useless();
        if self.kinds.groups {
            self.outgoing.paused();
        }
    }

    /// Chains of no use that may wait behind frames that leave as one: they are counted already.
    fn waiting_useless(&self) -> u64 {
        let flights = self.flights.iter().flatten().filter(|_| self.kinds.groups);
        let useless = flights.filter(|flight| flight.content == Content::Useless);
        useless.count() as u64
    }

    /// Begins anew with a ring that is empty, after a reset of the queue or of its device.
    pub(crate) fn begin_again(&mut self, memory: &TestMemory) {
        // What waits behind frames that leave as one counts, and does not come back any more.
        self.vague += self.waiting_useless();
        let config = RingConfig {
            cursor: Cursor::default(),
            ..self.ring.config()
        };
        for flight in &mut self.flights {
            self.places.extend(flight.take().map(|flight| flight.place));
        }
        self.ring = GuestRing::new(memory, config);
        self.listener.begin_again();
        self.partial = None;
        incoming(&self.incoming).ring_ends();
        self.outgoing.clear();
    }

    pub(crate) fn is_rx(&self) -> bool {
        self.index.is_multiple_of(2)
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

    fn used(&mut self, used: &Used) -> Result<(), String> {
        let flight = self.flights[usize::from(used.id)].take();
        let Flight {
            place,
            slots,
            content,
        } = flight.ok_or("a chain came back twice")?;
        self.places.push(place);
        self.listener.takes(&self.ring, slots);
        match content {
            Content::Frame(_) | Content::Useless if used.len != 0 => {
                Err(format!("queue {} wrote into a frame to send", self.index))
            }
            Content::Frame(number) => {
                let done = self.outgoing.used(number);
                done.map_err(|what| format!("queue {}: {what}", self.index))
            }
            Content::Useless => {
                self.useless += 1;
                Ok(())
            }
            Content::Room => self.received(used),
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
        self.received += 1;
        for number in frames::numbers(&partial.bytes)? {
            let pair = usize::from(self.index / 2);
            let done = incoming(&self.incoming).received(pair, number);
            done.map_err(|what| format!("queue {}: {what}", self.index))?;
        }
        Ok(())
    }

    /// One step of the driver: it answers an interrupt, looks, posts, or goes to sleep.
    pub(crate) fn step(&mut self, random: &mut Random) -> Result<(), String> {
        if self.listener.is_broken {
            return Ok(());
        }
        self.wake_up(random);
        if self.listener.asleep.is_none() && random.below(2) == 0 {
            let most = 1 + random.below(8) as usize;
            if self.poll(most)? < most {
                self.go_to_sleep(random)?;
            }
        }
        if random.below(2) == 0 {
            let most = if self.kinds.groups { 10 } else { 4 };
            let most = 1 + random.below(most);
            self.post(random, most);
        }
        self.kicked |= random.below(256) == 0;
        Ok(())
    }

    fn wake_up(&mut self, random: &mut Random) {
        if std::mem::take(&mut self.listener.interrupted) {
            self.listener.asleep = None;
            if random.below(2) == 0 {
                self.listener.ask(&mut self.ring, Interrupts::Never);
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
        self.listener.ask(
            &mut self.ring,
            if units == 1 {
                Interrupts::Always
            } else {
                Interrupts::After(units)
            },
        );
        if self.poll(usize::MAX)? == 0 {
            self.listener.asleep = Some(units);
        }
        Ok(())
    }

    /// Acts as a driver that has nothing new to do: it answers interrupts and frees its ring then,
    /// and no more. Returns whether it did anything.
    pub(crate) fn quiesce(&mut self, random: &mut Random) -> Result<bool, String> {
        if self.listener.is_broken {
            return Ok(false);
        }
        let woken = self.listener.interrupted;
        self.wake_up(random);
        if self.listener.asleep.is_some() {
            return Ok(woken);
        }
        while self.poll(usize::MAX)? > 0 {}
        // From here on nothing may be left to wait for.
        self.listener.ask(&mut self.ring, Interrupts::Always);
        if self.poll(usize::MAX)? == 0 {
            self.listener.asleep = Some(1);
        }
        Ok(true)
    }

    /// Frames that the device has shown, taken by the driver or not.
    pub(crate) fn frames_shown(&self) -> u64 {
        let mut left = self.partial.as_ref().map_or(0, |partial| partial.left);
        let mut shown = self.received;
        let unseen = self.ring.unseen_chains().into_iter();
        for (id, _) in unseen.filter(|(_, len)| *len != Some(0)) {
            if left == 0 {
                let flight = self.flights.get(usize::from(id)).copied().flatten();
                let header = flight.map(|flight| flight.place);
                let memory = self.ring.memory();
                left = header.map_or(1, |place| memory.load(place + BUFFERS));
            }
            left = left.saturating_sub(1);
            shown += u64::from(left == 0);
        }
        shown
    }

    /// Returns whether it waits for an interrupt that may not come much later.
    pub(crate) fn is_owed(&self) -> bool {
        self.listener.is_owed(&self.ring)
    }

    /// Takes what was used while the driver slept.
    ///
    /// # Errors
    /// It should have been interrupted for that.
    pub(crate) fn owed(&mut self) -> Result<(), String> {
        let sleeps = !self.listener.is_broken && !self.listener.interrupted;
        let Some(units) = self.listener.asleep.filter(|_| sleeps) else {
            return Ok(());
        };
        let (unseen, owed) = (self.ring.unseen(), self.is_owed());
        self.poll(usize::MAX)?;
        self.listener.asleep = None;
        if !owed {
            return Ok(());
        }
        Err(format!(
            "queue {} used {unseen} and did not interrupt its driver, who asked for it after {units}",
            self.index
        ))
    }
}
