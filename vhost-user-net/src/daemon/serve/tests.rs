//! Sockets that are taken, left over or inherited; whole conversations; floods.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;

use net_device::net_queue::Offloads;
use net_device::{NetConfig, Port, PortControl};
use net_queue::testing::Wire;
use vhost::vhost_user::message::FrontendReq;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use super::*;

struct NoControl;

impl PortControl for NoControl {
    fn attach(&self, _on: bool) -> io::Result<()> {
        Ok(())
    }

    fn set_offloads(&self, _rx: Offloads) -> io::Result<()> {
        Ok(())
    }
}

fn device() -> NetDevice {
    let port = Port::new(Box::new(Wire::new().0), Box::new(NoControl));
    NetDevice::from_ports(NetConfig::default(), vec![port]).unwrap()
}

const NEED_REPLY: u32 = 9;
const PLAIN: u32 = 1;

fn message(code: FrontendReq, flags: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = [code.into(), flags, payload.len() as u32]
        .map(u32::to_ne_bytes)
        .as_flattened()
        .to_vec();
    bytes.extend(payload);
    bytes
}

fn number(code: FrontendReq, flags: u32, value: u64) -> Vec<u8> {
    message(code, flags, &value.to_ne_bytes())
}

fn reply(socket: &mut UnixStream) -> u64 {
    let mut bytes = [0; 20];
    socket.read_exact(&mut bytes).unwrap();
    u64::from_ne_bytes(bytes[12..].try_into().unwrap())
}

/// Runs a front-end's script against a daemon, to the end of the conversation.
fn converse(script: impl FnOnce(UnixStream)) {
    let (front_end, back_end) = UnixStream::pair().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut device = device();
            let (termination, lost) = (Termination::new().unwrap(), sys::event().unwrap());
            Server::new(&mut device, &termination, &lost)
                .run(Source::Connected(back_end))
                .unwrap();
        });
        script(front_end);
    });
}

/// Returns whether the daemon has ended the conversation, and nothing came before.
fn is_over(socket: &mut UnixStream) -> bool {
    matches!(socket.read(&mut [0]), Ok(0) | Err(_))
}

#[test]
fn a_refusal_is_answered_when_that_was_agreed() {
    converse(|mut socket| {
        let reply_ack = 1 << 3;
        socket
            .write_all(&number(
                FrontendReq::SET_PROTOCOL_FEATURES,
                PLAIN,
                reply_ack,
            ))
            .unwrap();
        socket
            .write_all(&number(FrontendReq::SET_FEATURES, NEED_REPLY, 1 << 60))
            .unwrap();
        assert_eq!(reply(&mut socket), 1);
        socket
            .write_all(&number(FrontendReq::SET_FEATURES, NEED_REPLY, 1 << 32))
            .unwrap();
        assert_eq!(reply(&mut socket), 0);
        socket
            .write_all(&message(FrontendReq::GET_QUEUE_NUM, NEED_REPLY, &[]))
            .unwrap();
        assert_eq!(reply(&mut socket), 3);
    });
}

#[test]
fn without_agreement_a_refusal_ends_the_conversation() {
    converse(|mut socket| {
        socket
            .write_all(&number(FrontendReq::SET_FEATURES, NEED_REPLY, 1 << 60))
            .unwrap();
        assert!(is_over(&mut socket));
    });
}

#[test]
fn a_malformed_message_ends_the_conversation() {
    converse(|mut socket| {
        socket
            .write_all(&message(FrontendReq::SET_FEATURES, PLAIN, &[0; 7]))
            .unwrap();
        assert!(is_over(&mut socket));
    });
}

#[test]
fn ten_thousand_requests_with_descriptors_leave_nothing_behind() {
    let (mut reader, writer) = io::pipe().unwrap();
    converse(|mut socket| {
        for i in 0..10_000u32 {
            let (code, ring) = match i % 4 {
                0 => (FrontendReq::SET_VRING_KICK, i % 3),
                1 => (FrontendReq::SET_VRING_CALL, i % 3),
                2 => (FrontendReq::SET_VRING_ERR, i % 3),
                _ => (FrontendReq::SET_LOG_FD, 0),
            };
            let payload = u64::from(ring).to_ne_bytes();
            let bytes = message(
                code,
                PLAIN,
                if code == FrontendReq::SET_LOG_FD {
                    &[]
                } else {
                    &payload
                },
            );
            socket.send_with_fd(&bytes[..], writer.as_raw_fd()).unwrap();
        }
        socket
            .write_all(&message(FrontendReq::GET_QUEUE_NUM, PLAIN, &[]))
            .unwrap();
        assert_eq!(reply(&mut socket), 3);
    });
    drop(writer);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}

#[test]
fn ten_thousand_conversations_with_spare_descriptors_leave_nothing_behind() {
    let (mut reader, writer) = io::pipe().unwrap();
    let mut device = device();
    let (termination, lost) = (Termination::new().unwrap(), sys::event().unwrap());
    let mut server = Server::new(&mut device, &termination, &lost);
    let codes = [
        FrontendReq::GET_FEATURES,
        FrontendReq::SET_MEM_TABLE,
        FrontendReq::SET_LOG_BASE,
    ];
    for i in 0..10_000usize {
        let (front_end, back_end) = UnixStream::pair().unwrap();
        let bytes = message(codes[i % codes.len()], PLAIN, &vec![0; i % 64]);
        let fds = vec![writer.as_raw_fd(); 1 + i % 3];
        front_end.send_with_fds(&[&bytes[..]], &fds).unwrap();
        drop(front_end);
        server.run(Source::Connected(back_end)).unwrap();
    }
    drop(writer);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_lost_worker_ends_the_daemon() {
    let mut device = device();
    let (termination, lost) = (Termination::new().unwrap(), sys::event().unwrap());
    crate::protocol::interrupts::signal(Some(&lost)).unwrap();
    let (_front_end, back_end) = UnixStream::pair().unwrap();
    let result = Server::new(&mut device, &termination, &lost).run(Source::Connected(back_end));
    assert!(matches!(result, Err(ServeError::WorkerLost)));
}

#[test]
fn inherited_descriptors_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(directory.path().join("net.sock")).unwrap();
    let (one, _two) = UnixStream::pair().unwrap();
    let file = tempfile::tempfile_in("/dev/shm").unwrap();
    assert!(matches!(
        Source::inherit(listener.as_raw_fd()),
        Ok(Source::Listener(_))
    ));
    assert!(matches!(
        Source::inherit(one.as_raw_fd()),
        Ok(Source::Connected(_))
    ));
    assert!(matches!(
        Source::inherit(file.as_raw_fd()),
        Err(ServeError::Descriptor(_))
    ));
    assert!(matches!(
        Source::inherit(-1),
        Err(ServeError::Descriptor(-1))
    ));
}

#[test]
fn causes_stand_on_one_line() {
    let error = |source| {
        ServeError::from(ListenError::Listen {
            path: "p".into(),
            source,
        })
    };
    let other = error(io::Error::other("why"));
    assert_eq!(chain(&other), "cannot listen at p: why");
    let shortage = chain(&error(io::Error::from_raw_os_error(libc::EMFILE)));
    assert!(
        shortage.contains("the limit of open files of this process is"),
        "{shortage}"
    );
}

#[test]
fn a_front_end_that_accepts_nobody_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("net.sock");
    let _silent = sys::listen(sys::bind(&path, false).unwrap()).unwrap();
    // Until as many wait as may.
    let mut waiting = Vec::new();
    let error = loop {
        match sys::connect(&path) {
            Ok(socket) => waiting.push(socket),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    let mut device = device();
    let (termination, lost) = (Termination::new().unwrap(), sys::event().unwrap());
    crate::protocol::interrupts::signal(Some(&lost)).unwrap();
    let result = Server::new(&mut device, &termination, &lost).run(Source::Client(path));
    assert!(matches!(result, Err(ServeError::WorkerLost)));
}

#[test]
fn a_front_end_that_passes_its_own_end_to_be_interrupted_through_is_seen_to_leave() {
    let (theirs, ours) = UnixStream::pair().unwrap();
    let message = [13u32, 1, 8, 0, 0].map(u32::to_ne_bytes);
    theirs
        .send_with_fd(message.as_flattened(), theirs.as_raw_fd())
        .unwrap();
    drop(theirs);
    let (termination, lost) = (Termination::new().unwrap(), sys::event().unwrap());
    let mut device = device();
    let mut server = Server::new(&mut device, &termination, &lost);
    server.run(Source::Connected(ours)).unwrap();
}
