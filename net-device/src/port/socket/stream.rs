//! Frames in a stream of bytes, each behind its length.

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use net_queue::{Caps, FrameBackend, Gather, LinkConfig, RecvError, Scatter, SendError};
use rustix::net::RecvFlags;

use super::{MAX_FRAME, check, deliver, recv_now, send_now, take_frame};

/// Bytes of the length in front of a frame.
const PREFIX: usize = 4;

/// Carries frames over a stream, in which no frame is ever torn.
///
/// A socket may take a part of a frame. The rest is kept and sent before anything else, and the
/// frame counts as not sent until then, so that the device waits for the socket and not the peer
/// for the device. It is known again by its bytes when the device sends it once more.
#[derive(Debug)]
pub struct StreamBackend {
    pub(super) socket: UnixStream,
    header: usize,
    outgoing: Box<[u8]>,
    /// The part of `outgoing` that the socket has not taken.
    pub(super) left: Range<usize>,
    /// Place for a frame while another one waits.
    other: Box<[u8]>,
    incoming: Box<[u8]>,
    /// The part of `incoming` that was not delivered.
    arrived: Range<usize>,
}

impl StreamBackend {
    /// Takes a connected socket.
    ///
    /// # Errors
    /// The socket refuses not to block.
    pub fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // Pages that no frame needs are never touched.
        let buffer = || vec![0; PREFIX + MAX_FRAME].into_boxed_slice();
        Ok(Self {
            socket,
            header: 0,
            outgoing: buffer(),
            left: 0..0,
            other: buffer(),
            incoming: buffer(),
            arrived: 0..0,
        })
    }

    /// Sends what is left of a frame.
    fn flush(&mut self) -> Result<(), SendError> {
        while !self.left.is_empty() {
            let count = send_now(&self.socket, &self.outgoing[self.left.clone()])?;
            self.left.start += count;
        }
        Ok(())
    }

    /// Sends a frame while a part of one waits.
    #[cold]
    fn send_behind(&mut self, frame: &Gather<'_>) -> Result<(), SendError> {
        let whole = PREFIX..self.left.end;
        self.flush()?;
        let len = take_frame(frame, &mut self.other[PREFIX..])?;
        if self.outgoing[whole] == self.other[PREFIX..PREFIX + len] {
            // It is the one that waited.
            return Ok(());
        }
        std::mem::swap(&mut self.outgoing, &mut self.other);
        self.send_new(len)
    }

    /// Sends the frame of `len` bytes in `outgoing`.
    fn send_new(&mut self, len: usize) -> Result<(), SendError> {
        self.outgoing[..PREFIX].copy_from_slice(&(len as u32).to_be_bytes());
        let end = PREFIX + len;
        let count = send_now(&self.socket, &self.outgoing[..end])?;
        self.left = count..end;
        self.flush()
    }

    /// The next frame's place in `incoming`, if it is there as a whole.
    fn next_frame(&self) -> Result<Option<Range<usize>>, RecvError> {
        let arrived = &self.incoming[self.arrived.clone()];
        let Some(prefix) = arrived.first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let len = u32::from_be_bytes(*prefix) as usize;
        if len > MAX_FRAME {
            // Whatever follows, where the next frame begins is not known any more.
            let what = format!("a frame of {len} bytes, at most {MAX_FRAME} are possible");
            return Err(RecvError::Dead(io::Error::new(
                ErrorKind::InvalidData,
                what,
            )));
        }
        let begin = self.arrived.start + PREFIX;
        Ok((arrived.len() >= PREFIX + len).then_some(begin..begin + len))
    }

    /// Receives what there is room for.
    fn fill(&mut self) -> Result<(), RecvError> {
        self.incoming.copy_within(self.arrived.clone(), 0);
        self.arrived = 0..self.arrived.len();
        let room = &mut self.incoming[self.arrived.end..];
        match recv_now(&self.socket, room, RecvFlags::empty())? {
            0 => Err(RecvError::Dead(ErrorKind::UnexpectedEof.into())),
            count => {
                self.arrived.end += count;
                Ok(())
            }
        }
    }
}

impl FrameBackend for StreamBackend {
    fn caps(&self) -> Caps {
        Caps::default()
    }

    fn configure(&mut self, link: &LinkConfig) -> io::Result<()> {
        self.header = link.hdr_len;
        Ok(())
    }

    fn send(&mut self, frame: &Gather<'_>) -> Result<(), SendError> {
        if !self.left.is_empty() {
            return self.send_behind(frame);
        }
        let len = take_frame(frame, &mut self.outgoing[PREFIX..])?;
        self.send_new(len)
    }

    fn is_mid_frame(&self) -> bool {
        !self.left.is_empty()
    }

    fn recv(&mut self, room: &mut Scatter<'_>) -> Result<usize, RecvError> {
        loop {
            if let Some(frame) = self.next_frame()? {
                self.arrived.start = frame.end;
                if frame.is_empty() {
                    return Err(RecvError::Lost);
                }
                return deliver(&self.incoming[frame], self.header, room);
            }
            self.fill()?;
        }
    }

    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn check(&self) -> io::Result<()> {
        check(&self.socket)
    }
}
