//! The process that does for the daemon what takes a path or a privilege, once the daemon has given
//! up both.
//!
//! It is made when everything is open, and knows by then all that it will ever do: open the tap of
//! a device again, connect to the front-end of a device or to the program that takes its frames,
//! remove the daemon's own sockets. A request is a number for the errand and one for the device, so
//! whoever takes the daemon over has a port of the daemon's opened again, and nothing else.

use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use net_device::port::Link;
use net_device::{NetConfig, TapConfig};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Signal, set_parent_process_death_signal, setpgid};

use crate::daemon::frame_backend::BackendSpec;
use crate::daemon::listener::OwnPath;
use crate::daemon::log_text::chain;
use crate::daemon::sandbox::{self, FileAccess, Rule};
use crate::sys::fork::{close_all_but, fork};
use crate::sys::{self, Interest, MAX_FDS};

/// Errands, as bytes of a request.
const OPEN_TAP: u8 = 0;
const CONNECT: u8 = 1;
const REMOVE_SOCKETS: u8 = 2;
const CONNECT_PORT: u8 = 3;

/// An errand, and the number of a device.
type Request = [u8; 3];

/// Longest text of an error.
const MAX_TEXT: usize = 1024;

/// Bytes in front of it: the error's number or -1 if it has none, zero without an error; the number
/// of descriptors.
const HEAD: usize = 8;

/// All that a broker may be asked for.
#[derive(Debug, Default)]
pub(crate) struct Errands {
    /// The tap of each device that is to open it again.
    pub(crate) taps: Vec<Option<(NetConfig, TapConfig)>>,
    /// The program that takes the frames of each device that is to connect to it again.
    pub(crate) programs: Vec<Option<BackendSpec>>,
    /// The socket of each device's front-end, for those that connect.
    pub(crate) front_ends: Vec<Option<PathBuf>>,
    /// Sockets of this process.
    pub(crate) sockets: Vec<OwnPath>,
    /// None of it is to be confined.
    pub(crate) unconfined: bool,
}

impl Errands {
    /// Returns whether there is nothing to ask for.
    pub(crate) fn is_empty(&self) -> bool {
        self.sockets.is_empty()
            && self.taps.iter().all(Option::is_none)
            && self.programs.iter().all(Option::is_none)
            && self.front_ends.iter().all(Option::is_none)
    }

    /// The files that are needed.
    fn rules(&self) -> Vec<Rule<'_>> {
        let rule = |path, access| Rule { path, access };
        let mut rules = Vec::new();
        let taps: Vec<_> = self.taps.iter().flatten().collect();
        if !taps.is_empty() {
            rules.push(rule(Path::new("/dev/net/tun"), FileAccess::ReadWrite));
        }
        if taps.iter().any(|(_, tap)| tap.ipv6.is_some()) {
            // Whether the address is there already.
            rules.push(rule(Path::new("/proc"), FileAccess::Read));
        }
        let folders = self.sockets.iter().map(|socket| socket.folder());
        rules.extend(folders.map(|folder| rule(folder, FileAccess::Remove)));
        rules
    }

    fn confine(&self) -> Result<Vec<OwnedFd>, Failure> {
        if !self.unconfined {
            let network = self.taps.iter().any(Option::is_some);
            let confined = sandbox::enter_broker(&self.rules(), network);
            confined.map_err(|error| Failure::of(&chain(error.as_ref())))?;
        }
        Ok(Vec::new())
    }

    fn do_one(&self, request: Request) -> Result<Vec<OwnedFd>, Failure> {
        let [errand, device @ ..] = request;
        let device = usize::from(u16::from_ne_bytes(device));
        match errand {
            OPEN_TAP => {
                let tap = self.taps.get(device).and_then(Option::as_ref);
                let (config, tap) = tap.ok_or(Failure::of(&"no tap of this device"))?;
                let taps =
                    Link::open_taps(config, tap).map_err(|error| Failure::of(&chain(&error)))?;
                Ok(taps.into_iter().map(OwnedFd::from).collect())
            }
            CONNECT => {
                let path = self.front_ends.get(device).and_then(Option::as_ref);
                let path = path.ok_or(Failure::of(&"no front-end of this device"))?;
                let socket = sys::connect(path).map_err(|error| Failure::to_connect(&error))?;
                Ok(vec![socket.into()])
            }
            CONNECT_PORT => {
                let program = self.programs.get(device).and_then(Option::as_ref);
                let program = program.ok_or(Failure::of(&"no program of this device"))?;
                let socket = program.connect();
                Ok(vec![socket.map_err(|error| Failure::to_connect(&error))?])
            }
            _ => {
                self.sockets.iter().for_each(OwnPath::remove);
                Ok(Vec::new())
            }
        }
    }
}

/// A failure that the daemon is told of.
struct Failure {
    number: i32,
    text: String,
}

impl Failure {
    fn to_connect(error: &io::Error) -> Self {
        Self {
            number: error.raw_os_error().unwrap_or(-1),
            text: error.to_string(),
        }
    }

    fn of(text: &impl Display) -> Self {
        Self {
            number: -1,
            text: text.to_string(),
        }
    }
}

/// The daemon's end of the way to its broker, which ends with it.
#[derive(Debug)]
pub(crate) struct Broker {
    /// One request at a time.
    channel: Mutex<OwnedFd>,
}

impl Broker {
    /// Starts the broker. It is to be done before there is a thread beside the calling one.
    ///
    /// # Errors
    /// There are other threads, or the kernel's error.
    pub(crate) fn start(errands: &Errands) -> io::Result<Self> {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        fork(|| {
            close_all_but(&mut [theirs.as_raw_fd()])?;
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // No signal of a terminal reaches it.
            setpgid(None, None)?;
            let confined = errands.confine();
            let is_confined = confined.is_ok();
            send_answer(theirs.as_fd(), confined)?;
            if is_confined {
                answer_requests(theirs.as_fd(), errands)?;
            }
            Ok(())
        })?;
        drop(theirs);
        receive_answer(ours.as_fd())?;
        Ok(Self {
            channel: Mutex::new(ours),
        })
    }

    /// Has the tap of a device opened again.
    ///
    /// # Errors
    /// It cannot be, or the broker is gone.
    pub(crate) fn open_tap(&self, device: u16) -> io::Result<Vec<OwnedFd>> {
        self.ask(OPEN_TAP, device)
    }

    /// Connects to the front-end of a device.
    ///
    /// # Errors
    /// As for [`sys::connect`], or the broker is gone.
    pub(crate) fn connect(&self, device: u16) -> io::Result<UnixStream> {
        Ok(self.ask_for_one(CONNECT, device)?.into())
    }

    /// Connects to the program that takes the frames of a device.
    ///
    /// # Errors
    /// As for [`BackendSpec::connect`], or the broker is gone.
    pub(crate) fn connect_port(&self, device: u16) -> io::Result<OwnedFd> {
        self.ask_for_one(CONNECT_PORT, device)
    }

    /// Has the sockets removed that this process made, but one that others have replaced.
    ///
    /// # Errors
    /// The broker is gone.
    pub(crate) fn remove_sockets(&self) -> io::Result<()> {
        self.ask(REMOVE_SOCKETS, 0).map(|_| ())
    }

    fn ask_for_one(&self, errand: u8, device: u16) -> io::Result<OwnedFd> {
        let fds = self.ask(errand, device)?;
        let one = fds.into_iter().next();
        Ok(one.ok_or(io::ErrorKind::InvalidData)?)
    }

    fn ask(&self, errand: u8, device: u16) -> io::Result<Vec<OwnedFd>> {
        let channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        let [low, high] = device.to_ne_bytes();
        sys::send_with_fds(channel.as_fd(), &[&[errand, low, high]], &[])?;
        receive_answer(channel.as_fd())
    }
}

/// Waits for a whole answer.
fn receive_answer(channel: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    let mut all = Vec::new();
    loop {
        let mut bytes = [0; HEAD + MAX_TEXT];
        sys::is_ready(channel, Interest::Readable, None)?;
        let len = sys::recv_with_fds(channel, &mut bytes, &mut all)?;
        if len < HEAD {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let [number, count] = [0, 4].map(|at| {
            let bytes = bytes[at..at + 4].try_into();
            i32::from_ne_bytes(bytes.unwrap_or_default())
        });
        match number {
            0 if usize::try_from(count).is_ok_and(|count| all.len() < count) => {}
            0 => return Ok(all),
            -1 => {
                let text = String::from_utf8_lossy(&bytes[HEAD..len]).into_owned();
                return Err(io::Error::other(text));
            }
            number => return Err(io::Error::from_raw_os_error(number)),
        }
    }
}

/// Does what it is asked for until nobody can ask any more.
fn answer_requests(channel: BorrowedFd<'_>, errands: &Errands) -> io::Result<()> {
    loop {
        let mut request = Request::default();
        sys::is_ready(channel, Interest::Readable, None)?;
        if sys::recv_with_fds(channel, &mut request, &mut Vec::new())? < request.len() {
            return Ok(());
        }
        send_answer(channel, errands.do_one(request))?;
    }
}

fn send_answer(channel: BorrowedFd<'_>, answer: Result<Vec<OwnedFd>, Failure>) -> io::Result<()> {
    match answer {
        Ok(fds) => {
            let head = [0, fds.len() as i32].map(i32::to_ne_bytes);
            let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            let mut packets: Vec<_> = fds.chunks(MAX_FDS).collect();
            if packets.is_empty() {
                packets.push(&[]);
            }
            let mut packets = packets.into_iter();
            packets.try_for_each(|fds| sys::send_with_fds(channel, &[head.as_flattened()], fds))
        }
        Err(Failure { number, text }) => {
            let head = [number, 0].map(i32::to_ne_bytes);
            let text = &text.as_bytes()[..text.len().min(MAX_TEXT)];
            sys::send_with_fds(channel, &[head.as_flattened(), text], &[])
        }
    }
}
