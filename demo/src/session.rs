//! The set-up of a demonstration, and the order of its measurements.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use net_device::{NetConfig, NetDevice, TapConfig, VirtioDevice};
use smoltcp::wire::Ipv4Cidr;

use super::counters::Counters;
use super::error::DemoError;
use super::guest::{Guest, GuestConfig};
use super::host::Moved;
use super::latency::Latency;
use super::migration::{Migration, migrate};
use super::netns::Namespace;
use super::network::{GUEST, HOST, HOST_MAC, MTU, PREFIX, TAP};
use super::options::Options;
use super::progress::Progress;
use super::report::{Flow, Report};
use super::transfer::Halfway;
use super::tun::check_tun;
use super::{ping, transfer};

/// The guest's address: locally administered.
const MAC: [u8; 6] = [0x02, 0, 0x0a, 0, 0x02, 0x0f];

/// Enough to keep a stream going while either side is not scheduled.
const TCP_BUFFER: usize = 512 << 10;

/// A device on a tap, with a guest that has booted on it.
pub(super) struct Session {
    namespace: Namespace,
    device: Arc<Mutex<NetDevice>>,
    guest: Guest,
    progress: Progress,
    /// Counters of the devices before this one, for each that was left.
    earlier: Vec<Counters>,
}

impl Session {
    /// Opens the tap, makes the device and boots the guest.
    pub(super) fn open(namespace: Namespace) -> Result<Self, DemoError> {
        let mut progress = Progress::new();
        progress.phase("booting the guest");
        check_tun()?;
        let device = Arc::new(Mutex::new(device(0)?));
        let config = GuestConfig {
            address: Ipv4Cidr::new(GUEST, PREFIX),
            mtu: usize::from(MTU),
            tcp_buffer: TCP_BUFFER,
        };
        let guest = Guest::boot(Arc::clone(&device) as _, &config)?;
        Ok(Self {
            namespace,
            device,
            guest,
            progress,
            earlier: Vec::new(),
        })
    }

    /// Measures latency, then each direction.
    pub(super) fn measure(mut self, options: &Options) -> Result<Report, DemoError> {
        let answers = ping::measure(&mut self.guest, HOST, options.pings, &mut self.progress)?;
        let up = self.flow(transfer::upload, options)?;
        let down = self.flow(transfer::download, options)?;
        let counters = self.counters();
        let mac = self.guest.mac();
        let device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Report {
            namespace: self.namespace,
            mac,
            offered: device.features(),
            negotiated: device.acked_features(),
            pings: answers.sent,
            latency: Latency::of(answers.times),
            up,
            down,
            counters,
            time: self.progress.elapsed(),
        })
    }

    /// Runs one stream; the device moves in the middle of it if that is asked for.
    fn flow(&mut self, transfer: Transfer, options: &Options) -> Result<Flow, DemoError> {
        let before = self.counters();
        let mut migration: Option<Migration> = None;
        let (device, number) = (Arc::clone(&self.device), 1 + self.earlier.len());
        let mut halfway = |guest: &mut Guest| {
            if options.snapshot {
                migration = Some(migrate(&device, self::device(number)?, guest)?);
            }
            Ok(())
        };
        let time = options.transfer();
        let moved = transfer(
            &mut self.guest,
            HOST,
            time,
            &mut halfway,
            &mut self.progress,
        )?;
        let left = migration.iter().map(|migration| migration.counters.clone());
        self.earlier.extend(left);
        let counters = self.counters().since(&before);
        Ok(Flow {
            moved,
            counters,
            migration,
        })
    }

    /// Counters of all devices together.
    fn counters(&self) -> Counters {
        let now = Counters::of(&*self.device.lock().unwrap_or_else(PoisonError::into_inner));
        self.earlier.iter().fold(now, Counters::plus)
    }
}

/// The device as a VMM would make it, on the tap of a number.
fn device(number: usize) -> Result<NetDevice, DemoError> {
    let config = NetConfig {
        id: "demo".to_owned(),
        mac: Some(MAC.into()),
        mtu: Some(MTU),
        ..NetConfig::default()
    };
    let tap = TapConfig {
        name: Some(format!("{TAP}{number}")),
        host_mac: Some(HOST_MAC.into()),
        ipv4: Some(format!("{HOST}/{PREFIX}").parse()?),
        ..TapConfig::default()
    };
    Ok(NetDevice::from_tap_name(config, &tap)?)
}

type Transfer =
    fn(&mut Guest, Ipv4Addr, Duration, Halfway<'_>, &mut Progress) -> Result<Moved, DemoError>;
