//! Posting: room to receive into, frames in all shapes, and what breaks a ring.

use net_device::Layout;
use net_queue::header::HDR_LEN;
use net_queue::testing::packets::Sums;
use net_queue::testing::{GuestRing, Piece, Random, RawDesc, Shape, SplitFields};

use super::{BUFFER, Content, DriverQueue, Flight};
use crate::frames;

impl DriverQueue {
    /// Shows the device what was added, and kicks if it asks for that.
    fn publish(&mut self) {
        self.kicked |= self.ring.publish();
    }

    /// Posts up to `count` chains, as far as there is room.
    pub(crate) fn post(&mut self, random: &mut Random, count: u64) -> u64 {
        if self.kinds.packets {
            let flow = random.below(2 * frames::KINDS as u64) as usize;
            // Frames of one flow in a row may leave together.
            self.flow = if flow < frames::KINDS {
                flow
            } else {
                frames::PLAIN
            };
        }
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
        let broken = !self.listener.is_broken && break_ring(&mut self.ring, buffer, random);
        self.kicked |= broken;
        self.listener.is_broken |= broken;
        broken
    }

    fn post_one(&mut self, random: &mut Random) -> bool {
        if self.listener.is_broken || self.ring.free() == 0 {
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
        let number = self.outgoing.post(self.flow);
        let spread = if random.below(8) == 0 {
            frames::LONGEST - frames::SHORTEST
        } else {
            64
        };
        let len = frames::SHORTEST + random.below(spread as u64 + 1) as usize;
        let sums = if self.kinds.partial && random.below(2) == 0 {
            Sums::Partial
        } else {
            Sums::Complete
        };
        let bytes = frames::build(number, len, sums);
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
