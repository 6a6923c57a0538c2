//! Translations over vhost-user: messages of a hostile front-end about a driver's addresses, in
//! between those who look them up.
//!
//! The input is a list of updates and invalidations of any range, of payloads as they come, of
//! look-ups, and of frames that the driver sends from any address. Whatever it is: a message is
//! accepted if it has a meaning, a look-up finds what the last message about an address says or
//! nothing, what was told and not touched is found, a frame that leaves is what lay where its
//! address led, and the next front-end is served.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use net_device::net_queue::{Access, AccessPlatform, GuestRam, TranslateError};
use net_device::{Lifecycle, NetDevice, VirtioDevice};
use net_queue::testing::Wire;
use rustix::fs::{MemfdFlags, memfd_create};
use vhost_user_net::protocol::iotlb::{Iotlb, Known};
use vhost_user_net::protocol::session::{Session, SessionError};
use vhost_user_net::protocol::wire::Request;
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};

use crate::Target;
use crate::bytes::Bytes;
use crate::machine::{Listener, config, made, turn};

mod reference;
mod seeds;

use reference::{MEMORY, READ, Reference, USER, WRITE};
use seeds::{ANSWER, LOOK, RAW, READ_BYTES, SEND, STEPS, TAKE_BACK, TELL, WAIT};

/// See the module.
pub const TARGET: Target = Target {
    name: "iotlb",
    run,
    seeds: seeds::seeds,
};

const PAGE: u64 = 4096;
/// Driver's address of the ring's pages, the first of guest memory: descriptors, both rings, and a
/// header. Data is behind them.
const RING: u64 = 0x10_0000;
const RING_LEN: u64 = 4 * PAGE;
const HEADER: u64 = RING + 3 * PAGE;
const SIZE: u16 = 16;
/// Bytes of a frame.
const FRAME: u32 = 60;
/// Steps after which a script ends.
const MAX_STEPS: usize = 64;
/// Code of a message about translations.
const IOTLB_MSG: u32 = 22;
const UPDATE: u8 = 2;
const INVALIDATE: u8 = 3;

thread_local! {
    /// Memory of the guest, and the same as a device sees it; made once a thread.
    static GUEST: (File, GuestRam) = {
        let fd = memfd_create("memory", MemfdFlags::CLOEXEC).expect("memory can be had");
        let file = File::from(fd);
        file.set_len(MEMORY).expect("memory can be had");
        let offset = FileOffset::new(file.try_clone().expect("a descriptor"), 0);
        let range = (GuestAddress(0), MEMORY as usize, Some(offset));
        let memory = GuestMemoryMmap::<()>::from_ranges_with_files([range]);
        let memory = Arc::new(memory.expect("it can be mapped"));
        (file, GuestRam::new(memory).expect("it is mapped"))
    };
}

/// Input: the steps of one front-end and its driver.
fn run(input: &[u8]) {
    let listener = Arc::<Listener>::default();
    let (mut device, wires) = made(config(), &listener);
    Scene::new(&mut device, &wires).play(Bytes::new(input));
    listener.check();
    assert_eq!(device.lifecycle(), Lifecycle::Inactive);
    assert!(!device.needs_reset());
    let _ = wires[0].take_sent();
    let mut next = Scene::new(&mut device, &wires);
    next.map_ring();
    next.send(0x3000, 0x4000);
    drop(next);
    listener.check();
    assert!(!device.needs_reset());
}

/// An address: a page near the bottom, near the ring, in the middle or at the top, and an offset.
fn address(number: u16) -> u64 {
    let offsets = [0, 1, 0x7ff, 0x800, 0xfff, 0x123, 0xff0, 0x10];
    let offset = offsets[usize::from(number >> 6) & 7];
    let near = u64::from(number & 15) * PAGE + offset;
    match number >> 14 {
        0 => near,
        1 => RING - 2 * PAGE + near,
        2 => (1 << 63) - 2 * PAGE + near,
        _ => u64::MAX - near,
    }
}

/// A length: some pages and bytes, none, or far too many.
fn length(number: u16) -> u64 {
    let pages = u64::from(number & 7) * PAGE;
    match number >> 13 {
        0 => pages,
        1 => pages + 1,
        2 => (pages + PAGE) - 1,
        3 => u64::from(number & 0x3ff),
        4 => MEMORY - pages,
        5 => u64::MAX - u64::from(number & 1),
        6 => 1 << 63,
        _ => 0,
    }
}

/// A session, its driver, and what both know of each other.
struct Scene<'a> {
    session: Session<'a>,
    wires: &'a [Wire],
    iotlb: Arc<Iotlb>,
    channel: UnixStream,
    file: File,
    reference: Reference,
    begun: Instant,
    /// Frames made available, and where each begins.
    posted: Vec<u64>,
    /// Of these, how many were used.
    used: usize,
    /// The driver's ring was never said to lie elsewhere.
    honest: bool,
}

impl<'a> Scene<'a> {
    /// Memory, one ring of which nothing is translated, and a channel for questions.
    fn new(device: &'a mut NetDevice, wires: &'a [Wire]) -> Self {
        let file = GUEST.with(|(file, _)| file.try_clone().expect("a descriptor"));
        let content = |at: u64| {
            if at < RING_LEN {
                0
            } else {
                (at * 31 / 7) as u8
            }
        };
        let bytes: Vec<u8> = (0..MEMORY).map(content).collect();
        file.write_all_at(&bytes, 0).expect("the file is as long");
        let session = Session::with_call_sockets(device, false).expect("a descriptor");
        let mut session = session.offering_iommu(true).expect("a descriptor");
        let (far, channel) = UnixStream::pair().expect("a pair of sockets");
        channel.set_nonblocking(true).expect("a socket");
        let event = || vhost_user_net::sys::event().expect("a descriptor");
        let memory = file.try_clone().expect("a descriptor");
        let pair = |first: u32, second: u32| u64::from(first) | u64::from(second) << 32;
        let requests: [(u32, Vec<u64>, Option<OwnedFd>); 11] = [
            (3, vec![], None),
            (16, vec![1 << 5], None),
            (21, vec![], Some(far.into())),
            (2, vec![1 << 32 | 1 << 33 | 1 << 30], None),
            (5, vec![pair(1, 0), 0, MEMORY, USER, 0], Some(memory.into())),
            (8, vec![pair(1, SIZE.into())], None),
            (10, vec![pair(1, 0)], None),
            (9, Self::addresses(), None),
            (13, vec![1], Some(event().into())),
            (12, vec![1], Some(event().into())),
            (18, vec![pair(1, 1)], None),
        ];
        for (code, words, fd) in requests {
            let payload: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            let request = Request::parse(code, &payload, fd.into_iter().collect());
            let done = session.handle(request.expect("it is well-formed"));
            assert!(done.is_ok(), "{code}: {done:?}");
        }
        let (iotlb, _) = session.translations_wanted();
        Self {
            session,
            wires,
            iotlb: iotlb.expect("it was negotiated"),
            channel,
            file,
            reference: Reference::default(),
            begun: Instant::now(),
            posted: Vec::new(),
            used: 0,
            honest: true,
        }
    }

    /// SET_VRING_ADDR of ring 1: index and flags, descriptors, used and available ring, log.
    fn addresses() -> Vec<u64> {
        vec![1, RING, RING + 2 * PAGE, RING + PAGE, 0]
    }

    fn play(&mut self, mut input: Bytes<'_>) {
        for _ in 0..MAX_STEPS {
            if input.remaining().is_empty() || self.step(&mut input).is_err() {
                return;
            }
        }
    }

    fn step(&mut self, input: &mut Bytes<'_>) -> Result<(), SessionError> {
        match input.u8() % STEPS {
            TELL => {
                let (iova, size) = (address(input.u16()), length(input.u16()));
                let user = USER + u64::from(input.u8() & 15) * PAGE / 2;
                self.tell(iova, size, user, input.u8() & 7)?;
            }
            TAKE_BACK => {
                let (iova, size) = (address(input.u16()), length(input.u16()));
                let done = self.message(iova, size, 0, 0, INVALIDATE);
                assert!(done.is_ok() || !self.honest, "{iova:#x} {size:#x} {done:?}");
                done?;
                self.reference.invalidate(iova, size);
            }
            RAW => self.raw(input)?,
            LOOK => self.look(address(input.u16()), length(input.u16()), input.u8()),
            READ_BYTES => self.read(address(input.u16()), usize::from(input.u16() % 0x2100)),
            SEND => {
                let (iova, map) = (address(input.u16()), input.u8() & 1 != 0);
                if map {
                    self.map_ring();
                }
                self.post(iova);
                self.run_workers();
            }
            ANSWER => self.answer(input.u8())?,
            WAIT => {
                let patience = Duration::from_millis(u64::from(input.u8()) * 16);
                self.session.advance_translations(self.begun + patience)?;
                self.run_workers();
            }
            _ => unreachable!("there are no more"),
        }
        Ok(())
    }

    /// Sends a message as it has to be. The packed form ends with its kind.
    fn message(
        &mut self,
        iova: u64,
        size: u64,
        user: u64,
        permissions: u8,
        kind: u8,
    ) -> Result<(), SessionError> {
        let words = [iova, size, user].map(u64::to_ne_bytes);
        let payload = [words.as_flattened(), &[permissions, kind]].concat();
        match Request::parse(IOTLB_MSG, &payload, Vec::new()) {
            Ok(request) => self.session.handle(request).map(drop),
            Err(_) => Err(SessionError::Iotlb("not well-formed")),
        }
    }

    /// Says where addresses lead; accepted if that is somewhere.
    fn tell(
        &mut self,
        iova: u64,
        size: u64,
        user: u64,
        permissions: u8,
    ) -> Result<(), SessionError> {
        let told = self.message(iova, size, user, permissions, UPDATE);
        let meant = self.reference.update(iova, size, user, permissions);
        if meant {
            let last = iova + (size - 1);
            let elsewhere = iova.wrapping_sub(user - USER) != RING;
            self.honest &= last < RING || iova >= RING + RING_LEN || !elsewhere;
        }
        // A ring that was said to lie elsewhere may be none there.
        let ended = meant && !self.honest;
        assert!(
            told.is_ok() == meant || ended,
            "{iova:#x} {size:#x} {told:?}"
        );
        told?;
        self.check_known(iova, size);
        Ok(())
    }

    /// Sends 34 bytes or fewer as a payload, whatever they mean.
    fn raw(&mut self, input: &mut Bytes<'_>) -> Result<(), SessionError> {
        let len = usize::from(input.u8() % 35);
        let payload = &input.array::<34>()[..len];
        let Ok(request) = Request::parse(IOTLB_MSG, payload, Vec::new()) else {
            return Ok(());
        };
        let word = |at: usize| u64::from_ne_bytes(payload[at..][..8].try_into().expect("8 bytes"));
        let (iova, size) = (word(0), word(8));
        assert!(len == 26 || len == 32);
        match payload[25] {
            UPDATE => self.tell(iova, size, word(16), payload[24]),
            INVALIDATE => {
                self.session.handle(request)?;
                self.reference.invalidate(iova, size);
                Ok(())
            }
            kind => panic!("{kind} has no meaning here"),
        }
    }

    /// Looks an address up, with a question where there is no answer, or without.
    fn look(&self, iova: u64, len: u64, how: u8) {
        let access = [Access::Read, Access::Write][usize::from(how & 1)];
        if how & 2 == 0 {
            self.check_known(iova, len);
        } else if how & 4 == 0 {
            let found = self.iotlb.translate(iova, len, access);
            self.check_found(iova, bits(access), found);
        } else {
            let len = len % (MEMORY + 1);
            if self.iotlb.request(iova, len, access) && len > 0 {
                let last = iova.wrapping_add(len - 1);
                let bits = bits(access);
                let places = if last < iova {
                    // It goes on at the first address.
                    self.reference
                        .places(iova, u64::MAX)
                        .chain(self.reference.places(0, last))
                        .collect::<Vec<_>>()
                } else {
                    self.reference.places(iova, last).collect()
                };
                for place in places {
                    assert!(self.reference.find(place, bits).is_some(), "{place:#x}");
                }
            }
        }
    }

    /// The same for whoever asks nothing, and takes either access.
    fn check_known(&self, iova: u64, len: u64) {
        let found = Known(self.iotlb.clone()).translate(iova, len, Access::Read);
        self.check_found(iova, READ | WRITE, found);
    }

    /// A translation for one of these kinds of access is what was said last, and there is one where
    /// nothing was touched since.
    fn check_found(&self, iova: u64, bits: u8, found: Result<(u64, u64), TranslateError>) {
        let known = self.reference.known(iova, bits);
        match found {
            Ok((gpa, found)) => {
                assert!(found > 0 && found >= known, "{found:#x} of {known:#x}");
                let last = iova + (found - 1);
                for place in self.reference.places(iova, last) {
                    let meant = self.reference.find(place, bits);
                    assert_eq!(meant, Some(gpa + (place - iova)), "{place:#x}");
                }
            }
            Err(TranslateError::NotMapped { iova: at } | TranslateError::Awaited { iova: at }) => {
                assert_eq!((known, at), (0, iova));
            }
        }
    }

    /// The bytes at the driver's addresses, by their definition.
    fn bytes(&self, iova: u64, len: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len];
        for (at, byte) in bytes.iter_mut().enumerate() {
            let gpa = self.reference.find(iova.checked_add(at as u64)?, READ)?;
            let read = self.file.read_exact_at(std::slice::from_mut(byte), gpa);
            read.expect("it is inside the file");
        }
        Some(bytes)
    }

    /// Reads guest memory as a device does.
    fn read(&self, iova: u64, len: usize) {
        let ram = GUEST.with(|(_, ram)| ram.with_access_platform(self.iotlb.clone() as _));
        let mut found = vec![0; len];
        let read = ram.read(iova, &mut found);
        if read.is_ok() {
            assert_eq!(Some(found), self.bytes(iova, len));
        } else {
            assert!(self.reference.known(iova, READ) < len as u64);
        }
    }

    /// Maps the ring where it lies.
    fn map_ring(&mut self) {
        let told = self.tell(RING, RING_LEN, USER, READ | WRITE);
        assert!(told.is_ok(), "{told:?}");
    }

    /// Makes a frame available that begins at `iova`.
    fn post(&mut self, iova: u64) {
        if self.posted.len() - self.used >= usize::from(SIZE) / 2 {
            return;
        }
        let write = |gpa: u64, bytes: &[u8]| {
            let written = self.file.write_all_at(bytes, gpa);
            written.expect("it is inside the file");
        };
        let number = self.posted.len() as u16;
        let head = 2 * number % SIZE;
        let descriptor = |addr: u64, len: u32, next: u16| {
            let flags = u16::from(next != 0);
            let rest = [flags.to_le_bytes(), next.to_le_bytes()].concat();
            [&addr.to_le_bytes()[..], &len.to_le_bytes(), &rest].concat()
        };
        write(16 * u64::from(head), &descriptor(HEADER, 12, head + 1));
        write(16 * u64::from(head + 1), &descriptor(iova, FRAME, 0));
        let place = u64::from(number % SIZE);
        write(PAGE + 4 + 2 * place, &head.to_le_bytes());
        write(PAGE + 2, &(number + 1).to_le_bytes());
        self.posted.push(iova);
    }

    /// Lets the workers run. What leaves is what lay where the driver's addresses lead.
    fn run_workers(&mut self) {
        turn(&self.session.device().event_workers());
        let sent = self.wires[0].take_sent();
        if !self.honest {
            return;
        }
        let mut index = [0; 2];
        let read = self.file.read_exact_at(&mut index, 2 * PAGE + 2);
        read.expect("it is inside the file");
        let used = usize::from(u16::from_le_bytes(index));
        assert!((self.used..=self.posted.len()).contains(&used), "{used}");
        let mut candidates = self.posted[self.used..used].iter();
        for frame in sent {
            let meant = |iova: &u64| {
                let places = (0..FRAME.into()).map(|at| iova.wrapping_add(at));
                // What lies in the ring has changed since.
                let mut gpas = places.map(|place| self.reference.find(place, READ));
                gpas.any(|gpa| gpa.is_some_and(|gpa| gpa < RING_LEN))
                    || self.bytes(*iova, FRAME as usize).as_deref() == frame.get(12..)
            };
            assert!(candidates.any(meant), "a frame that nobody sent");
        }
        self.used = used;
    }

    /// Asks the front-end, which answers some questions with a page of data.
    fn answer(&mut self, which: u8) -> Result<(), SessionError> {
        self.session.advance_translations(self.begun)?;
        let mut question = [0; 44];
        let mut count = 0;
        while let Ok(len) = (&self.channel).read(&mut question) {
            assert_eq!((len, question[37]), (44, 1), "a miss");
            let iova = u64::from_ne_bytes(question[12..20].try_into().expect("8 bytes"));
            assert!(question[36] & (READ | WRITE) != 0);
            let page = iova & !(PAGE - 1);
            count += 1;
            if which >> (count & 7) & 1 != 0 {
                let in_ring = page.wrapping_sub(RING) < RING_LEN;
                let gpa = if in_ring { page - RING } else { RING_LEN };
                self.tell(page, PAGE, USER + gpa, which & 3)?;
            }
        }
        self.run_workers();
        Ok(())
    }

    /// Sends from `iova`, which is translated to `gpa`, and checks that the frame leaves.
    fn send(&mut self, iova: u64, gpa: u64) {
        let told = self.tell(iova, PAGE, USER + gpa, READ);
        assert!(told.is_ok(), "{told:?}");
        self.post(iova);
        turn(&self.session.device().event_workers());
        let sent = self.wires[0].take_sent();
        assert_eq!(sent.len(), 1, "the next one is not served");
        assert_eq!(
            sent[0].get(12..),
            self.bytes(iova, FRAME as usize).as_deref()
        );
    }
}

fn bits(access: Access) -> u8 {
    match access {
        Access::Read => READ,
        Access::Write => WRITE,
    }
}
