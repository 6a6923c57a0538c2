//! Front-ends as scripts: their order of requests, a ring that moves frames, and what they must not
//! get away with.
//!
//! This is the scripted front-end; its stories are in the modules.

mod blocking_calls;
mod descriptors;
mod device_state;
mod disabled;
mod group;
mod inflight;
mod iommu;
mod legacy;
mod memory;
mod migration;
mod negotiation;
mod peers;
mod resume;
mod rings;
mod stalls;

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use net_device::net_queue::Offloads;
use net_device::{Features, Layout, NetConfig, NetDeviceBuilder, Port, PortControl};
use net_queue::testing::{ScriptedBackend, Wire};
use vhost::vhost_user::message::{
    VhostUserConfig, VhostUserConfigFlags, VhostUserLog, VhostUserMemoryRegion,
    VhostUserVirtioFeatures, VhostUserVringAddr,
};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap};

use super::negotiation::RING_PACKED;
use super::*;
use crate::protocol::iotlb::ACCESS_PLATFORM;
use crate::protocol::vring::State;
use crate::protocol::wire::{Answer, Request, RingFd, RingValue};
use crate::sys::Interest;

/// Address of the memory in the front-end.
const USER: u64 = 0x7f00_0000_0000;
const MEMORY: u64 = 1 << 20;
/// Descriptors of each ring.
const SIZE: u16 = 8;
const RX: u32 = 0;
const TX: u32 = 1;
/// Features that a front-end that serves the control queue itself accepts.
const VERSION_1: u64 = 1 << 32;
const PROTOCOL: u64 = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
const LOG_ALL: u64 = VhostUserVirtioFeatures::LOG_ALL.bits();
const HEADER: usize = 12;
const FRAME: usize = 60;

struct NoControl;

impl PortControl for NoControl {
    fn attach(&self, _on: bool) -> io::Result<()> {
        Ok(())
    }

    fn set_offloads(&self, _rx: Offloads) -> io::Result<()> {
        Ok(())
    }
}

fn unbuilt(pairs: u16, mtu: Option<u16>) -> (NetDeviceBuilder<'static>, Vec<Port>, Vec<Wire>) {
    let config = NetConfig::builder()
        .queue_pairs(pairs)
        .mac([2, 0, 0, 0, 0, 1]);
    let config = mtu.into_iter().fold(config, |config, mtu| config.mtu(mtu));
    from_config(config.build().unwrap())
}

fn from_config(config: NetConfig) -> (NetDeviceBuilder<'static>, Vec<Port>, Vec<Wire>) {
    let pairs = config.queue_pairs;
    let (backends, wires): (Vec<ScriptedBackend>, _) = (0..pairs).map(|_| Wire::new()).unzip();
    let ports = backends
        .into_iter()
        .map(|backend| Port::new(Box::new(backend), Box::new(NoControl)));
    let device = NetDevice::builder(config);
    (device, ports.collect(), wires)
}

fn made(pairs: u16, mtu: Option<u16>) -> (NetDevice, Vec<Wire>) {
    let (device, ports, wires) = unbuilt(pairs, mtu);
    (device.build_on_ports(ports).unwrap(), wires)
}

fn device(pairs: u16) -> (NetDevice, Vec<Wire>) {
    made(pairs, None)
}

fn device_with_mtu(mtu: u16) -> (NetDevice, Vec<Wire>) {
    made(1, Some(mtu))
}

/// A front-end with a driver: memory in a file, and one end of each event descriptor.
struct FrontEnd {
    file: File,
    memory: GuestMemoryMmap,
    call: File,
    kick: File,
    sent: u16,
}

/// The descriptor that goes to the back-end.
fn own(file: &File) -> std::os::fd::OwnedFd {
    file.try_clone().unwrap().into()
}

impl FrontEnd {
    fn new() -> Self {
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        file.set_len(MEMORY).unwrap();
        let range = (
            GuestAddress(0),
            MEMORY as usize,
            Some(FileOffset::new(file.try_clone().unwrap(), 0)),
        );
        let memory = GuestMemoryMmap::from_ranges_with_files([range]).unwrap();
        Self {
            file,
            memory,
            call: crate::sys::event().unwrap(),
            kick: crate::sys::event().unwrap(),
            sent: 0,
        }
    }

    fn ring(index: u32) -> u64 {
        0x1_0000 * (u64::from(index) + 1)
    }

    fn region(&self) -> VhostUserMemoryRegion {
        VhostUserMemoryRegion::new(0, MEMORY, USER, 0)
    }

    fn memory_table(&self) -> Request {
        Request::SetMemTable(vec![(self.region(), own(&self.file))])
    }

    fn addresses(&self, ring: u32, flags: u32) -> Request {
        let user = USER + Self::ring(ring);
        Request::SetVringAddr(VhostUserVringAddr {
            index: ring,
            flags,
            descriptor: user,
            used: user + 0x2000,
            available: user + 0x1000,
            log: Self::ring(ring) + 0x2000,
        })
    }

    fn kick_of(&self, ring: u32) -> Request {
        Request::SetVringKick(RingFd {
            ring,
            fd: Some(own(&self.kick)),
        })
    }

    /// Everything about a ring but whether it is enabled.
    fn set_up(&self, ring: u32, base: u32) -> Vec<Request> {
        vec![
            Request::SetVringNum(RingValue {
                ring,
                value: u32::from(SIZE),
            }),
            Request::SetVringBase(RingValue { ring, value: base }),
            self.addresses(ring, 0),
            self.kick_of(ring),
            Request::SetVringCall(RingFd {
                ring,
                fd: Some(own(&self.call)),
            }),
        ]
    }

    /// Makes one frame available in the transmit ring.
    fn post(&mut self) {
        // A buffer of its own for each: the device may still read the frame before.
        let slot = self.sent % SIZE;
        let (ring, buffer) = (Self::ring(TX), 0x8_0000 + 0x100 * u64::from(slot));
        let desc = ring + 16 * u64::from(slot);
        let frame = [&[0u8; HEADER][..], &[self.sent as u8; FRAME]].concat();
        let write = |bytes: &[u8], at| self.memory.write_slice(bytes, GuestAddress(at)).unwrap();
        write(&frame, buffer);
        write(&buffer.to_le_bytes(), desc);
        write(&(frame.len() as u32).to_le_bytes(), desc + 8);
        write(&[0; 4], desc + 12);
        write(&slot.to_le_bytes(), ring + 0x1000 + 4 + 2 * u64::from(slot));
        self.sent += 1;
        write(&self.sent.to_le_bytes(), ring + 0x1000 + 2);
    }

    fn send(&mut self) {
        self.post();
        crate::protocol::interrupts::signal(Some(&self.kick)).unwrap();
    }

    /// Makes `count` buffers of 4096 bytes available in the receive ring.
    fn provide(&self, count: u16) {
        let ring = Self::ring(RX);
        let write = |bytes: &[u8], at| self.memory.write_slice(bytes, GuestAddress(at)).unwrap();
        for slot in 0..u64::from(count) {
            let desc = ring + 16 * slot;
            write(&(0x9_0000 + 0x1000 * slot).to_le_bytes(), desc);
            write(&4096u32.to_le_bytes(), desc + 8);
            write(&[2, 0, 0, 0], desc + 12);
            write(&(slot as u16).to_le_bytes(), ring + 0x1000 + 4 + 2 * slot);
        }
        write(&count.to_le_bytes(), ring + 0x1000 + 2);
        crate::protocol::interrupts::signal(Some(&self.kick)).unwrap();
    }

    /// Bytes of the receive ring's used element at `slot`.
    fn written(&self, slot: u64) -> u32 {
        let element = Self::ring(RX) + 0x2000 + 4 + 8 * slot;
        self.memory.read_obj(GuestAddress(element + 4)).unwrap()
    }

    fn set_used(&self, ring: u32, index: u16) {
        let address = GuestAddress(Self::ring(ring) + 0x2000 + 2);
        self.memory.write_obj(index, address).unwrap();
    }

    fn used(&self, ring: u32) -> u16 {
        let address = GuestAddress(Self::ring(ring) + 0x2000 + 2);
        self.memory.read_obj(address).unwrap()
    }

    /// Waits until the device has used all that was sent.
    fn wait(&mut self) {
        self.wait_for(TX, self.sent);
    }

    /// Waits until the used index of `ring` is `index`.
    fn wait_for(&mut self, ring: u32, index: u16) {
        while self.used(ring) != index {
            let ready =
                crate::sys::is_ready(self.call.as_fd(), Interest::Readable, Some(10_000)).unwrap();
            assert!(
                ready,
                "no interrupt; {} of {} frames were used",
                self.used(ring),
                index
            );
            let _ = self.call.read(&mut [0; 8]);
        }
    }
}

fn all(session: &mut Session<'_>, requests: impl IntoIterator<Item = Request>) {
    for request in requests {
        session.handle(request).unwrap();
    }
}

/// A session whose transmit ring runs, as user-mode Linux gets there.
fn running<'a>(device: &'a mut NetDevice, front_end: &FrontEnd) -> Session<'a> {
    let mut session = Session::new(device).unwrap();
    let protocol = PROTOCOL_FEATURES.bits();
    all(
        &mut session,
        [
            Request::SetOwner,
            Request::GetFeatures,
            Request::GetProtocolFeatures,
            Request::SetProtocolFeatures(protocol),
            Request::SetFeatures(VERSION_1 | PROTOCOL),
            front_end.memory_table(),
        ],
    );
    all(&mut session, front_end.set_up(TX, 0));
    all(&mut session, [Request::SetVringEnable(TX, true)]);
    assert_eq!(session.rings[TX as usize].state(), State::Running);
    session
}

fn payloads(wire: &Wire) -> Vec<u8> {
    wire.take_sent().iter().map(|frame| frame[HEADER]).collect()
}
