//! A guest whose frames go to passt, which makes ordinary sockets of them: no tap, no privilege.

use std::path::Path;
use std::time::Duration;

use super::traffic;
use crate::guest::daemon::listens;
use crate::guest::error::require;
use crate::guest::testbed::{Assets, MAC, Machine, NIC};
use crate::guest::{Daemon, Error, Process, Result, host};

/// The host's interface that passt takes for its own, and the guest's address that follows.
const UPLINK: &str = "up0";
const GUEST: &str = "203.0.113.2";
/// The gateway, by which the guest reaches the host's loopback.
const GATEWAY: &str = "203.0.113.1";

const LIMIT: Duration = Duration::from_secs(60);

/// TCP both ways through Debian's passt.
pub(super) fn tcp(assets: &Assets) -> Result<String> {
    let folder = tempfile::tempdir().map_err(Error::io("creating a temporary folder"))?;
    let mut passt = start_passt(folder.path())?;
    let seen = transfer(assets, folder.path());
    let said = passt.tail();
    passt.kill()?;
    host::run(&format!("ip link del {UPLINK}"))?;
    seen.map_err(|error| Error::Unexpected(format!("{}\npasst said:\n{said}", error.describe())))
}

fn transfer(assets: &Assets, folder: &Path) -> Result<String> {
    let socket = folder.join("net.sock");
    let backend = format!("passt:{}", folder.join("passt.sock").display());
    let options = ["--backend", &backend, "--mac", MAC].map(str::to_owned);
    let mut daemon = Daemon::serve(&socket, &options)?;
    let mut guest = assets.boot(Machine::UserMode, &[&socket], folder)?;
    guest.expect(&format!(
        "ip link set {NIC} up && ip addr add {GUEST}/24 dev {NIC} && ip route add default via {GATEWAY}"
    ))?;
    let mut seen = Vec::new();
    for (direction, options) in [("from guest", ""), ("to guest", "-R")] {
        let mut server = host::start("iperf3 -s -1 -B 127.0.0.1 --forceflush")?;
        server.read_until("listening iperf3", LIMIT, |output| {
            let listens = String::from_utf8_lossy(output).contains("listening");
            listens.then_some((output.len(), ()))
        })?;
        let rate = traffic::guest_tcp(&mut guest, GATEWAY, options);
        let rate = rate.map_err(|error| {
            let log = daemon.log();
            Error::Unexpected(format!(
                "{}\nthe daemon's log ends:\n{log}",
                error.describe()
            ))
        })?;
        seen.push(format!("{direction} {rate}"));
    }
    guest.power_off()?;
    daemon.expect_alive()?;
    daemon.stop()?;
    Ok(seen.join(", "))
}

fn start_passt(folder: &Path) -> Result<Process> {
    // It takes over addresses of an interface that has a way out.
    for command in [
        format!("ip link add {UPLINK} type bridge"),
        format!("ip addr add {GUEST}/24 dev {UPLINK}"),
        format!("ip link set {UPLINK} up"),
        format!("ip route add default via {GATEWAY}"),
    ] {
        host::run(&command)?;
    }
    let socket = folder.join("passt.sock");
    // A user of its own, who is nobody here.
    let mut passt = host::start(&format!(
        "unshare --user --map-root-user passt --foreground --stderr --socket {}",
        socket.display()
    ))?;
    passt.wait_until("listening socket of passt", LIMIT, || listens(&socket))?;
    require!(passt.is_running(), "passt has ended:\n{}", passt.tail());
    Ok(passt)
}
