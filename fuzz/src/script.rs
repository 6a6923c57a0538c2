//! Inputs for the ring targets, written as a driver's story.

use crate::Seed;
use crate::ring::{Desc, SIZE};

/// Builds a script byte by byte; the methods are the steps of [`exercise`](crate::ring::exercise).
pub struct Script(pub Vec<u8>);

impl Script {
    /// `bits` and `more` as in [`Setup::take`](crate::ring::Setup::take); all offloads; the ring
    /// starts just before its index wraps.
    pub fn new(bits: u8, more: u8, descs: &[Desc]) -> Self {
        let mut script = vec![bits, more, 0x7f, 0xfe, 0xff, 0];
        for index in 0..usize::from(SIZE) {
            let desc = descs.get(index).copied().unwrap_or_default();
            script.extend([desc.flags as u8, desc.next as u8]);
            script.extend((desc.addr as u16).to_le_bytes());
            script.extend((desc.len as u16).to_le_bytes());
        }
        Self(script)
    }

    /// Makes a chain available.
    pub fn post(self, head: u8) -> Self {
        self.step(0, &[head])
    }

    /// Lets the engine run.
    pub fn run(self) -> Self {
        self.step(1, &[8, 8])
    }

    /// Overwrites guest memory.
    pub fn write(self, gpa: u16, bytes: [u8; 8]) -> Self {
        self.step(2, &[gpa.to_le_bytes().as_slice(), &bytes].concat())
    }

    /// Queues a frame of `len` bytes at the backend.
    pub fn deliver(self, len: u16) -> Self {
        self.step(3, &[len.to_le_bytes().as_slice(), &[0; 12]].concat())
    }

    /// Changes what the backend answers.
    pub fn mood(self, mood: u8) -> Self {
        self.step(4, &[mood])
    }

    /// Asks for kicks.
    pub fn enable_notification(self) -> Self {
        self.step(5, &[0])
    }

    /// Stops and goes on at the cursor.
    pub fn resume_at_cursor(self) -> Self {
        self.step(6, &[])
    }

    fn step(mut self, op: u8, operands: &[u8]) -> Self {
        self.0.push(op);
        self.0.extend(operands);
        self
    }
}

/// Transmit.
pub const TX: u8 = 0;
/// Control.
pub const CTRL: u8 = 1;
/// Receive.
pub const RX: u8 = 2;
const EVENT_IDX: u8 = 0x04;
const INDIRECT: u8 = 0x08;
const IOMMU: u8 = 0x10;
const MERGE: u8 = 0x20;

/// A descriptor that goes on at `next`, unless that is 0.
fn desc(addr: u64, len: u32, flags: u16, next: u16) -> Desc {
    let goes_on = if next == 0 { 0 } else { Desc::NEXT };
    Desc {
        addr,
        len,
        flags: flags | goes_on,
        next,
    }
}

/// Inputs that make sense in every layout.
pub fn seeds() -> Vec<Seed> {
    vec![
        ("tx", tx(TX)),
        ("tx_event_idx_iommu", tx(TX | EVENT_IDX | IOMMU)),
        ("tx_in_order", in_order(tx(TX | EVENT_IDX))),
        ("rx_in_order", in_order(rx(RX | MERGE))),
        ("tx_indirect", tx_indirect()),
        ("tx_backend_fails", tx_backend_fails()),
        ("rx", rx(RX)),
        ("rx_merge", rx(RX | MERGE | EVENT_IDX)),
        ("rx_merge_iommu", rx(RX | MERGE | IOMMU)),
        ("ctrl", ctrl()),
        ("loop", looped()),
    ]
}

/// Header and frame in one buffer, in two, and across the end of an IOMMU page.
fn tx(bits: u8) -> Vec<u8> {
    let descs = [
        desc(0x900, 76, 0, 0),
        desc(0xa00, 12, 0, 2),
        desc(0xbf0, 1000, 0, 0),
        desc(0x1800, 12, Desc::WRITE, 0),
    ];
    let script = Script::new(bits, 0, &descs)
        .post(0)
        .post(1)
        .enable_notification()
        .run();
    script.resume_at_cursor().post(3).post(0).run().0
}

/// The same on a ring with `VIRTIO_F_IN_ORDER`.
fn in_order(mut script: Vec<u8>) -> Vec<u8> {
    script[5] = 1;
    script
}

fn tx_indirect() -> Vec<u8> {
    let entry = Desc {
        addr: 0xa00,
        len: 512,
        ..Desc::default()
    };
    let (addr, rest) = entry
        .to_bytes()
        .split_first_chunk()
        .map(|(a, b)| (*a, b.to_vec()))
        .unwrap_or_default();
    let rest = std::array::from_fn(|i| rest.get(i).copied().unwrap_or(0));
    let table = desc(0x900, 16, Desc::INDIRECT, 0);
    let script = Script::new(TX | INDIRECT, 0, &[table]);
    script.write(0x900, addr).write(0x908, rest).post(0).run().0
}

fn tx_backend_fails() -> Vec<u8> {
    let script = Script::new(TX, 1, &[desc(0x900, 100, 0, 0)]).post(0);
    [1, 0, 2, 0, 3]
        .into_iter()
        .fold(script, |script, mood| script.post(0).mood(mood).run())
        .0
}

/// A frame that fits a chain, one that needs several, one for which there is no room.
fn rx(bits: u8) -> Vec<u8> {
    let descs = [
        desc(0x800, 1000, Desc::WRITE, 0),
        desc(0xc00, 600, Desc::WRITE, 2),
        desc(0x1900, 600, Desc::WRITE, 0),
    ];
    let script = Script::new(bits, 0, &descs).deliver(60).run();
    let script = script
        .post(0)
        .post(1)
        .run()
        .deliver(2000)
        .run()
        .enable_notification();
    script
        .resume_at_cursor()
        .post(0)
        .post(0)
        .run()
        .deliver(60)
        .deliver(60)
        .run()
        .0
}

/// A command in two pieces with its answer behind, then one without room for an answer.
fn ctrl() -> Vec<u8> {
    let descs = [
        desc(0x900, 2, 0, 1),
        desc(0x902, 1, 0, 2),
        desc(0x980, 1, Desc::WRITE, 0),
    ];
    let script = Script::new(CTRL, 0, &descs).write(0x900, [0, 0, 1, 0, 0, 0, 0, 0]);
    script
        .post(0)
        .run()
        .post(1)
        .run()
        .post(2)
        .run()
        .resume_at_cursor()
        .0
}

fn looped() -> Vec<u8> {
    let descs = [
        desc(0x900, 0, 0, 1),
        desc(0x900, 0, 0, 2),
        desc(0x900, 0, 0, 1),
    ];
    Script::new(TX, 0, &descs).post(0).run().run().0
}
