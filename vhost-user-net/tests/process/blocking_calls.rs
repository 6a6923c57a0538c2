//! A front-end that fills the descriptor by which it is interrupted, and makes writes to it wait.

use std::fs::File;
use std::io::{PipeReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use vhost::VhostBackend;

use crate::daemon::Daemon;
use crate::guest::{Guest, TX};
use crate::{connect, rings};

/// A front-end whose device has sent one frame, of which it cannot tell.
struct Hostile {
    guest: Guest,
    _call: File,
    _reader: Option<PipeReader>,
}

impl Hostile {
    fn start(daemon: &Daemon, pipe: bool) -> Self {
        let (reader, call) = if pipe {
            let (reader, writer) = std::io::pipe().unwrap();
            (Some(reader), OwnedFd::from(writer))
        } else {
            (None, eventfd(0, EventfdFlags::empty()).unwrap())
        };
        let call = File::from(call);
        let mut guest = Guest::connect(daemon);
        guest.set_up();
        guest.set_call(&call);
        while (&call).write(&(u64::MAX - 1).to_ne_bytes()).is_ok() {}
        let flags = fcntl_getfl(&call).unwrap();
        fcntl_setfl(&call, flags - OFlags::NONBLOCK).unwrap();
        guest.enable();
        guest.send();
        Self {
            guest,
            _call: call,
            _reader: reader,
        }
    }
}

#[test]
fn a_call_that_waits_holds_up_neither_its_ring_nor_the_next_front_end_nor_the_end() {
    for pipe in [false, true] {
        let options = "--tap vmtap0 --and --socket-path other.sock --tap vmtap1";
        let mut daemon = Daemon::serve(&options.split_whitespace().collect::<Vec<_>>());
        let hostile = Hostile::start(&daemon, pipe);
        assert_eq!(hostile.guest.front_end.get_vring_base(TX).unwrap(), 1);
        drop(hostile);
        // One that leaves meanwhile.
        drop(Hostile::start(&daemon, pipe));
        daemon.has_no_receiver();
        assert_eq!(rings(&connect(&daemon)), 3);
        let _hostile = Hostile::start(&daemon, pipe);
        let neighbour = UnixStream::connect(daemon.path("other.sock")).unwrap();
        assert_eq!(rings(&neighbour), 3);
        daemon.signal("TERM");
        assert!(daemon.wait().success());
    }
}
