//! Ports of an engine: a backend, a limit and a control handler, each as unreliable as
//! the input wants.

use std::collections::VecDeque;
use std::io::{self, Stdin};
use std::os::fd::{AsFd, BorrowedFd};

use net_queue::ctrl::{Command, CommandHandler, MAX_COMMAND, Reply};
use net_queue::header::{HdrSize, NetHdr, RawHdr, TxRules};
use net_queue::testing::command_bytes;
use net_queue::{
    Caps, FrameBackend, Gather, Limit, LinkConfig, MAX_FRAME, MAX_SEGMENTS, Offloads, RecvError,
    Refusal, Scatter, SendError,
};

/// Next answer of the backend.
#[derive(Clone, Copy, Debug, Default)]
pub enum Mood {
    /// Yes.
    #[default]
    Willing,
    /// Not now.
    Busy,
    /// Not this frame.
    Picky,
    /// Never again.
    Gone,
}

/// Checks each frame that it is sent and delivers those it was given.
pub struct Port {
    /// Answer of the backend to frames.
    pub mood: Mood,
    /// Frames to deliver, header first.
    pub frames: VecDeque<Vec<u8>>,
    /// Number of frames taken from those.
    taken: usize,
    /// Which of them it lost, counted from 0.
    pub lost: Vec<usize>,
    /// Calls since it was last set to 0.
    pub calls: u32,
    /// Frames sent, header first, when it keeps them.
    pub sent: Vec<Vec<u8>>,
    /// True if it does.
    pub keeps: bool,
    /// Action of the driver during the next call.
    pub meanwhile: Option<Box<dyn FnOnce() + Send>>,
    size: HdrSize,
    rules: TxRules,
    fd: Stdin,
}

impl Port {
    /// A port behind headers of `size`, to which frames may come with `offloads`.
    pub fn new(size: HdrSize, offloads: Offloads) -> Self {
        Self {
            mood: Mood::default(),
            frames: VecDeque::new(),
            taken: 0,
            lost: Vec::new(),
            calls: 0,
            sent: Vec::new(),
            keeps: false,
            meanwhile: None,
            size,
            rules: TxRules::new(offloads),
            fd: io::stdin(),
        }
    }

    fn call(&mut self) {
        self.calls += 1;
        if let Some(meanwhile) = self.meanwhile.take() {
            meanwhile();
        }
    }
}

impl FrameBackend for Port {
    fn caps(&self) -> Caps {
        Caps::default()
    }

    fn configure(&mut self, _: &LinkConfig) -> io::Result<()> {
        Ok(())
    }

    fn send(&mut self, frame: &Gather<'_>) -> Result<(), SendError> {
        self.call();
        let header = self.size.bytes();
        let mut bytes = vec![0; frame.len()];
        assert!(frame.len() <= MAX_FRAME + header && frame.header_len() == header);
        assert!(frame.as_iovecs().len() <= MAX_SEGMENTS);
        assert_eq!(frame.copy_to(&mut bytes)?, frame.len());
        let mut raw = RawHdr::new(self.size);
        raw.as_mut_bytes().copy_from_slice(&bytes[..header]);
        let hdr = NetHdr::check_tx(&raw, (frame.len() - header) as u32, self.rules);
        let hdr = hdr.expect("sent what the check refuses");
        assert_eq!(hdr.to_raw(self.size).as_bytes(), raw.as_bytes());
        match self.mood {
            Mood::Willing => {
                if self.keeps {
                    self.sent.push(bytes);
                }
                Ok(())
            }
            Mood::Busy => Err(SendError::WouldBlock),
            Mood::Picky => Err(SendError::Refused),
            Mood::Gone => Err(SendError::Dead(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn recv(&mut self, room: &mut Scatter<'_>) -> Result<usize, RecvError> {
        self.call();
        assert!(!room.is_empty() && room.as_iovecs().len() <= MAX_SEGMENTS);
        match self.mood {
            Mood::Gone => return Err(RecvError::Dead(io::ErrorKind::BrokenPipe.into())),
            Mood::Busy => return Err(RecvError::WouldBlock),
            Mood::Willing | Mood::Picky => {}
        }
        let frame = self.frames.pop_front().ok_or(RecvError::WouldBlock)?;
        self.taken += 1;
        if matches!(self.mood, Mood::Picky) {
            self.lost.push(self.taken - 1);
            return Err(RecvError::Lost);
        }
        Ok(room.write_at(0, &frame)?)
    }

    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Lets a number of frames pass.
#[derive(Debug, Default)]
pub struct Gate {
    /// Number of frames that may still pass.
    pub left: u32,
}

impl Limit for Gate {
    fn take(&mut self, now: u64, _: u64) -> Result<(), u64> {
        self.left = self.left.checked_sub(1).ok_or(now + 1)?;
        Ok(())
    }

    fn force(&mut self, _: u64, _: u64) {
        self.left = self.left.saturating_sub(1);
    }

    fn refund(&mut self, _: u64) {
        self.left += 1;
    }
}

/// Takes the commands that parse.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parser;

impl CommandHandler for Parser {
    fn execute(&mut self, command: Command<'_>, reply: &mut Reply<'_>) -> Result<(), Refusal> {
        let bytes = command_bytes(&command);
        assert!(bytes.len() <= MAX_COMMAND);
        (crate::ctrl::TARGET.run)(&bytes);
        // Cut to the room there is, which may be none.
        reply.push(&bytes);
        Ok(())
    }
}
