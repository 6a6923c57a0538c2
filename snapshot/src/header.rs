//! The header of a snapshot, checked before anything is parsed; [`format`](crate::format) shows it.

use crate::error::SnapshotError;
use crate::format::{HEADER_LEN, MAX_PAYLOAD_LEN};
use crate::versions::LATEST;

const MAGIC: u64 = u64::from_le_bytes(*b"VNETSTAT");
const CRC_AT: usize = 16;

/// ELF machine number of this build; 0 stands for every architecture not named here.
///
/// The state itself reads the same everywhere. The guest it belongs to does not, and a VMM that
/// mixes the two up should learn it here.
const ARCHITECTURE: u16 = if cfg!(target_arch = "x86_64") {
    62
} else if cfg!(target_arch = "aarch64") {
    183
} else if cfg!(target_arch = "riscv64") {
    243
} else {
    0
};

/// A header whose magic, architecture, release and length are acceptable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) release: u16,
    pub(crate) payload_len: usize,
    crc: u32,
    crc_of_fields: u32,
}

impl Header {
    /// Checks everything that can be known before the payload is there.
    ///
    /// # Errors
    /// One of [`SnapshotError::Magic`], [`Architecture`](SnapshotError::Architecture),
    /// [`Release`](SnapshotError::Release), [`Oversize`](SnapshotError::Oversize), in this order.
    pub(crate) fn check(bytes: &[u8; HEADER_LEN]) -> Result<Self, SnapshotError> {
        let magic = u64::from_le_bytes(field(bytes, 0));
        let architecture = u16::from_le_bytes(field(bytes, 8));
        let release = release(bytes);
        let payload_len = u32::from_le_bytes(field(bytes, 12));
        if magic != MAGIC {
            return Err(SnapshotError::Magic { found: magic });
        }
        if architecture != ARCHITECTURE {
            return Err(SnapshotError::Architecture {
                found: architecture,
                expected: ARCHITECTURE,
            });
        }
        check_release(release)?;
        if u64::from(payload_len) > MAX_PAYLOAD_LEN as u64 {
            return Err(SnapshotError::Oversize {
                found: payload_len.into(),
            });
        }
        Ok(Self {
            release,
            payload_len: payload_len as usize,
            crc: u32::from_le_bytes(field(bytes, CRC_AT)),
            crc_of_fields: crc32fast::hash(&bytes[..CRC_AT]),
        })
    }

    /// Compares length and checksum with the payload.
    ///
    /// # Errors
    /// [`SnapshotError::Truncated`], [`TrailingBytes`](SnapshotError::TrailingBytes) or
    /// [`Checksum`](SnapshotError::Checksum).
    pub(crate) fn verify(&self, payload: &[u8]) -> Result<(), SnapshotError> {
        if payload.len() < self.payload_len {
            return Err(SnapshotError::Truncated {
                expected: self.payload_len,
                found: payload.len(),
            });
        }
        if payload.len() > self.payload_len {
            return Err(SnapshotError::TrailingBytes {
                count: payload.len() - self.payload_len,
            });
        }
        let computed = crc_with_payload(self.crc_of_fields, payload);
        if computed != self.crc {
            return Err(SnapshotError::Checksum {
                found: self.crc,
                computed,
            });
        }
        Ok(())
    }
}

/// Header bytes for `payload`.
///
/// # Errors
/// [`SnapshotError::Oversize`].
pub(crate) fn encode(release: u16, payload: &[u8]) -> Result<[u8; HEADER_LEN], SnapshotError> {
    let oversize = SnapshotError::Oversize {
        found: payload.len() as u64,
    };
    let len = match u32::try_from(payload.len()) {
        Ok(len) if payload.len() <= MAX_PAYLOAD_LEN => len,
        _ => return Err(oversize),
    };
    let mut bytes = [0; HEADER_LEN];
    bytes[..8].copy_from_slice(&MAGIC.to_le_bytes());
    bytes[8..10].copy_from_slice(&ARCHITECTURE.to_le_bytes());
    bytes[10..12].copy_from_slice(&release.to_le_bytes());
    bytes[12..CRC_AT].copy_from_slice(&len.to_le_bytes());
    let crc = crc_with_payload(crc32fast::hash(&bytes[..CRC_AT]), payload);
    bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    Ok(bytes)
}

/// Release that a header names, whatever it is.
pub(crate) fn release(bytes: &[u8; HEADER_LEN]) -> u16 {
    u16::from_le_bytes(field(bytes, 10))
}

/// Refuses release 0 and releases of the future, which the version map would take for the latest.
///
/// # Errors
/// [`SnapshotError::Release`].
pub(crate) fn check_release(release: u16) -> Result<(), SnapshotError> {
    if (1..=LATEST).contains(&release) {
        return Ok(());
    }
    Err(SnapshotError::Release {
        found: release,
        latest: LATEST,
    })
}

fn crc_with_payload(crc_of_fields: u32, payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new_with_initial(crc_of_fields);
    crc.update(payload);
    crc.finalize()
}

/// The `N` bytes of the header at `at`, which is a constant of the layout above.
fn field<const N: usize>(bytes: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    std::array::from_fn(|i| bytes[at + i])
}
