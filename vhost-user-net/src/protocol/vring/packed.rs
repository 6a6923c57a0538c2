//! Position of a packed ring that a front-end calls fresh, though a device may have used it.
//!
//! The position of a packed ring is in no memory that the driver shares. A front-end whose back-end
//! crashed can only tell where the ring began, and from there a device would find nothing, or take
//! chains that were returned already. The lap bits of the descriptors tell more. Each side goes
//! round the ring and writes its lap's bits; with `w` as the wrap counter of the device's lap, and
//! `p` as its position, the slots are
//!
//! ```text
//!   [available in lap !w]*  [used in lap w]*  p  [available in lap w]*  [used in lap !w]*
//! ```
//!
//! where the first and the last part exclude each other, as long as each chain has one descriptor.
//! Of a longer chain only the first descriptor is overwritten; the others still look available. So
//! a position is taken only where no such rest can lie behind it: the last descriptor of a chain
//! has the chain's id, as the used descriptor does, and ids of chains that the device holds differ.

/// `VIRTQ_DESC_F_NEXT`.
const NEXT: u16 = 1;
/// `VIRTQ_DESC_F_AVAIL`.
const AVAIL: u16 = 1 << 7;
/// `VIRTQ_DESC_F_USED`.
const USED: u16 = 1 << 15;
/// Bytes of a descriptor.
pub(super) const DESCRIPTOR_LEN: usize = 16;

/// The fields of a descriptor that count here.
#[derive(Clone, Copy, Debug)]
struct Descriptor {
    id: u16,
    flags: u16,
}

impl Descriptor {
    fn from_bytes(bytes: &[u8; DESCRIPTOR_LEN]) -> Self {
        let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        Self {
            id: word(12),
            flags: word(14),
        }
    }

    fn avail(self) -> bool {
        self.flags & AVAIL != 0
    }

    /// The device wrote it last, or nobody did.
    fn is_used(self) -> bool {
        self.avail() == (self.flags & USED != 0)
    }

    fn is_used_in(self, wrap: bool) -> bool {
        self.is_used() && self.avail() == wrap
    }

    fn is_available_in(self, wrap: bool) -> bool {
        !self.is_used() && self.avail() == wrap
    }
}

/// Position of the device in a packed ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) slot: u16,
    pub(super) wrap: bool,
}

impl Place {
    const START: Self = Self {
        slot: 0,
        wrap: true,
    };
}

/// Findings from the descriptors of a ring that is called fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may well stand at its start.
    Start,
    /// It stands elsewhere.
    At(Place),
    /// It was used, and there is more than one place where it can stand.
    Unknown,
}

/// A place where the ring can stand, and whether it can stand nowhere behind it.
struct Candidate {
    place: Place,
    is_exact: bool,
}

fn slots(ring: &[u8]) -> Vec<Descriptor> {
    let (slots, _) = ring.as_chunks::<DESCRIPTOR_LEN>();
    slots.iter().map(Descriptor::from_bytes).collect()
}

/// Returns whether the device has never used anything of a ring.
///
/// Descriptors that it used in the first lap have both bits set, until the driver makes them
/// available in the second one, which sets the bit of used ones as well. Within a lap the device
/// uses something: no chain and no batch is longer than the ring.
pub(super) fn is_unused(ring: &[u8]) -> bool {
    slots(ring).iter().all(|slot| slot.flags & USED == 0)
}

/// Looks at the descriptors of a ring.
///
/// In a ring that is used `in_order` nothing tells a place for sure. It is left at its start unless
/// it cannot be there: in the lap before, the driver has overwritten all that was used in the lap
/// that begins.
pub(super) fn judge(ring: &[u8], in_order: bool) -> Verdict {
    let slots = slots(ring);
    let has_begun = slots.iter().any(|slot| slot.is_used_in(true));
    if in_order {
        return if has_begun {
            Verdict::Unknown
        } else {
            Verdict::Start
        };
    }
    let candidates: Vec<_> = [true, false]
        .into_iter()
        .filter_map(|wrap| candidate(&slots, wrap))
        .collect();
    if candidates.iter().any(|it| it.place == Place::START) {
        return Verdict::Start;
    }
    let mut exact = candidates.iter().filter(|it| it.is_exact);
    match (exact.next(), exact.next()) {
        (Some(one), None) => return Verdict::At(one.place),
        (Some(one), Some(other)) if one.place == other.place => return Verdict::At(one.place),
        _ => {}
    }
    // At its start the ring has nothing of the lap that begins there but what is available. It
    // begins with a chain, or with the rest of one, which is not a ring of any other place then.
    let first = slots.first().copied();
    let begins = first.is_some_and(|slot| slot.is_used_in(false) || slot.is_available_in(true));
    let rests = first.is_some() && candidates.is_empty();
    if (begins || rests) && !has_begun {
        Verdict::Start
    } else {
        Verdict::Unknown
    }
}

/// The place of a device in a lap of `wrap`, if the ring can be one where a device is.
fn candidate(slots: &[Descriptor], wrap: bool) -> Option<Candidate> {
    let count = |from: usize, is: &dyn Fn(Descriptor) -> bool| {
        let rest = slots[from..].iter();
        from + rest.take_while(|slot| is(**slot)).count()
    };
    let ahead = count(0, &|slot| slot.is_available_in(!wrap));
    let used = count(ahead, &|slot| slot.is_used_in(wrap));
    let available = count(used, &|slot| slot.is_available_in(wrap));
    let end = count(available, &|slot| slot.is_used_in(!wrap));
    if end != slots.len() || (ahead > 0 && end > available) {
        return None;
    }
    let held = slots[used..available].iter().chain(&slots[..ahead]);
    let mut ids: Vec<_> = held.map(|slot| slot.id).collect();
    let before = used.checked_sub(1).or(slots.len().checked_sub(1))?;
    let is_exact = if slots[before].is_used() {
        !ids.contains(&slots[before].id)
    } else {
        // The driver has overwritten what was used last. One that chains does not do so only there.
        let total = ids.len();
        ids.sort_unstable();
        ids.dedup();
        ids.len() == total && !slots.iter().any(|slot| slot.flags & NEXT != 0)
    };
    let place = if used == slots.len() {
        Place {
            slot: 0,
            wrap: !wrap,
        }
    } else {
        Place {
            slot: used as u16,
            wrap,
        }
    };
    Some(Candidate { place, is_exact })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ring as text: `U` used and `A` available in the lap whose wrap counter is 1, `u` and `a`
    /// in the other; `+` after a letter chains it with the next one. Ids are given by digits after
    /// them.
    fn ring(text: &str) -> Vec<u8> {
        let mut slots: Vec<Descriptor> = Vec::new();
        for letter in text.chars() {
            let bits = |flags| Descriptor { id: 0, flags };
            match letter {
                'U' => slots.push(bits(AVAIL | USED)),
                'u' => slots.push(bits(0)),
                'A' => slots.push(bits(AVAIL)),
                'a' => slots.push(bits(USED)),
                '+' => slots.last_mut().unwrap().flags |= NEXT,
                digit => slots.last_mut().unwrap().id = digit.to_digit(10).unwrap() as u16,
            }
        }
        let bytes = slots.iter().flat_map(|slot| {
            let mut bytes = [0; DESCRIPTOR_LEN];
            bytes[12..14].copy_from_slice(&slot.id.to_le_bytes());
            bytes[14..].copy_from_slice(&slot.flags.to_le_bytes());
            bytes
        });
        bytes.collect()
    }

    fn at(slot: u16, wrap: bool) -> Verdict {
        Verdict::At(Place { slot, wrap })
    }

    #[test]
    fn a_ring_at_its_start_is_left_there() {
        for text in [
            // Never touched, partly and wholly made available.
            "uuuu",
            "A0uuu",
            "A0A1A2A3",
            // After two laps, with chains of two and three.
            "u1a+1u2a2",
            "A3A1u2a2",
            "u1a+1a1u0",
            "A0u1a+1a1",
            // With a chain that went round the end into the lap that is over.
            "a1u0u2u1",
            "a1u0u2u+1",
        ] {
            assert_eq!(judge(&ring(text), false), Verdict::Start, "{text}");
        }
    }

    #[test]
    fn a_ring_is_unused_until_something_of_it_was_used() {
        for (text, is_unused) in [
            ("uuuu", true),
            ("A0A+1A1u", true),
            ("A0A1A2A3", true),
            ("U0uuu", false),
            ("U0A1A2A3", false),
            // The first lap is over; it began with the rest of a chain, or of a batch.
            ("A0U1U2U0", false),
            ("a0A1A2A0", false),
        ] {
            assert_eq!(super::is_unused(&ring(text)), is_unused, "{text}");
        }
    }

    #[test]
    fn a_ring_that_is_used_in_order_is_at_its_start_or_lost() {
        for (text, verdict) in [
            // Fresh; after batches of four, three and two.
            ("A0A1uu", Verdict::Start),
            ("u3a1a2a3", Verdict::Start),
            ("a1u0a2a0", Verdict::Start),
            ("A3A1a2a3", Verdict::Start),
            // In the middle of a lap.
            ("U0A1A2u", Verdict::Unknown),
            ("a0U1U2U3", Verdict::Unknown),
        ] {
            assert_eq!(judge(&ring(text), true), verdict, "{text}");
        }
    }

    #[test]
    fn a_ring_that_was_used_says_where_it_stands() {
        for (text, verdict) in [
            ("U0uuu", at(1, true)),
            ("U0U1U2U3", at(0, false)),
            ("U0A1A2u", at(1, true)),
            ("U0U1A2A3", at(2, true)),
            ("a0U1A2A3", at(2, true)),
            ("a0a1A2A3", at(2, true)),
            ("u0U1U2U3", at(1, false)),
            ("u0a1U2U3", at(1, false)),
            ("A0u1a2a3", at(2, false)),
            ("A0A1a2a3", at(2, false)),
            ("a0a1a2a3", at(0, false)),
            ("a0U1U2U3", at(0, false)),
        ] {
            assert_eq!(judge(&ring(text), false), verdict, "{text}");
        }
    }

    #[test]
    fn a_ring_that_can_stand_in_two_places_is_not_guessed_at() {
        for text in [
            // The rest of a chain, or a chain with the id that was used last.
            "U0A0A1u",
            "U1A+1A1u",
            // Chains in the middle.
            "U0A0U1u",
            // What was used last is overwritten, by a driver that chains.
            "a0a1A+2A2",
            "a0a1A2A2",
        ] {
            assert_eq!(judge(&ring(text), false), Verdict::Unknown, "{text}");
        }
    }

    #[test]
    fn any_bytes_are_judged() {
        assert_eq!(judge(&[], false), Verdict::Unknown);
        for seed in 0..4096u32 {
            let letters = ["u0", "U1", "a2", "A3", "A+0", "a1", "U2", "u3"];
            let text: String = (0..4)
                .map(|at| letters[(seed >> (3 * at)) as usize % 8])
                .collect();
            let _ = (judge(&ring(&text), false), judge(&ring(&text), true));
        }
    }
}
