//! Interface names: what the kernel takes, checked before it is asked, so that a refusal of the
//! kernel can only be about the interface itself.

use std::fmt;

/// Bytes of a name with its final NUL.
pub(crate) const NAME_SIZE: usize = libc::IFNAMSIZ;

/// A name as the kernel holds it: NUL-terminated bytes, which need not be UTF-8.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct IfName([u8; NAME_SIZE]);

impl IfName {
    /// Checks a name, or a template with one `%d` for the kernel to number.
    pub(crate) fn parse(name: &str) -> Result<Self, NameFault> {
        match fault(name) {
            Some(fault) => Err(fault),
            None => {
                let mut bytes = [0; NAME_SIZE];
                bytes[..name.len()].copy_from_slice(name.as_bytes());
                Ok(Self(bytes))
            }
        }
    }

    /// Takes a name from the kernel.
    pub(crate) fn from_kernel(bytes: [u8; NAME_SIZE]) -> Self {
        Self(bytes)
    }

    /// The bytes, padded with NUL.
    pub(crate) fn bytes(&self) -> &[u8; NAME_SIZE] {
        &self.0
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.split(|&byte| byte == 0).next().unwrap_or_default();
        f.write_str(&String::from_utf8_lossy(name))
    }
}

/// The rule that an interface name breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameFault {
    /// The name is empty.
    #[error("it is empty")]
    Empty,
    /// The name does not fit the kernel's 16 bytes.
    #[error("it is longer than 15 bytes")]
    TooLong,
    /// The name would be a special directory entry.
    #[error("it is `.` or `..`")]
    Dots,
    /// The name holds a byte that no interface name may hold.
    #[error("it holds a slash, a colon, white space or a NUL")]
    Character,
    /// `%` is there but not as a single `%d`.
    #[error("`%` may appear only once, as `%d`")]
    Template,
}

fn fault(name: &str) -> Option<NameFault> {
    // The kernel's isspace() is Latin-1, where 0xA0 is a space too.
    let forbidden = |byte: u8| matches!(byte, 0 | b'/' | b':' | b' ' | 0x09..=0x0d | 0xa0);
    let percents = name.matches('%').count();
    if name.is_empty() {
        Some(NameFault::Empty)
    } else if name.len() >= NAME_SIZE {
        Some(NameFault::TooLong)
    } else if matches!(name, "." | "..") {
        Some(NameFault::Dots)
    } else if name.bytes().any(forbidden) {
        Some(NameFault::Character)
    } else if percents > 1 || (percents == 1 && !name.contains("%d")) {
        Some(NameFault::Template)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
