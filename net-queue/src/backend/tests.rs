//! Defaults of the trait, and the meaning of errors of system calls.

use std::io::ErrorKind;

use super::capture::{Capture, FrameTap};
use super::*;
use crate::testing::{Answer, Wire};

#[test]
fn errors_of_system_calls_tell_waiting_memory_and_the_end_apart() {
    let raw = io::Error::from_raw_os_error;
    for code in [libc::EAGAIN, libc::EWOULDBLOCK] {
        assert!(matches!(raw(code).into(), SendError::WouldBlock));
        assert!(matches!(raw(code).into(), RecvError::WouldBlock));
    }
    assert!(matches!(raw(libc::EFAULT).into(), SendError::Memory));
    assert!(matches!(raw(libc::EFAULT).into(), RecvError::Memory));
    assert!(matches!(MemoryFault.into(), SendError::Memory));
    assert!(matches!(MemoryFault.into(), RecvError::Memory));
    for code in [libc::EIO, libc::EBADF, libc::EINVAL] {
        let SendError::Dead(error) = raw(code).into() else {
            panic!("{code} is the end");
        };
        assert_eq!(error.raw_os_error(), Some(code));
        let RecvError::Dead(error) = raw(code).into() else {
            panic!("{code} is the end");
        };
        assert_eq!(error.raw_os_error(), Some(code));
    }
}

/// A backend that is gone, with all else from the trait.
struct Gone(ScriptedGone);
type ScriptedGone = crate::testing::ScriptedBackend;

impl FrameBackend for Gone {
    fn caps(&self) -> Caps {
        Caps {
            mtu: Some(1400),
            ..self.0.caps()
        }
    }

    fn configure(&mut self, link: &LinkConfig) -> io::Result<()> {
        self.0.configure(link)
    }

    fn send(&mut self, frame: &Gather<'_>) -> Result<(), SendError> {
        self.0.send(frame)
    }

    fn is_mid_frame(&self) -> bool {
        true
    }

    fn recv(&mut self, room: &mut Scatter<'_>) -> Result<usize, RecvError> {
        self.0.recv(room)
    }

    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.0.poll_fd()
    }

    fn check(&self) -> io::Result<()> {
        Err(ErrorKind::NotConnected.into())
    }
}

struct Frames(Vec<Vec<u8>>);

impl FrameTap for Frames {
    fn frame(&mut self, bytes: &[u8]) {
        self.0.push(bytes.to_vec());
    }
}

impl FrameTap for &mut Frames {
    fn frame(&mut self, bytes: &[u8]) {
        (**self).frame(bytes);
    }
}

#[test]
fn a_decorator_and_a_box_answer_as_what_they_hold() {
    let (backend, _wire) = Wire::new();
    assert!(backend.check().is_ok(), "the trait's answer");
    assert_eq!((backend.mtu(), backend.is_mid_frame()), (None, false));
    let mut shown = Frames(Vec::new());
    let boxed: Box<dyn FrameBackend + '_> = Box::new(Capture::new(Gone(backend), &mut shown));
    assert_eq!((boxed.mtu(), boxed.caps().mtu), (Some(1400), Some(1400)));
    assert!(boxed.is_mid_frame());
    let gone = boxed.check().map_err(|error| error.kind());
    assert_eq!(gone, Err(ErrorKind::NotConnected));
}

#[test]
fn a_capture_shows_frames_behind_the_header_that_was_configured() {
    let (backend, wire) = Wire::new();
    let mut shown = Frames(Vec::new());
    let mut capture = Capture::new(backend, &mut shown);
    let link = LinkConfig {
        hdr_len: 12,
        rx: crate::offload::Offloads::empty(),
    };
    capture.configure(&link).unwrap();
    wire.script_send([Answer::Refused, Answer::Pass]);
    wire.inject([[0; 12].as_slice(), b"to guest"].concat());
    wire.inject([0; 4]);

    let frame = [[0; 12].as_slice(), b"from guest"].concat();
    let mut send = || Gather::with_bytes(&frame, 12, |frame| capture.send(frame));
    assert!(matches!(send(), Err(SendError::Refused)));
    send().unwrap();
    let mut room = [0; 64];
    let mut recv = || Scatter::with_bytes(&mut room, |room| capture.recv(room));
    assert_eq!(recv().unwrap(), 20);
    assert_eq!(recv().unwrap(), 4, "less than a header");
    assert!(matches!(recv(), Err(RecvError::WouldBlock)));
    drop(capture);
    assert_eq!(shown.0, [b"from guest".as_slice(), b"to guest", b""]);
}
