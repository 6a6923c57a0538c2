//! Frames over sockets: in pieces, against a peer that does not read, and past the peer's end.

use std::io::{Read, Write};

use rustix::net::sockopt::set_socket_send_buffer_size;

use super::*;

const HEADER: usize = 12;
const LINK: LinkConfig = LinkConfig {
    hdr_len: HEADER,
    rx: Offloads::empty(),
};

fn stream() -> (StreamBackend, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    let mut backend = StreamBackend::new(near).unwrap();
    backend.configure(&LINK).unwrap();
    (backend, far)
}

fn datagrams() -> (DatagramBackend, UnixDatagram) {
    let (near, far) = UnixDatagram::pair().unwrap();
    let mut backend = DatagramBackend::new(near).unwrap();
    backend.configure(&LINK).unwrap();
    (backend, far)
}

/// Sends `frame` behind a header.
fn send_frame(backend: &mut impl FrameBackend, frame: &[u8]) -> Result<(), SendError> {
    let bytes = [&[0xee; HEADER], frame].concat();
    Gather::with_bytes(&bytes, HEADER, |frame| backend.send(frame))
}

/// Receives a frame, whose header has to be there and empty.
fn recv_frame(backend: &mut impl FrameBackend) -> Result<Vec<u8>, RecvError> {
    let mut room = vec![0xee; HEADER + MAX_FRAME];
    let len = Scatter::with_bytes(&mut room, |room| backend.recv(room))?;
    assert_eq!(room[..HEADER], [0; HEADER]);
    Ok(room[HEADER..len].to_vec())
}

fn framed(frame: &[u8]) -> Vec<u8> {
    [&(frame.len() as u32).to_be_bytes(), frame].concat()
}

fn frame(number: u8, len: usize) -> Vec<u8> {
    vec![number; len]
}

/// The frames in a stream, which has to end with one.
fn frames(mut stream: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let Some((prefix, rest)) = stream.split_first_chunk::<4>() {
        let (frame, rest) = rest.split_at(u32::from_be_bytes(*prefix) as usize);
        found.push(frame.to_vec());
        stream = rest;
    }
    assert!(stream.is_empty());
    found
}

#[test]
fn frames_pass_a_stream_behind_their_length_and_without_their_header() {
    let (mut backend, mut far) = stream();
    send_frame(&mut backend, &frame(1, 60)).unwrap();
    let mut bytes = [0; 64];
    far.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes[..], framed(&frame(1, 60)));

    let sent = [framed(&frame(2, 60)), framed(&frame(3, 1514))].concat();
    far.write_all(&sent).unwrap();
    assert_eq!(recv_frame(&mut backend).unwrap(), frame(2, 60));
    assert_eq!(recv_frame(&mut backend).unwrap(), frame(3, 1514));
    assert!(matches!(
        recv_frame(&mut backend),
        Err(RecvError::WouldBlock)
    ));
}

#[test]
fn a_frame_that_arrives_byte_by_byte_is_delivered_once() {
    let (mut backend, mut far) = stream();
    for _ in 0..3 {
        let sent = framed(&frame(4, 80));
        let (last, first) = sent.split_last().unwrap();
        for byte in first {
            far.write_all(&[*byte]).unwrap();
            assert!(matches!(
                recv_frame(&mut backend),
                Err(RecvError::WouldBlock)
            ));
        }
        far.write_all(&[*last]).unwrap();
        assert_eq!(recv_frame(&mut backend).unwrap(), frame(4, 80));
    }
}

#[test]
fn more_frames_than_a_buffer_holds_arrive_in_order() {
    let (mut backend, mut far) = stream();
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        while got.len() < 200 {
            match recv_frame(&mut backend) {
                Ok(frame) => got.push((frame[0], frame.len())),
                Err(RecvError::WouldBlock) => std::thread::yield_now(),
                Err(error) => panic!("{error:?}"),
            }
        }
        got
    });
    let sent: Vec<_> = (0..200u8).map(|n| (n, 1 + usize::from(n) * 300)).collect();
    for (number, len) in &sent {
        far.write_all(&framed(&frame(*number, *len))).unwrap();
    }
    assert_eq!(reader.join().unwrap(), sent);
}

/// Sends frames of 60,000 bytes until the socket has no room; returns how many it took whole.
fn fill(backend: &mut StreamBackend) -> u8 {
    for number in 0.. {
        match send_frame(backend, &frame(number, 60_000)) {
            Ok(()) => {}
            Err(SendError::WouldBlock) => return number,
            Err(error) => panic!("{error:?}"),
        }
    }
    unreachable!("a socket has an end")
}

#[test]
fn a_frame_of_which_the_socket_took_a_part_is_sent_once_and_whole() {
    let mut torn = 0;
    for same in [true, false] {
        for size in (20_000..140_000).step_by(7_000) {
            let (mut backend, mut far) = stream();
            set_socket_send_buffer_size(&backend.socket, size).unwrap();
            let count = fill(&mut backend);
            let is_torn = !backend.left.is_empty();
            assert_eq!(backend.is_mid_frame(), is_torn);
            torn += usize::from(is_torn);
            // The device tries again, or was reset meanwhile and has another one.
            let next = if same { count } else { 0xaa };
            let mut bytes = Vec::new();
            far.set_nonblocking(true).unwrap();
            loop {
                let mut part = vec![0; 10_000];
                match far.read(&mut part) {
                    Ok(len) => bytes.extend_from_slice(&part[..len]),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
                match send_frame(&mut backend, &frame(next, 60_000)) {
                    Ok(()) => break,
                    Err(error) => assert!(matches!(error, SendError::WouldBlock)),
                }
            }
            drop(backend);
            far.set_nonblocking(false).unwrap();
            far.read_to_end(&mut bytes).unwrap();
            let mut expected: Vec<_> = (0..count).collect();
            expected.extend((is_torn && !same).then_some(count));
            expected.push(next);
            let expected = expected.into_iter().map(|number| frame(number, 60_000));
            assert!(frames(&bytes).into_iter().eq(expected), "{same}, {size}");
        }
    }
    assert!(torn > 0, "the kernel never took a part of a frame");
}

#[test]
fn a_length_that_no_frame_has_ends_the_link_and_an_empty_frame_does_not() {
    let (mut backend, mut far) = stream();
    far.write_all(&[framed(&[]), framed(&frame(5, 60))].concat())
        .unwrap();
    assert!(matches!(recv_frame(&mut backend), Err(RecvError::Lost)));
    assert_eq!(recv_frame(&mut backend).unwrap(), frame(5, 60));
    far.write_all(&(MAX_FRAME as u32 + 1).to_be_bytes())
        .unwrap();
    for _ in 0..2 {
        assert!(matches!(recv_frame(&mut backend), Err(RecvError::Dead(_))));
    }
}

#[test]
fn a_peer_that_left_ends_the_link_once_its_frames_are_delivered() {
    let (mut backend, mut far) = stream();
    assert!(backend.check().is_ok());
    far.write_all(&framed(&frame(6, 60))).unwrap();
    drop(far);
    assert_eq!(recv_frame(&mut backend).unwrap(), frame(6, 60));
    assert!(matches!(recv_frame(&mut backend), Err(RecvError::Dead(_))));
    assert!(backend.check().is_err());
    let sent = send_frame(&mut backend, &frame(7, 60));
    assert!(matches!(sent, Err(SendError::Dead(_))));
}

#[test]
fn a_datagram_is_a_frame() {
    let (mut backend, far) = datagrams();
    send_frame(&mut backend, &frame(1, 60)).unwrap();
    let mut bytes = [0; 100];
    let len = far.recv(&mut bytes).unwrap();
    assert_eq!(bytes[..len], frame(1, 60));

    for frame in [
        &frame(2, 60)[..],
        &[],
        &frame(3, MAX_FRAME + 1),
        &frame(4, MAX_FRAME),
    ] {
        far.send(frame).unwrap();
    }
    assert_eq!(recv_frame(&mut backend).unwrap(), frame(2, 60));
    for _ in 0..2 {
        assert!(matches!(recv_frame(&mut backend), Err(RecvError::Lost)));
    }
    assert_eq!(recv_frame(&mut backend).unwrap(), frame(4, MAX_FRAME));
    assert!(matches!(
        recv_frame(&mut backend),
        Err(RecvError::WouldBlock)
    ));
}

#[test]
fn a_datagram_that_the_kernel_never_takes_is_refused_and_the_next_one_passes() {
    let (mut backend, far) = datagrams();
    set_socket_send_buffer_size(&backend.socket, 4096).unwrap();
    let sent = send_frame(&mut backend, &frame(1, 60_000));
    assert!(matches!(sent, Err(SendError::Refused)));
    send_frame(&mut backend, &frame(2, 60)).unwrap();
    let mut bytes = [0; 100];
    let len = far.recv(&mut bytes).unwrap();
    assert_eq!(bytes[..len], frame(2, 60));
}

#[test]
fn an_empty_datagram_is_not_the_end_of_a_peer() {
    let (mut backend, far) = datagrams();
    far.send(&[]).unwrap();
    assert!(backend.check().is_ok());
    assert!(matches!(recv_frame(&mut backend), Err(RecvError::Lost)));
    assert!(backend.check().is_ok());
}

#[test]
fn datagrams_wait_for_a_peer_that_does_not_read_and_fail_without_one() {
    let (mut backend, far) = datagrams();
    let full = (0..100_000).find_map(|_| send_frame(&mut backend, &frame(1, 1000)).err());
    assert!(matches!(full, Some(SendError::WouldBlock)));
    assert!(backend.check().is_ok());
    drop(far);
    let sent = send_frame(&mut backend, &frame(1, 60));
    assert!(matches!(sent, Err(SendError::Dead(_))));
}
