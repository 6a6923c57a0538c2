//! A saved device on its way through a descriptor of the front-end's: a pipe, or a file in memory.
//!
//! ```text
//!   SET_DEVICE_STATE_FD save   device --> staged --> pipe --> front-end       CHECK_DEVICE_STATE: did all pass?
//!   SET_DEVICE_STATE_FD load   device <-- staged <-- pipe <-- front-end       CHECK_DEVICE_STATE: is it whole?
//! ```
//!
//! `O_NONBLOCK` belongs to the pipe, which the front-end has as well, so each transfer says by
//! itself that it must not wait: `splice` does, between the pipe and a file that nobody else has.
//! A front-end that is slow, or that never ends, holds up nothing but its own transfer, and has no
//! more memory of this process than the longest state.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use net_device::snapshot::MAX_LEN;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::pipe::{SpliceFlags, splice};

use crate::sys::{Interest, Wanted, foreign, retry};

#[cfg(test)]
mod tests;

/// Reasons why a state does not pass.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// Not a descriptor that can be written or read without asking anybody.
    #[error("its descriptor is neither a pipe nor a file in memory; pass a pipe")]
    Descriptor,
    /// The kernel refuses, or the other end is closed.
    #[error("its descriptor failed")]
    Io(#[from] io::Error),
    /// More than any state has.
    #[error("it does not end after {MAX_LEN} bytes")]
    TooLong,
    /// CHECK_DEVICE_STATE comes too early.
    #[error("{0} bytes have passed, and it is not at its end; close the descriptor first")]
    Unfinished(u64),
    /// CHECK_DEVICE_STATE without a transfer.
    #[error("none was asked for")]
    Nothing,
}

/// Direction of a transfer, as the front-end sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Save,
    Load,
}

/// One transfer.
#[derive(Debug)]
pub struct Transfer {
    direction: Direction,
    /// The front-end's descriptor, until everything has passed.
    fd: Option<OwnedFd>,
    is_pipe: bool,
    /// Bytes to save, or those that were loaded.
    staged: File,
    /// Bytes that have passed.
    moved: u64,
    /// Bytes that there are, or at most may be.
    len: u64,
    failure: Option<TransferError>,
}

impl Transfer {
    /// A transfer of `state` to the front-end.
    ///
    /// # Errors
    /// The descriptor is of no use, or the kernel has no memory.
    pub fn save(state: &[u8], fd: OwnedFd) -> Result<Self, TransferError> {
        let transfer = Self::new(Direction::Save, fd, state.len() as u64)?;
        transfer.staged.write_all_at(state, 0)?;
        Ok(transfer)
    }

    /// A transfer of a state from the front-end.
    ///
    /// # Errors
    /// As for [`Transfer::save`].
    pub fn load(fd: OwnedFd) -> Result<Self, TransferError> {
        // One byte more tells a state that is too long from one that is not.
        Self::new(Direction::Load, fd, MAX_LEN as u64 + 1)
    }

    fn new(direction: Direction, fd: OwnedFd, len: u64) -> Result<Self, TransferError> {
        let is_pipe = foreign::is_pipe(fd.as_fd())?;
        if !is_pipe && !foreign::is_memory_file(fd.as_fd()) {
            return Err(TransferError::Descriptor);
        }
        let staged = memfd_create("device-state", MemfdFlags::CLOEXEC).map_err(io::Error::from)?;
        Ok(Self {
            direction,
            fd: Some(fd),
            is_pipe,
            staged: staged.into(),
            moved: 0,
            len,
            failure: None,
        })
    }

    /// Descriptor to wait for before [`Transfer::advance`] is called; `None` when there is nothing
    /// to wait for.
    #[must_use]
    pub fn wanted(&self) -> Option<Wanted<'_>> {
        let interest = match self.direction {
            Direction::Save => Interest::Writable,
            Direction::Load => Interest::Readable,
        };
        let fd = self.fd.as_ref().filter(|_| self.is_pipe);
        fd.map(|fd| (fd.as_fd(), interest))
    }

    /// Moves what can be moved without a wait. The descriptor is closed when nothing is left, which
    /// is how the front-end learns of the end.
    pub fn advance(&mut self) {
        let Some(fd) = self.fd.take() else { return };
        let step = match self.direction {
            Direction::Save if self.is_pipe => self.fill_pipe(&fd),
            Direction::Load if self.is_pipe => self.empty_pipe(&fd),
            Direction::Save => self.write_file(&fd).map(|()| true),
            // The front-end says when everything is there.
            Direction::Load => {
                self.fd = Some(fd);
                return;
            }
        };
        match step {
            Ok(true) => {}
            Ok(false) => self.fd = Some(fd),
            Err(error) => self.failure = Some(error),
        }
    }

    /// Ends a transfer, and returns the state that was loaded.
    ///
    /// # Errors
    /// It did not succeed.
    pub fn end(mut self) -> Result<Option<Vec<u8>>, TransferError> {
        self.advance();
        if let Some(fd) = self.fd.take_if(|_| !self.is_pipe) {
            self.read_file(fd)?;
        }
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        if self.fd.is_some() {
            return Err(TransferError::Unfinished(self.moved));
        }
        if self.direction == Direction::Save {
            return Ok(None);
        }
        let mut state = vec![0; self.moved as usize];
        self.staged.read_exact_at(&mut state, 0)?;
        Ok(Some(state))
    }

    /// Returns whether the pipe has everything.
    fn fill_pipe(&mut self, pipe: &OwnedFd) -> Result<bool, TransferError> {
        while self.moved < self.len {
            let (mut at, left) = (self.moved, self.len - self.moved);
            let flags = SpliceFlags::NONBLOCK;
            let moved = retry(|| {
                splice(
                    &self.staged,
                    Some(&mut at),
                    pipe,
                    None,
                    left as usize,
                    flags,
                )
            });
            match moved {
                Ok(moved) => self.moved += moved as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// Returns whether the pipe has come to its end.
    fn empty_pipe(&mut self, pipe: &OwnedFd) -> Result<bool, TransferError> {
        while self.moved < self.len {
            let (mut at, left) = (self.moved, self.len - self.moved);
            let flags = SpliceFlags::NONBLOCK;
            let moved = retry(|| {
                splice(
                    pipe,
                    None,
                    &self.staged,
                    Some(&mut at),
                    left as usize,
                    flags,
                )
            });
            match moved {
                Ok(0) => return Ok(true),
                Ok(moved) => self.moved += moved as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Err(TransferError::TooLong)
    }

    fn write_file(&mut self, fd: &OwnedFd) -> Result<(), TransferError> {
        let mut state = vec![0; self.len as usize];
        self.staged.read_exact_at(&mut state, 0)?;
        File::from(fd.try_clone()?).write_all(&state)?;
        self.moved = self.len;
        Ok(())
    }

    fn read_file(&mut self, fd: OwnedFd) -> Result<(), TransferError> {
        let mut state = Vec::new();
        File::from(fd).take(self.len).read_to_end(&mut state)?;
        if state.len() as u64 == self.len {
            return Err(TransferError::TooLong);
        }
        self.staged.write_all_at(&state, 0)?;
        self.moved = state.len() as u64;
        Ok(())
    }
}
