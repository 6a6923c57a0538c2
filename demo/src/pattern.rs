//! A byte stream that tells at every offset what must stand there.

use std::sync::LazyLock;

use thiserror::Error;

/// Length after which the stream repeats: a prime, so that no frame, page or ring size divides it.
const PERIOD: usize = 65_521;

/// Longest run that is compared or copied at once.
const RUN: usize = 64 << 10;

/// One period and a run more, so that a run can start anywhere in the period.
static STREAM: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let byte = |i: usize| ((i % PERIOD).wrapping_mul(2_654_435_761) >> 13) as u8;
    (0..PERIOD + RUN).map(byte).collect()
});

/// Place where a stream is not what it must be.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("at byte {offset}")]
pub struct Mismatch {
    /// Offset of the first wrong byte in the stream.
    pub offset: u64,
}

fn at(offset: u64, len: usize) -> &'static [u8] {
    let start = (offset % PERIOD as u64) as usize;
    &STREAM[start..start + len]
}

/// Writes the bytes that stand at `offset` and after it.
pub(super) fn fill(offset: u64, bytes: &mut [u8]) {
    let mut offset = offset;
    for run in bytes.chunks_mut(RUN) {
        run.copy_from_slice(at(offset, run.len()));
        offset += run.len() as u64;
    }
}

/// Compares `bytes` with what must stand at `offset`.
pub(super) fn check(offset: u64, bytes: &[u8]) -> Result<(), Mismatch> {
    let mut offset = offset;
    for run in bytes.chunks(RUN) {
        let expected = at(offset, run.len());
        if run != expected {
            let wrong = run
                .iter()
                .zip(expected)
                .position(|(a, b)| a != b)
                .unwrap_or(0);
            return Err(Mismatch {
                offset: offset + wrong as u64,
            });
        }
        offset += run.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
