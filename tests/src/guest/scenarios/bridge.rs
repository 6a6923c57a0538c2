//! Two guests, each behind a daemon of its own, on one bridge of the host.
//!
//! The far end is a Linux system of its own, so this is also how VLAN tags are tried: the host need
//! not know them.

use super::traffic;
use crate::guest::testbed::{NIC, SECOND, TAP};
use crate::guest::{Guest, Result, Testbed, host};

const BRIDGE: &str = "br0";
const VLAN_HERE: &str = "203.0.113.2";
const VLAN_THERE: &str = "203.0.113.3";

pub(super) fn plain(bed: &mut Testbed) -> Result<String> {
    joined(bed, |here, there| exchange(here, there, SECOND.guest))
}

pub(super) fn vlan(bed: &mut Testbed) -> Result<String> {
    joined(bed, |here, there| {
        for (guest, address) in [(&mut *here, VLAN_HERE), (&mut *there, VLAN_THERE)] {
            guest.expect(&format!(
                "ip link add link {NIC} name {NIC}.5 type vlan id 5"
            ))?;
            guest.expect(&format!(
                "ip link set {NIC}.5 up && ip addr add {address}/24 dev {NIC}.5"
            ))?;
        }
        let tagged = exchange(here, there, VLAN_THERE)?;
        here.expect(&format!("ip link del {NIC}.5"))?;
        Ok(format!(
            "tagged {tagged}; then untagged {}",
            exchange(here, there, SECOND.guest)?
        ))
    })
}

/// Ping and TCP both ways from one guest to another.
fn exchange(here: &mut Guest, there: &mut Guest, address: &str) -> Result<String> {
    traffic::ping_host(here, address, "")?;
    let mut rate = |direction| {
        traffic::serve(there)?;
        traffic::guest_tcp(here, address, direction)
    };
    Ok(format!("there {}, back {}", rate("")?, rate("-R")?))
}

/// Runs a scenario while a second guest is there and a bridge joins both taps.
fn joined(
    bed: &mut Testbed,
    scenario: impl FnOnce(&mut Guest, &mut Guest) -> Result<String>,
) -> Result<String> {
    let mut neighbour = bed.neighbour()?;
    host::run(&format!("ip link add {BRIDGE} type bridge"))?;
    for port in [TAP, SECOND.tap] {
        host::run(&format!("ip link set {port} master {BRIDGE}"))?;
    }
    host::run(&format!("ip link set {BRIDGE} up"))?;
    let seen = scenario(&mut bed.guest, &mut neighbour.guest);
    host::run(&format!("ip link del {BRIDGE}"))?;
    let seen = seen?;
    neighbour.close()?;
    Ok(seen)
}
