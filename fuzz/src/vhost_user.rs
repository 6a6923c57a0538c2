//! vhost-user: messages of a hostile front-end, and what follows from them.
//!
//! The input is a list of messages with descriptors, of writes to the memory that is shared, and of
//! turns of the device. Whatever it is: no worker panics, each request is answered once or not at
//! all as the format has it, and once the front-end has left, the device serves the next one.

use std::fs::File;
use std::io::{ErrorKind, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;

use net_device::{Lifecycle, NetDevice, VirtioDevice};
use net_queue::testing::Wire;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use vhost_user_net::protocol::connection::{Connection, Message};
use vhost_user_net::protocol::session::Session;
use vhost_user_net::protocol::wire::{Answer, Header};

use crate::bytes::Bytes;
use crate::machine::{Listener, config, made, turn};
use crate::{Seed, Target};

/// See the module.
pub const TARGET: Target = Target {
    name: "vhost_user",
    run,
    seeds,
};

/// Bytes of the file that holds guest memory.
const MEMORY: u16 = 0x8000;
/// Steps after which a script ends.
const MAX_STEPS: usize = 48;
/// Descriptors of a message at most.
const MAX_FDS: usize = 7;

/// Codes of the steps; all others are messages.
const WRITE: u8 = 1;
const TURN: u8 = 2;
const FRAME: u8 = 3;
const CUT: u8 = 4;
const STEPS: u8 = 16;

thread_local! {
    /// Made once a thread.
    static FILE: File = {
        let fd = memfd_create("memory", MemfdFlags::CLOEXEC).expect("memory can be had");
        let file = File::from(fd);
        file.set_len(MEMORY.into()).expect("memory can be had");
        file
    };
}

/// Input: the steps of one front-end.
fn run(input: &[u8]) {
    let listener = std::sync::Arc::<Listener>::default();
    let (mut device, wires) = made(config(), &listener);
    serve(&mut device, &wires, input);
    listener.check();
    assert_eq!(device.lifecycle(), Lifecycle::Inactive);
    assert!(!device.needs_reset() && device.driver_mtu().is_none());
    for wire in &wires {
        let _ = wire.take_sent();
        wire.clear_scripts();
    }
    serve(&mut device, &wires, &transmission());
    assert_eq!(wires[0].take_sent().len(), 1, "the next one is not served");
    listener.check();
}

/// Lets a front-end do what `input` says, until it or its connection ends.
fn serve(device: &mut NetDevice, wires: &[Wire], input: &[u8]) {
    let file = FILE.with(|file| file.try_clone()).expect("a descriptor");
    let wiped = file.write_all_at(&[0; MEMORY as usize], 0);
    wiped.expect("the file is as long");
    let (near, far) = UnixStream::pair().expect("a pair of sockets");
    far.set_nonblocking(true).expect("a socket");
    let mut connection = Connection::new(near).expect("a socket");
    let session = Session::with_call_sockets(device, false);
    let mut session = session.expect("a descriptor");
    let event = vhost_user_net::sys::event().expect("a descriptor");
    let front_end = FrontEnd { far, file, event };
    let mut input = Bytes::new(input);
    let mut cut = None;
    for _ in 0..MAX_STEPS {
        if input.remaining().is_empty() {
            break;
        }
        match input.u8() % STEPS {
            WRITE => front_end.write(&mut input),
            TURN => {
                turn(&session.device().event_workers());
                if session.config_changed().is_err() {
                    break;
                }
            }
            FRAME => {
                let (wire, len) = (usize::from(input.u8() & 1), usize::from(input.u16() % 3000));
                wires[wire].inject(vec![0; 12 + len]);
            }
            CUT => cut = Some(usize::from(input.u8())),
            _ => {
                front_end.send(&mut input, cut.take());
                if front_end.converse(&mut connection, &mut session).is_none() {
                    break;
                }
            }
        }
    }
}

/// The other end of a connection.
struct FrontEnd {
    far: UnixStream,
    file: File,
    event: File,
}

impl FrontEnd {
    /// Writes up to 32 bytes to the shared memory.
    fn write(&self, input: &mut Bytes<'_>) {
        let (at, len) = (input.u16() % (MEMORY - 32), input.u8() % 33);
        let bytes: Vec<_> = (0..len).map(|_| input.u8()).collect();
        let written = self.file.write_all_at(&bytes, at.into());
        written.expect("it is inside the file");
    }

    /// Sends one message, or what a `cut` leaves of it.
    fn send(&self, input: &mut Bytes<'_>, cut: Option<usize>) {
        let (code, flags, fds, len) = (input.u8(), input.u8(), input.u8(), input.u8());
        let payload: Vec<_> = (0..len).map(|_| input.u8()).collect();
        // Flags as they are to be, with an answer asked for or not, or any.
        let flags = match flags {
            0 => 1,
            1 => 1 | 1 << 3,
            _ => u32::from(flags),
        };
        let size = u32::from(len);
        let words = [u32::from(code), flags, size].map(u32::to_ne_bytes);
        let mut message = [words.as_flattened(), &payload].concat();
        message.truncate(cut.unwrap_or(usize::MAX).max(1));
        let count = usize::from(fds & 7).min(MAX_FDS);
        let fds: Vec<_> = (0..count).map(|_| self.descriptor(fds >> 3)).collect();
        let fds: Vec<_> = fds.iter().map(OwnedFd::as_fd).collect();
        self.send_with(&message, &fds);
    }

    /// A descriptor of a kind: memory, events, neither, or the connection itself.
    fn descriptor(&self, kind: u8) -> OwnedFd {
        let descriptor = match kind % 4 {
            0 => self.file.as_fd().try_clone_to_owned(),
            1 => self.event.as_fd().try_clone_to_owned(),
            2 => File::open("/dev/null").map(OwnedFd::from),
            _ => self.far.as_fd().try_clone_to_owned(),
        };
        descriptor.expect("a descriptor can be had")
    }

    /// A connection that is shut takes nothing.
    fn send_with(&self, message: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let _ = sendmsg(&self.far, &[IoSlice::new(message)], &mut control, flags);
    }

    /// Lets the session do what has arrived; `None` once the connection is over.
    fn converse(&self, connection: &mut Connection, session: &mut Session<'_>) -> Option<()> {
        while let Some(Message { header, request }) = connection.advance().ok()? {
            let result = session.handle(request);
            let wanted = header.need_reply && session.answers_refusals();
            let answer = match result {
                Ok(Answer::Done) if !wanted => None,
                Ok(answer) => Some(answer),
                Err(error) if !wanted && error.is_harmless() => None,
                Err(_) => Some(Answer::refusal(header.code).filter(|_| wanted)?),
            };
            connection.check().ok()?;
            if let Some(answer) = &answer {
                connection.reply(header.code, answer).ok()?;
            }
            self.check_reply(header.code, answer.is_some());
        }
        Some(())
    }

    /// There is one whole reply to request `code`, or none.
    fn check_reply(&self, code: u32, due: bool) {
        let mut reply = vec![0; 2 * 0x1000];
        let len = match (&self.far).read(&mut reply) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return assert!(!due, "no answer to {code}");
            }
            // It has shut its own end.
            Err(_) | Ok(0) => return,
            Ok(len) => len,
        };
        assert!(due, "an answer to {code}, which has none");
        let word = |at: usize| u32::from_ne_bytes(reply[at..][..4].try_into().expect("4 bytes"));
        assert_eq!((word(0), word(4)), (code, 1 | 1 << 2));
        assert_eq!(word(8) as usize, len - Header::LEN);
    }
}

/// Kinds of descriptors in a message: one file, one event.
const NO_FD: u8 = 0;
const ONE_FILE: u8 = 1;
const ONE_EVENT: u8 = 1 | 1 << 3;

/// Address of the memory in the front-end.
const USER: u64 = 0x7f00_0000_0000;

/// A message whose payload is `words`.
fn message(code: u8, flags: u8, fds: u8, words: &[u64]) -> Vec<u8> {
    let payload: Vec<_> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    [&[0, code, flags, fds, payload.len() as u8], &payload[..]].concat()
}

/// Two numbers of 32 bits as one word.
fn pair(first: u32, second: u32) -> u64 {
    let bytes = [first, second].map(u32::to_ne_bytes);
    u64::from_ne_bytes(bytes.as_flattened().try_into().expect("8 bytes"))
}

fn write(at: u16, bytes: &[u8]) -> Vec<u8> {
    let [low, high] = at.to_le_bytes();
    [&[WRITE, low, high, bytes.len() as u8], bytes].concat()
}

/// Features, memory and ring 1, which sends one frame.
fn transmission() -> Vec<u8> {
    let ring = [
        message(8, 0, NO_FD, &[pair(1, 8)]),
        message(10, 0, NO_FD, &[pair(1, 0)]),
        message(
            9,
            0,
            NO_FD,
            &[pair(1, 0), USER, USER + 0x2000, USER + 0x1000, 0x2000],
        ),
        message(13, 0, ONE_EVENT, &[1]),
        message(12, 0, ONE_EVENT, &[1]),
    ];
    let steps = [
        message(2, 0, NO_FD, &[1 << 32]),
        message(5, 0, ONE_FILE, &[pair(1, 0), 0, MEMORY.into(), USER, 0]),
        write(0, &0x4000_u64.to_le_bytes()),
        write(8, &[72, 0, 0, 0]),
        write(0x1000, &[0, 0, 1, 0, 0, 0]),
        ring.concat(),
        vec![TURN],
    ];
    steps.concat()
}

fn seeds() -> Vec<Seed> {
    let simple = |code, words: &[u64]| message(code, 1, NO_FD, words);
    // MQ, LOG_SHMFD, REPLY_ACK, MTU, BACKEND_REQ, CONFIG, RESET_DEVICE, CONFIGURE_MEM_SLOTS.
    let protocol = simple(
        16,
        &[1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 9 | 1 << 13 | 1 << 15],
    );
    let questions = [1, 15, 17, 36, 3, 4].map(|code| simple(code, &[])).concat();
    let sent = transmission();
    let then = |steps: &[Vec<u8>]| [protocol.clone(), sent.clone(), steps.concat()].concat();
    let region = [0, 0x8000, u64::from(MEMORY), USER + 0x8000, 0];
    let mut config = simple(24, &[pair(0, 8), 0, 0]);
    // Offset, size, flags and the bytes: 20 of them.
    config.truncate(5 + 20);
    config[4] = 20;
    vec![
        ("transmission", sent.clone()),
        ("questions", [protocol.clone(), questions, config].concat()),
        (
            "ring_stopped",
            then(&[simple(11, &[pair(1, 0)]), simple(18, &[pair(1, 1)])]),
        ),
        (
            "memory_slots",
            then(&[
                message(37, 1, ONE_FILE, &region),
                simple(38, &region),
                vec![TURN],
            ]),
        ),
        (
            "logged",
            then(&[
                message(6, 1, ONE_FILE, &[0x1000, 0x4000]),
                simple(2, &[1 << 32 | 1 << 26]),
                write(0x1000, &[0, 0, 2, 0]),
                vec![TURN],
            ]),
        ),
        ("reset", then(&[simple(34, &[]), sent.clone()])),
        (
            "mtu",
            [protocol.clone(), simple(20, &[1400]), sent.clone()].concat(),
        ),
        (
            "own_end_as_channel",
            then(&[message(21, 1, 1 | 3 << 3, &[])]),
        ),
        ("error_event", then(&[message(14, 1, ONE_EVENT, &[1])])),
        ("frame_received", then(&[vec![FRAME, 0, 60, 0, TURN]])),
        (
            "message_cut",
            [vec![CUT, 9], simple(1, &[]), simple(1, &[])].concat(),
        ),
    ]
}
