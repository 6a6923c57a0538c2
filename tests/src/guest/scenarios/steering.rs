//! Receive-side scaling as the guest's administrator sets it: frames come by the queue that its
//! table names, seen by the daemon's counters and by the guest's.

use std::net::{Ipv4Addr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use super::control::{Feature, expect_feature};
use super::traffic;
use crate::guest::error::require;
use crate::guest::metrics::{Direction, Metrics};
use crate::guest::testbed::{GUEST, HOST, MAC, NIC, TAP};
use crate::guest::{Error, Guest, Result, Testbed, host};
use crate::testbed::toeplitz;
use net_device::tap::SteeringProgram;

const HASH_REPORT: Feature = (57, "HASH_REPORT");
const RSS: Feature = (60, "RSS");

const QUEUES: usize = 4;
const FLOWS: usize = 1000;
/// A port that nobody listens at.
const PORT: u16 = 9;
/// Longest time that frames may take through the device.
const LIMIT: Duration = Duration::from_secs(60);

/// Key of the published vectors.
const KEY: &str = "6d:5a:56:da:25:5b:0e:c2:41:67:25:3d:43:a3:8f:b0:d0:ca:2b:cb:\
                   ae:7b:30:b4:77:cb:2d:a3:80:30:f2:0c:6a:42:b7:3b:be:ac:01:fa";

type PerQueue = [u64; QUEUES];

/// Fields that the guest has hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hashed {
    AddressesAndPorts,
    Addresses,
    Nothing,
}

/// Tables, keys and hashed fields that `ethtool` sets hold for each of a thousand flows.
pub(super) fn tables(bed: &mut Testbed) -> Result<String> {
    use Hashed::{Addresses, AddressesAndPorts, Nothing};
    prepare(bed)?;
    let key = format!("-X {NIC} hkey {KEY} equal 4");
    let settings = [
        ("-X NIC equal 4", AddressesAndPorts),
        (key.as_str(), AddressesAndPorts),
        ("-X NIC equal 2", AddressesAndPorts),
        ("-X NIC start 1 equal 3", AddressesAndPorts),
        ("-X NIC weight 5 0 2 1", AddressesAndPorts),
        // Off when the driver starts; until it is on, this driver passes no change of fields on.
        ("-K NIC rxhash on", AddressesAndPorts),
        ("-N NIC rx-flow-hash udp4 sd", Addresses),
        ("-N NIC rx-flow-hash udp4 sdfn", AddressesAndPorts),
        ("-K NIC rxhash off", Nothing),
        ("-K NIC rxhash on", AddressesAndPorts),
        ("-X NIC default", AddressesAndPorts),
    ];
    let mut seen = Vec::new();
    for (setting, hashed) in settings {
        let setting = setting.replace("NIC", NIC);
        bed.guest.expect(&format!("ethtool {setting}"))?;
        let steering = Steering::read(&mut bed.guest)?;
        if setting.contains("hkey") {
            require!(steering.key == parse_key(KEY)?, "the key was not set");
        }
        let landed = spread(bed, &steering, hashed)
            .map_err(|error| Error::Unexpected(format!("{setting}: {}", error.describe())))?;
        seen.push(format!("{landed:?}"));
    }
    bed.daemon.expect_alive()?;
    let moved = Metrics::read(bed)?.of(Direction::Rx, "steered_total");
    Ok(format!("{}; {moved} frames were moved", seen.join(", ")))
}

/// The same where the kernel puts every frame into its queue, if this process may let it.
pub(super) fn kernels_tables(bed: &mut Testbed) -> Result<String> {
    let seen = tables(bed)?;
    let moved = Metrics::read(bed)?.of(Direction::Rx, "steered_total");
    let kernel = SteeringProgram::load().is_ok();
    require!(
        (moved == 0) == kernel,
        "{seen}, the kernel steers: {kernel}"
    );
    Ok(seen)
}

/// A stream comes back as it was sent, while the table changes all the time.
pub(super) fn change_under_load(bed: &mut Testbed) -> Result<String> {
    const LENGTH: usize = 32 << 20;
    prepare(bed)?;
    bed.guest.expect(&format!(
        "(n=0; while :; do for queues in 1 2 3 4; do ethtool -X {NIC} equal $queues || exit; \
         n=$((n + 1)); echo $n >/tmp/tables; done; done) >/dev/null 2>&1 & echo $! >/tmp/changing"
    ))?;
    let outcome = traffic::echo(&mut bed.guest, LENGTH);
    let changes = bed
        .guest
        .expect("kill $(cat /tmp/changing) && cat /tmp/tables")?;
    outcome?;
    require!(
        changes.parse().is_ok_and(|changes: u32| changes >= 4),
        "the table changed {changes} times"
    );
    let drops = Metrics::read(bed)?.rx_drops("steering_full");
    Ok(format!(
        "{} MiB, {changes} tables, {drops} frames found a full ring between queues",
        LENGTH >> 20
    ))
}

/// Turns all pairs on, and keeps frames away that belong to no flow of the test's.
fn prepare(bed: &mut Testbed) -> Result<()> {
    for feature in [RSS, HASH_REPORT] {
        expect_feature(&mut bed.guest, feature, true)?;
    }
    host::run(&format!(
        "busybox sysctl -q -w net.ipv6.conf.{TAP}.disable_ipv6=1"
    ))?;
    host::run(&format!(
        "ip neigh replace {GUEST} lladdr {MAC} dev {TAP} nud permanent"
    ))?;
    bed.guest
        .expect(&format!("ethtool -L {NIC} combined {QUEUES}"))?;
    traffic::ping(&mut bed.guest)
}

/// Sends a datagram of each flow, and gives how many came by each queue: what the table says.
fn spread(bed: &mut Testbed, steering: &Steering, hashed: Hashed) -> Result<PerQueue> {
    let before = Landed::read(bed)?;
    let mut expected = PerQueue::default();
    for _ in 0..FLOWS {
        // Each socket of its own gets a port that none has at this time.
        let socket = UdpSocket::bind((HOST, 0)).map_err(Error::io("binding a socket"))?;
        let port = socket
            .local_addr()
            .map_err(Error::io("asking for a port"))?;
        socket
            .send_to(b"flow", (GUEST, PORT))
            .map_err(Error::io("sending a datagram"))?;
        expected[steering.queue_of(port.port(), hashed)?] += 1;
    }
    let deadline = Instant::now() + LIMIT;
    loop {
        let landed = Landed::read(bed)?.since(&before);
        if landed.daemon == expected && landed.guest == expected {
            return Ok(expected);
        }
        let came = landed.guest.iter().sum::<u64>();
        require!(
            Instant::now() < deadline && came <= FLOWS as u64,
            "{expected:?} were expected, {landed:?} came"
        );
        thread::sleep(Duration::from_millis(10));
    }
}

/// Table and key, as the guest shows them.
#[derive(Clone, Debug)]
struct Steering {
    table: Vec<usize>,
    key: Vec<u8>,
}

impl Steering {
    fn read(guest: &mut Guest) -> Result<Self> {
        let report = guest.expect(&format!("ethtool -x {NIC}"))?;
        let unreadable = || Error::Unexpected(format!("ethtool -x reports:\n{report}"));
        let mut lines = report.lines().skip(1);
        let rows = lines.by_ref().map_while(|line| {
            let (first, queues) = line.split_once(':')?;
            first.trim().parse::<usize>().ok()?;
            Some(queues.split_whitespace())
        });
        let table: Vec<_> = rows.flatten().map_while(|it| it.parse().ok()).collect();
        require!(table.len().is_power_of_two(), "{}", unreadable());
        let key = report.lines().find(|line| line.matches(':').count() > 8);
        let key = parse_key(key.ok_or_else(unreadable)?)?;
        Ok(Self { table, key })
    }

    /// The queue of a datagram from `port` of the host.
    fn queue_of(&self, port: u16, hashed: Hashed) -> Result<usize> {
        let address = |text: &str| {
            let address = text.parse::<Ipv4Addr>();
            address.map_err(|error| Error::Unexpected(format!("{text}: {error}")))
        };
        let mut input = Vec::new();
        input.extend(address(HOST)?.octets());
        input.extend(address(GUEST)?.octets());
        match hashed {
            Hashed::AddressesAndPorts => {
                input.extend([port, PORT].into_iter().flat_map(u16::to_be_bytes));
            }
            Hashed::Addresses => {}
            Hashed::Nothing => return Ok(0),
        }
        Ok(self.table[toeplitz(&self.key, &input) as usize % self.table.len()])
    }
}

fn parse_key(text: &str) -> Result<Vec<u8>> {
    let bytes = text.trim().split(':');
    let bytes = bytes.map(|byte| u8::from_str_radix(byte, 16));
    let key: std::result::Result<_, _> = bytes.collect();
    key.map_err(|error| Error::Unexpected(format!("the key {text}: {error}")))
}

/// Frames that each queue received, as both ends count them.
#[derive(Clone, Copy, Debug)]
struct Landed {
    daemon: PerQueue,
    guest: PerQueue,
}

impl Landed {
    fn read(bed: &mut Testbed) -> Result<Self> {
        let report = bed.guest.expect(&format!("ethtool -S {NIC}"))?;
        let guest = std::array::from_fn(|queue| {
            let name = format!("rx_queue_{queue}_packets: ");
            let mut lines = report.lines();
            let count = lines.find_map(|line| line.trim().strip_prefix(&name)?.parse().ok());
            count.unwrap_or_default()
        });
        let metrics = Metrics::read(bed)?;
        let daemon = std::array::from_fn(|queue| {
            metrics.of_queue(Direction::Rx, queue as u16, "frames_total")
        });
        Ok(Self { daemon, guest })
    }

    fn since(&self, before: &Self) -> Self {
        let gained = |now: &PerQueue, before: &PerQueue| {
            std::array::from_fn(|queue| now[queue] - before[queue])
        };
        Self {
            daemon: gained(&self.daemon, &before.daemon),
            guest: gained(&self.guest, &before.guest),
        }
    }
}
