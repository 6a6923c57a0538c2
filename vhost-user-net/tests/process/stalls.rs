//! A kick that is lost on purpose, as the log and the metrics tell of it.

use std::thread;
use std::time::Instant;

use crate::daemon::{Daemon, LIMIT};
use crate::guest::Guest;
use crate::metrics;

/// Waits until the metrics have this line.
fn await_line(daemon: &Daemon, line: &str) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let told = metrics(daemon);
        if told.lines().any(|one| one == line) {
            return;
        }
        assert!(Instant::now() < deadline, "no {line} in {told}");
        thread::yield_now();
    }
}

#[test]
fn a_lost_kick_is_told_and_made_up_for() {
    // Frames that the kernel sends by itself would wake the worker.
    let quiet = "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6 || true";
    let mut daemon = Daemon::serve_after(quiet, &["--metrics", "unix:metrics.sock"]);
    let mut guest = Guest::start(&daemon);
    guest.send();
    let metric = |name: &str, label: &str, value: u64| {
        format!("vhost_user_net_{name}{{device=\"vmtap0\",ring=\"1\"{label}}} {value}")
    };
    await_line(&daemon, &metric("ring_waits_for", ",event=\"driver\"", 1));
    await_line(&daemon, &metric("ring_depth", "", 0));
    guest.post();
    daemon.log_with(
        "ring 1 stalls with 1 entries: the driver made entries available and sent no kick",
    );
    guest.await_used(2);
    await_line(
        &daemon,
        &metric("ring_stalls_total", ",missing=\"kick\"", 1),
    );
    await_line(
        &daemon,
        &metric("ring_stalls_total", ",missing=\"interrupt\"", 0),
    );
    daemon.log_with("ring 1 goes on");
}
