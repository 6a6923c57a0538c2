//! Sources of front-ends, and one conversation after the other with them.
//!
//! The thread of a device has one wait, for everything that can happen to it: a signal to end, a
//! front-end, the device, an operator. Nothing else in this crate blocks, so SIGTERM is answered at
//! once whatever a front-end does or leaves undone.

use std::error::Error;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use net_device::log_limit::LogLimit;
use net_device::{NetDevice, VirtioDevice, log_limited};

use crate::daemon::broker::Broker;
use crate::daemon::control_socket::ControlSocket;
use crate::daemon::event_loop::{EventLoop, Stop};
use crate::daemon::inherited::InheritError;
use crate::daemon::listener::{Access, BoundListener, ListenError, OwnPath};
use crate::daemon::log_text::{chain, name_of};
use crate::daemon::metrics::FrontEnds;
use crate::daemon::metrics_socket::MetricsSocket;
use crate::daemon::receiver_process::ReceiverProcess;
use crate::daemon::requests::{Broken, step};
use crate::daemon::upkeep::{Upkeep, Woken};
use crate::protocol::connection::{Connection, ConnectionError};
use crate::protocol::receiver::ReceiverParent;
use crate::protocol::session::Session;
use crate::sys::{self, Interest, SocketKind, Termination};

#[cfg(test)]
mod tests;

/// Time between two attempts to connect.
const RECONNECT: Duration = Duration::from_secs(1);

/// Reasons to stop serving.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket's path cannot be used.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The descriptor is nothing to serve on.
    #[error("descriptor {0} is not a unix stream socket; pass a listening or a connected one")]
    Descriptor(i32),
    /// A descriptor that has a name is not there.
    #[error(transparent)]
    Inherit(#[from] InheritError),
    /// A signal ends the process. [`Server::run`] does not return it.
    #[error("the process is to end")]
    Terminated,
    /// A worker of a device died; a new process has a new device.
    #[error("a worker of a device died; start the daemon again")]
    WorkerLost,
    /// A port is lost, and that is to end the daemon.
    #[error(
        "the tap of a device is gone, or the program in its place; start the daemon again once there \
         is one"
    )]
    PortLost,
    /// The process is gone that receivers are children of; a new one cannot be made by now.
    #[error("the process is gone that makes receivers of messages; start the daemon again")]
    ReceiversLost,
    /// Waiting, accepting or the like failed.
    #[error("cannot wait for front-ends")]
    System(#[from] io::Error),
}

/// Sources of front-ends.
#[derive(Debug)]
pub enum Source {
    /// They connect, one after the other.
    Listener(BoundListener),
    /// The daemon connects to a path, again and again.
    Client(PathBuf),
    /// There is one, and no other.
    Connected(UnixStream),
}

impl Source {
    /// The path that it has made.
    pub(crate) fn own_path(&self) -> Option<&OwnPath> {
        match self {
            Self::Listener(bound) => bound.own_path(),
            Self::Client(_) | Self::Connected(_) => None,
        }
    }

    /// Listens at `path` for those who have `access`. A socket that nobody listens on any more is
    /// replaced.
    ///
    /// # Errors
    /// Somebody listens, the path is something else, cannot be made, or cannot be given the access.
    pub fn listen(path: &Path, access: &Access) -> Result<Self, ServeError> {
        Ok(Self::Listener(BoundListener::bind(path, access)?))
    }

    /// Takes number `fd`, a listening or a connected socket that was inherited.
    ///
    /// # Errors
    /// It is neither.
    pub fn inherit(fd: i32) -> Result<Self, ServeError> {
        let socket = sys::duplicate(fd).map_err(|error| match error.raw_os_error() {
            Some(libc::EBADF) => ServeError::Descriptor(fd),
            _ => error.into(),
        })?;
        match sys::unix_stream_kind(socket.as_fd()) {
            Some(SocketKind::Listening) => {
                Ok(Self::Listener(BoundListener::inherited(socket.into())?))
            }
            Some(SocketKind::Connected) => Ok(Self::Connected(socket.into())),
            None => Err(ServeError::Descriptor(fd)),
        }
    }
}

impl From<Stop> for ServeError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Terminated => Self::Terminated,
            Stop::WorkerLost => Self::WorkerLost,
            Stop::PortLost => Self::PortLost,
            Stop::System(error) => Self::System(error),
        }
    }
}

/// Ends of a conversation after which there may be another one.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The conversation is over.
    Closed,
    /// There was none, for want of what the next front-end would lack as well.
    Short,
}

/// Answer to a tap that was deleted, and to a program in its place that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LostPort {
    /// It is opened again when the driver resets the device, and for the next front-end.
    #[default]
    Reopen,
    /// The daemon ends, for its supervisor to start it again.
    Exit,
}

/// Place where messages are received.
#[derive(Clone, Copy, Debug)]
enum Receiving<'a> {
    /// In the thread of the device, which has to close whatever comes with them.
    Here,
    /// In a process for each front-end.
    Apart(&'a ReceiverParent),
}

/// The daemon: a device, and whoever uses it.
#[derive(Debug)]
pub struct Server<'a> {
    device: &'a mut NetDevice,
    events: EventLoop<'a>,
    receiving: Receiving<'a>,
    lost_port: LostPort,
    /// The device's name in messages.
    name: String,
    /// For those that a front-end can cause.
    log: Arc<LogLimit>,
    front_ends: Arc<FrontEnds>,
    require_sealed: bool,
    iommu: bool,
    /// Connects instead of this process, for the device of this number.
    broker: Option<(Arc<Broker>, u16)>,
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
            log: device.log_limit(),
            front_ends: Arc::default(),
            device,
            events: EventLoop::new(termination, worker_lost),
            receiving: Receiving::Here,
            lost_port: LostPort::default(),
            broker: None,
            require_sealed: false,
            iommu: false,
        }
    }

    /// The same daemon, which offers to have addresses translated by the front-end's IOMMU, if
    /// `on`.
    #[must_use]
    pub fn offering_iommu(mut self, on: bool) -> Self {
        self.iommu = on;
        self
    }

    /// The same daemon, which refuses guest memory that can shrink if it is so `required`.
    #[must_use]
    pub fn requiring_sealed(mut self, required: bool) -> Self {
        self.require_sealed = required;
        self
    }

    /// The same daemon, which has `broker` do what takes a path.
    #[must_use]
    pub(crate) fn with_broker(mut self, broker: Option<(Arc<Broker>, u16)>) -> Self {
        self.broker = broker;
        self
    }

    /// The same daemon, which does what is asked at a control socket.
    #[must_use]
    pub fn with_control(mut self, control: Option<ControlSocket>) -> Self {
        self.events.set_control(control);
        self
    }

    /// The same daemon, with a process for each front-end to receive its messages: see
    /// [`receiver`](crate::protocol::receiver).
    #[must_use]
    pub fn with_receivers(mut self, parent: &'a ReceiverParent) -> Self {
        self.receiving = Receiving::Apart(parent);
        self
    }

    /// The same daemon, with another answer to a tap that was deleted.
    #[must_use]
    pub fn on_lost_port(mut self, answer: LostPort) -> Self {
        self.lost_port = answer;
        self
    }

    /// The same daemon, which serves the metrics of the process besides.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Option<MetricsSocket>) -> Self {
        self.events.set_metrics(metrics);
        self
    }

    /// The same daemon, which counts its front-ends at `front_ends`.
    #[must_use]
    pub fn counting(mut self, front_ends: Arc<FrontEnds>) -> Self {
        self.front_ends = front_ends;
        self
    }

    /// Serves front-ends until a signal ends it, or until there cannot be another one.
    ///
    /// # Errors
    /// The daemon cannot go on; what a front-end does wrong ends only its own conversation.
    pub fn run(&mut self, source: Source) -> Result<(), ServeError> {
        self.device.follow_host_link();
        let result = match source {
            Source::Connected(socket) => self.converse(socket).map(|_| ()),
            Source::Client(path) => self.connect_loop(&path),
            Source::Listener(bound) => self.accept_loop(bound),
        };
        match result {
            Err(ServeError::Terminated) => Ok(()),
            other => other,
        }
    }

    fn accept_loop(&mut self, mut bound: BoundListener) -> Result<(), ServeError> {
        loop {
            self.events
                .wait([bound.wanted()], bound.pause_ms(), self.device)?;
            let Some(socket) = bound.accept(&self.name)? else {
                continue;
            };
            if self.converse(socket.into())? == End::Short {
                bound.pause();
            }
        }
    }

    fn connect_loop(&mut self, path: &Path) -> Result<(), ServeError> {
        let mut waiting = false;
        loop {
            let connected = match &self.broker {
                Some((broker, device)) => broker.connect(*device),
                None => sys::connect(path),
            };
            match connected {
                Ok(socket) => {
                    waiting = false;
                    self.converse(socket)?;
                }
                Err(error) if !std::mem::replace(&mut waiting, true) => {
                    let (path, error) = (path.display(), refused_by_front_end(error));
                    log_limited!(
                        self.log,
                        Warn,
                        "{}: no front-end at {path} yet: {error}; trying every second",
                        self.name
                    );
                }
                Err(_) => {}
            }
            self.events.pause(RECONNECT, self.device)?;
        }
    }

    /// Serves one front-end, and says what the device has moved and dropped until then.
    fn converse(&mut self, socket: UnixStream) -> Result<End, ServeError> {
        log_limited!(self.log, Info, "{}: a front-end is there", self.name);
        self.front_ends.begin();
        let end = self.session_loop(socket);
        self.front_ends.end();
        let counters = self.device.counters();
        let counted = counters.iter().filter(|(_, count)| *count > 0);
        let list: Vec<_> = counted
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        if !list.is_empty() {
            log_limited!(
                self.log,
                Info,
                "{}: since the start: {}",
                self.name,
                list.join(", ")
            );
        }
        end
    }

    /// Takes messages until the end of the conversation. What the front-end does wrong goes to the
    /// log, on one line.
    fn session_loop(&mut self, socket: UnixStream) -> Result<End, ServeError> {
        let name = &self.name;
        if let Some(process) = self.events.stuck_receiver(self.device)? {
            log_limited!(
                self.log,
                Warn,
                "{name}: a front-end is refused: process {process}, which received the messages of \
                 the one before, still waits to close a descriptor"
            );
            return Ok(End::Closed);
        }
        if let Err(error) = self.device.reopen_lost_ports() {
            if self.lost_port == LostPort::Exit {
                return Err(ServeError::PortLost);
            }
            let why = chain(&error);
            log_limited!(self.log, Warn, "{name}: a front-end is refused: {why}");
            return Ok(End::Closed);
        }
        let mut receiver = None;
        let begun = self.receiving.begin(socket, &mut receiver).and_then(|it| {
            let sockets = it.has_name();
            let session = Session::with_call_sockets(self.device, sockets)?;
            let session = session.requiring_sealed(self.require_sealed);
            Ok((it, session.offering_iommu(self.iommu)?))
        });
        let end = match begun {
            // The device lets go of the front-end's memory before the connection is shut.
            Ok((mut connection, mut session)) => {
                let (events, lost_port) = (&mut self.events, self.lost_port);
                let (front_ends, both) = (&*self.front_ends, (&mut connection, &mut session));
                exchange(events, name, lost_port, front_ends, both)
            }
            Err(error) if is_lost(&error) => return Err(ServeError::ReceiversLost),
            Err(error) => {
                let why = chain(&error);
                log_limited!(self.log, Warn, "{name}: no conversation: {why}");
                let short = sys::is_shortage(&error);
                Ok(if short { End::Short } else { End::Closed })
            }
        };
        // Only now, see `Connection`.
        if let Some(receiver) = receiver {
            self.events.retire(receiver);
        }
        Ok(end?)
    }
}

impl Receiving<'_> {
    /// A connection whose messages are received so, and the process that does it.
    fn begin(
        self,
        socket: UnixStream,
        process: &mut Option<ReceiverProcess>,
    ) -> io::Result<Connection> {
        match self {
            Self::Here => Connection::new(socket),
            Self::Apart(parent) => {
                let (receiver, link) = ReceiverProcess::start(parent, &socket)?;
                *process = Some(receiver);
                Connection::received_by(link, socket)
            }
        }
    }
}

/// Returns whether `error` says that there is nobody who could start a receiver.
fn is_lost(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
    )
}

/// The conversation of [`Server::session_loop`].
fn exchange(
    events: &mut EventLoop<'_>,
    name: &str,
    lost_port: LostPort,
    front_ends: &FrontEnds,
    (connection, session): (&mut Connection, &mut Session<'_>),
) -> Result<End, Stop> {
    let log = session.device().log_limit();
    let interrupts = Arc::clone(session.interrupts());
    let config_event = interrupts.config_event().as_fd();
    let mut refusals = 0;
    let mut upkeep = Upkeep::new(front_ends, session.device().queue_max_sizes().len());
    loop {
        let deadline = connection.deadline();
        let (iotlb, due) = session.translations_wanted();
        let wake = [deadline, due, upkeep.deadline(session)];
        let wake = wake.into_iter().flatten().min();
        let (device, [transfer, kicks]) = session.device_and_events();
        let own = [
            Some((config_event, Interest::Readable)),
            Some((connection.as_fd(), connection.interest())),
            transfer,
            kicks,
            iotlb.as_ref().map(|it| it.wanted()),
        ];
        let timeout = wake.map(sys::ms_until);
        let [changed, ready, transfer, _, asked] = events.wait(own, timeout, device)?;
        let now = Instant::now();
        let woken = Woken {
            config: changed,
            transfer,
            translations: asked || due.is_some_and(|due| now >= due),
        };
        if let Err(error) = upkeep.attend(session, name, now, woken) {
            return Ok(ended(&log, name, &error));
        }
        if changed && lost_port == LostPort::Exit && session.device().is_port_lost() {
            return Err(Stop::PortLost);
        }
        if !ready && deadline.is_none_or(|deadline| now < deadline) {
            continue;
        }
        if let Err(error) = step(name, connection, session, &mut refusals) {
            if matches!(error, Broken::Connection(ConnectionError::Overdue)) {
                events.count_overdue_receiver();
                front_ends.count_overdue_receiver();
            }
            return Ok(broken(&log, name, &error));
        }
    }
}

/// Says why no further message comes.
fn broken(log: &LogLimit, name: &str, error: &Broken) -> End {
    if matches!(error, Broken::Connection(ConnectionError::Closed)) {
        log_limited!(log, Info, "{name}: the front-end left");
        return End::Closed;
    }
    ended(log, name, error)
}

/// Says why a conversation that went wrong is over.
fn ended(log: &LogLimit, name: &str, error: &(dyn Error + 'static)) -> End {
    log_limited!(log, Warn, "{name}: connection ended: {}", chain(error));
    End::Closed
}

/// The reason why a front-end cannot be connected to, in words where the kernel's are about
/// something else.
fn refused_by_front_end(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock => "it has not accepted those who came before".into(),
        _ => chain(&error),
    }
}
