//! A backend without a network: frames go to and come from a test.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::{Caps, FrameBackend, LinkConfig, RecvError, SendError};
use crate::memory::iovec::{Gather, Scatter};

/// Answer of the backend instead of moving one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It moves the frame after all: a place holder in a script.
    Pass,
    /// It has no room, or no frame.
    WouldBlock,
    /// It refuses the frame sent, or loses the one received.
    Refused,
    /// It is gone.
    Dead,
}

#[derive(Debug, Default)]
struct State {
    caps: Caps,
    links: Vec<LinkConfig>,
    arriving: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    send_script: VecDeque<Answer>,
    recv_script: VecDeque<Answer>,
    rooms: Vec<usize>,
}

/// The backend's other end, in the hands of the test. Clones share it.
#[derive(Clone, Debug)]
pub struct Wire {
    state: Arc<Mutex<State>>,
    bell: Arc<UnixStream>,
}

/// Carries frames between an engine and a [`Wire`]. Its fd is readable while frames are waiting.
#[derive(Debug)]
pub struct ScriptedBackend {
    state: Arc<Mutex<State>>,
    /// Holds a byte or more while frames are waiting.
    bell: UnixStream,
}

/// Sockets of Miri block, so they stay silent there: nobody waits for frames under it.
const SILENT: bool = cfg!(miri);

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wire {
    /// A wire and the backend at its other end.
    #[must_use]
    pub fn new() -> (ScriptedBackend, Self) {
        let (rung, bell) = UnixStream::pair().expect("a socket pair can be made");
        for end in [&rung, &bell] {
            if !SILENT {
                end.set_nonblocking(true).expect("a socket takes flags");
            }
        }
        let state = Arc::<Mutex<State>>::default();
        let backend = ScriptedBackend {
            state: state.clone(),
            bell: rung,
        };
        let bell = Arc::new(bell);
        (backend, Self { state, bell })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Lets one frame arrive; `bytes` begin with its header.
    pub fn inject(&self, bytes: impl Into<Vec<u8>>) {
        let mut state = self.state();
        state.arriving.push_back(bytes.into());
        if !SILENT {
            // A full socket already says that frames are waiting.
            let _ = (&*self.bell).write(&[0]);
        }
    }

    /// Frames that arrived and were not received yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.state().arriving.len()
    }

    /// Drops the frames that were not received yet, as a link does from which its queue is
    /// detached; returns their number.
    pub fn purge(&self) -> usize {
        let mut state = self.state();
        let waiting = state.arriving.len();
        state.arriving.clear();
        waiting
    }

    /// Takes what was sent: each frame with its header, in order.
    #[must_use]
    pub fn take_sent(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.state().sent)
    }

    /// Sets the answers to the next sends; afterwards they pass.
    pub fn script_send(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state().send_script.extend(answers);
    }

    /// Sets the answers to the next receives; afterwards they pass.
    pub fn script_recv(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state().recv_script.extend(answers);
    }

    /// Forgets what is left of both scripts.
    pub fn clear_scripts(&self) {
        let mut state = self.state();
        state.send_script.clear();
        state.recv_script.clear();
    }

    /// Sets the answer of [`FrameBackend::caps`].
    pub fn set_caps(&self, caps: Caps) {
        self.state().caps = caps;
    }

    /// Configurations of the backend, in order.
    #[must_use]
    pub fn links(&self) -> Vec<LinkConfig> {
        self.state().links.clone()
    }

    /// Takes the room, in bytes, that each receive offered.
    #[must_use]
    pub fn take_rooms(&self) -> Vec<usize> {
        std::mem::take(&mut self.state().rooms)
    }
}

fn gone() -> io::Error {
    io::Error::from(io::ErrorKind::NotConnected)
}

impl FrameBackend for ScriptedBackend {
    fn caps(&self) -> Caps {
        lock(&self.state).caps
    }

    fn configure(&mut self, link: &LinkConfig) -> io::Result<()> {
        lock(&self.state).links.push(*link);
        Ok(())
    }

    fn send(&mut self, frame: &Gather<'_>) -> Result<(), SendError> {
        let mut state = lock(&self.state);
        match state.send_script.pop_front().unwrap_or(Answer::Pass) {
            Answer::Pass => {}
            Answer::WouldBlock => return Err(SendError::WouldBlock),
            Answer::Refused => return Err(SendError::Refused),
            Answer::Dead => return Err(SendError::Dead(gone())),
        }
        let mut bytes = vec![0; frame.len()];
        assert_eq!(
            frame.copy_to(&mut bytes)?,
            bytes.len(),
            "a frame has its length"
        );
        state.sent.push(bytes);
        Ok(())
    }

    fn recv(&mut self, room: &mut Scatter<'_>) -> Result<usize, RecvError> {
        let mut state = lock(&self.state);
        state.rooms.push(room.len());
        let answer = state.recv_script.pop_front().unwrap_or(Answer::Pass);
        match answer {
            Answer::WouldBlock => return Err(RecvError::WouldBlock),
            Answer::Dead => return Err(RecvError::Dead(gone())),
            Answer::Pass | Answer::Refused => {}
        }
        let frame = state.arriving.pop_front();
        if state.arriving.is_empty() {
            while !SILENT && matches!((&self.bell).read(&mut [0; 512]), Ok(1..)) {}
        }
        let frame = frame.ok_or(RecvError::WouldBlock)?;
        if answer == Answer::Refused {
            return Err(RecvError::Lost);
        }
        Ok(room.write_at(0, &frame)?)
    }

    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
