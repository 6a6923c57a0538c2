//! Where front-ends come from, and one conversation after the other with them.
//!
//! The thread of a device has one wait, for everything that can happen to it: a signal to end, a front-end, the device, an
//! operator.
//! Nothing else in this crate blocks, so SIGTERM is answered at once whatever a front-end does or leaves undone.

use std::error::Error;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use log::{debug, info, warn};
use net_device::{NetDevice, VirtioDevice};

use crate::connection::{Connection, ConnectionError, Message};
use crate::control::Control;
use crate::session::{Session, SessionError};
use crate::sys::{self, Interest, SocketKind, Termination};
use crate::wire::Answer;

#[cfg(test)]
mod tests;

/// Milliseconds between two attempts to connect.
const RECONNECT_MS: u16 = 1000;
/// Refusals that are logged for one front-end; further ones are only answered.
const LOGGED_REFUSALS: u32 = 8;

/// Why the daemon cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Something that is no socket has the path.
    #[error("{} exists and is no socket; remove it or choose another path", .0.display())]
    NotASocket(PathBuf),
    /// A daemon serves there.
    #[error("{} is in use by a running daemon; stop that one or choose another path", .0.display())]
    InUse(PathBuf),
    /// The path cannot be used.
    #[error("cannot listen at {}", path.display())]
    Listen {
        /// The path.
        path: PathBuf,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// The descriptor is nothing to serve on.
    #[error("descriptor {0} is no unix stream socket; pass a listening or a connected one")]
    Descriptor(i32),
    /// A worker of a device died; a new process has a new device.
    #[error("a worker of a device died; start the daemon again")]
    WorkerLost,
    /// Waiting, accepting or the like failed.
    #[error("cannot wait for front-ends")]
    System(#[from] io::Error),
}

/// Why a conversation ended before the front-end closed it.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error("request {0} is refused")]
    Refused(u32, #[source] SessionError),
}

/// Where front-ends come from.
#[derive(Debug)]
pub enum Source {
    /// They connect, one after the other.
    Listener(BoundListener),
    /// The daemon connects to a path, again and again.
    Client(PathBuf),
    /// There is one, and no other.
    Connected(UnixStream),
}

/// A listening socket, and the path to remove at the end if it is the daemon's own.
#[derive(Debug)]
pub struct BoundListener {
    listener: UnixListener,
    path: Option<PathBuf>,
}

impl BoundListener {
    /// Listens at `path` for this user only.
    pub(crate) fn private(path: &Path) -> Result<Self, ServeError> {
        claim(path)?;
        let listener = sys::listen_privately(path).map_err(|source| ServeError::Listen {
            path: path.to_owned(),
            source,
        })?;
        let path = Some(path.to_owned());
        Ok(Self { listener, path })
    }

    pub(crate) fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

impl Drop for BoundListener {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Source {
    /// Listens at `path`. A socket that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// Somebody listens, the path is something else, or cannot be made.
    pub fn listen(path: &Path) -> Result<Self, ServeError> {
        claim(path)?;
        let failed = |source| ServeError::Listen {
            path: path.to_owned(),
            source,
        };
        let listener = UnixListener::bind(path).map_err(failed)?;
        Self::listener(listener, Some(path.to_owned()))
    }

    /// Takes number `fd`, a listening or a connected socket that was inherited.
    ///
    /// # Errors
    /// It is neither.
    pub fn inherit(fd: i32) -> Result<Self, ServeError> {
        let socket = sys::duplicate(fd).map_err(|_| ServeError::Descriptor(fd))?;
        match sys::unix_stream_kind(socket.as_fd()) {
            Some(SocketKind::Listening) => Self::listener(socket.into(), None),
            Some(SocketKind::Connected) => Ok(Self::Connected(socket.into())),
            None => Err(ServeError::Descriptor(fd)),
        }
    }

    /// A front-end may be gone between the wait and the accept, which then must not block.
    fn listener(listener: UnixListener, path: Option<PathBuf>) -> Result<Self, ServeError> {
        let bound = BoundListener { listener, path };
        bound.listener.set_nonblocking(true)?;
        Ok(Self::Listener(bound))
    }
}

/// What ends a wait for a front-end, or a conversation with one.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The conversation is over.
    Closed,
    /// The daemon is to end.
    Terminated,
}

/// Makes sure that nothing is at `path`. A socket that nobody listens on any more is removed.
fn claim(path: &Path) -> Result<(), ServeError> {
    let failed = |source| ServeError::Listen {
        path: path.to_owned(),
        source,
    };
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ServeError::NotASocket(path.to_owned()));
        }
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(failed)?;
            }
            Ok(_) => return Err(ServeError::InUse(path.to_owned())),
            Err(error) => return Err(failed(error)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    Ok(())
}

/// The daemon: a device, and whoever uses it.
#[derive(Debug)]
pub struct Server<'a> {
    device: &'a mut NetDevice,
    termination: &'a Termination,
    /// Becomes readable when a worker of any device dies.
    worker_lost: &'a File,
    control: Option<Control>,
    /// Whose messages these are.
    name: String,
}

impl<'a> Server<'a> {
    /// A daemon for `device`, whose exit event is `worker_lost`, until `termination`.
    pub fn new(
        device: &'a mut NetDevice,
        termination: &'a Termination,
        worker_lost: &'a File,
    ) -> Self {
        Self {
            name: name_of(device),
            device,
            termination,
            worker_lost,
            control: None,
        }
    }

    /// The same daemon, which does what is asked at a control socket.
    #[must_use]
    pub fn with_control(mut self, control: Option<Control>) -> Self {
        self.control = control;
        self
    }

    /// Serves front-ends until a signal ends it, or until there cannot be another one.
    ///
    /// # Errors
    /// The daemon cannot go on; what a front-end does wrong ends only its own conversation.
    pub fn run(&mut self, source: Source) -> Result<(), ServeError> {
        match source {
            Source::Connected(socket) => self.converse(socket).map(|_| ()),
            Source::Client(path) => self.connect_again_and_again(&path),
            Source::Listener(bound) => self.accept_again_and_again(&bound.listener),
        }
    }

    fn accept_again_and_again(&mut self, listener: &UnixListener) -> Result<(), ServeError> {
        loop {
            let wanted = [
                self.termination.as_fd(),
                self.worker_lost.as_fd(),
                listener.as_fd(),
            ];
            let others: Vec<_> = self.control.iter().flat_map(Control::wanted).collect();
            let wanted = wanted.map(|fd| (fd, Interest::Readable));
            let ([terminated, lost, _], asked) = sys::wait_with(wanted, &others, None)?;
            if terminated {
                return Ok(());
            }
            if lost {
                return Err(ServeError::WorkerLost);
            }
            if asked && let Some(control) = &mut self.control {
                control.serve(self.device);
            }
            match listener.accept() {
                Ok((socket, _)) => {
                    if self.converse(socket)? == End::Terminated {
                        return Ok(());
                    }
                }
                Err(error) if is_transient(&error) => {
                    debug!("{}: no front-end after all: {error}", self.name)
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn connect_again_and_again(&mut self, path: &Path) -> Result<(), ServeError> {
        let mut waiting = false;
        loop {
            match UnixStream::connect(path) {
                Ok(socket) => {
                    waiting = false;
                    if self.converse(socket)? == End::Terminated {
                        return Ok(());
                    }
                }
                Err(error) if !std::mem::replace(&mut waiting, true) => {
                    warn!(
                        "{}: no front-end at {} yet: {error}; trying every second",
                        self.name,
                        path.display()
                    );
                }
                Err(_) => {}
            }
            let others: Vec<_> = self.control.iter().flat_map(Control::wanted).collect();
            let wanted = [self.termination.as_fd(), self.worker_lost.as_fd()];
            let wanted = wanted.map(|fd| (fd, Interest::Readable));
            let ([terminated, lost], asked) = sys::wait_with(wanted, &others, Some(RECONNECT_MS))?;
            if terminated {
                return Ok(());
            }
            if lost {
                return Err(ServeError::WorkerLost);
            }
            if asked && let Some(control) = &mut self.control {
                control.serve(self.device);
            }
        }
    }

    /// Serves one front-end, and says what the device has moved and dropped until then.
    fn converse(&mut self, socket: UnixStream) -> Result<End, ServeError> {
        info!("{}: a front-end is there", self.name);
        let end = self.converse_to_the_end(socket);
        let counters = self.device.counters();
        let counted = counters.iter().filter(|(_, count)| *count > 0);
        let list: Vec<_> = counted
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        if !list.is_empty() {
            info!("{}: since the start: {}", self.name, list.join(", "));
        }
        end
    }

    /// What the front-end does wrong goes to the log, on one line.
    fn converse_to_the_end(&mut self, socket: UnixStream) -> Result<End, ServeError> {
        let mut connection = Connection::new(socket)?;
        let mut session = Session::new(self.device)?;
        let mut refusals = 0;
        loop {
            let others: Vec<_> = self.control.iter().flat_map(Control::wanted).collect();
            let ([terminated, lost, changed, ready], asked) = sys::wait_with(
                [
                    (self.termination.as_fd(), Interest::Readable),
                    (self.worker_lost.as_fd(), Interest::Readable),
                    (
                        session.interrupts().config_event().as_fd(),
                        Interest::Readable,
                    ),
                    (connection.as_fd(), connection.interest()),
                ],
                &others,
                None,
            )?;
            if terminated {
                return Ok(End::Terminated);
            }
            if lost {
                return Err(ServeError::WorkerLost);
            }
            if changed && let Err(error) = session.config_changed() {
                warn!("{}: connection ended: {}", self.name, chain(&error));
                return Ok(End::Closed);
            }
            if asked && let Some(control) = &mut self.control {
                control.serve(session.device());
            }
            if !ready {
                continue;
            }
            match step(&self.name, &mut connection, &mut session, &mut refusals) {
                Ok(()) => {}
                Err(Broken::Connection(ConnectionError::Closed)) => {
                    info!("{}: the front-end closed the connection", self.name);
                    return Ok(End::Closed);
                }
                Err(error) => {
                    warn!("{}: connection ended: {}", self.name, chain(&error));
                    return Ok(End::Closed);
                }
            }
        }
    }
}

/// Takes what is there of a message, and answers it when it is whole.
fn step(
    name: &str,
    connection: &mut Connection,
    session: &mut Session<'_>,
    refusals: &mut u32,
) -> Result<(), Broken> {
    let Some(Message { header, request }) = connection.advance()? else {
        return Ok(());
    };
    let result = session.handle(request);
    let wants_answer = header.need_reply && session.answers_refusals();
    match result {
        Ok(Answer::Done) if !wants_answer => Ok(()),
        Ok(answer) => Ok(connection.reply(header.code, &answer)?),
        Err(error) if wants_answer => {
            *refusals = refusals.saturating_add(1);
            if *refusals <= LOGGED_REFUSALS {
                let code = header.code;
                warn!("{name}: request {code} is refused: {}", chain(&error));
            }
            Ok(connection.reply(header.code, &Answer::Number(1))?)
        }
        Err(error) => Err(Broken::Refused(header.code, error)),
    }
}

/// What messages about `device` begin with: its tap's name, where it has one.
pub(crate) fn name_of(device: &NetDevice) -> String {
    let host = device.host_interface().map(|host| host.name.clone());
    host.unwrap_or_else(|| device.config().id.clone())
}

/// Errors that say nothing about the socket.
pub(crate) fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
    )
}

/// An error and its causes, on one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}
