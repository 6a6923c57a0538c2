//! A fake kernel that does everything right, and some that do not.

use super::frames::{HEADER, ROWS};
use super::*;
use crate::offload::Offloads;

type Spoil = fn(usize, &mut GsoOutcome);

/// Cuts as it should, then spoils the outcome of each row.
struct Fake(Spoil);

impl GsoPath for Fake {
    fn pass(&mut self, frames: Vec<Vec<u8>>) -> Result<Vec<GsoOutcome>, NotTried> {
        let whole: Vec<_> = ROWS.iter().map(frames::Row::whole).collect();
        assert_eq!(frames, whole);
        let rows = ROWS.iter().enumerate().map(|(number, row)| {
            let frames = row.pieces().map(|piece| [vec![0; HEADER], piece].concat());
            let mut outcome = GsoOutcome {
                refused: None,
                frames: frames.collect(),
            };
            (self.0)(number, &mut outcome);
            outcome
        });
        Ok(rows.collect())
    }
}

fn report(spoil: Spoil) -> GsoReport {
    GsoReport::of(&mut Fake(spoil))
}

fn is_udp(row: usize) -> bool {
    USO.contains(ROWS[row].offload)
}

const USO: Offloads = Offloads::USO4.union(Offloads::USO6);
const TCP: Offloads = Offloads::TSO4.union(Offloads::TSO6).union(Offloads::ECN);
const TUNNELS: Offloads = Offloads::UDP_TUNNEL.union(Offloads::UDP_TUNNEL_CSUM);

#[test]
fn a_kernel_that_cuts_well_is_trusted() {
    let report = report(|_, _| {});
    assert_eq!(report.verified(), USO | TCP | TUNNELS);
    assert_eq!(report.failed(), Offloads::empty());
    assert_eq!(report.trial(Offloads::TSO4), GsoTrial::Verified);
    assert_eq!(report.not_tried(), None);
}

#[test]
fn a_kernel_that_corrupts_udp_is_trusted_with_tcp_only() {
    // The length of the second datagram, and nothing else.
    let report = report(|row, outcome| {
        if is_udp(row) {
            let at = outcome.frames[1].len() - ROWS[row].pieces().nth(1).unwrap().len() + 14;
            let ip = if ROWS[row].offload == Offloads::USO6 {
                40
            } else {
                20
            };
            outcome.frames[1][at + ip + 5] ^= 1;
        }
    });
    assert_eq!((report.verified(), report.failed()), (TCP | TUNNELS, USO));
    let changed = GsoFault::Changed { piece: 1, of: 4 };
    assert_eq!(report.trial(USO), GsoTrial::Failed(changed));
    assert_eq!(report.faults().count(), 4);
}

#[test]
fn a_kernel_that_refuses_segments_when_they_come_is_not_trusted_with_them() {
    let report = report(|_, outcome| {
        *outcome = GsoOutcome {
            refused: Some(libc::EINVAL),
            frames: Vec::new(),
        };
    });
    assert_eq!(
        (report.verified(), report.failed()),
        (Offloads::empty(), USO | TCP | TUNNELS)
    );
    let refused = GsoTrial::Failed(GsoFault::Refused(libc::EINVAL));
    assert_eq!(report.trial(Offloads::TSO6), refused);
}

#[test]
fn a_kernel_that_swallows_frames_is_not_trusted_with_them() {
    let report = report(|row, outcome| {
        if ROWS[row].offload == Offloads::TSO6 {
            outcome.frames.clear();
        }
    });
    assert_eq!(report.failed(), Offloads::TSO6);
    let swallowed = GsoTrial::Failed(GsoFault::Swallowed);
    assert_eq!(report.trial(Offloads::TSO6), swallowed);
}

#[test]
fn any_piece_that_is_missing_added_moved_or_unfinished_is_a_fault() {
    let spoils: [Spoil; 7] = [
        |_, outcome| drop(outcome.frames.pop()),
        |_, outcome| drop(outcome.frames.remove(0)),
        |_, outcome| outcome.frames.push(outcome.frames[0].clone()),
        |_, outcome| outcome.frames.swap(1, 2),
        // A checksum is left to do, a frame is left to be cut.
        |_, outcome| outcome.frames[3][0] = 1,
        |_, outcome| outcome.frames[3][1] = 1,
        |_, outcome| outcome.frames[2].truncate(5),
    ];
    for spoil in spoils {
        assert_eq!(report(spoil).failed(), USO | TCP | TUNNELS);
    }
}

#[test]
fn one_bad_size_is_enough_for_an_offload_to_fail() {
    for (bad, row) in ROWS.iter().enumerate() {
        let mut outcomes = Fake(|_, _| {}).pass(ROWS.iter().map(frames::Row::whole).collect());
        outcomes.as_mut().unwrap()[bad].frames[0][HEADER + 20] ^= 0x80;
        struct Given(Option<Vec<GsoOutcome>>);
        impl GsoPath for Given {
            fn pass(&mut self, _: Vec<Vec<u8>>) -> Result<Vec<GsoOutcome>, NotTried> {
                Ok(self.0.take().unwrap())
            }
        }
        let report = GsoReport::of(&mut Given(outcomes.ok()));
        assert_eq!(report.failed(), row.offload, "{}", row.name);
    }
}

#[test]
fn what_was_not_tried_is_neither_verified_nor_failed() {
    struct Sandbox;
    impl GsoPath for Sandbox {
        fn pass(&mut self, _: Vec<Vec<u8>>) -> Result<Vec<GsoOutcome>, NotTried> {
            Err(NotTried::NoBridge)
        }
    }
    let report = GsoReport::of(&mut Sandbox);
    assert_eq!(
        (report.verified(), report.failed()),
        (Offloads::empty(), Offloads::empty())
    );
    assert_eq!(report.not_tried(), Some(NotTried::NoBridge));
    assert_eq!(report.trial(USO), GsoTrial::NotTried(NotTried::NoBridge));
    let refused = NotTried::Refused {
        step: "clone",
        errno: libc::EPERM,
    };
    assert_eq!(
        refused.to_string(),
        "clone failed: Operation not permitted (os error 1)"
    );
}
