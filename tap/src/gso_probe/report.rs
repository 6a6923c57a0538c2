//! Judgement of what came out.

use std::io;

use super::frames::{HEADER, ROWS, Row};
use crate::offload::Offloads;

/// A way through a kernel, from a tap that frames are written to, to one that takes them only cut.
pub trait GsoPath {
    /// Sends each of `frames`, a virtio-net header in front, and returns what became of it.
    ///
    /// # Errors
    /// The way cannot be made, or even frames that need no work do not get through.
    fn pass(&mut self, frames: Vec<Vec<u8>>) -> Result<Vec<GsoOutcome>, NotTried>;
}

/// Result of sending one frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GsoOutcome {
    /// Error number of the write, if it was refused.
    pub refused: Option<i32>,
    /// Frames that came out, in their order, a virtio-net header in front of each.
    pub frames: Vec<Vec<u8>>,
}

/// Fault of a kernel in one kind of frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GsoFault {
    /// The kernel refused it, with this error number.
    #[error("it is refused with error {0}")]
    Refused(i32),
    /// Nothing came out.
    #[error("it is swallowed")]
    Swallowed,
    /// Something came out that is not what was sent.
    #[error("it comes out different from piece {piece} on, of {of}")]
    Changed {
        /// The first piece that is wrong, from 0.
        piece: usize,
        /// Pieces that should have come.
        of: usize,
    },
}

/// Reason for which the kernel was not tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotTried {
    /// A step was refused with this error number: no right to make a namespace, a device that may
    /// not be opened, …
    #[error("{step} failed: {}", io::Error::from_raw_os_error(*.errno))]
    Refused {
        /// The system call or request.
        step: &'static str,
        /// Error number.
        errno: i32,
    },
    /// The kernel has no bridge, or has not loaded it; no module is loaded for this.
    #[error("the bridge module is not loaded")]
    NoBridge,
    /// Not even a plain frame came through.
    #[error("not even a plain frame came through the bridge")]
    NoPath,
    /// The host did not get ready in time.
    #[error("the host is too busy")]
    TimedOut,
}

/// Trust that one offload deserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GsoTrial {
    /// All that was sent came out as it had to.
    Verified,
    /// The kernel does it wrongly.
    Failed(GsoFault),
    /// Nobody knows.
    NotTried(NotTried),
}

/// Result of the trial of a kernel's segmentation: its tap takes them, and they leave by
/// an interface that takes only small ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GsoReport(Result<Vec<Judgement>, NotTried>);

/// Name and offload of a kind of frame, and what is wrong with it.
type Judgement = (&'static str, Offloads, Option<GsoFault>);

impl GsoReport {
    /// Tries every kind of frame on `path`.
    pub fn of(path: &mut impl GsoPath) -> Self {
        let outcomes = path.pass(ROWS.iter().map(Row::whole).collect());
        Self(outcomes.map(|outcomes| {
            let mut outcomes = outcomes.into_iter();
            let judged = ROWS.iter().map(|row| {
                let outcome = outcomes.next().unwrap_or_default();
                (row.name, row.offload, fault(row, &outcome))
            });
            judged.collect()
        }))
    }

    /// Offloads that were tried: [`ECN`](Offloads::ECN) and those of segments.
    pub fn tried() -> Offloads {
        ROWS.iter().map(|row| row.offload).collect()
    }

    /// Offloads that work.
    pub fn verified(&self) -> Offloads {
        match &self.0 {
            Ok(_) => Self::tried() - self.failed(),
            Err(_) => Offloads::empty(),
        }
    }

    /// Offloads that do not.
    pub fn failed(&self) -> Offloads {
        let faults = self.faults();
        faults.map(|(_, offload, _)| offload).collect()
    }

    /// Result for one offload; the first fault, if there are several.
    pub fn trial(&self, offload: Offloads) -> GsoTrial {
        match &self.0 {
            Err(reason) => GsoTrial::NotTried(*reason),
            Ok(_) => match self
                .faults()
                .find(|(_, failed, _)| offload.contains(*failed))
            {
                Some((_, _, fault)) => GsoTrial::Failed(fault),
                None => GsoTrial::Verified,
            },
        }
    }

    /// Name, offload and fault of each kind of frame that came out wrong.
    pub fn faults(&self) -> impl Iterator<Item = (&'static str, Offloads, GsoFault)> {
        let rows = self.0.as_deref().unwrap_or_default().iter();
        rows.filter_map(|(name, offload, fault)| Some((*name, *offload, (*fault)?)))
    }

    /// Reason for which nothing was tried.
    pub fn not_tried(&self) -> Option<NotTried> {
        self.0.as_ref().err().copied()
    }
}

fn fault(row: &Row, outcome: &GsoOutcome) -> Option<GsoFault> {
    if let Some(errno) = outcome.refused {
        return Some(GsoFault::Refused(errno));
    }
    if outcome.frames.is_empty() {
        return Some(GsoFault::Swallowed);
    }
    let expected: Vec<_> = row.pieces().collect();
    let came = &outcome.frames;
    let wrong = |piece: &usize| match (came.get(*piece), expected.get(*piece)) {
        (Some(came), Some(expected)) => !is_whole(came, expected),
        _ => true,
    };
    let piece = (0..expected.len().max(came.len())).find(wrong)?;
    Some(GsoFault::Changed {
        piece,
        of: expected.len(),
    })
}

/// Returns whether a frame that came, header first, is the expected one with nothing left to do.
fn is_whole(came: &[u8], expected: &[u8]) -> bool {
    // Flags and kind of segments: no checksum is missing (1), nothing is to be cut.
    let undone = |header: &[u8]| header[0] & 1 != 0 || header[1] != 0;
    came.split_at_checked(HEADER)
        .is_some_and(|(header, frame)| !undone(header) && frame == expected)
}
