//! Interrupts through descriptors that a front-end goes on to change.

use super::*;

#[test]
fn a_socket_that_blocks_and_is_full_keeps_no_worker() {
    let (front_end, call) = UnixStream::pair().unwrap();
    let shared = call.try_clone().unwrap();
    let interrupts = Interrupts::new(1, true).unwrap();
    interrupts.set_call(0, Some(call.into())).unwrap();
    shared.set_nonblocking(true).unwrap();
    while (&shared).write(&[0; 4096]).is_ok() {}
    shared.set_nonblocking(false).unwrap();
    interrupts.trigger(InterruptSource::Queue(0)).unwrap();
    drop(front_end);
    assert!(interrupts.trigger(InterruptSource::Queue(0)).is_err());
}

#[test]
fn a_connection_without_a_name_takes_no_socket_to_be_interrupted_through() {
    let interrupts = Interrupts::new(1, false).unwrap();
    let (one, _other) = UnixStream::pair().unwrap();
    assert!(interrupts.set_call(0, Some(one.into())).is_err());
    let event = sys::event().unwrap();
    interrupts.set_call(0, Some(event.into())).unwrap();
}

#[test]
fn a_descriptor_that_made_a_write_wait_is_closed() {
    let interrupts = Interrupts::new(1, false).unwrap();
    let (reader, writer) = io::pipe().unwrap();
    let call = writer.try_clone().unwrap();
    interrupts.set_call(0, Some(call.into())).unwrap();
    while (&writer).write(&[0; 4096]).is_ok() {}
    let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
    rustix::fs::fcntl_setfl(&writer, flags - rustix::fs::OFlags::NONBLOCK).unwrap();
    drop(writer);
    let waited = interrupts.trigger_in_time(0).unwrap_err();
    assert_eq!(waited.kind(), io::ErrorKind::Interrupted);
    // There is no writer left.
    let mut rest = Vec::new();
    io::Read::read_to_end(&mut { reader }, &mut rest).unwrap();
    assert_eq!(rest.len(), 1 << 16);
    interrupts.trigger_in_time(0).unwrap();
}
