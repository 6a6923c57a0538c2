//! A tap that an operator deletes, makes again, and changes under a guest that sends.

use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use vhost::VhostBackend;
use vhost::vhost_user::VhostUserFrontend;
use vhost::vhost_user::message::VhostUserConfigFlags;

use crate::connect;
use crate::daemon::{Daemon, LIMIT, ip_in, taken};
use crate::guest::{Guest, TX};

/// Long enough for a change of the interface to reach the front-end.
const SETTLED: Duration = Duration::from_millis(50);

/// Sends until a frame arrives at the interface.
fn check_traffic(daemon: &Daemon, guest: &mut Guest, name: &str) {
    let before = taken(daemon, name).unwrap();
    let deadline = Instant::now() + LIMIT;
    while taken(daemon, name).unwrap() == before {
        assert!(Instant::now() < deadline, "nothing passes");
        guest.send();
    }
}

/// Runs `change` while the guest sends. Its device may fail by that.
fn change_under_load(guest: &mut Guest, change: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let changed = scope.spawn(change);
        while !changed.is_finished() {
            guest.send_unless(|| changed.is_finished());
        }
        changed.join().unwrap();
    });
}

#[test]
fn the_next_front_end_is_served_whatever_happened_to_the_tap() {
    let again = "tuntap add dev vmtap0 mode tap vnet_hdr; link set vmtap0 up";
    for (changes, name) in [
        ("link delete vmtap0", "vmtap0"),
        (&format!("link delete vmtap0; {again}")[..], "vmtap0"),
        ("link set vmtap0 down; link set vmtap0 up", "vmtap0"),
        ("link set vmtap0 mtu 9000", "vmtap0"),
        ("link set vmtap0 mtu 600", "vmtap0"),
        (
            "link set vmtap0 down; link set vmtap0 name other0; link set other0 up",
            "other0",
        ),
    ] {
        let mut daemon = Daemon::serve(&[]);
        let mut guest = Guest::start(&daemon);
        check_traffic(&daemon, &mut guest, "vmtap0");
        let process = daemon.id();
        change_under_load(&mut guest, || ip_in(process, changes));
        drop(guest);
        // Nobody is there as it comes and goes.
        daemon.has_no_receiver();
        let mut next = Guest::start(&daemon);
        check_traffic(&daemon, &mut next, name);
        drop(next);
        daemon.signal("TERM");
        assert!(daemon.wait().success(), "{changes}");
    }
}

#[test]
fn a_guest_that_resets_its_device_has_the_tap_that_was_made_again() {
    let mut daemon = Daemon::serve(&["--control-path", "control.sock"]);
    let mut guest = Guest::start(&daemon);
    check_traffic(&daemon, &mut guest, "vmtap0");
    daemon.ip("link delete vmtap0");
    daemon.log_with("network port of pair 0 is gone");
    daemon.ip("tuntap add dev vmtap0 mode tap vnet_hdr; link set vmtap0 up");
    guest.front_end.get_vring_base(TX).unwrap();
    guest.set_up();
    guest.enable();
    check_traffic(&daemon, &mut guest, "vmtap0");
}

/// Bit 0 of the configuration's status field, as the front-end reads it.
fn link_is_up(guest: &mut Guest) -> bool {
    let (flags, room) = (VhostUserConfigFlags::empty(), [0; 2]);
    let (_, status) = guest.front_end.get_config(6, 2, flags, &room).unwrap();
    status[0] & 1 != 0
}

#[test]
fn the_front_end_sees_whether_the_tap_is_up() {
    for (options, down) in [(&[][..], false), (&["--carrier", "up"], true)] {
        let mut daemon = Daemon::serve(options);
        let mut guest = Guest::start(&daemon);
        for (change, up) in [("down", down), ("up", true), ("down", down), ("up", true)] {
            daemon.ip(&format!("link set vmtap0 {change}"));
            let deadline = Instant::now() + LIMIT;
            while link_is_up(&mut guest) != up {
                assert!(Instant::now() < deadline, "{options:?}: {change}");
                thread::yield_now();
            }
            // News that it should not follow, if they were followed, would come by now.
            let settled = Instant::now() + SETTLED;
            while Instant::now() < settled {
                assert_eq!(link_is_up(&mut guest), up, "{options:?}: {change}");
            }
        }
        check_traffic(&daemon, &mut guest, "vmtap0");
        daemon.signal("TERM");
        assert!(daemon.wait().success());
    }
}

#[test]
fn a_tap_that_was_deleted_while_nobody_was_there_is_opened_for_the_next_front_end() {
    // Without the right to make it.
    let setup = "ip tuntap add dev own0 mode tap user 0 vnet_hdr; ip link set own0 up; \
                 set -- setpriv --bounding-set=-all --inh-caps=-all \"$@\"";
    let mut daemon = Daemon::serve_after(setup, &["--tap", "own0"]);
    daemon.ip("link delete own0");
    for _ in 0..2 {
        let refused = connect(&daemon);
        let line = daemon.log_with("a front-end is refused: a port is gone");
        assert!(line.contains("own0"), "{line}");
        assert_eq!((&refused).read(&mut [0]).unwrap_or(0), 0);
    }
    daemon.ip("tuntap add dev own0 mode tap user 0 vnet_hdr; link set own0 up");
    let mut guest = Guest::start(&daemon);
    check_traffic(&daemon, &mut guest, "own0");
}

#[test]
fn a_lost_tap_ends_the_daemon_if_that_is_asked_for() {
    for front_end_is_there in [true, false] {
        let mut daemon = Daemon::serve(&["--lost-port", "exit"]);
        let guest = front_end_is_there.then(|| Guest::start(&daemon));
        daemon.ip("link delete vmtap0");
        let late = (!front_end_is_there).then(|| connect(&daemon));
        assert_eq!(daemon.wait().code(), Some(4));
        assert_eq!(daemon.lines_with("the tap of a device is gone"), 1);
        assert!(!daemon.socket().exists());
        drop((guest, late));
    }
}
