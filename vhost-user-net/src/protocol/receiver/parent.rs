//! The process that receivers are children of.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{
    Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, set_parent_process_death_signal,
    setpgid,
};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::{Link, process};
use crate::sys::fork::{close_all_but, fork, ignore_ends_of_children};
use crate::sys::{self, Interest, foreign};

/// Bytes of an answer: an error's number or zero, and the number of a process.
const ANSWER: usize = 8;

/// A process that makes a receiver for whoever asks. It ends with this value, and with the process
/// that made it.
#[derive(Debug)]
pub struct ReceiverParent {
    /// One request at a time, with the socket of the front-end and the receiver's end of the link.
    channel: Mutex<OwnedFd>,
}

/// A receiver at work.
#[derive(Debug)]
pub struct Receiver {
    id: u32,
    process: OwnedFd,
}

impl ReceiverParent {
    /// Starts the process. It is to be done before there is a thread beside the calling one, and
    /// while files can be opened.
    ///
    /// # Errors
    /// There are other threads, or the kernel's error.
    pub fn start() -> io::Result<Self> {
        Self::start_with(&sys::open_null()?, || Ok(()))
    }

    /// As [`ReceiverParent::start`], with an open `/dev/null`, and something that the process and
    /// its children are `confined` by.
    pub(crate) fn start_with(
        null: &File,
        confine: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<Self> {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let proc = foreign::proc()?.as_raw_fd();
        fork(|| {
            close_all_but(&mut [theirs.as_raw_fd(), null.as_raw_fd(), proc])?;
            // Nobody waits for a receiver that is stuck to close the daemon's log.
            dup2_stdin(null)?;
            dup2_stdout(null)?;
            dup2_stderr(null)?;
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // No signal of a terminal reaches it.
            setpgid(None, None)?;
            ignore_ends_of_children();
            confine()?;
            // It is ready.
            sys::send_with_fds(theirs.as_fd(), &[&[0; ANSWER]], &[])?;
            answer_requests(theirs.as_fd(), null)
        })?;
        drop(theirs);
        receive::<ANSWER>(ours.as_fd())?;
        Ok(Self {
            channel: Mutex::new(ours),
        })
    }

    /// Has a process receive the messages that come through `socket`.
    ///
    /// # Errors
    /// `UnexpectedEof` or `BrokenPipe` when the parent of receivers is gone, or the kernel's error.
    pub fn receive(&self, socket: BorrowedFd<'_>) -> io::Result<(Receiver, Link)> {
        let (link, theirs) = Link::new()?;
        let channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        sys::send_with_fds(channel.as_fd(), &[&[0]], &[socket, theirs.as_fd()])?;
        let (bytes, fds) = receive::<ANSWER>(channel.as_fd())?;
        drop(channel);
        let (error, id) = bytes.split_at(ANSWER / 2);
        match i32::from_ne_bytes(error.try_into().unwrap_or_default()) {
            0 => {}
            number => return Err(io::Error::from_raw_os_error(number)),
        }
        let id = u32::from_ne_bytes(id.try_into().unwrap_or_default());
        let process = fds.into_iter().next().ok_or(io::ErrorKind::InvalidData)?;
        Ok((Receiver { id, process }, link))
    }
}

impl Receiver {
    /// Number of the process.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Ends it, unless it waits for something that nobody can end.
    pub(crate) fn kill(&self) {
        // One that has ended is as it should be.
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
    }
}

/// Readable once it has ended.
impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }
}

/// Makes receivers until nobody can ask for one any more.
fn answer_requests(channel: BorrowedFd<'_>, null: &File) -> io::Result<()> {
    loop {
        let (_, fds) = match receive::<1>(channel) {
            Ok(request) => request,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        let made = make(&fds, null);
        // Before the answer, so that it is the daemon and the receiver who close the socket.
        drop(fds);
        match made {
            Ok((id, process)) => {
                let id = id.as_raw_nonzero().get();
                let bytes = [0, id].map(i32::to_ne_bytes);
                sys::send_with_fds(channel, &[bytes.as_flattened()], &[process.as_fd()])?;
            }
            Err(error) => {
                let number = error.raw_os_error().unwrap_or(libc::EIO);
                let bytes = [number, 0].map(i32::to_ne_bytes);
                sys::send_with_fds(channel, &[bytes.as_flattened()], &[])?;
            }
        }
    }
}

fn make(fds: &[OwnedFd], null: &File) -> io::Result<(Pid, OwnedFd)> {
    let [front_end, daemon] = fds else {
        return Err(io::Error::from_raw_os_error(libc::EMFILE));
    };
    let id = fork(|| {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        process::serve(front_end.as_fd(), daemon.as_fd(), null)
    })?;
    match pidfd_open(id, PidfdFlags::empty()) {
        Ok(process) => Ok((id, process)),
        Err(error) => {
            // It has not been asked for a message, so nothing keeps it from ending.
            let _ = rustix::process::kill_process(id, Signal::KILL);
            Err(error.into())
        }
    }
}

/// Waits for a packet of `N` bytes, and the descriptors that come with it.
fn receive<const N: usize>(channel: BorrowedFd<'_>) -> io::Result<([u8; N], Vec<OwnedFd>)> {
    let (mut bytes, mut fds) = ([0; N], Vec::new());
    sys::is_ready(channel, Interest::Readable, None)?;
    match sys::recv_with_fds(channel, &mut bytes, &mut fds)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        len if len == N => Ok((bytes, fds)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
