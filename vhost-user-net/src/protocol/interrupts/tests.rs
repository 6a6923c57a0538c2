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
