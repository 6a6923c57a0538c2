//! On well-formed split rings, the same as an independent implementation: rust-vmm's
//! `virtio_queue::Queue`.

use std::sync::Arc;

use net_queue::ring::{AnyRing, Chain, Cursor, Layout, Ring, RingConfig};
use net_queue::testing::{GuestRing, Interrupts, Piece, Random, Shape, TestMemory};
use proptest::prelude::*;
use virtio_queue::{Queue, QueueT};
use vm_memory::bitmap::AtomicBitmap;
use vm_memory::{Address, GuestMemoryMmap};

use crate::pieces::take;
use crate::rig::ring;

/// The other implementation on the same ring.
struct Other {
    queue: Queue,
    memory: Arc<GuestMemoryMmap<AtomicBitmap>>,
}

impl Other {
    fn new(guest: &GuestRing) -> Self {
        let config = guest.config();
        let mut queue = Queue::new(config.size).expect("a size that it takes");
        queue.set_size(config.size);
        let half = |addr: u64| (Some(addr as u32), Some((addr >> 32) as u32));
        let addrs = config.addrs;
        let (low, high) = half(addrs.desc);
        queue.set_desc_table_address(low, high);
        let (low, high) = half(addrs.driver);
        queue.set_avail_ring_address(low, high);
        let (low, high) = half(addrs.device);
        queue.set_used_ring_address(low, high);
        queue.set_event_idx(config.event_idx);
        queue.set_next_avail(config.cursor.avail);
        queue.set_next_used(config.cursor.avail);
        queue.set_ready(true);
        let memory = guest.memory().mmap().clone();
        assert!(queue.is_valid(&*memory));
        Self { queue, memory }
    }

    fn take(&mut self) -> Option<(u16, Vec<Piece>)> {
        let chain = self.queue.pop_descriptor_chain(self.memory.clone())?;
        let head = chain.head_index();
        let piece = |desc: virtio_queue::desc::split::Descriptor| Piece {
            addr: desc.addr().raw_value(),
            len: desc.len(),
            writable: desc.is_write_only(),
        };
        Some((head, chain.map(piece).collect()))
    }

    fn push(&mut self, head: u16, len: u32) {
        self.queue
            .add_used(&*self.memory, head, len)
            .expect("a good head");
    }
}

/// The device's part of the ring, byte for byte.
fn used_ring(guest: &GuestRing) -> Vec<u8> {
    let config = guest.config();
    let len = 6 + 8 * usize::from(config.size);
    guest.memory().read(config.addrs.device, len)
}

fn add_random(guest: &mut GuestRing, random: &mut Random) -> u16 {
    let count = 1 + random.below(4) as usize;
    let mut pieces: Vec<_> = (0..count)
        .map(|_| guest.memory().room(1 + random.below(100) as usize))
        .collect();
    let readable = random.below(count as u64 + 1) as usize;
    for piece in &mut pieces[..readable] {
        piece.writable = false;
    }
    let shape = match random.below(3) {
        0 => Shape::Indirect,
        1 => Shape::Mixed(random.below(count as u64) as usize),
        _ => Shape::Direct,
    };
    guest.add_as(shape, &pieces)
}

/// One batch through both; returns the chains' heads.
fn batch(guest: &mut GuestRing, ours: &mut AnyRing, other: &mut Other, random: &mut Random) {
    let mut ids = Vec::new();
    while guest.free() >= 5 && random.below(8) > 0 {
        ids.push(add_random(guest, random));
    }
    guest.publish();
    let mut held: Vec<(Chain, u16)> = Vec::new();
    while let Some((head, pieces)) = other.take() {
        let (chain, taken) = take(ours).expect("both have the chain");
        assert_eq!(taken, pieces);
        held.push((chain, head));
    }
    assert!(take(ours).is_none(), "neither has more");
    assert!(held.iter().map(|(_, head)| *head).eq(ids));

    let wanted = 1 + random.below(6) as u16;
    guest.ask(Interrupts::After(wanted));
    let before = used_ring(guest);
    let lens: Vec<u32> = held.iter().map(|_| random.below(1000) as u32).collect();
    for ((_, head), len) in held.iter().zip(&lens) {
        other.push(*head, *len);
    }
    let tells = !held.is_empty()
        && other
            .queue
            .needs_notification(&*other.memory)
            .expect("memory");
    let theirs = used_ring(guest);
    guest.memory().write(guest.config().addrs.device, &before);
    for ((chain, _), len) in held.into_iter().zip(lens) {
        ours.push_used(chain, len);
    }
    assert_eq!(ours.publish(), tells);
    assert_eq!(used_ring(guest), theirs);

    let theirs = other
        .queue
        .enable_notification(&*other.memory)
        .expect("memory");
    let wish = used_ring(guest);
    assert_eq!(ours.enable_notification(), theirs);
    assert_eq!(used_ring(guest), wish);
    guest.poll_all();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn same_as_virtio_queue(
        log_size in 3_u32..9,
        start: u16,
        event_idx: bool,
        seed: u64,
    ) {
        let config = RingConfig {
            event_idx,
            cursor: Cursor { avail: start, used: Some(start), ..Cursor::default() },
            ..ring(Layout::Split, 1 << log_size)
        };
        let mut guest = GuestRing::new(&TestMemory::new(), config);
        let mut ours = guest.device();
        let mut other = Other::new(&guest);
        let mut random = Random::new(seed);
        for _ in 0..30 {
            batch(&mut guest, &mut ours, &mut other, &mut random);
        }
    }
}
