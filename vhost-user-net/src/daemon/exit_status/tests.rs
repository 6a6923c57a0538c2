//! The status that each kind of end has.

use std::io;

use super::*;

#[test]
fn a_lost_worker_is_told_from_what_the_host_refuses() {
    assert_eq!(of(&ServeError::WorkerLost), LOST);
    assert_eq!(of(&ServeError::PortLost), PORT_LOST);
    assert_eq!(of(&ServeError::Descriptor(9)), UNAVAILABLE);
    assert_eq!(of(&io::Error::other("no")), UNAVAILABLE);
}
