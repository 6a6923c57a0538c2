//! The guest as a whole: interface, sockets and the loop that drives them.

use std::io;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use smoltcp::iface::{
    Config, Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet,
};
use smoltcp::socket::{AnySocket, tcp};
use smoltcp::time::Instant as StackTime;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, IpEndpoint, Ipv4Cidr};
use thiserror::Error;

use super::hal::{Driver, DriverError};
use super::phy::Phy;
use super::transport::SharedDevice;

/// Frames that one step receives at most, so that the application runs between them.
const STEP_FRAMES: usize = 64;

/// Longest time that a lost doorbell may stay lost; see [`Guest::wait_for_activity`].
const RESCUE: Duration = Duration::from_millis(1);

/// The address of a guest whose device gives none: locally administered.
const OWN_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x0f];

/// Room for the device's header and for the Ethernet header with a VLAN tag.
const FRAME_OVERHEAD: usize = 12 + 18;

/// Configuration of the guest.
#[derive(Debug, Clone, Copy)]
pub struct GuestConfig {
    /// Address and network of the guest.
    pub address: Ipv4Cidr,
    /// Largest IP packet in bytes.
    pub mtu: usize,
    /// Send and receive buffer of each TCP socket in bytes.
    pub tcp_buffer: usize,
}

/// Failures inside the guest.
#[derive(Debug, Error)]
pub enum GuestError {
    /// The driver stopped.
    #[error("guest driver")]
    Driver(#[from] DriverError),
    /// The device cannot go on: a broken ring, or a port that is gone.
    #[error("the device asks for a reset")]
    NeedsReset,
    /// The guest cannot sleep.
    #[error("guest interrupt")]
    Interrupt(#[source] io::Error),
    /// The connection cannot be opened.
    #[error("guest connection")]
    Connect(#[source] tcp::ConnectError),
    /// Nothing moved for too long.
    #[error("nothing moved for {patience:?} while the guest was waiting for {awaited}")]
    Stalled {
        /// Event that did not happen.
        awaited: &'static str,
        /// Time that the guest waited.
        patience: Duration,
    },
}

/// Outcome of an application's turn.
#[derive(Debug)]
pub enum Turn<T> {
    /// It is finished.
    Done(T),
    /// It moved something and may move more at once.
    Progress,
    /// It waits for the network.
    Idle,
}

/// A booted guest.
pub struct Guest {
    device: SharedDevice,
    mac: [u8; 6],
    phy: Phy,
    interface: Interface,
    sockets: SocketSet<'static>,
    origin: Instant,
    tcp_buffer: usize,
    /// Something was sent or posted since the last quiet millisecond.
    unsettled: bool,
}

impl Guest {
    /// Boots a guest on a device.
    ///
    /// # Errors
    /// When the driver cannot bring the device up.
    pub fn boot(device: SharedDevice, config: &GuestConfig) -> Result<Self, GuestError> {
        let driver = Driver::start(Arc::clone(&device), (config.mtu + FRAME_OVERHEAD).max(2048))?;
        let mac = Some(driver.mac())
            .filter(|mac| *mac != [0; 6])
            .unwrap_or(OWN_MAC);
        let mac_address = HardwareAddress::Ethernet(EthernetAddress(mac));
        let mut phy = Phy::new(driver, config.mtu);
        let origin = Instant::now();
        let mut interface = Interface::new(Config::new(mac_address), &mut phy, StackTime::ZERO);
        interface.update_ip_addrs(|addresses| {
            // One address in a list that has room for more.
            let _ = addresses.push(IpCidr::Ipv4(config.address));
        });
        Ok(Self {
            device,
            mac,
            phy,
            interface,
            sockets: SocketSet::new(Vec::new()),
            origin,
            tcp_buffer: config.tcp_buffer,
            unsettled: true,
        })
    }

    /// Activates the device anew: its owner has put another one in its place, which was restored
    /// from its snapshot. Driver and stack know nothing of that.
    ///
    /// # Errors
    /// When the new device refuses.
    pub fn move_to_new_device(&mut self) -> Result<(), GuestError> {
        let device = Arc::clone(&self.device);
        Ok(self.phy.driver().move_to(&device)?)
    }

    /// The guest's MAC address: the device's, or one of its own when the device gave none.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Adds a socket.
    pub fn add<S: AnySocket<'static>>(&mut self, socket: S) -> SocketHandle {
        self.sockets.add(socket)
    }

    /// A socket that was added.
    pub fn socket<S: AnySocket<'static>>(&mut self, handle: SocketHandle) -> &mut S {
        self.sockets.get_mut(handle)
    }

    /// Removes a socket.
    pub fn remove(&mut self, handle: SocketHandle) {
        self.sockets.remove(handle);
    }

    /// Starts to connect to a TCP endpoint.
    ///
    /// # Errors
    /// When the endpoint cannot be one.
    pub fn connect(
        &mut self,
        remote: impl Into<IpEndpoint>,
        local_port: u16,
    ) -> Result<SocketHandle, GuestError> {
        let buffer = || tcp::SocketBuffer::new(vec![0; self.tcp_buffer]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket
            .connect(self.interface.context(), remote.into(), local_port)
            .map_err(GuestError::Connect)?;
        Ok(self.sockets.add(socket))
    }

    /// Moves a bounded number of frames between device and sockets. Returns whether a socket may
    /// have changed.
    ///
    /// # Errors
    /// When the driver stopped.
    pub fn step(&mut self) -> Result<bool, GuestError> {
        let now = self.now();
        let mut changed = false;
        for _ in 0..STEP_FRAMES {
            let (phy, sockets) = (&mut self.phy, &mut self.sockets);
            match self.interface.poll_ingress_single(now, phy, sockets) {
                PollIngressSingleResult::None => break,
                PollIngressSingleResult::PacketProcessed => self.unsettled = true,
                PollIngressSingleResult::SocketStateChanged => changed = true,
            }
        }
        let sent = self
            .interface
            .poll_egress(now, &mut self.phy, &mut self.sockets);
        changed |= sent == PollResult::SocketStateChanged;
        self.unsettled |= changed;
        self.phy.driver().flush();
        self.phy.take_fault()?;
        Ok(changed)
    }

    /// Sleeps until the device interrupts, the stack has something to do, or `at_most` is over.
    ///
    /// The driver crate compares the device's avail event without a barrier and without
    /// wrap-around, so now and then it does not ring when it should. Soon after the last activity
    /// the guest rings once on its own, which turns a hang into a millisecond.
    ///
    /// # Errors
    /// When the driver stopped or the host does not let the guest sleep.
    pub fn wait_for_activity(&mut self, at_most: Duration) -> Result<(), GuestError> {
        let now = self.now();
        let driver = self.phy.driver();
        if driver.interrupt().acknowledge().config()
            && self
                .device
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .needs_reset()
        {
            return Err(GuestError::NeedsReset);
        }
        if driver.has_work()? {
            return Ok(());
        }
        let mut sleep = at_most;
        if driver.tx_full() {
            self.unsettled = true;
        } else if let Some(delay) = self.interface.poll_delay(now, &self.sockets) {
            sleep = sleep.min(delay.into());
        }
        let rescue = self.unsettled && sleep > RESCUE;
        if rescue {
            sleep = RESCUE;
        }
        let interrupt = self.phy.driver().interrupt();
        let woken = sleep.is_zero() || interrupt.wait(sleep).map_err(GuestError::Interrupt)?;
        if rescue && !woken {
            self.phy.driver().ring_all();
            self.unsettled = false;
        }
        Ok(())
    }

    /// Runs an application until it is done: step, its turn, and rest when nothing moved.
    ///
    /// # Errors
    /// The application's own, the guest's, and [`GuestError::Stalled`] when there was no
    /// [`Turn::Progress`] for as long as `patience`.
    pub fn run<T, E: From<GuestError>>(
        &mut self,
        awaited: &'static str,
        patience: Duration,
        mut app: impl FnMut(&mut Self) -> Result<Turn<T>, E>,
    ) -> Result<T, E> {
        let mut deadline = Instant::now() + patience;
        loop {
            self.step()?;
            match app(self)? {
                Turn::Done(value) => return Ok(value),
                Turn::Progress => deadline = Instant::now() + patience,
                Turn::Idle => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(GuestError::Stalled { awaited, patience }.into());
                    }
                    self.wait_for_activity(left)?;
                }
            }
        }
    }

    fn now(&self) -> StackTime {
        let micros = i64::try_from(self.origin.elapsed().as_micros()).unwrap_or(i64::MAX);
        StackTime::from_micros(micros)
    }
}
