//! A sealed state: header and payload, written whole and read whole.

use std::io::{Read, Write};

use serde::{Deserialize, Serialize};
use versionize::Versionize;

use crate::error::SnapshotError;
use crate::format::HEADER_LEN;
use crate::header::{self, Header};
use crate::state::bounds::{Id, Sealed};
use crate::state::encoding::refusal;
use crate::state::{List, NetState, Text};
use crate::versions::{LATEST, check_downgrade, version_map};

/// The state of one device as bytes, with the id under which a VMM files it.
///
/// The bytes are not trusted until [`open`](Self::open) has accepted them, wherever they came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    id: Text<Id>,
    bytes: List<u8, Sealed>,
}

impl Snapshot {
    /// Seals `state` for this release.
    ///
    /// # Errors
    /// [`SnapshotError::TooMany`], [`Oversize`](SnapshotError::Oversize) or
    /// [`Encode`](SnapshotError::Encode).
    pub fn seal(state: &NetState) -> Result<Self, SnapshotError> {
        Self::seal_for(state, LATEST)
    }

    /// Seals `state` so that `release` can open it.
    ///
    /// # Errors
    /// Those of [`seal`](Self::seal), [`SnapshotError::Release`], and
    /// [`Downgrade`](SnapshotError::Downgrade) for a state that `release` cannot hold.
    pub fn seal_for(state: &NetState, release: u16) -> Result<Self, SnapshotError> {
        Ok(Self {
            id: state.id.clone(),
            bytes: encode(state, release)?.into(),
        })
    }

    /// Checks the bytes and returns the state in them, in the form of this release.
    ///
    /// # Errors
    /// Every variant of [`SnapshotError`] that names the input.
    pub fn open(&self) -> Result<NetState, SnapshotError> {
        decode(&self.bytes)
    }

    /// Takes over bytes that came from somewhere, if they are a whole snapshot and nothing else.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, SnapshotError> {
        let id = decode(&bytes)?.id;
        Ok(Self {
            id,
            bytes: bytes.into(),
        })
    }

    /// Writes the bytes.
    ///
    /// # Errors
    /// [`SnapshotError::Write`].
    pub fn write_to<W: Write + ?Sized>(&self, writer: &mut W) -> Result<(), SnapshotError> {
        writer
            .write_all(&self.bytes)
            .map_err(SnapshotError::Write)?;
        writer.flush().map_err(SnapshotError::Write)
    }

    /// Reads one snapshot and not a byte more, so that others may follow on the same stream.
    /// Memory grows with what arrives, never with what the header promises.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), and [`SnapshotError::Read`].
    pub fn read_from<R: Read + ?Sized>(reader: &mut R) -> Result<Self, SnapshotError> {
        let mut bytes = Vec::new();
        append(reader, HEADER_LEN, &mut bytes)?;
        let payload_len = Header::check(split_header(&bytes)?.0)?.payload_len;
        append(reader, payload_len, &mut bytes)?;
        Self::from_bytes(bytes)
    }

    /// Id of the device.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Release in whose form the bytes are; 0 if they are too few for a header.
    pub fn release(&self) -> u16 {
        split_header(&self.bytes).map_or(0, |(header, _)| header::release(header))
    }

    /// Header and payload.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Header and payload, without a copy.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes.into_inner()
    }
}

fn encode(state: &NetState, release: u16) -> Result<Vec<u8>, SnapshotError> {
    header::check_release(release)?;
    check_downgrade(state, release)?;
    let mut bytes = vec![0; HEADER_LEN];
    Versionize::serialize(state, &mut bytes, &version_map(), release).map_err(|error| {
        refusal(&error).unwrap_or_else(|| SnapshotError::Encode {
            reason: error.to_string(),
        })
    })?;
    let header = header::encode(release, &bytes[HEADER_LEN..])?;
    bytes[..HEADER_LEN].copy_from_slice(&header);
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<NetState, SnapshotError> {
    let (header, payload) = split_header(bytes)?;
    let header = Header::check(header)?;
    header.verify(payload)?;
    let mut rest = payload;
    let parsed: Result<NetState, _> =
        Versionize::deserialize(&mut rest, &version_map(), header.release);
    let state = parsed.map_err(|error| {
        refusal(&error).unwrap_or_else(|| SnapshotError::Malformed {
            offset: payload.len() - rest.len(),
            reason: error.to_string(),
        })
    })?;
    if !rest.is_empty() {
        return Err(SnapshotError::Unconsumed { count: rest.len() });
    }
    Ok(state)
}

fn split_header(bytes: &[u8]) -> Result<(&[u8; HEADER_LEN], &[u8]), SnapshotError> {
    bytes
        .split_first_chunk()
        .ok_or(SnapshotError::ShortHeader { found: bytes.len() })
}

/// Reads up to `len` bytes; what is missing at the end of the stream shows as a short snapshot.
fn append<R: Read + ?Sized>(
    reader: &mut R,
    len: usize,
    bytes: &mut Vec<u8>,
) -> Result<(), SnapshotError> {
    reader
        .take(len as u64)
        .read_to_end(bytes)
        .map_err(SnapshotError::Read)?;
    Ok(())
}
