//! Receivers as threads of the test: what passes, what does not, and how it ends.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Instant;

use vhost::vhost_user::message::FrontendReq;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use super::*;
use crate::protocol::message_reader::{ConnectionError, RawMessage};
use crate::sys;

/// A front-end, and the link from the receiver of its messages.
struct Rig {
    front_end: UnixStream,
    link: Link,
}

impl Rig {
    fn new() -> Self {
        let (front_end, back_end) = UnixStream::pair().unwrap();
        let (link, theirs) = Link::new().unwrap();
        receive(back_end, theirs);
        Self { front_end, link }
    }

    fn send(&self, bytes: &[u8], fds: &[OwnedFd]) {
        let fds: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        assert_eq!(
            self.front_end.send_with_fds(&[bytes], &fds).unwrap(),
            bytes.len()
        );
    }

    fn next(&mut self) -> Result<RawMessage, ConnectionError> {
        next(&mut self.link)
    }
}

/// Starts a receiver.
fn receive(back_end: UnixStream, daemon: OwnedFd) {
    thread::spawn(move || {
        let null = OpenOptions::new().read(true).write(true).open("/dev/null");
        // The test may end before, and the link with it.
        let _ = process::serve(back_end.as_fd(), daemon.as_fd(), &null.unwrap());
    });
}

/// Waits for a message as the daemon does.
fn next(link: &mut Link) -> Result<RawMessage, ConnectionError> {
    loop {
        let left = link
            .deadline()
            .map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let ms = left.map_or(30_000, |left| left.as_millis() as u16 + 1);
        let ready = sys::is_ready(&*link, sys::Interest::Readable, Some(ms)).unwrap();
        if let Some(message) = link.read()? {
            return Ok(message);
        }
        assert!(ready || left.is_some(), "the receiver says nothing");
    }
}

fn message(payload: &[u8]) -> Vec<u8> {
    let header = [FrontendReq::SET_FEATURES.into(), 1, payload.len() as u32];
    [header.map(u32::to_ne_bytes).as_flattened(), payload].concat()
}

fn name(fd: &OwnedFd) -> String {
    let name = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
    name.to_str().unwrap().to_owned()
}

/// A connection through a path, and its listener.
fn named() -> (UnixStream, UnixListener) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    (UnixStream::connect(&path).unwrap(), listener)
}

#[test]
fn what_the_kernel_alone_closes_is_passed_on_and_the_rest_is_not() {
    let passed: Vec<OwnedFd> = vec![
        tempfile::tempfile_in("/dev/shm").unwrap().into(),
        sys::event().unwrap().into(),
        io::pipe().unwrap().1.into(),
        UnixStream::pair().unwrap().0.into(),
        named().0.into(),
    ];
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let kept: Vec<OwnedFd> = vec![
        File::open("/proc/self/status").unwrap().into(),
        File::open("/dev/zero").unwrap().into(),
        File::open("/").unwrap().into(),
        named().1.into(),
        TcpStream::connect(tcp.local_addr().unwrap())
            .unwrap()
            .into(),
        tcp.into(),
        rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).unwrap(),
    ];
    let mut rig = Rig::new();
    let names: Vec<_> = passed.iter().map(name).collect();
    rig.send(&message(&[1; 8]), &passed);
    let arrived = rig.next().unwrap();
    assert_eq!(arrived.bytes, message(&[1; 8]));
    assert_eq!(arrived.fds.iter().map(name).collect::<Vec<_>>(), names);

    rig.send(&message(&[2; 8]), &kept);
    let arrived = rig.next().unwrap();
    assert_eq!(arrived.bytes, message(&[2; 8]));
    assert_eq!(arrived.fds.len(), kept.len());
    for (fd, was) in arrived.fds.iter().zip(&kept) {
        assert_eq!(name(fd), "/dev/null", "{}", name(was));
    }
}

#[test]
fn one_message_is_under_way_at_a_time() {
    let (front_end, back_end) = UnixStream::pair().unwrap();
    let (daemon, theirs) = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::SEQPACKET,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    receive(back_end, theirs);
    let (mut reader, writer) = io::pipe().unwrap();
    for _ in 0..100 {
        front_end
            .send_with_fd(&message(&[])[..], writer.as_raw_fd())
            .unwrap();
    }
    drop(writer);
    let kind = || {
        let mut packet = [0; 64];
        let (_, len) =
            rustix::net::recv(&daemon, &mut packet, rustix::net::RecvFlags::empty()).unwrap();
        (len, packet[0])
    };
    let is_silent = || !sys::is_ready(&daemon, sys::Interest::Readable, Some(20)).unwrap();
    for _ in 0..3 {
        assert!(is_silent());
        rustix::io::write(&daemon, &[0]).unwrap();
        assert_eq!((kind(), kind()), ((13, 0), (1, 1)));
    }
    // Those that wait are closed with the sockets.
    drop((front_end, daemon));
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}

#[test]
fn ends_are_told_in_the_same_words() {
    let end = |bytes: &[u8], fds: usize| {
        let mut rig = Rig::new();
        let (mut reader, writer) = io::pipe().unwrap();
        let fds: Vec<_> = (0..fds)
            .map(|_| OwnedFd::from(writer.try_clone().unwrap()))
            .collect();
        drop(writer);
        if !bytes.is_empty() {
            rig.send(bytes, &fds);
        }
        drop(fds);
        rig.front_end.shutdown(std::net::Shutdown::Both).unwrap();
        let end = rig.next().unwrap_err();
        // Descriptors of a message that is none are closed where it was received.
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        std::error::Error::source(&end).map_or(end.to_string(), ToString::to_string)
    };
    assert_eq!(end(&[], 0), "the front-end closed the connection");
    assert_eq!(end(&[1, 2, 3], 2), "the connection ended within a message");
    assert_eq!(end(&[0; 12], 2), "message version 0 instead of 1");
    let long = [1u32, 1, 0x10_0000].map(u32::to_ne_bytes);
    assert_eq!(
        end(long.as_flattened(), 2),
        "payload of 1048576 bytes, at most 4096 are accepted"
    );
    assert_eq!(
        end(&message(&[]), 40),
        "too many file descriptors in one message"
    );
    assert_eq!(
        end(&message(&[0; 8])[..13], 33),
        "too many file descriptors in one message"
    );
}

#[test]
fn what_waits_in_a_socket_is_closed_before_it_is_used() {
    let mut rig = Rig::new();
    let (theirs, ours) = UnixStream::pair().unwrap();
    let (mut reader, writer) = io::pipe().unwrap();
    theirs.send_with_fd(&[0u8][..], writer.as_raw_fd()).unwrap();
    rig.send(&message(&[]), &[ours.into()]);
    let mut message = rig.next().unwrap();
    let mut ours = UnixStream::from(message.fds.pop().unwrap());
    assert!(theirs.send_with_fd(&[0u8][..], writer.as_raw_fd()).is_err());
    drop(writer);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    // The other way it is as it was.
    ours.write_all(&[7]).unwrap();
    (&theirs).read_exact(&mut [0]).unwrap();
}

#[test]
fn a_receiver_that_is_not_ready_in_time_ends_the_connection() {
    let (mut link, theirs) = Link::new().unwrap();
    assert!(link.deadline().is_none());
    packet::send_message(theirs.as_fd(), &message(&[]), &[]).unwrap();
    assert!(link.read().unwrap().is_none());
    assert!(link.deadline().is_some());
    assert!(matches!(next(&mut link), Err(ConnectionError::Overdue)));
}

#[test]
fn packets_that_no_receiver_sends_end_the_connection() {
    let valid = message(&[0; 8]);
    let tagged = |bytes: &[u8]| [&[0], bytes].concat();
    let scripts: &[&[&[u8]]] = &[
        &[&[]],
        &[&[7]],
        &[&[1]],
        &[&[0]],
        &[&tagged(&valid[..11])],
        &[&tagged(&valid[..19])],
        &[&tagged(&[&valid[..], &[0]].concat())],
        &[&tagged(&valid), &tagged(&valid)],
        &[&tagged(&valid), &[2, 0, 0, 0, 0, 0]],
        &[&[2]],
        &[&[2, 99, 0, 0, 0, 0]],
        &[&[2, 4, 0, 0]],
    ];
    for script in scripts {
        let (mut link, theirs) = Link::new().unwrap();
        for packet in *script {
            rustix::io::write(&theirs, packet).unwrap();
        }
        let end = next(&mut link);
        assert!(
            matches!(end, Err(ConnectionError::ReceiverLost)),
            "{script:?}: {end:?}"
        );
    }
    let (mut link, theirs) = Link::new().unwrap();
    drop(theirs);
    assert!(matches!(
        next(&mut link),
        Err(ConnectionError::ReceiverLost)
    ));
}
