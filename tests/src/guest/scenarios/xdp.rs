//! A guest with a program of its own at its interface (XDP): its driver takes no large frames then.

use std::time::Duration;

use super::traffic;
use crate::guest::error::require;
use crate::guest::metrics::{Direction, Metrics};
use crate::guest::testbed::NIC;
use crate::guest::{Result, Testbed};

/// Time in which the program is attached.
const LIMIT: Duration = Duration::from_secs(30);

/// The host's large frames reach it as frames of one segment each, byte by byte.
pub(super) fn receives(bed: &mut Testbed) -> Result<String> {
    const LENGTH: usize = 32 << 20;
    let without = traffic::tcp(&mut bed.guest, "")?;
    bed.guest.expect_for(
        &format!("xdp {NIC} >/xdp & until grep -q attached /xdp; do sleep 0.1; done"),
        LIMIT,
    )?;
    let before = Metrics::read(bed)?;
    require!(
        before.of(Direction::Rx, "gso_frames_total") > 0,
        "without the program no large frame reaches the driver"
    );
    traffic::echo(&mut bed.guest, LENGTH)?;
    let with = traffic::tcp(&mut bed.guest, "")?;
    let after = Metrics::read(bed)?;
    let seen = |name| after.of(Direction::Rx, name) - before.of(Direction::Rx, name);
    let (cut, large) = (seen("segmented_total"), seen("gso_frames_total"));
    require!(cut > 0, "no large frame came");
    require!(large == 0, "{large} large frames reached the driver");
    bed.guest.expect("killall xdp")?;
    traffic::ping(&mut bed.guest)?;
    Ok(format!(
        "{cut} frames were cut; with the program {with}, without {without}"
    ))
}
