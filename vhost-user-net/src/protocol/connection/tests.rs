//! Messages in pieces, in bulk and cut short; front-ends that do not read.

use std::fs::File;
use std::os::fd::AsRawFd;

use vhost::vhost_user::message::FrontendReq;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use super::*;

fn pair() -> (UnixStream, Connection) {
    let (front_end, back_end) = UnixStream::pair().unwrap();
    (front_end, Connection::new(back_end).unwrap())
}

fn message(code: FrontendReq, flags: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = [code.into(), flags, payload.len() as u32]
        .map(u32::to_ne_bytes)
        .as_flattened()
        .to_vec();
    bytes.extend(payload);
    bytes
}

#[test]
fn a_message_may_come_byte_by_byte() {
    let (mut front_end, mut connection) = pair();
    let bytes = message(FrontendReq::SET_FEATURES, 9, &7u64.to_ne_bytes());
    for byte in &bytes[..bytes.len() - 1] {
        front_end.write_all(&[*byte]).unwrap();
        assert!(connection.advance().unwrap().is_none());
    }
    front_end.write_all(&bytes[bytes.len() - 1..]).unwrap();
    let message = connection.advance().unwrap().unwrap();
    assert!(message.header.need_reply);
    assert!(matches!(message.request, Request::SetFeatures(7)));
}

#[test]
fn messages_in_one_write_are_taken_one_by_one() {
    let (mut front_end, mut connection) = pair();
    let bytes = message(FrontendReq::GET_FEATURES, 1, &[]).repeat(3);
    front_end.write_all(&bytes).unwrap();
    for _ in 0..3 {
        assert!(connection.advance().unwrap().is_some());
    }
    assert!(connection.advance().unwrap().is_none());
}

#[test]
fn the_end_between_messages_is_not_the_end_within_one() {
    let (front_end, mut connection) = pair();
    drop(front_end);
    assert!(matches!(connection.advance(), Err(ConnectionError::Closed)));

    let (mut front_end, mut connection) = pair();
    front_end.write_all(&[1, 0, 0]).unwrap();
    drop(front_end);
    assert!(matches!(
        connection.advance(),
        Err(ConnectionError::Truncated)
    ));
}

#[test]
fn descriptors_come_with_their_message() {
    let (front_end, mut connection) = pair();
    let null = File::open("/dev/null").unwrap();
    let bytes = message(FrontendReq::SET_VRING_KICK, 1, &0u64.to_ne_bytes());
    front_end
        .send_with_fd(&bytes[..], null.as_raw_fd())
        .unwrap();
    let message = connection.advance().unwrap().unwrap();
    assert!(matches!(message.request, Request::SetVringKick(kick) if kick.fd.is_some()));
}

/// Each copy of a pipe's end is a sender that was lost or closed: the other end knows when the last
/// one is gone.
#[test]
fn spare_descriptors_are_closed_with_the_message_that_brought_them() {
    // The socket passes these on and refuses the message; the last row is more than a message may
    // have at all.
    for spare in [1, 2, 32, 40] {
        let (mut reader, writer) = io::pipe().unwrap();
        let (front_end, mut connection) = pair();
        let bytes = message(FrontendReq::GET_FEATURES, 1, &[]);
        front_end
            .send_with_fds(&[&bytes[..]], &vec![writer.as_raw_fd(); spare])
            .unwrap();
        drop(writer);
        assert!(connection.advance().is_err());
        drop(connection);
        assert_eq!(
            io::Read::read(&mut reader, &mut [0]).unwrap(),
            0,
            "{spare} descriptors"
        );
    }
}

#[test]
fn a_front_end_that_does_not_read_gets_no_further() {
    let (mut front_end, mut connection) = pair();
    let request = message(FrontendReq::GET_FEATURES, 1, &[]);
    let mut replies = 0;
    while connection.interest() == Interest::Readable {
        front_end.write_all(&request).unwrap();
        assert!(connection.advance().unwrap().is_some());
        connection
            .reply(1, &Answer::Config(0, vec![0; 2048]))
            .unwrap();
        replies += 1;
    }
    front_end.write_all(&request).unwrap();
    assert!(
        connection.advance().unwrap().is_none(),
        "no request is taken while a reply waits"
    );

    let mut rest = vec![0; replies * (12 + 12 + 2048)];
    front_end.set_nonblocking(true).unwrap();
    let mut read = 0;
    while read < rest.len() {
        match io::Read::read(&mut front_end, &mut rest[read..]) {
            Ok(count) => read += count,
            Err(_) => assert!(connection.advance().unwrap().is_none()),
        }
    }
    while connection.interest() == Interest::Writable {
        assert!(connection.advance().unwrap().is_none());
    }
    assert!(
        connection.advance().unwrap().is_some(),
        "the request that had to wait"
    );
}
