//! The split virtqueue. VirtIO 1.4 §2.7.

use net_queue::QueueFault;
use net_queue::ring::{Cursor, Ring, RingAddrs, RingConfig, SplitRing};
use net_queue::testing::{RawDesc, SplitFields, TestMemory};

use super::*;

/// A ring in memory, whose chains are of one descriptor each.
struct World {
    memory: TestMemory,
    config: RingConfig,
    fields: SplitFields,
}

impl World {
    fn new(size: u16, event_idx: bool) -> Self {
        let memory = TestMemory::new();
        let slots = usize::from(size);
        let config = RingConfig {
            size,
            event_idx,
            addrs: RingAddrs {
                desc: memory.alloc_ring(16 * slots, 16),
                driver: memory.alloc_ring(6 + 2 * slots, 2),
                device: memory.alloc_ring(6 + 8 * slots, 4),
            },
            ..RingConfig::default()
        };
        let fields = SplitFields::of(&config);
        for n in 0..size {
            store_desc(&memory, fields.desc(n), n, [0, 0]);
            // Heads are in an order of their own.
            memory.store(fields.avail_element(n), (n + 1) % size);
        }
        Self {
            memory,
            config,
            fields,
        }
    }

    fn head(&self, index: u16) -> u16 {
        (index % self.config.size + 1) % self.config.size
    }

    /// A ring in `state`, unless it cannot be in it. Nothing of the used ring is written yet.
    fn ring(&self, state: State, tell_used: bool) -> Option<SplitRing> {
        self.memory.store(self.fields.avail_idx(), state.idx);
        self.memory.store(self.fields.used_idx(), state.used);
        for n in 0..self.config.size {
            self.memory.store(self.fields.used_element(n), UNWRITTEN);
        }
        let config = RingConfig {
            cursor: Cursor {
                avail: state.avail,
                used: tell_used.then_some(state.used),
                ..Cursor::default()
            },
            ..self.config
        };
        SplitRing::new(&self.memory.ram(), &config).ok()
    }
}

/// Free-running indices, as both sides have written them.
#[derive(Clone, Copy, Debug)]
struct State {
    /// Next entry that the device takes.
    avail: u16,
    /// Next entry that it gives back.
    used: u16,
    /// Next entry that the driver makes available.
    idx: u16,
}

impl State {
    /// Every distance between the indices up to beyond the ring, at places where they wrap, and
    /// where slots do.
    fn all(size: u16) -> impl Iterator<Item = Self> {
        let places = [0, 1, 0x7ffd, 0x7ffe, 0x7fff, 0x8000, 0xfffd, 0xfffe, 0xffff];
        let distances = move |used: u16| {
            let idx =
                move |from| (0..size + 5).map(move |n| used.wrapping_add(n).wrapping_sub(from));
            (0..=size + 2).flat_map(move |ahead| {
                idx(2).map(move |idx| Self {
                    avail: used.wrapping_add(ahead),
                    used,
                    idx,
                })
            })
        };
        places.into_iter().flat_map(distances)
    }

    /// Chains that were taken and not given back.
    fn held(self) -> u16 {
        self.avail.wrapping_sub(self.used)
    }

    /// Chains to be taken: §2.7.6 lets a driver move its index on alone, and §2.7.13.3.1 only to
    /// descriptors that it was told are used.
    fn available(self, size: u16) -> Result<u16, QueueFault> {
        let outstanding = self.idx.wrapping_sub(self.used);
        match outstanding.checked_sub(self.held()) {
            Some(available) if outstanding <= size => Ok(available),
            _ => Err(QueueFault::AvailIndex),
        }
    }
}

/// Runs `check` in each state that can be, with the number of chains that are there to be taken.
fn each_state(event_idx: bool, check: impl Fn(&World, State, u16)) {
    for size in SIZES {
        let world = World::new(size, event_idx);
        for state in State::all(size).filter(|state| state.held() <= size) {
            if let Ok(available) = state.available(size) {
                check(&world, state, available);
            }
        }
    }
}

#[test]
fn chains_are_taken_as_the_indices_say() {
    for size in SIZES {
        let world = World::new(size, false);
        for state in State::all(size) {
            for tell_used in [false, true] {
                let ring = world.ring(state, tell_used);
                assert_eq!(ring.is_some(), state.held() <= size, "{state:?}");
                let Some(mut ring) = ring else { continue };
                let available = state.available(size);
                assert_eq!(
                    ring.has_next(),
                    available.is_ok_and(|it| it > 0),
                    "{state:?}"
                );
                let (taken, fault) = pop_all(&mut ring);
                assert_eq!(fault, available.err(), "{state:?}");
                let heads =
                    (0..available.unwrap_or(0)).map(|n| world.head(state.avail.wrapping_add(n)));
                let expected: Vec<_> = heads.map(|head| 1 << head).collect();
                assert_eq!(members(&taken), expected, "{state:?}");
            }
        }
    }
}

/// Flags or event indices by which a driver says when it wants to be told, as of index `old`.
fn wishes(size: u16, event_idx: bool, old: u16) -> Vec<u16> {
    if !event_idx {
        return vec![0, 1, 2, 0xfffe, 0xffff];
    }
    let near = (0..2 * size + 5).map(|n| old.wrapping_add(n).wrapping_sub(size + 2));
    near.chain([old.wrapping_add(0x8000)]).collect()
}

/// Returns whether a driver is to be told that `count` indices from `old` on are used, by its flags
/// or its event index: §2.7.7.2 (VQ-NTF-01, VQ-NTF-02).
fn asks(event_idx: bool, wish: u16, old: u16, count: u16) -> bool {
    if event_idx {
        (0..count).any(|n| old.wrapping_add(n) == wish)
    } else {
        count > 0 && wish & 1 == 0
    }
}

#[test]
fn chains_are_given_back_and_told_of_as_the_driver_wishes() {
    for event_idx in [false, true] {
        each_state(event_idx, |world, state, available| {
            // What another ring holds is for that to give back.
            if state.held() > 0 {
                return;
            }
            for (count, reversed) in cuts(available.into()) {
                for wish in wishes(world.config.size, event_idx, state.used) {
                    batch(world, state, (count, reversed), wish);
                }
            }
        });
    }
}

/// Takes what is there, gives `count` chains back, and looks at all that the driver sees of it.
fn batch(world: &World, state: State, (count, reversed): (usize, bool), wish: u16) {
    let World {
        memory,
        config,
        fields,
    } = world;
    let what = (config.size, state, count, reversed, wish);
    let mut ring = world.ring(state, true).expect("a state that can be");
    memory.store(
        fields.avail_flags(),
        if config.event_idx { 1 } else { wish },
    );
    memory.store(fields.used_event(), wish);
    let (taken, _) = pop_all(&mut ring);
    let heads: Vec<_> = taken
        .iter()
        .map(|taken| taken.members.trailing_zeros())
        .collect();
    give_back(&mut ring, taken, count, reversed);
    assert_eq!(
        memory.load::<u16>(fields.used_idx()),
        state.used,
        "{what:?}"
    );
    let told = ring.publish();
    let expected = asks(config.event_idx, wish, state.used, count as u16);
    assert_eq!(told, expected, "{what:?}");
    let end = state.used.wrapping_add(count as u16);
    assert_eq!(memory.load::<u16>(fields.used_idx()), end, "{what:?}");
    for n in 0..usize::from(config.size) {
        let at = fields.used_element(state.used.wrapping_add(n as u16));
        let element = (n < count).then(|| {
            let head = if reversed {
                heads[count - 1 - n]
            } else {
                heads[n]
            };
            (head, written(n))
        });
        let (id, len) = (memory.load::<u32>(at), memory.load::<u32>(at + 4));
        match element {
            Some(element) => assert_eq!((id, len), element, "{what:?}"),
            None => assert_eq!(id, UNWRITTEN, "{what:?}"),
        }
    }
    // Nothing was added since.
    assert!(!ring.publish(), "{what:?}");
    let next = Cursor {
        avail: end,
        used: Some(end),
        ..Cursor::default()
    };
    assert_eq!(ring.cursor(), next, "{what:?}");
    let (rest, fault) = pop_all(&mut ring);
    assert_eq!(fault, None, "{what:?}");
    let rest: Vec<_> = rest
        .iter()
        .map(|taken| taken.members.trailing_zeros())
        .collect();
    assert_eq!(rest, heads[count..], "{what:?}");
}

/// Returns whether the driver notifies after it made `count` chains available from index `old` on:
/// §2.7.10.1 (VQ-NTF-03).
fn notifies(world: &World, old: u16, count: u16) -> bool {
    let World {
        memory,
        config,
        fields,
    } = world;
    if config.event_idx {
        let event = memory.load::<u16>(fields.avail_event());
        (0..count).any(|n| old.wrapping_add(n) == event)
    } else {
        memory.load::<u16>(fields.used_flags()) & 1 == 0
    }
}

#[test]
fn the_next_chain_is_notified_of_as_the_device_wishes() {
    for event_idx in [false, true] {
        each_state(event_idx, |world, state, available| {
            let room = world.config.size - state.held() - available;
            for taken in 0..=available {
                let what = (world.config.size, state, taken);
                let mut ring = world.ring(state, true).expect("a state that can be");
                for _ in 0..taken {
                    pop(&mut ring).expect("there is one");
                }
                ring.disable_notification();
                for count in 1..=room {
                    assert!(!notifies(world, state.idx, count), "{what:?}");
                }
                // Either the device is told that there is one already, or of the next one.
                let more = ring.enable_notification();
                assert_eq!(more, taken < available, "{what:?}");
                for count in 1..=room {
                    assert!(more || notifies(world, state.idx, count), "{what:?}");
                }
            }
        });
    }
}

/// Walks a chain of links from `head`: descriptors in it, or the fault. §2.7.5.3.1 forbids circles,
/// and chains that are longer than the table.
fn walk(links: &[Option<u16>], head: u16) -> Result<usize, QueueFault> {
    let mut found = 0_usize;
    let mut at = Some(head);
    while let Some(index) = at {
        // Longer than the table, wherever it goes.
        if found.count_ones() as usize == links.len() {
            return Err(QueueFault::DescriptorLoop);
        }
        let link = links.get(usize::from(index));
        let link = link.ok_or(QueueFault::DescriptorIndex)?;
        if found >> index & 1 == 1 {
            return Err(QueueFault::DescriptorLoop);
        }
        found |= 1 << index;
        at = *link;
    }
    Ok(found)
}

#[test]
fn chains_are_what_their_links_say() {
    for size in SIZES {
        let world = World::new(size, false);
        // Each descriptor is the last one, or links to any, or to one beyond the table.
        let choices = usize::from(size) + 2;
        for number in 0..choices.pow(size.into()) {
            let links: Vec<_> = (0..size)
                .map(|n| number / choices.pow(n.into()) % choices)
                .map(|choice| choice.checked_sub(1).map(|next| next as u16))
                .collect();
            for (n, link) in (0..).zip(&links) {
                let flags = link.map_or(0, |_| RawDesc::NEXT);
                let at = world.fields.desc(n);
                store_desc(&world.memory, at, n, [flags, link.unwrap_or(0)]);
            }
            for head in 0..=size {
                world.memory.store(world.fields.avail_element(0), head);
                let state = State {
                    avail: 0,
                    used: 0,
                    idx: 1,
                };
                let mut ring = world.ring(state, true).expect("a state that can be");
                let (taken, fault) = pop_all(&mut ring);
                let found = walk(&links, head);
                assert_eq!(fault, found.err(), "{head} {links:?}");
                assert_eq!(members(&taken), Vec::from_iter(found), "{head} {links:?}");
            }
        }
    }
}
