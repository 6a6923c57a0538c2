//! Sums of what a driver makes available: descriptors and chains between two publishes.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use net_queue::header::TxRules;
use net_queue::ring::{AnyRing, Chain, Layout, Ring, RingConfig, UsedElements};
use net_queue::testing::{
    DirtyRanges, GuestRing, PackedFields, Piece, ScriptedBackend, SplitFields, TakenChain,
    TestMemory, Wire,
};
use net_queue::{
    Budget, Caps, Engine, FrameBackend, Gather, LinkConfig, QueueFault, RecvError, Scatter,
    SendError, Stop, TxConfig, TxEngine, Unlimited,
};

use crate::pieces::{take, try_take};
use crate::rig::{TxRig, packet, restores, ring};

/// A bit of the AVAIL and USED flags of a packed descriptor, as the lap asks.
const fn available(wrap: bool) -> u16 {
    if wrap { 0x80 } else { 0x8000 }
}

/// Every way to negotiate a ring of `size` in `layout`, and to write its used elements.
fn every_kind(layout: Layout, size: u16) -> impl Iterator<Item = RingConfig> {
    (0..8).map(move |bits| RingConfig {
        event_idx: bits & 1 != 0,
        in_order: bits & 2 != 0,
        used_elements: if bits & 4 != 0 {
            UsedElements::PerBatch
        } else {
            UsedElements::PerChain
        },
        ..ring(layout, size)
    })
}

/// Makes the `len` slots from `slot` on one list of a packed ring, available in the lap of `wrap`
/// or, beyond the ring's end, the one after it. Its first buffer is `first`, the others are empty.
fn write_list(memory: &TestMemory, config: &RingConfig, slot: u16, wrap: bool, len: u16) {
    let fields = PackedFields::of(config);
    for place in 0..len {
        let at = (slot + place) % config.size;
        let wrap = wrap ^ (slot + place >= config.size);
        let more = u16::from(place + 1 < len);
        memory.store(fields.desc(at), memory.regions()[2].0);
        memory.store::<u32>(fields.desc(at) + 8, if place == 0 { 72 } else { 0 });
        memory.store(fields.desc_flags(at), more | available(wrap));
    }
}

/// Many heads that all name one chain as long as the ring: their descriptors add up to far more
/// than 16 bits.
#[test]
fn in_order_overflow_of_many_heads_of_one_longest_chain() {
    for (size, heads) in [(512, 128), (1024, 64), (1 << 15, 4)] {
        for config in every_kind(Layout::Split, size) {
            let mut rig = TxRig::new(config);
            let fields = SplitFields::of(&rig.guest.config());
            let memory = rig.guest.memory().clone();
            let frame = memory.filled(&packet(60, 1));
            for at in 0..size {
                memory.store(fields.desc(at), frame.addr);
                let len = if at == 0 { frame.len } else { 0 };
                memory.store::<u32>(fields.desc(at) + 8, len);
                memory.store(fields.desc(at) + 12, u16::from(at + 1 < size));
                memory.store(fields.desc(at) + 14, (at + 1) % size);
                memory.store::<u16>(fields.avail_element(at), 0);
            }
            memory.store::<u16>(fields.avail_idx(), heads);
            assert_eq!(rig.drain().len(), usize::from(heads));
            assert_eq!(memory.load::<u16>(fields.used_idx()), heads);
        }
    }
}

/// A second CPU makes slots available again that the driver was not told of: before the device gave
/// them back, and after it did but before it published.
#[test]
fn in_order_overflow_of_slots_made_available_before_the_publish() {
    for size in [1, 7, 256, 512, 1 << 15] {
        for config in every_kind(Layout::Packed, size) {
            let memory = TestMemory::new();
            let guest = GuestRing::new(&memory, config);
            let config = guest.config();
            for (last, given_back) in [(0, false), (0, true), (2, false), (2, true)] {
                memory.write(config.addrs.desc, &vec![0; 16 * usize::from(size)]);
                let mut device = guest.device();
                let post = |lap: u16| write_list(&memory, &config, 0, lap.is_multiple_of(2), size);
                for lap in 0..last {
                    post(lap);
                    let (chain, _) = take(&mut device).expect("a list of all slots");
                    device.push_used(chain, 0);
                    device.publish();
                    restores(&memory, config, device.cursor());
                }
                post(last);
                let (chain, _) = take(&mut device).expect("a list of all slots");
                post(last + 1);
                if given_back {
                    device.push_used(chain, 0);
                }
                let refused = Some(QueueFault::AvailIndex);
                assert_eq!(
                    try_take(&mut device).err(),
                    refused,
                    "given back: {given_back}"
                );
                restores(&memory, config, device.cursor());
            }
        }
    }
}

/// The same of a split ring: heads beyond those that were published.
#[test]
fn in_order_overflow_of_heads_made_available_before_the_publish() {
    for size in [1, 16, 256, 1 << 15] {
        for config in every_kind(Layout::Split, size) {
            let memory = TestMemory::new();
            let guest = GuestRing::new(&memory, config);
            let config = guest.config();
            let fields = SplitFields::of(&config);
            // All heads are 0, and descriptor 0 is a chain of its own.
            for (last, given_back) in [(1_u16, false), (1, true), (5, false), (5, true)] {
                let mut device = guest.device();
                for lap in 1..=last {
                    let posted = lap.wrapping_mul(size);
                    memory.store(fields.avail_idx(), posted);
                    let held: Vec<_> = std::iter::from_fn(|| take(&mut device)).collect();
                    assert_eq!(held.len(), usize::from(size));
                    if lap == last && !given_back {
                        break;
                    }
                    for (chain, _) in held {
                        device.push_used(chain, 0);
                    }
                    if lap < last {
                        device.publish();
                        restores(&memory, config, device.cursor());
                        assert_eq!(memory.load::<u16>(fields.used_idx()), posted);
                    }
                }
                let more = last.wrapping_mul(size).wrapping_add(1);
                memory.store(fields.avail_idx(), more);
                let refused = Some(QueueFault::AvailIndex);
                assert_eq!(
                    try_take(&mut device).err(),
                    refused,
                    "given back: {given_back}"
                );
                restores(&memory, config, device.cursor());
            }
        }
    }
}

/// End of the chains that a list could run into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Held,
    GivenBack,
    Published,
}

/// VQ-PKD-12: a list goes as far as slots are free. Whether the device holds the ones behind them
/// or has only not published that it does not, it may not be led into them.
#[test]
fn a_list_ends_before_slots_that_are_not_free() {
    for config in every_kind(Layout::Packed, 8) {
        for before in [Before::Held, Before::GivenBack, Before::Published] {
            for len in 1..=8 {
                let memory = TestMemory::new();
                let guest = GuestRing::new(&memory, config);
                let (config, mut device) = (guest.config(), guest.device());
                write_list(&memory, &config, 0, true, 3);
                write_list(&memory, &config, 3, true, 3);
                let mut held: Vec<Chain> = Vec::new();
                while let Some((chain, _)) = take(&mut device) {
                    held.push(chain);
                }
                assert_eq!(held.len(), 2);
                if before != Before::Held {
                    held.drain(..).for_each(|chain| device.push_used(chain, 0));
                }
                if before == Before::Published {
                    device.publish();
                }
                write_list(&memory, &config, 6, true, len);
                let found = try_take(&mut device).map(|taken| taken.is_some());
                let free = if before == Before::Published { 8 } else { 2 };
                let expected = if len <= free {
                    Ok(true)
                } else {
                    Err(QueueFault::DescriptorLoop)
                };
                assert_eq!(found, expected, "{before:?}, {len} slots, {config:?}");
                restores(&memory, config, device.cursor());
            }
        }
    }
}

/// VQ-SPL-11: an index that goes back over chains in flight. Those that the device knew of already
/// are sound; with the next look the queue is broken.
#[test]
fn avail_index_goes_back_over_chains_in_flight() {
    for config in every_kind(Layout::Split, 16) {
        for (taken, given_back, index) in [(4, 0, 2), (4, 0, 3), (4, 2, 1), (2, 0, 1), (2, 0, 3)] {
            let memory = TestMemory::new();
            let mut guest = GuestRing::new(&memory, config);
            let (config, mut device) = (guest.config(), guest.device());
            let piece = memory.room(10);
            (0..4).for_each(|_| {
                guest.add(&[piece]);
            });
            guest.publish();
            let mut held: Vec<_> = (0..taken)
                .filter_map(|_| take(&mut device).map(|(chain, _)| chain))
                .collect();
            held.drain(..given_back)
                .for_each(|chain| device.push_used(chain, 0));
            memory.store::<u16>(SplitFields::of(&config).avail_idx(), index);
            let last = std::iter::from_fn(|| match try_take(&mut device) {
                Ok(Some(TakenChain { chain, .. })) => {
                    held.push(chain);
                    Some(Ok(()))
                }
                Ok(None) => None,
                Err(fault) => Some(Err(fault)),
            });
            let seen: Vec<_> = last.take(8).take_while(Result::is_ok).collect();
            assert_eq!(seen.len(), 4 - taken, "{taken} taken, then {index}");
            assert_eq!(held.len(), 4 - given_back);
            let refused = Some(QueueFault::AvailIndex);
            assert_eq!(try_take(&mut device).err(), refused, "and it stays");
            // The same for a device that goes on there, which has no index from before.
            let cursor = device.cursor();
            let again = RingConfig { cursor, ..config };
            let mut next = AnyRing::new(&memory.ram(), &again).expect("a cursor of its own");
            assert_eq!(try_take(&mut next).err(), refused);
            held.drain(..).for_each(|chain| device.push_used(chain, 0));
            device.publish();
            restores(&memory, config, device.cursor());
        }
    }
}

/// A backend during whose calls another CPU of the guest makes more available than it was given
/// back.
struct Meddling {
    inner: ScriptedBackend,
    memory: TestMemory,
    config: RingConfig,
    lap: u16,
}

impl Meddling {
    fn next_lap(&mut self) {
        let Self { memory, config, .. } = self;
        match config.layout {
            Layout::Split => {
                let fields = SplitFields::of(config);
                let used = memory.load::<u16>(fields.used_idx());
                let more = u16::from(self.lap > 0);
                memory.store(fields.avail_idx(), used + config.size + more);
            }
            Layout::Packed => {
                write_list(memory, config, 0, self.lap.is_multiple_of(2), config.size);
            }
        }
        self.lap += 1;
    }
}

impl FrameBackend for Meddling {
    fn caps(&self) -> Caps {
        self.inner.caps()
    }

    fn configure(&mut self, link: &LinkConfig) -> io::Result<()> {
        self.inner.configure(link)
    }

    fn send(&mut self, frame: &Gather<'_>) -> Result<(), SendError> {
        self.next_lap();
        self.inner.send(frame)
    }

    fn recv(&mut self, room: &mut Scatter<'_>) -> Result<usize, RecvError> {
        self.inner.recv(room)
    }

    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.inner.poll_fd()
    }
}

/// The engine under such a driver: the queue is broken, every mark lies in the ring, and a snapshot
/// restores.
#[test]
fn in_order_overflow_under_a_running_engine() {
    let kinds = |layout| [16, 256, 512].map(|size| every_kind(layout, size));
    let kinds = [Layout::Split, Layout::Packed].map(kinds);
    for config in kinds.into_iter().flatten().flatten() {
        let (memory, marks) = (TestMemory::new(), Arc::new(DirtyRanges::default()));
        let config = GuestRing::new(&memory, config).config();
        if config.layout == Layout::Split {
            let fields = SplitFields::of(&config);
            memory.store(fields.desc(0), memory.regions()[2].0);
            memory.store::<u32>(fields.desc(0) + 8, 72);
        }
        let ram = memory.ram().with_dirty_log(Some(marks.clone()));
        let device = AnyRing::new(&ram, &config).expect("the ring was laid out for it");
        let rules = TxRules::default();
        let mut engine = TxEngine::new(device, TxConfig::new(rules), Arc::default());
        let mut backend = Meddling {
            inner: Wire::new().0,
            memory: memory.clone(),
            config,
            lap: 0,
        };
        backend.next_lap();
        let budget = Budget {
            frames: 128,
            bytes: 1 << 20,
        };
        let mut stop = Stop::Driver;
        for _ in 0..16 {
            stop = engine.run(&mut backend, &mut Unlimited, 0, budget).stop;
        }
        let broken = matches!(stop, Stop::Fault(QueueFault::AvailIndex));
        assert!(broken, "{stop:?}, {config:?}");
        restores(&memory, config, engine.cursor());
        let end = |addr, len| (addr, addr + len);
        let areas = match config.layout {
            Layout::Split => [end(config.addrs.device, 6 + 8 * u64::from(config.size)); 2],
            Layout::Packed => [
                end(config.addrs.desc, 16 * u64::from(config.size)),
                end(config.addrs.device, 4),
            ],
        };
        for (addr, len) in marks.take() {
            let inside = |(start, end)| addr >= start && addr + len <= end;
            assert!(areas.into_iter().any(inside), "{len} at {addr:#x}");
        }
    }
}

/// Every buffer of the longest chains is all of a region: the sum is far beyond 32 bits.
#[test]
fn lengths_of_the_longest_chains_add_up() {
    for layout in [Layout::Split, Layout::Packed] {
        for config in every_kind(layout, 1 << 15) {
            let memory = TestMemory::new();
            let mut guest = GuestRing::new(&memory, config);
            let mut device = guest.device();
            let (addr, len) = memory.regions()[2];
            guest.add(&vec![Piece::writable(addr, len as u32); 1 << 15]);
            guest.publish();
            let (chain, pieces) = take(&mut device).expect("a chain");
            assert_eq!(pieces.len(), 1 << 15);
            device.push_used(chain, u32::MAX);
            device.publish();
            assert_eq!(guest.poll().map(|used| used.len), Some(u32::MAX));
            restores(&memory, guest.config(), device.cursor());
        }
    }
}
