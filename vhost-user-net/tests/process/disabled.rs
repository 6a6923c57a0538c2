//! A transmit ring that the front-end disables while it runs.

use crate::daemon::{Daemon, taken};
use crate::guest::Guest;

#[test]
fn a_disabled_ring_gives_back_what_the_network_never_sees() {
    let daemon = Daemon::serve(&[]);
    let mut guest = Guest::start(&daemon);
    guest.send();
    let before = taken(&daemon, "vmtap0").unwrap();
    for round in 1..=3 {
        guest.disable();
        for _ in 0..3 {
            guest.send();
        }
        guest.enable();
        guest.send();
        assert_eq!(taken(&daemon, "vmtap0"), Some(before + round));
    }
}
