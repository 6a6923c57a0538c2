//! A driver's end of one virtqueue, whatever its layout.

use std::collections::VecDeque;

use crate::ring::{AnyRing, Layout, RingConfig};
use crate::testing::packed::PackedSide;
use crate::testing::split::SplitSide;
use crate::testing::{Interrupts, Piece, Random, RawDesc, TestMemory};

/// Place of a descriptor of a chain, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// In the ring (or the ring's table).
    Ring(usize),
    /// In the chain's indirect table.
    Table(usize),
}

/// Form in which a chain is described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One descriptor of the ring per buffer.
    Direct,
    /// One descriptor of the ring, which refers to a table.
    Indirect,
    /// The first buffers directly, the rest in a table (split only; VQ-SPL-07).
    Mixed(usize),
}

/// A chain that came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// Id that [`GuestRing::add`] returned for it.
    pub id: u16,
    /// Bytes that the device says it wrote.
    pub len: u32,
    /// The chain's buffers.
    pub pieces: Vec<Piece>,
}

/// The descriptors of a chain in the ring, and the buffers they stand for.
#[derive(Debug)]
pub(super) struct Flight {
    pieces: Vec<Piece>,
    pub(super) slots: Vec<u16>,
}

#[derive(Debug)]
enum Side {
    Split(SplitSide),
    Packed(PackedSide),
}

macro_rules! each {
    ($self:expr, $side:ident => $call:expr) => {
        match $self {
            Side::Split($side) => $call,
            Side::Packed($side) => $call,
        }
    };
}

/// A driver's end of a virtqueue: adds chains, publishes, polls what was used.
#[derive(Debug)]
pub struct GuestRing {
    memory: TestMemory,
    config: RingConfig,
    random: Random,
    side: Side,
    /// Chains in flight by id.
    flights: Vec<Option<Flight>>,
    /// Their ids as they were added, for `IN_ORDER`.
    order: VecDeque<u16>,
    /// Chains of a batch that was used by one element.
    batch: VecDeque<Used>,
}

impl GuestRing {
    /// Lays a ring out in `memory`. Of `config` everything but the addresses counts; it stands at
    /// the cursor.
    #[must_use]
    pub fn new(memory: &TestMemory, config: RingConfig) -> Self {
        let mut config = config;
        let side = match config.layout {
            Layout::Split => Side::Split(SplitSide::new(memory, &mut config)),
            Layout::Packed => Side::Packed(PackedSide::new(memory, &mut config)),
        };
        Self {
            memory: memory.clone(),
            config,
            random: Random::new(2),
            side,
            flights: (0..config.size).map(|_| None).collect(),
            order: VecDeque::new(),
            batch: VecDeque::new(),
        }
    }

    /// Configuration of this ring, as the device needs it.
    #[must_use]
    pub fn config(&self) -> RingConfig {
        self.config
    }

    /// The memory that it lies in.
    #[must_use]
    pub fn memory(&self) -> &TestMemory {
        &self.memory
    }

    /// Goes on in `memory`, a copy of the one that it lay in.
    pub fn move_to(&mut self, memory: &TestMemory) {
        self.memory = memory.clone();
    }

    /// The device's end, its writes not tracked.
    #[must_use]
    pub fn device(&self) -> AnyRing {
        AnyRing::new(&self.memory.ram(), &self.config).expect("the ring was laid out for it")
    }

    /// Free descriptors in the ring.
    #[must_use]
    pub fn free(&self) -> usize {
        each!(&self.side, side => side.free())
    }

    /// Chains that were added and not polled yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.order.len()
    }

    /// Adds a chain of `pieces`, one descriptor each; the device sees it after
    /// [`GuestRing::publish`].
    pub fn add(&mut self, pieces: &[Piece]) -> u16 {
        self.add_as(Shape::Direct, pieces)
    }

    /// Adds a chain in the given shape.
    pub fn add_as(&mut self, shape: Shape, pieces: &[Piece]) -> u16 {
        self.add_with(shape, pieces, |_, _| {})
    }

    /// Adds a chain whose descriptors `spoil` may change before they are written.
    pub fn add_with(
        &mut self,
        shape: Shape,
        pieces: &[Piece],
        mut spoil: impl FnMut(At, &mut RawDesc),
    ) -> u16 {
        let direct = match shape {
            Shape::Direct => pieces.len(),
            Shape::Indirect => 0,
            Shape::Mixed(direct) => direct,
        };
        let mut descs: Vec<RawDesc> = pieces[..direct].iter().map(RawDesc::of).collect();
        if shape != Shape::Direct {
            descs.push(self.table(&pieces[direct..], &mut spoil));
        }
        let last = descs.len() - 1;
        for desc in &mut descs[..last] {
            desc.flags |= RawDesc::NEXT;
        }
        let spoil = &mut |place, desc: &mut RawDesc| spoil(At::Ring(place), desc);
        let memory = &self.memory;
        let random = &mut self.random;
        let (id, slots) = match &mut self.side {
            Side::Split(side) => side.put(memory, descs, random, spoil),
            Side::Packed(side) => side.put(memory, descs, random, spoil),
        };
        let pieces = pieces.to_vec();
        self.flights[usize::from(id)] = Some(Flight { pieces, slots });
        self.order.push_back(id);
        id
    }

    /// Writes an indirect table and returns the descriptor that refers to it.
    fn table(&mut self, pieces: &[Piece], spoil: &mut impl FnMut(At, &mut RawDesc)) -> RawDesc {
        let len = 16 * pieces.len();
        // Any alignment will do (VQ-SPL-08).
        let addr = self.memory.alloc(len, 1);
        let split = matches!(self.side, Side::Split(_));
        for (place, piece) in pieces.iter().enumerate() {
            let mut desc = RawDesc::of(piece);
            if split && place + 1 < pieces.len() {
                desc.flags |= RawDesc::NEXT;
                desc.next = place as u16 + 1;
            }
            spoil(At::Table(place), &mut desc);
            let at = addr + 16 * place as u64;
            match &self.side {
                Side::Split(_) => SplitSide::write(&self.memory, at, &desc),
                Side::Packed(_) => PackedSide::write(&self.memory, at, &desc),
            }
        }
        RawDesc {
            addr,
            len: len as u32,
            flags: RawDesc::INDIRECT,
            next: 0,
        }
    }

    /// Shows the device all chains added so far; returns whether it asks for a kick.
    pub fn publish(&mut self) -> bool {
        each!(&mut self.side, side => side.publish(&self.memory))
    }

    /// Returns whether there is a used chain to take.
    #[must_use]
    pub fn has_used(&self) -> bool {
        let peeked = each!(&self.side, side => side.peek(&self.memory));
        !self.batch.is_empty() || peeked.is_some()
    }

    /// Units that were used and not taken: chains of a split ring, slots of a packed one, as
    /// [`Interrupts::After`] counts them.
    #[must_use]
    pub fn unseen(&self) -> u16 {
        let Side::Packed(_) = self.side else {
            return self.unseen_chains().len() as u16;
        };
        let chains = self.unseen_chains().into_iter();
        chains.map(|(id, _)| self.slots_of(id) as u16).sum()
    }

    /// Chains that were used and not taken, and how much was written to each, but to those for
    /// which the element of a later one stands.
    #[must_use]
    pub fn unseen_chains(&self) -> Vec<(u16, Option<u32>)> {
        let (mut chains, mut slots) = (Vec::new(), 0);
        while let Some((id, len)) = each!(&self.side, side => {
            side.peek_ahead(&self.memory, chains.len(), slots)
        }) {
            let Some(place) = self.order.iter().position(|waiting| *waiting == id) else {
                break;
            };
            // With `IN_ORDER` one stands for all before it, too.
            let first = if self.config.in_order {
                chains.len()
            } else {
                place
            };
            if place < first || chains.len() == self.order.len() {
                break;
            }
            for skipped in self.order.range(first..=place) {
                slots += self.slots_of(*skipped);
                chains.push((*skipped, (*skipped == id).then_some(len)));
            }
        }
        chains
    }

    fn slots_of(&self, id: u16) -> usize {
        let flight = self.flights.get(usize::from(id)).and_then(Option::as_ref);
        flight.map_or(0, |flight| flight.slots.len())
    }

    /// Takes the next used chain, and with `IN_ORDER` the rest of its batch one by one.
    ///
    /// # Panics
    /// The device used a chain that it does not have, or, with `IN_ORDER`, out of order.
    pub fn poll(&mut self) -> Option<Used> {
        if let Some(used) = self.batch.pop_front() {
            return Some(used);
        }
        let (id, len) = each!(&self.side, side => side.peek(&self.memory))?;
        let count = if self.config.in_order {
            let place = self.order.iter().position(|waiting| *waiting == id);
            place.map_or(0, |place| place + 1)
        } else {
            1
        };
        assert!(
            count > 0,
            "the device used chain {id}, which it does not have"
        );
        let mut slots = 0;
        for skipped in (0..count).rev() {
            let id = if skipped == 0 { id } else { self.order[0] };
            let used = self.land(id, (skipped == 0).then_some(len));
            slots += used.1;
            self.batch.push_back(used.0);
        }
        each!(&mut self.side, side => side.advance(count, slots));
        self.batch.pop_front()
    }

    /// Takes chain `id` back. One that a batch skipped counts as filled (VQ-SPL-20).
    fn land(&mut self, id: u16, len: Option<u32>) -> (Used, usize) {
        let flight = self.flights.get_mut(usize::from(id)).and_then(Option::take);
        let Some(Flight { pieces, slots }) = flight else {
            panic!("the device used chain {id}, which it does not have");
        };
        let place = self.order.iter().position(|waiting| *waiting == id);
        place.map(|place| self.order.remove(place));
        let full = || {
            let writable = pieces.iter().filter(|piece| piece.writable);
            writable.fold(0_u32, |sum, piece| sum.saturating_add(piece.len))
        };
        let len = len.unwrap_or_else(full);
        let count = slots.len();
        each!(&mut self.side, side => side.release(id, slots));
        (Used { id, len, pieces }, count)
    }

    /// Takes all used chains.
    pub fn poll_all(&mut self) -> Vec<Used> {
        std::iter::from_fn(|| self.poll()).collect()
    }

    /// Bytes that the device wrote into `used`, as far as it says that it did.
    #[must_use]
    pub fn bytes(&self, used: &Used) -> Vec<u8> {
        let writable: Vec<Piece> = used.pieces.iter().filter(|p| p.writable).copied().collect();
        let room: u64 = writable.iter().map(|piece| u64::from(piece.len)).sum();
        assert!(
            u64::from(used.len) <= room,
            "the device says it wrote more than there is room for"
        );
        self.memory.gather(&writable, used.len as usize)
    }

    /// Says when the driver wants an interrupt.
    pub fn ask(&mut self, when: Interrupts) {
        each!(&self.side, side => side.ask(&self.memory, when));
    }
}
