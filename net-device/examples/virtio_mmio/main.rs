//! A VMM in small: a virtio-mmio transport around the device, driven at register level by the
//! `virtio-drivers` crate, with plugged memory, and saved and restored while its driver runs.
//!
//! ```text
//!   guest.rs       the driver, and the guest's pages
//!   transport.rs   registers -> NetDevice; what a VMM author writes
//!   backend.rs     frames as datagrams of a socket, instead of a tap
//! ```

mod backend;
mod guest;
mod transport;

use std::error::Error;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use guest::{Bus, Driver};
use net_device::net_queue::header::HDR_LEN;
use net_device::{NetConfig, NetDevice, features};
use transport::VirtioMmio;
use vm_memory::{GuestAddress, GuestMemoryMmap, GuestRegionMmap};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const MIB: u64 = 1 << 20;
/// Start of the guest's memory, and of what is plugged.
const BOOT: u64 = 0x1000_0000;
const PLUGGED: u64 = 0x8000_0000;

fn main() -> Outcome {
    let memory = Arc::new(GuestMemoryMmap::from_ranges(&[(
        GuestAddress(BOOT),
        MIB as usize,
    )])?);
    guest::use_pages(memory.clone(), BOOT, MIB);
    let (device, mut network) = new_device(memory.clone())?;
    let bus = Bus::new(device);
    let mut driver = Driver::new(bus.clone(), 2048)?;
    println!(
        "driver: the device is up, its MAC address is {:02x?}",
        driver.mac_address()
    );
    exchange(&bus, &mut driver, &network)?;
    println!("frames pass both ways");

    let more = GuestRegionMmap::from_range(GuestAddress(PLUGGED), MIB as usize, None)?;
    let memory = Arc::new(memory.insert_region(Arc::new(more))?);
    bus.device().set_memory(memory.clone())?;
    guest::use_pages(memory.clone(), PLUGGED, MIB);
    exchange(&bus, &mut driver, &network)?;
    println!("frames pass from and to memory that was plugged while the device ran");

    let saved = bus.device().save()?;
    println!("transport and device are saved in {} bytes", saved.len());
    let (mut other, other_network) = new_device(memory)?;
    other.restore(&saved)?;
    *bus.device() = other;
    network = other_network;
    // A RARP request for the guest's address, since its driver cannot announce itself.
    let announced = network.recv(&mut [0; 2048])?;
    assert_eq!(announced, HDR_LEN + 60);
    exchange(&bus, &mut driver, &network)?;
    println!("restored: the driver noticed nothing, frames pass both ways");

    drop(driver);
    guest::reset_and_suspend(&bus, 64);
    let sent = network.recv(&mut [0; 2048])?;
    assert_eq!(sent, HDR_LEN + 64);
    println!("a driver of another kind reset a queue and suspended the device: its frames pass");
    Ok(())
}

/// A device on one end of a pair of sockets, and the other end.
fn new_device(memory: Arc<GuestMemoryMmap>) -> Outcome<(VirtioMmio, UnixDatagram)> {
    let (port, network) = backend::port()?;
    network.set_read_timeout(Some(PATIENCE))?;
    let config = NetConfig::builder()
        .id("net0")
        .mac([2, 0, 0, 0, 0, 1])
        .transport_features(features::TRANSPORT)
        .build()?;
    let device = NetDevice::from_ports(config, vec![port])?;
    Ok((VirtioMmio::new(device, memory)?, network))
}

/// Longest wait for what has to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Moves a frame of each length in each direction, byte by byte the same.
fn exchange(bus: &Bus, driver: &mut Driver, network: &UnixDatagram) -> Outcome {
    let interrupt = bus.device().interrupt_event()?;
    let wait = Epoll::new()?;
    let readable = EpollEvent::new(EventSet::IN, 0);
    wait.ctl(
        ControlOperation::Add,
        std::os::fd::AsRawFd::as_raw_fd(&interrupt),
        readable,
    )?;
    for len in [60, 61, 590, 1514] {
        let frame: Vec<u8> = (0..len).map(|at| at as u8).collect();
        let mut datagram = [0; 2048];

        let mut buffer = driver.new_tx_buffer(len);
        buffer.packet_mut().copy_from_slice(&frame);
        driver.send(buffer)?;
        let sent = network.recv(&mut datagram)?;
        assert_eq!(
            datagram[HDR_LEN..sent],
            frame,
            "what the guest sends is what arrives"
        );

        datagram[..HDR_LEN].fill(0);
        datagram[HDR_LEN..sent].reverse();
        network.send(&datagram[..sent])?;
        while !driver.can_recv() {
            let events = wait.wait(PATIENCE.as_millis() as i32, &mut [EpollEvent::default()])?;
            assert_ne!(events, 0, "an interrupt announces the frame");
            let _ = interrupt.read();
            driver.ack_interrupt();
        }
        let received = driver.receive()?;
        assert_eq!(received.packet(), &datagram[HDR_LEN..sent]);
        driver.recycle_rx_buffer(received)?;
    }
    Ok(())
}
