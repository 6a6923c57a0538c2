//! Saved state: hostile bytes, with a checksum that fits, are refused or read exactly.

use snapshot::format::HEADER_LEN;
use snapshot::state::{ControlState, LimiterState, NetState, QueueState, RssState};
use snapshot::{LATEST, Snapshot};

use crate::{Seed, Target};

/// See the module.
pub const TARGET: Target = Target {
    name: "snapshot",
    run,
    seeds,
};

/// Input: a snapshot, whose length and checksum are made good first.
fn run(input: &[u8]) {
    let _ = Snapshot::read_from(&mut &*input);
    let Some(bytes) = reseal(input) else { return };
    let Ok(snapshot) = Snapshot::from_bytes(bytes) else {
        return;
    };
    let state = snapshot.open().expect("accepted before");
    let again = Snapshot::seal(&state).expect("was sealed before");
    let current = release(snapshot.as_bytes()) == LATEST;
    assert!(!current || again == snapshot, "bytes were ignored");
    assert_eq!(again.open().ok(), Some(state));
}

fn release(bytes: &[u8]) -> u16 {
    u16::from_le_bytes([bytes[10], bytes[11]])
}

/// Makes length and checksum of a snapshot good.
pub(crate) fn reseal(input: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = input.to_vec();
    let len = u32::try_from(bytes.len().checked_sub(HEADER_LEN)?).ok()?;
    bytes[12..16].copy_from_slice(&len.to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..16]);
    crc.update(&bytes[HEADER_LEN..]);
    bytes[16..20].copy_from_slice(&crc.finalize().to_le_bytes());
    Some(bytes)
}

fn seeds() -> Vec<Seed> {
    let seed = |state: NetState| {
        let sealed = Snapshot::seal(&state).expect("a small state");
        sealed.into_bytes()
    };
    let queues = NetState {
        id: "net0".into(),
        queue_sizes: vec![256; 3].into(),
        queues: vec![QueueState::default(); 2].into(),
        limiters: vec![LimiterState::default()].into(),
        ..NetState::default()
    };
    let control = ControlState {
        unicast: vec![[2, 0, 0, 0, 0, 1]].into(),
        vlans: vec![1; 64].into(),
        rss: Some(RssState {
            indirection_table: vec![0; 8].into(),
            key: vec![7; 40].into(),
            ..RssState::default()
        }),
        ..ControlState::default()
    };
    vec![
        ("empty", seed(NetState::default())),
        ("queues", seed(queues)),
        (
            "control",
            seed(NetState {
                control,
                ..NetState::default()
            }),
        ),
    ]
}
