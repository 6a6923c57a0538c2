//! Two devices of one daemon. The front-end of the first does what it can to harm, while the guest
//! of the second sends frames, of which none may be lost; and what front-ends leave behind.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use crate::daemon::{Daemon, LIMIT, children, taken};
use crate::guest::Guest;
use crate::{GET_QUEUE_NUM, SET_VRING_CALL, connect, message, rings};

const SET_MEM_TABLE: u32 = 5;
const SET_VRING_NUM: u32 = 8;
const SET_PROTOCOL_FEATURES: u32 = 16;
const REPLY_ACK: u64 = 1 << 3;
/// In the first byte of a header's flags.
const NEED_REPLY: u8 = 1 << 3;

/// Ends what waits for it, a panic or not.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A daemon with a device for the hostile front-end, and another one.
struct Neighbours {
    daemon: Daemon,
}

impl Neighbours {
    fn serve() -> Self {
        let own = ["--tap", "vmtap0", "--and"];
        let other = ["--socket-path", "other.sock", "--tap", "vmtap1"];
        Self {
            daemon: Daemon::serve(&[&own[..], &other].concat()),
        }
    }

    /// Has the guest of the second device send until `hostile` is done; everything it has sent has
    /// to arrive.
    fn check(&self, hostile: impl FnOnce(&Daemon)) {
        let mut guest = Guest::start_at(&self.daemon, "other.sock");
        let before = taken(&self.daemon, "vmtap1").unwrap();
        let over = AtomicBool::new(false);
        let sent = thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let mut sent = 0;
                loop {
                    // Once more, behind everything.
                    let last = over.load(Ordering::Acquire);
                    guest.send();
                    sent += 1;
                    if last {
                        return sent;
                    }
                }
            });
            let end = SetOnDrop(&over);
            hostile(&self.daemon);
            drop(end);
            sender.join().unwrap()
        });
        assert_eq!(taken(&self.daemon, "vmtap1").unwrap() - before, sent);
    }

    /// Ends the daemon as it should end, after the first device has served a front-end that is as
    /// it should be.
    fn end(mut self) {
        self.daemon.has_no_receiver();
        assert_eq!(rings(&connect(&self.daemon)), 3);
        self.daemon.signal("TERM");
        assert!(self.daemon.wait().success());
        assert_eq!(self.daemon.lines_with("panicked"), 0);
    }
}

#[test]
fn a_front_end_that_takes_its_memory_away_costs_the_other_device_nothing() {
    let neighbours = Neighbours::serve();
    neighbours.check(|daemon| {
        for _ in 0..20 {
            let mut hostile = Guest::start(daemon);
            hostile.send();
            hostile.shrink_memory();
            for _ in 0..50 {
                hostile.kick();
            }
            drop(hostile);
            daemon.receivers_are_at_most(1);
        }
    });
    neighbours.end();
}

#[test]
fn a_front_end_that_passes_descriptors_without_end_costs_the_other_device_nothing() {
    let neighbours = Neighbours::serve();
    neighbours.check(|daemon| {
        let null = File::open("/dev/null").unwrap();
        for _ in 0..200 {
            let front_end = connect(daemon);
            let fds = [null.as_raw_fd(); 32];
            // Each byte of a message that never becomes whole brings as many as fit.
            for byte in message(SET_MEM_TABLE, &[0; 8]) {
                if front_end.send_with_fds(&[&[byte][..]], &fds).is_err() {
                    break;
                }
            }
            // Until its descriptors are closed: those on their way count against the limits of all
            // daemons of this user, of other tests' too.
            let _ = front_end.shutdown(Shutdown::Write);
            let _ = (&front_end).read(&mut [0]);
        }
    });
    neighbours.end();
}

#[test]
fn a_front_end_that_asks_and_never_listens_costs_the_other_device_nothing() {
    let neighbours = Neighbours::serve();
    neighbours.check(|daemon| {
        let front_end = connect(daemon);
        front_end.set_nonblocking(true).unwrap();
        let questions = message(GET_QUEUE_NUM, &[]).repeat(1000);
        let (mut asked, mut waits) = (0, 0);
        // It is not read any more once its answers are not.
        while waits < 100 {
            match (&front_end).write(&questions) {
                Ok(count) => asked += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    waits += 1;
                    thread::yield_now();
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(asked > 0);
    });
    neighbours.end();
}

#[test]
fn a_front_end_that_hangs_half_way_through_a_message_costs_the_other_device_nothing() {
    let neighbours = Neighbours::serve();
    neighbours.check(|daemon| {
        let whole = message(SET_VRING_CALL, &[0; 8]);
        for len in 1..whole.len() {
            let mut front_end = connect(daemon);
            front_end.write_all(&whole[..len]).unwrap();
            // It hangs until the next one is there; the operator of its device is served.
            drop(front_end);
        }
    });
    neighbours.end();
}

#[test]
fn ten_thousand_malformed_messages_cost_the_other_device_nothing() {
    /// Messages on one connection, of which the last ends it.
    const EACH: usize = 40;
    let neighbours = Neighbours::serve();
    neighbours.check(|daemon| {
        let (mut seed, mut answered) = (1_u64, 0);
        for _ in 0..10_000 / EACH {
            let mut front_end = connect(daemon);
            let mut bytes = message(SET_PROTOCOL_FEATURES, &REPLY_ACK.to_ne_bytes());
            for _ in 1..EACH {
                // No ring has this number: refused, and no reason to end the connection.
                let mut refused = message(SET_VRING_NUM, &[7, 0, 0, 0, 1, 0, 0, 0]);
                refused[4] |= NEED_REPLY;
                bytes.extend(refused);
            }
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let [code, flags, len] = [seed as u32, (seed >> 20) as u32 & !1, (seed >> 40) as u32];
            bytes.extend([code, flags, len].map(u32::to_ne_bytes).as_flattened());
            // It may be cut off before it has said everything.
            let _ = front_end.write_all(&bytes);
            let mut refusals = Vec::new();
            let _ = front_end.read_to_end(&mut refusals);
            answered += refusals.len() / 20;
        }
        assert_eq!(answered, 10_000 / EACH * (EACH - 1));
    });
    neighbours.end();
}

/// Open descriptors and resident pages of the daemon's processes.
fn footprint(daemon: &Daemon) -> Vec<(usize, u64)> {
    let mut processes = vec![daemon.id()];
    processes.extend(children(daemon.id()));
    let of = |process: u32| {
        let open = fs::read_dir(format!("/proc/{process}/fd")).unwrap().count();
        let statm = fs::read_to_string(format!("/proc/{process}/statm")).unwrap();
        let resident = statm.split(' ').nth(1).unwrap().parse().unwrap();
        (open, resident)
    };
    processes.into_iter().map(of).collect()
}

#[test]
fn two_thousand_connections_leave_nothing_behind() {
    /// Pages that the allocator may take meanwhile: 1 MiB, half a KiB for each connection.
    const SLACK: u64 = 256;
    let mut daemon = Daemon::serve(&[]);
    let visit = |count: usize| {
        for number in 0..count {
            if number % 20 == 0 {
                let mut guest = Guest::start(&daemon);
                guest.send();
                drop(guest);
            } else {
                assert_eq!(rings(&connect(&daemon)), 3);
            }
        }
        daemon.has_no_receiver();
    };
    // Descriptors of a daemon with which nobody was yet are what it comes back to.
    let fresh = footprint(&daemon);
    let idle = || {
        let deadline = Instant::now() + LIMIT;
        // The last receiver has ended, which the daemon may not have seen yet.
        loop {
            let found = footprint(&daemon);
            if found[0].0 <= fresh[0].0 || Instant::now() >= deadline {
                return found;
            }
            thread::yield_now();
        }
    };
    visit(100);
    let before = idle();
    visit(2_000);
    let after = idle();
    assert!(before.len() >= 2, "{before:?}");
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before.0, after.0, "descriptors");
        assert!(
            after.1 <= before.1 + SLACK,
            "pages: {before:?} -> {after:?}"
        );
    }
    daemon.signal("TERM");
    assert!(daemon.wait().success());
}

#[test]
fn memory_that_could_shrink_is_refused_if_that_is_asked_for() {
    let mut daemon = Daemon::serve(&["--require-sealed"]);
    let refused = Guest::try_connect(&daemon, false);
    assert!(refused.is_err());
    daemon.log_with("F_SEAL_SHRINK");
    daemon.has_no_receiver();
    let mut guest = Guest::try_connect(&daemon, true).unwrap();
    guest.set_up();
    guest.enable();
    guest.send();
}
