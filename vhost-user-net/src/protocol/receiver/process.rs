//! The receiver's side: what its process does.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{RecvFlags, Shutdown, recv, shutdown};

use super::packet;
use crate::protocol::message_reader::{MessageReader, RawMessage};
use crate::sys::{self, Interest, foreign};

/// Receives the messages of the front-end at one socket for the daemon at another, until either is
/// gone. `null` is passed on for what must not be.
///
/// # Errors
/// The daemon cannot be told.
pub(super) fn serve(
    front_end: BorrowedFd<'_>,
    daemon: BorrowedFd<'_>,
    null: &File,
) -> io::Result<()> {
    let mut reader = MessageReader::new();
    while is_called(daemon)? {
        let next = loop {
            match reader.read(front_end) {
                Ok(None) => {}
                Ok(Some(message)) => break Ok(message),
                Err(end) => break Err(end),
            }
            let wanted = [
                (front_end, Interest::Readable),
                (daemon, Interest::Readable),
            ];
            // The daemon says nothing while it waits for a message, so this is its end.
            if sys::wait(&wanted, None)?[1] {
                return Ok(());
            }
        };
        match next {
            Ok(message) => {
                pass_on(daemon, &message, null)?;
                // This may take for ever.
                drop(message);
                packet::send_ready(daemon)?;
            }
            Err(end) => {
                packet::send_end(daemon, &end, reader.header_bytes())?;
                // What came with a part of a message, likewise.
                drop(reader);
                // The front-end's socket is to be closed here last: whatever waits in it is closed
                // with it.
                is_called(daemon)?;
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Waits until the daemon wants a message; `false` when it is gone.
fn is_called(daemon: BorrowedFd<'_>) -> io::Result<bool> {
    let mut byte = [0];
    let (_, len) = sys::retry(|| recv(daemon, &mut byte, RecvFlags::empty()))?;
    Ok(len > 0)
}

/// Sends a message with what it may bring along.
fn pass_on(daemon: BorrowedFd<'_>, message: &RawMessage, null: &File) -> io::Result<()> {
    let fds = message.fds.iter();
    let fds: Vec<_> = fds
        .map(|fd| {
            if is_passed_on(fd) {
                fd.as_fd()
            } else {
                null.as_fd()
            }
        })
        .collect();
    packet::send_message(daemon, &message.bytes, &fds)?;
    let fds = message.fds.iter().map(AsFd::as_fd);
    fds.filter(|fd| sys::is_unix_stream_pair(*fd))
        .for_each(empty);
    Ok(())
}

/// Closes what waits in a socket, and lets nothing more come.
fn empty(socket: BorrowedFd<'_>) {
    // Fails where the other end is gone, from which nothing more comes either.
    let _ = shutdown(socket, Shutdown::Read);
    while matches!(
        recv(socket, &mut [0; 4096], RecvFlags::DONTWAIT),
        Ok((_, 1..))
    ) {}
}

/// Returns whether `fd` can be closed without asking anybody.
fn is_passed_on(fd: &OwnedFd) -> bool {
    let fd = fd.as_fd();
    foreign::is_memory_file(fd)
        || foreign::is_event(fd).unwrap_or(false)
        || sys::is_unix_stream_pair(fd)
}
