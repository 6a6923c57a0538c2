//! A guest that routes between two cards, each behind a daemon of its own.
//!
//! The host sits on one side, a network namespace of its own on the other. What a routing Linux
//! sends was not made by it: large frames have the headers that its other card gave them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::traffic::{self, Rate};
use crate::guest::error::require;
use crate::guest::testbed::{Assets, GUEST, HOST, Machine, TAP};
use crate::guest::{Daemon, Error, Guest, Process, Result, host};

/// The tap of the second card, and the bridge that joins it to the far namespace.
const FAR_TAP: &str = "vt1";
const FAR_BRIDGE: &str = "far-br";
/// Addresses of the second card and of the far end.
const FAR_GUEST: &str = "198.51.100.2";
const FAR: &str = "198.51.100.1";

const LIMIT: Duration = Duration::from_secs(30);
/// Transfers of each kind; their median counts.
const TRANSFERS: usize = 3;
/// Least share of the rate of small frames that large ones may have before it is a fault and not a
/// busy machine.
const LEAST: f64 = 0.7;

/// Segmentation of all kinds, of a card of the guest.
const OFFLOADS: &str = "tso X gso X gro X rx-gro-hw X";

/// TCP through the guest with large frames and without, when the host hands over frames that are
/// large already and when the guest's own card joins them.
pub(super) fn large_tcp(assets: &Assets) -> Result<String> {
    let folder = tempfile::tempdir().map_err(Error::io("creating a temporary folder"))?;
    let mut route = Route::open(assets, folder.path())?;
    let seen = compare(&mut route).map_err(|error| route.explain(&error))?;
    route.close()?;
    Ok(seen)
}

fn compare(route: &mut Route) -> Result<String> {
    let mut seen = Vec::new();
    for (from_host, state) in [("large", "on"), ("small", "off")] {
        host::run(&format!(
            "ethtool -K {TAP} tx {state} tso {state} gso {state}"
        ))?;
        for direction in ["", "-R"] {
            let large = route.median("on", direction)?;
            let small = route.median("off", direction)?;
            let ratio = large.0 / small.0;
            let way = if direction.is_empty() {
                "there"
            } else {
                "back"
            };
            let row = format!(
                "{way}, {from_host} frames of the host: {large}, without offloads {small}, ratio {ratio:.2}"
            );
            require!(ratio > LEAST, "{row}");
            seen.push(row);
        }
    }
    Ok(seen.join("; "))
}

/// The guest, its daemons and the two ends. The guest is dropped first.
struct Route {
    guest: Guest,
    daemons: [Daemon; 2],
    far: Process,
}

impl Route {
    fn open(assets: &Assets, folder: &Path) -> Result<Self> {
        let sockets = [folder.join("near.sock"), folder.join("far.sock")];
        let address = format!("{HOST}/24");
        let daemons = [
            serve(&sockets[0], &["--tap", TAP, "--tap-addr", &address])?,
            serve(&sockets[1], &["--tap", FAR_TAP])?,
        ];
        let far = far_namespace()?;
        let mut guest = assets.boot(Machine::UserMode, &[&sockets[0], &sockets[1]], folder)?;
        guest.expect(&format!(
            "ip link set eth0 up && ip addr add {GUEST}/24 dev eth0 && \
             ip link set eth1 up && ip addr add {FAR_GUEST}/24 dev eth1 && \
             echo 1 >/proc/sys/net/ipv4/ip_forward"
        ))?;
        host::run(&format!("ip route add {FAR}/32 via {GUEST}"))?;
        host::run(&format!("ping -q -c 1 -w 10 {FAR}"))?;
        Ok(Self {
            guest,
            daemons,
            far,
        })
    }

    /// The median of some transfers from the near end to the far one, or back, with the guest's
    /// offloads on or off.
    fn median(&mut self, offloads: &str, direction: &str) -> Result<Rate> {
        for card in ["eth0", "eth1"] {
            let words = OFFLOADS.replace('X', offloads);
            self.guest.expect(&format!("ethtool -K {card} {words}"))?;
        }
        let mut rates = Vec::new();
        for _ in 0..TRANSFERS {
            rates.push(self.transfer(direction)?);
        }
        rates.sort_by(|one, other| one.0.total_cmp(&other.0));
        Ok(rates[TRANSFERS / 2])
    }

    fn transfer(&mut self, direction: &str) -> Result<Rate> {
        let mut server = host::start(&inside(&self.far, "iperf3 -s -1 --forceflush"))?;
        server.read_until("listening iperf3", LIMIT, |output| {
            String::from_utf8_lossy(output)
                .contains("listening")
                .then_some((output.len(), ()))
        })?;
        let command = format!("iperf3 -J -c {FAR} -t 1 --connect-timeout 5000 {direction}");
        let rate = traffic::received(&host::run_for(&command, LIMIT)?)?;
        require!(rate.0 > 0.0, "iperf3 {direction}: nothing arrived");
        server.wait_exit(LIMIT)?;
        Ok(rate)
    }

    fn explain(&self, error: &Error) -> Error {
        let [near, far] = &self.daemons;
        Error::Unexpected(format!(
            "{}\nthe near daemon's log ends:\n{}\nthe far daemon's log ends:\n{}",
            error.describe(),
            near.log(),
            far.log()
        ))
    }

    fn close(&mut self) -> Result<()> {
        self.guest.power_off()?;
        for daemon in &mut self.daemons {
            daemon.expect_alive()?;
            daemon.stop()?;
        }
        self.far.kill()?;
        host::run(&format!("ip link del {FAR_BRIDGE}")).map(drop)
    }
}

fn serve(socket: &Path, options: &[&str]) -> Result<Daemon> {
    let options: Vec<_> = options.iter().map(|word| (*word).to_owned()).collect();
    Daemon::serve(socket, &options)
}

/// A network namespace that lives as long as the process, with the far end's interface. The tap
/// stays outside, where its daemon is: a bridge and a pair of interfaces lead in.
fn far_namespace() -> Result<Process> {
    let mut process = host::start("unshare --net -- sleep 1000000")?;
    let (own, theirs) = (
        fs::read_link("/proc/self/ns/net").ok(),
        format!("/proc/{}/ns/net", process.id()),
    );
    process.wait_until("namespace", LIMIT, || fs::read_link(&theirs).ok() != own)?;
    host::run(&format!("ip link add {FAR_BRIDGE} type bridge"))?;
    host::run(&format!(
        "ip link add far-out type veth peer name far-in netns {}",
        process.id()
    ))?;
    for port in [FAR_TAP, "far-out"] {
        host::run(&format!("ip link set {port} master {FAR_BRIDGE}"))?;
    }
    for link in ["far-out", FAR_BRIDGE] {
        host::run(&format!("ip link set {link} up"))?;
    }
    for words in [
        "ip link set lo up".to_owned(),
        format!("ip addr add {FAR}/24 dev far-in"),
        "ip link set far-in up".to_owned(),
        format!("ip route add default via {FAR_GUEST}"),
    ] {
        host::run(&inside(&process, &words))?;
    }
    Ok(process)
}

/// A command in the namespace of a process.
fn inside(process: &Process, command: &str) -> String {
    format!("nsenter --net=/proc/{}/ns/net -- {command}", process.id())
}
