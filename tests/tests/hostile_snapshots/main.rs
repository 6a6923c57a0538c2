//! Saved states that somebody wrote to do harm: each is refused by name, or is a state that the
//! device can have; none costs more memory or work than its length allows, and none is restored by
//! half.

mod allocations;

use allocations::{Heap, measured};
use net_device::{Features, NetConfig, Snapshottable, VirtioDevice};
use net_queue::header::HDR_LEN;
use net_queue::testing::Random;
use snapshot::format::{HEADER_LEN, MAX_PAYLOAD_LEN};
use snapshot::{MigrateError, Snapshot};
use tests::testbed::{Rig, chain, frame, lists, overlong, pause, reseal};

/// Bytes of heap for each byte of a saved state, at most: its own, twice while they arrive, and
/// numbers.
const HEAP_PER_BYTE: i64 = 4;
/// The same for what does not depend on the length: error texts, tables of releases and filters,
/// and the longest list of rate limits, which take 5 bytes each if they have no levels, and 104 in
/// memory. A list that doubles as it grows is held one and a half times, for a moment.
const HEAP: i64 = 128 << 10;
/// Allocations for each byte, and for what does not depend on the length.
const COUNT_PER_BYTE: f64 = 0.1;
const COUNT: f64 = 200.0;

/// Numbers that a list has not, where its length stands.
const FORGED: [u64; 8] = [
    u64::MAX,
    1 << 63,
    1 << 32,
    10 << 20,
    1 << 20,
    0xffff,
    1025,
    0,
];

fn config() -> NetConfig {
    NetConfig {
        hash_report: true,
        rss: true,
        control_limit: None,
        ..Rig::config(2)
    }
}

/// A device that was saved in the middle of its work, with something in each of its tables.
fn saved(without: Features) -> Vec<u8> {
    let mut rig = Rig::new(config());
    rig.start(without);
    let macs = [&1_u32.to_le_bytes()[..], &[2, 0, 0, 0, 0, 9]].concat();
    assert_eq!(rig.command(1, 0, &[&macs[..], &macs].concat()), 0);
    // Types, mask, queue of the rest, table, transmit queues, key.
    let mut rss = [0x3f, 0, 0, 0, 3, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 2, 0, 40].to_vec();
    rss.extend([7; 40]);
    assert_eq!(rig.command(4, 1, &rss), 0, "a table of four");
    rig.post(0, &[2048; 5]);
    pause(&mut rig);
    let snapshot = rig.device.snapshot().expect("it is paused");
    snapshot.into_bytes()
}

/// A device that states are restored into, and what that took at worst.
struct Victim {
    rig: Rig,
    /// State in which it was when a state was last taken.
    before: Vec<u8>,
    refused: usize,
    taken: usize,
    /// Largest shares of what is allowed.
    heap: f64,
    count: f64,
}

fn state(rig: &mut Rig) -> Vec<u8> {
    let snapshot = rig.device.snapshot().expect("it is not active");
    snapshot.into_bytes()
}

fn restore(rig: &mut Rig, mut file: &[u8]) -> Result<(), MigrateError> {
    let snapshot = Snapshot::read_from(&mut file).map_err(MigrateError::Receive)?;
    rig.device.restore(snapshot)
}

impl Victim {
    fn new() -> Self {
        let mut rig = Rig::new(config());
        Self {
            before: state(&mut rig),
            rig,
            refused: 0,
            taken: 0,
            heap: 0.0,
            count: 0.0,
        }
    }

    /// Restores what is in `file`, within the bounds; returns whether it was taken.
    fn attack(&mut self, file: &[u8]) -> bool {
        let rig = &mut self.rig;
        let (restored, Heap { peak, count, .. }) = measured(|| restore(rig, file));
        let len = file.len();
        let most = HEAP + HEAP_PER_BYTE * len as i64;
        assert!(peak <= most, "{peak} bytes of heap for {len}");
        let most_count = COUNT + COUNT_PER_BYTE * len as f64;
        assert!(count as f64 <= most_count, "{count} allocations for {len}");
        self.heap = self.heap.max(peak as f64 / most as f64);
        self.count = self.count.max(count as f64 / most_count);
        match restored {
            Ok(()) => {
                self.taken += 1;
                self.before = state(&mut self.rig);
                true
            }
            Err(error) => {
                self.refused += 1;
                assert!(!chain(&error).is_empty());
                // One that changes something is seen by a later look as well.
                if self.refused.is_multiple_of(64) {
                    self.look();
                }
                false
            }
        }
    }

    /// Looks whether what was refused has changed anything.
    fn look(&mut self) {
        assert!(
            state(&mut self.rig) == self.before,
            "a state that was refused is there in part"
        );
    }

    /// The device is as good as new, and takes the state that nothing is wrong with.
    fn end(mut self, good: &[u8]) {
        self.look();
        assert!(self.attack(good), "nothing is wrong with it");
        let Self {
            refused,
            taken,
            heap,
            count,
            ..
        } = self;
        println!(
            "{refused} refused, {taken} taken; at most {:.0} % of the heap and {:.0} % of the allocations",
            100.0 * heap,
            100.0 * count
        );
        self.rig.device.reset();
        self.rig.start(Features::empty());
        // With room for a hash in the header.
        let mut bytes = frame(60, 1);
        bytes.splice(HDR_LEN..HDR_LEN, [0; 8]);
        self.rig.post(0, &[2048]);
        self.rig.networks[0].wire.inject(bytes.clone());
        let received = self.rig.receive(0, 1);
        assert_eq!(received[0][HDR_LEN + 8..], bytes[HDR_LEN + 8..]);
    }
}

#[test]
fn every_bit_that_is_flipped_and_every_byte_that_is_missing_is_refused() {
    let good = saved(Features::empty());
    let mut victim = Victim::new();
    for at in 0..good.len() {
        assert!(!victim.attack(&good[..at]), "cut at {at}");
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            assert!(!victim.attack(&bad), "bit {bit} of byte {at}");
        }
    }
    victim.end(&good);
}

#[test]
fn so_it_is_under_a_good_checksum_unless_it_is_a_state() {
    for without in [Features::empty(), Features::VIRTIO_F_RING_PACKED] {
        let good = saved(without);
        let (mut victim, mut random) = (Victim::new(), Random::new(7));
        for at in HEADER_LEN..good.len() {
            assert!(!victim.attack(&reseal(good[..at].to_vec())), "cut at {at}");
            let mut bad = good.clone();
            bad[at] ^= 1 << random.below(8);
            victim.attack(&reseal(bad.clone()));
            bad[at] = random.next_u64() as u8;
            victim.attack(&reseal(bad));
        }
        assert!(victim.taken > 0 && victim.refused > good.len());
        victim.end(&good);
    }
}

#[test]
fn forged_lengths_cost_nothing() {
    let good = saved(Features::empty());
    let mut victim = Victim::new();
    for at in HEADER_LEN..good.len() - 8 {
        for forged in FORGED {
            let mut bad = good.clone();
            bad[at..at + 8].copy_from_slice(&forged.to_le_bytes());
            victim.attack(&reseal(bad));
        }
    }
    // The header's, which nothing is read for that does not come.
    for forged in FORGED {
        let mut bad = good.clone();
        bad[12..16].copy_from_slice(&(forged as u32).to_le_bytes());
        assert!(!victim.attack(&bad), "{forged} bytes of payload");
    }
    victim.end(&good);
}

/// The longest payload, made of the elements that take the least there.
#[test]
fn lists_without_end_are_refused_within_the_bounds() {
    let good = saved(Features::empty());
    let mut victim = Victim::new();
    for byte in [0, 1, 0xff] {
        let mut file = good[..HEADER_LEN].to_vec();
        file.resize(HEADER_LEN + MAX_PAYLOAD_LEN, byte);
        assert!(
            !victim.attack(&reseal(file)),
            "{MAX_PAYLOAD_LEN} times {byte}"
        );
    }
    for (field, max, fill) in lists() {
        // As many as there may be, of which not all make sense.
        victim.attack(&overlong(fill, max, max as u64, max));
        for present in [max + 1, MAX_PAYLOAD_LEN] {
            let file = overlong(fill, max, present as u64, present);
            assert!(!victim.attack(&file), "{present} of {field}");
        }
    }
    victim.end(&good);
}

/// A list that is too long is refused by its name, before any of it is read: not even those that
/// are not there are missed, and as many as can be there cost no allocation.
#[test]
fn nothing_is_read_of_a_list_beyond_its_bound() {
    for (field, max, fill) in lists() {
        let refused = |present| {
            let file = overlong(fill, max, max as u64 + 1, present);
            let (refused, heap) = measured(|| Snapshot::from_bytes(file));
            let error = chain(&refused.expect_err(field));
            let expected = format!("{field}: {} entries, at most {max}", max + 1);
            assert_eq!(error, expected);
            (heap.count, heap.peak)
        };
        let none = refused(0);
        assert_eq!(none, refused(max + 1), "{field}");
        assert_eq!(none, refused(MAX_PAYLOAD_LEN), "{field}");
    }
}
