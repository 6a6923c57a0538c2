//! The set-up of a demonstration, and the order of its measurements.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use net_device::{NetConfig, NetDevice, TapConfig, VirtioDevice};
use smoltcp::wire::Ipv4Cidr;

use super::error::DemoError;
use super::guest::{Guest, GuestConfig};
use super::host::Moved;
use super::latency::Latency;
use super::netns::Namespace;
use super::network::{GUEST, HOST, MTU, PREFIX, TAP};
use super::options::Options;
use super::progress::Progress;
use super::report::{Counters, Flow, Report};
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
}

impl Session {
    /// Opens the tap, makes the device and boots the guest.
    pub(super) fn open(namespace: Namespace) -> Result<Self, DemoError> {
        let mut progress = Progress::new();
        progress.phase("booting the guest");
        check_tun()?;
        let device = Arc::new(Mutex::new(device()?));
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
        })
    }

    /// Measures latency, then each direction.
    pub(super) fn measure(mut self, options: &Options) -> Result<Report, DemoError> {
        let answers = ping::measure(&mut self.guest, HOST, options.pings, &mut self.progress)?;
        let up = self.flow(transfer::upload, options.transfer())?;
        let down = self.flow(transfer::download, options.transfer())?;
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
            counters: Counters::of(&*device),
            time: self.progress.elapsed(),
        })
    }

    fn flow(&mut self, transfer: Transfer, time: Duration) -> Result<Flow, DemoError> {
        let before = self.counters();
        let moved = transfer(&mut self.guest, HOST, time, &mut self.progress)?;
        let counters = self.counters().since(&before);
        Ok(Flow { moved, counters })
    }

    fn counters(&self) -> Counters {
        Counters::of(&*self.device.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The device as a VMM would make it.
fn device() -> Result<NetDevice, DemoError> {
    let config = NetConfig {
        id: "demo".to_owned(),
        mac: Some(MAC.into()),
        mtu: Some(MTU),
        ..NetConfig::default()
    };
    let tap = TapConfig {
        name: Some(TAP.to_owned()),
        ipv4: Some(format!("{HOST}/{PREFIX}").parse()?),
        ..TapConfig::default()
    };
    Ok(NetDevice::from_tap_name(config, &tap)?)
}

type Transfer = fn(&mut Guest, Ipv4Addr, Duration, &mut Progress) -> Result<Moved, DemoError>;
