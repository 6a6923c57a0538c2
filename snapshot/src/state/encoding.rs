//! Bounded collections in the form of a snapshot: a length in 64 bits, and the elements.

use std::io::{Read, Write};

use versionize::{VersionMap, Versionize, VersionizeError, VersionizeResult};

use super::bounded::{Bound, List, Text};
use super::{LimiterState, QueueState, StoppedQueueState, bounds};
use crate::error::SnapshotError;

/// Error of the parser for a length out of bounds: a text, since its type has no room for more.
fn refuse<B: Bound>(len: usize) -> VersionizeResult<()> {
    if len <= B::MAX {
        return Ok(());
    }
    let text = format!("{} {len}", B::FIELD);
    Err(VersionizeError::Semantic(text))
}

/// Returns what [`refuse`] has said, if `error` comes from there.
pub(crate) fn refusal(error: &VersionizeError) -> Option<SnapshotError> {
    let VersionizeError::Semantic(text) = error else {
        return None;
    };
    let (name, found) = text.rsplit_once(' ')?;
    let (field, max) = *bounds::ALL.iter().find(|(field, _)| *field == name)?;
    let found = found.parse().ok()?;
    Some(SnapshotError::TooMany { field, found, max })
}

/// Reads the length of a collection.
fn read_len<B: Bound, R: Read>(
    reader: &mut R,
    map: &VersionMap,
    release: u16,
) -> VersionizeResult<usize> {
    let len = usize::deserialize(reader, map, release)?;
    refuse::<B>(len)?;
    Ok(len)
}

/// Reads `len` bytes. Memory grows with those that come.
fn read_bytes<R: Read>(reader: &mut R, len: usize) -> VersionizeResult<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = reader.take(len as u64).read_to_end(&mut bytes);
    match read {
        Ok(read) if read == len => Ok(bytes),
        Ok(read) => {
            let text = format!("{read} of {len} bytes");
            Err(VersionizeError::Deserialize(text))
        }
        Err(error) => Err(VersionizeError::Deserialize(error.to_string())),
    }
}

impl<T: Element, B: Bound + 'static> Versionize for List<T, B> {
    fn serialize<W: Write>(
        &self,
        writer: &mut W,
        map: &VersionMap,
        release: u16,
    ) -> VersionizeResult<()> {
        refuse::<B>(self.len())?;
        self.len().serialize(writer, map, release)?;
        self.iter()
            .try_for_each(|element| element.serialize(writer, map, release))
    }

    fn deserialize<R: Read>(
        reader: &mut R,
        map: &VersionMap,
        release: u16,
    ) -> VersionizeResult<Self> {
        let len = read_len::<B, R>(reader, map, release)?;
        Ok(T::read_list(reader, len, map, release)?.into())
    }

    fn version() -> u16 {
        1
    }
}

impl<B: Bound + 'static> Versionize for Text<B> {
    fn serialize<W: Write>(
        &self,
        writer: &mut W,
        map: &VersionMap,
        release: u16,
    ) -> VersionizeResult<()> {
        refuse::<B>(self.len())?;
        (**self).serialize(writer, map, release)
    }

    fn deserialize<R: Read>(
        reader: &mut R,
        map: &VersionMap,
        release: u16,
    ) -> VersionizeResult<Self> {
        let len = read_len::<B, R>(reader, map, release)?;
        let text = String::from_utf8(read_bytes(reader, len)?);
        let text = text.map_err(|error| VersionizeError::Deserialize(error.to_string()))?;
        Ok(text.into())
    }

    fn version() -> u16 {
        1
    }
}

/// An element of a list.
pub trait Element: Versionize + Sized {
    /// Reads `len` elements, which is within the bound of the list. Memory grows with those that
    /// come.
    ///
    /// # Errors
    /// Those of the parser.
    fn read_list<R: Read>(
        reader: &mut R,
        len: usize,
        map: &VersionMap,
        release: u16,
    ) -> VersionizeResult<Vec<Self>> {
        (0..len)
            .map(|_| Self::deserialize(reader, map, release))
            .collect()
    }
}

impl Element for QueueState {}
impl Element for StoppedQueueState {}
impl Element for LimiterState {}

/// Numbers are read all at once: one by one, the parser takes fifty times as long.
macro_rules! plain {
    ($($type:ty: $from:expr),+ $(,)?) => { $(
        impl Element for $type {
            fn read_list<R: Read>(
                reader: &mut R,
                len: usize,
                _: &VersionMap,
                _: u16,
            ) -> VersionizeResult<Vec<Self>> {
                let bytes = read_bytes(reader, len * size_of::<$type>())?;
                let (elements, _) = bytes.as_chunks::<{ size_of::<$type>() }>();
                Ok(elements.iter().map(|element| $from(*element)).collect())
            }
        }
    )+ };
}

plain! {
    u8: u8::from_le_bytes,
    u16: u16::from_le_bytes,
    u64: u64::from_le_bytes,
    [u8; 6]: std::convert::identity,
}
