//! The guest's driver goes away and comes back while frames arrive.

use super::{lifecycle, traffic};
use crate::guest::testbed::TAP;
use crate::guest::{Result, Testbed, host};

/// Unloads and loads the driver five times, with a transfer under way each time it goes.
pub(super) fn five_times(bed: &mut Testbed) -> Result<String> {
    const TIMES: u32 = 5;
    // Frames that nobody has to answer for: they go on while there is no driver.
    let stray = "192.0.2.78";
    for _ in 0..TIMES {
        let load = lifecycle::load(&mut bed.guest, "")?;
        host::run(&format!(
            "ip neigh replace {stray} lladdr ff:ff:ff:ff:ff:ff dev {TAP} nud permanent"
        ))?;
        let mut flood = host::start(&format!("ping -f -q {stray}"))?;
        bed.guest.expect("rmmod virtio_net")?;
        bed.guest.expect("insmod /modules/*-virtio_net.ko")?;
        bed.rejoin()?;
        flood.kill()?;
        drop(load);
        traffic::ping(&mut bed.guest)?;
        bed.daemon.expect_alive()?;
    }
    Ok(format!(
        "{TIMES} times, then {}",
        traffic::tcp(&mut bed.guest, "")?
    ))
}
