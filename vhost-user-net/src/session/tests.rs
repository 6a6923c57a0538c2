//! Front-ends as scripts: their order of requests, a ring that moves frames, and what they must not get away with.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use net_device::net_queue::Offloads;
use net_device::{NetConfig, Port, PortControl};
use net_queue::testing::{ScriptedBackend, Wire};
use vhost::vhost_user::message::{
    VhostUserConfigFlags, VhostUserLog, VhostUserMemoryRegion, VhostUserVringAddr,
};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap};

use super::*;
use crate::sys::Interest;

/// Where the front-end has its memory.
const USER: u64 = 0x7f00_0000_0000;
const MEMORY: u64 = 1 << 20;
/// Descriptors of each ring.
const SIZE: u16 = 8;
const TX: u32 = 1;
/// What a front-end that serves the control queue itself accepts.
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

fn device(pairs: u16) -> (NetDevice, Vec<Wire>) {
    let (backends, wires): (Vec<ScriptedBackend>, _) = (0..pairs).map(|_| Wire::new()).unzip();
    let ports = backends
        .into_iter()
        .map(|backend| Port::new(Box::new(backend), Box::new(NoControl)));
    let config = NetConfig::builder()
        .queue_pairs(pairs)
        .mac([2, 0, 0, 0, 0, 1])
        .build()
        .unwrap();
    (
        NetDevice::from_ports(config, ports.collect()).unwrap(),
        wires,
    )
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
        let file = tempfile::tempfile().unwrap();
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
        let (ring, buffer) = (Self::ring(TX), 0x8_0000u64);
        let frame = [&[0u8; HEADER][..], &[self.sent as u8; FRAME]].concat();
        let write = |bytes: &[u8], at| self.memory.write_slice(bytes, GuestAddress(at)).unwrap();
        write(&frame, buffer);
        write(&buffer.to_le_bytes(), ring);
        write(&(frame.len() as u32).to_le_bytes(), ring + 8);
        write(&[0; 4], ring + 12);
        write(&[0; 2], ring + 0x1000 + 4 + 2 * u64::from(self.sent % SIZE));
        self.sent += 1;
        write(&self.sent.to_le_bytes(), ring + 0x1000 + 2);
    }

    fn send(&mut self) {
        self.post();
        crate::interrupts::signal(Some(&self.kick)).unwrap();
    }

    fn used(&self) -> u16 {
        self.memory
            .read_obj(GuestAddress(Self::ring(TX) + 0x2000 + 2))
            .unwrap()
    }

    /// Waits until the device has used all that was sent.
    fn wait(&mut self) {
        while self.used() != self.sent {
            let [ready] =
                crate::sys::wait([(self.call.as_fd(), Interest::Readable)], Some(10_000)).unwrap();
            assert!(
                ready,
                "no interrupt; {} of {} frames were used",
                self.used(),
                self.sent
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

#[test]
fn frames_move_in_the_order_of_user_mode_linux() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let _session = running(&mut device, &front_end);
    front_end.send();
    front_end.wait();
    assert_eq!(payloads(&wires[0]), [0]);
}

#[test]
fn frames_move_in_the_order_of_qemu() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = Session::new(&mut device).unwrap();
    all(
        &mut session,
        [
            Request::SetProtocolFeatures(PROTOCOL_FEATURES.bits()),
            Request::SetOwner,
            Request::SetVringEnable(0, true),
            Request::SetVringEnable(TX, true),
            Request::SetFeatures(VERSION_1 | PROTOCOL),
            Request::AddMemReg(front_end.region(), own(&front_end.file)),
            Request::AddMemReg(front_end.region(), own(&front_end.file)),
        ],
    );
    all(&mut session, front_end.set_up(TX, 0));
    front_end.send();
    front_end.wait();
    assert_eq!(payloads(&wires[0]), [0]);
}

#[test]
fn a_ring_needs_no_enabling_without_protocol_features() {
    let (mut device, _wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = Session::new(&mut device).unwrap();
    all(&mut session, front_end.set_up(TX, 0));
    all(&mut session, [front_end.memory_table()]);
    assert_eq!(session.rings[TX as usize].state(), State::Held);
    all(&mut session, [Request::SetFeatures(VERSION_1)]);
    front_end.send();
    front_end.wait();
}

#[test]
fn a_stopped_ring_says_where_it_stands_and_goes_on_from_there() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    for _ in 0..3 {
        front_end.send();
        front_end.wait();
    }
    let stopped = session.handle(Request::GetVringBase(TX)).unwrap();
    assert_eq!(stopped, Answer::RingBase(RingValue { ring: TX, value: 3 }));
    front_end.send();
    assert_eq!(payloads(&wires[0]), [0, 1, 2]);
    all(&mut session, front_end.set_up(TX, 3));
    front_end.wait();
    assert_eq!(payloads(&wires[0]), [3]);
}

#[test]
fn a_disabled_ring_waits_and_goes_on() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    front_end.send();
    front_end.wait();
    all(&mut session, [Request::SetVringEnable(TX, false)]);
    assert_eq!(session.rings[TX as usize].state(), State::Held);
    front_end.send();
    assert_eq!(payloads(&wires[0]), [0]);
    all(&mut session, [Request::SetVringEnable(TX, true)]);
    front_end.wait();
    assert_eq!(payloads(&wires[0]), [1]);
}

#[test]
fn starting_twice_changes_descriptors_and_nothing_else() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    front_end.send();
    front_end.wait();
    front_end.kick = crate::sys::event().unwrap();
    front_end.call = crate::sys::event().unwrap();
    let call = RingFd {
        ring: TX,
        fd: Some(own(&front_end.call)),
    };
    all(
        &mut session,
        [
            front_end.kick_of(TX),
            front_end.kick_of(TX),
            Request::SetVringCall(call),
        ],
    );
    all(
        &mut session,
        [
            Request::SetVringEnable(TX, true),
            front_end.addresses(TX, 0),
        ],
    );
    front_end.send();
    front_end.wait();
    assert_eq!(payloads(&wires[0]), [0, 1]);
}

#[test]
fn before_anything_else_a_ring_stands_at_its_start() {
    let (mut device, _wires) = device(1);
    let mut session = Session::new(&mut device).unwrap();
    let answer = session.handle(Request::GetVringBase(0)).unwrap();
    assert_eq!(answer, Answer::RingBase(RingValue { ring: 0, value: 0 }));
}

#[test]
fn rings_that_are_not_there_are_refused() {
    let (mut device, _wires) = device(1);
    let front_end = FrontEnd::new();
    let mut session = Session::new(&mut device).unwrap();
    for ring in [3, 255, 0x1_0000, 0x1_0001, u32::MAX] {
        let mut requests = front_end.set_up(ring, 0);
        requests.extend([
            Request::GetVringBase(ring),
            Request::SetVringEnable(ring, true),
            Request::SetVringErr(RingFd { ring, fd: None }),
        ]);
        for request in requests {
            assert!(matches!(
                session.handle(request),
                Err(SessionError::NoRing(_))
            ));
        }
    }
}

#[test]
fn sizes_and_addresses_that_no_ring_has_are_refused() {
    let (mut device, _wires) = device(1);
    let front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    for value in [0, 257, 0x1_0008, u32::MAX] {
        assert!(
            session
                .handle(Request::SetVringNum(RingValue { ring: 0, value }))
                .is_err()
        );
    }
    let requests = || {
        let mut requests = front_end.set_up(0, 0);
        requests.truncate(2);
        requests
    };
    for base in [0, USER - 0x1000, USER + MEMORY, !0xfff] {
        all(&mut session, requests());
        let addrs = VhostUserVringAddr {
            index: 0,
            descriptor: base,
            used: base,
            available: base,
            ..Default::default()
        };
        all(
            &mut session,
            [
                Request::SetVringEnable(0, true),
                Request::SetVringAddr(addrs),
            ],
        );
        assert!(session.handle(front_end.kick_of(0)).is_err(), "{base:#x}");
        assert_eq!(session.rings[0].state(), State::Stopped);
    }
    assert_eq!(session.rings[TX as usize].state(), State::Running);
}

#[test]
fn what_a_running_ring_is_made_of_cannot_change() {
    let (mut device, _wires) = device(1);
    let front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    assert!(
        session
            .handle(Request::SetVringNum(RingValue { ring: TX, value: 4 }))
            .is_err()
    );
    assert!(
        session
            .handle(Request::SetVringBase(RingValue { ring: TX, value: 4 }))
            .is_err()
    );
    let polling = session.handle(Request::SetVringKick(RingFd { ring: TX, fd: None }));
    assert!(matches!(
        polling,
        Err(SessionError::Ring(TX, RingError::Polling))
    ));
}

#[test]
fn features_come_again_and_cannot_change_under_a_ring() {
    let (mut device, _wires) = device(1);
    let front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    all(&mut session, [Request::SetFeatures(VERSION_1 | PROTOCOL)]);
    let changed = session.handle(Request::SetFeatures(VERSION_1 | PROTOCOL | 1 << 15));
    assert!(matches!(changed, Err(SessionError::FeaturesInUse)));
    all(
        &mut session,
        [
            Request::GetVringBase(TX),
            Request::SetFeatures(VERSION_1 | PROTOCOL | 1 << 15),
        ],
    );
}

#[test]
fn features_that_were_not_offered_are_refused() {
    let (mut device, _wires) = device(1);
    let mut session = Session::new(&mut device).unwrap();
    assert!(
        session
            .handle(Request::SetFeatures(VERSION_1 | 1 << 60))
            .is_err()
    );
    assert!(
        session.handle(Request::SetFeatures(0)).is_err(),
        "a legacy driver"
    );
    assert!(
        session
            .handle(Request::SetProtocolFeatures(1 << 12))
            .is_err()
    );
}

#[test]
fn a_front_end_may_keep_the_control_queue_to_itself() {
    let (mut device, wires) = device(2);
    let mut front_end = FrontEnd::new();
    let mut session = Session::new(&mut device).unwrap();
    let mq = Features::VIRTIO_NET_F_MQ.bits();
    assert_eq!(
        session.handle(Request::GetQueueNum).unwrap(),
        Answer::Number(5)
    );
    assert_ne!(session.offered_features() & mq, 0);
    all(
        &mut session,
        [
            Request::SetFeatures(VERSION_1 | PROTOCOL | mq),
            front_end.memory_table(),
        ],
    );
    all(&mut session, front_end.set_up(TX, 0));
    all(&mut session, [Request::SetVringEnable(TX, true)]);
    front_end.send();
    front_end.wait();
    assert_eq!(payloads(&wires[0]), [0]);
}

#[test]
fn memory_is_replaced_under_a_running_ring() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    for round in 1..=8u64 {
        front_end.send();
        let more = tempfile::tempfile().unwrap();
        more.set_len(round << 12).unwrap();
        let region = VhostUserMemoryRegion::new(1 << 30, round << 12, USER << 1, 0);
        let table = vec![
            (front_end.region(), own(&front_end.file)),
            (region, own(&more)),
        ];
        all(&mut session, [Request::SetMemTable(table)]);
    }
    front_end.wait();
    assert_eq!(payloads(&wires[0]), [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_ring_moves_with_its_memory() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    front_end.send();
    front_end.wait();
    // The same file is guest memory at two places; the ring is now in the second.
    let second = VhostUserMemoryRegion::new(1 << 30, MEMORY, USER, 0);
    let first = VhostUserMemoryRegion::new(0, MEMORY, USER << 1, 0);
    let table = vec![
        (first, own(&front_end.file)),
        (second, own(&front_end.file)),
    ];
    all(&mut session, [Request::SetMemTable(table)]);
    front_end.send();
    front_end.wait();
    assert_eq!(payloads(&wires[0]), [0, 1]);
}

#[test]
fn memory_of_a_running_ring_stays() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    let removed = session.handle(Request::RemMemReg(front_end.region()));
    assert!(matches!(removed, Err(SessionError::MemoryInUse)));
    assert!(session.handle(Request::SetMemTable(Vec::new())).is_err());
    front_end.send();
    front_end.wait();
    assert_eq!(payloads(&wires[0]), [0]);
    all(
        &mut session,
        [
            Request::GetVringBase(TX),
            Request::RemMemReg(front_end.region()),
        ],
    );
}

#[test]
fn written_pages_are_marked_while_logging_is_on() {
    let (mut device, _wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    let mut log = tempfile::tempfile().unwrap();
    log.set_len(0x1000).unwrap();
    let answer = session
        .handle(Request::SetLogBase(VhostUserLog::new(0x1000, 0), own(&log)))
        .unwrap();
    assert_eq!(answer, Answer::Number(0));
    let mut dirty = |clear: bool| {
        use std::io::{Seek, SeekFrom, Write};
        let mut bytes = Vec::new();
        log.seek(SeekFrom::Start(0)).unwrap();
        log.read_to_end(&mut bytes).unwrap();
        if clear {
            log.seek(SeekFrom::Start(0)).unwrap();
            log.write_all(&[0; 0x1000]).unwrap();
        }
        (0..bytes.len() * 8)
            .filter(|bit| bytes[bit / 8] >> (bit % 8) & 1 == 1)
            .collect::<Vec<_>>()
    };
    let used_page = ((FrontEnd::ring(TX) + 0x2000) >> 12) as usize;

    front_end.send();
    front_end.wait();
    assert!(dirty(true).is_empty());
    all(
        &mut session,
        [
            Request::SetFeatures(VERSION_1 | PROTOCOL | LOG_ALL),
            front_end.addresses(TX, 1),
        ],
    );
    let _ = dirty(true);
    front_end.send();
    front_end.wait();
    assert_eq!(dirty(true), [used_page]);
    all(
        &mut session,
        [
            Request::SetFeatures(VERSION_1 | PROTOCOL),
            front_end.addresses(TX, 0),
        ],
    );
    let _ = dirty(true);
    front_end.send();
    front_end.wait();
    assert!(dirty(true).is_empty());
}

#[test]
fn the_configuration_reads_the_same_in_any_pieces() {
    let (mut device, _wires) = device(1);
    let mut session = Session::new(&mut device).unwrap();
    let mut read = |offset, size| {
        let config = VhostUserConfig::new(offset, size, VhostUserConfigFlags::empty());
        match session.handle(Request::GetConfig(config)).unwrap() {
            Answer::Config(at, data) if at == offset => data,
            other => panic!("{other:?}"),
        }
    };
    let whole = read(0, 24);
    assert_eq!(whole[..6], [2, 0, 0, 0, 0, 1]);
    let bytes: Vec<u8> = (0..24).flat_map(|offset| read(offset, 1)).collect();
    assert_eq!(bytes, whole);
    assert_eq!(read(0xff0, 16), [0; 16]);
}

#[test]
fn the_front_end_hears_of_a_changed_configuration() {
    let (mut device, _wires) = device(1);
    let front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    let (mut theirs, ours) = UnixStream::pair().unwrap();
    all(&mut session, [Request::SetBackendReqFd(ours.into())]);
    session.device.set_link(false);
    let event = session.interrupts().config_event().as_fd();
    let [ready] = crate::sys::wait([(event, Interest::Readable)], Some(10_000)).unwrap();
    assert!(ready);
    session.config_changed();
    let mut message = [0; 12];
    theirs.read_exact(&mut message).unwrap();
    assert_eq!(
        message.as_slice(),
        [2u32, 1, 0].map(u32::to_ne_bytes).as_flattened()
    );
}

#[test]
fn a_front_end_that_never_hears_does_no_harm() {
    let (mut device, _wires) = device(1);
    let front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    let (theirs, ours) = UnixStream::pair().unwrap();
    all(&mut session, [Request::SetBackendReqFd(ours.into())]);
    for _ in 0..10_000 {
        session.config_changed();
    }
    assert!(session.channel.is_some());
    drop(theirs);
    session.config_changed();
    assert!(session.channel.is_none());
}

#[test]
fn what_is_no_socket_is_no_channel() {
    let (mut device, _wires) = device(1);
    let mut session = Session::new(&mut device).unwrap();
    let file = own(&tempfile::tempfile().unwrap());
    assert!(matches!(
        session.handle(Request::SetBackendReqFd(file)),
        Err(SessionError::Channel)
    ));
}

#[test]
fn the_end_of_a_session_closes_what_came_with_it() {
    let (mut device, _wires) = device(1);
    let front_end = FrontEnd::new();
    let session = running(&mut device, &front_end);
    let (mut reader, writer) = io::pipe().unwrap();
    let mut session = session;
    for ring in 0..3 {
        let fd = || Some(writer.try_clone().unwrap().into());
        all(
            &mut session,
            [
                Request::SetVringKick(RingFd { ring, fd: fd() }),
                Request::SetVringCall(RingFd { ring, fd: fd() }),
                Request::SetVringErr(RingFd { ring, fd: fd() }),
            ],
        );
    }
    drop(writer);
    drop(session);
    // Ends when the last writer is closed, or never.
    reader.read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn one_session_follows_another_on_the_same_device() {
    let (mut device, wires) = device(1);
    for _ in 0..5 {
        let mut front_end = FrontEnd::new();
        let session = running(&mut device, &front_end);
        front_end.send();
        front_end.wait();
        drop(session);
    }
    assert_eq!(payloads(&wires[0]).len(), 5);
}

#[test]
fn after_a_reset_everything_is_said_anew() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    front_end.send();
    front_end.wait();
    all(&mut session, [Request::ResetDevice]);
    assert_eq!(session.rings[TX as usize].state(), State::Stopped);
    front_end.send();
    all(&mut session, [Request::SetFeatures(VERSION_1 | PROTOCOL)]);
    all(&mut session, front_end.set_up(TX, 1));
    all(&mut session, [Request::SetVringEnable(TX, true)]);
    front_end.wait();
    assert_eq!(payloads(&wires[0]), [0, 1]);
}
