//! The devices that a command line describes.

use std::error::Error;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use net_device::net_queue::FrameBackend;
use net_device::net_queue::capture::Capture;
use net_device::port::Link;
use net_device::tap::Tap;
use net_device::{HostInterface, NetConfig, NetDevice, NetDeviceBuilder, NewError, TapConfig};
use vmm_sys_util::eventfd::EventFd;

use crate::daemon::args::{DeviceError, ServeArgs};
use crate::daemon::broker::Broker;
use crate::daemon::capture::PcapFile;
use crate::daemon::control_socket::ControlSocket;
use crate::daemon::frame_backend::BackendSpec;
use crate::daemon::groups::{self, GroupError, Shared};
use crate::daemon::serve::{LostPort, ServeError, Source};
use crate::sys;

/// Reasons to refuse a command line.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// One of them cannot be.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// One of their groups cannot be.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// Their numbers have 16 bits.
    #[error("too many devices for one process")]
    TooMany,
    /// An option of the process that several devices give.
    #[error("{0} is an option of the process; give it at one device")]
    Repeated(&'static str),
}

/// Failures to open what an option names.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error("cannot use descriptor {fd} of --tap-fd")]
    TapDescriptor {
        fd: i32,
        #[source]
        source: io::Error,
    },
    #[error("cannot write {}", path.display())]
    Capture {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// A device that is to be served, before anything of it is opened.
#[derive(Debug)]
pub struct DevicePlan<'a> {
    pub(super) args: &'a ServeArgs,
    /// The number of the device in this process.
    pub(super) number: u16,
    config: NetConfig,
    group: Option<Arc<Shared>>,
}

/// Combines the options of all devices. Nothing is opened yet.
///
/// # Errors
/// A device or a group cannot be.
pub fn plan<'a>(all: &[&'a ServeArgs]) -> Result<Vec<DevicePlan<'a>>, PlanError> {
    let times = |is_there: fn(&ServeArgs) -> bool| all.iter().filter(|it| is_there(it)).count();
    if times(|args| args.metrics.is_some()) > 1 {
        return Err(PlanError::Repeated("--metrics"));
    }
    if times(|args| args.log_format.is_some()) > 1 {
        return Err(PlanError::Repeated("--log-format"));
    }
    if times(|args| args.sandbox.is_some()) > 1 {
        return Err(PlanError::Repeated("--sandbox"));
    }
    if times(|args| args.user.is_some()) > 1 {
        return Err(PlanError::Repeated("--user"));
    }
    let places: Vec<_> = all.iter().map(|args| args.group.as_ref()).collect();
    let groups = groups::form(&places)?;
    let numbered = all.iter().zip(groups).enumerate();
    let plans = numbered.map(|(number, (args, group))| {
        let mut config = args.device()?;
        if number > 0 {
            // Names of threads tell which device they are of.
            config.id.push_str(&number.to_string());
        }
        Ok(DevicePlan {
            args,
            number: u16::try_from(number).map_err(|_| PlanError::TooMany)?,
            config,
            group,
        })
    });
    plans.collect()
}

impl DevicePlan<'_> {
    /// Opens what has no effect on the network.
    pub(super) fn sockets(&self) -> Result<Option<(Source, Option<ControlSocket>)>, ServeError> {
        let args = self.args;
        let source = match (&args.socket_path, &args.fd) {
            (Some(path), _) if args.client => Source::Client(path.clone()),
            (Some(path), _) => Source::listen(path, &args.access())?,
            (None, Some(fd)) => Source::inherit(fd.one()?)?,
            (None, None) => return Ok(None),
        };
        let control = args.control_path.as_ref();
        let control = control.map(|path| {
            Ok::<_, ServeError>(
                ControlSocket::listen(path, args.limits)?.with_group(self.group.clone()),
            )
        });
        Ok(Some((source, control.transpose()?)))
    }

    /// Returns whether a port that is lost is to be opened again.
    fn reopens(&self) -> bool {
        self.lost_port() == LostPort::Reopen && self.args.tap_fd.is_empty()
    }

    /// Answer to a port that is lost. The device file of a macvtap interface has another name each
    /// time, so one that was deleted ends the daemon.
    pub(super) fn lost_port(&self) -> LostPort {
        match &self.args.backend {
            Some(backend) if !backend.is_program() => LostPort::Exit,
            _ => self.args.lost_port,
        }
    }

    /// The program to connect to again.
    pub(super) fn program_to_reconnect(&self) -> Option<BackendSpec> {
        self.args.backend.clone().filter(|_| self.reopens())
    }

    /// The tap to open again, whose interface is `host`.
    pub(super) fn tap_to_reopen(
        &self,
        host: Option<&HostInterface>,
    ) -> Option<(NetConfig, TapConfig)> {
        let is_tap = self.reopens() && self.args.backend.is_none();
        let mut tap = is_tap.then(|| self.args.tap())?;
        tap.name = host.map(|host| host.name.clone()).or(tap.name);
        Some((self.config.clone(), tap))
    }

    /// The socket of the front-end, if the daemon is to connect.
    pub(super) fn front_end(&self) -> Option<PathBuf> {
        let path = self.args.socket_path.clone();
        path.filter(|_| self.args.client)
    }

    /// Opens the device, which signals `exit` when a worker dies. Once there is a `broker`, it
    /// opens a port that is lost.
    pub(super) fn device(
        &self,
        exit: &EventFd,
        broker: &Arc<OnceLock<Arc<Broker>>>,
    ) -> Result<NetDevice, Box<dyn Error>> {
        let mut device = NetDevice::builder(self.config.clone()).exit_event(exit.try_clone()?);
        if let Some(group) = &self.group {
            device = group.with(device);
        }
        let mut pcap = None;
        if let Some(path) = &self.args.pcap {
            let file = PcapFile::create(path).map_err(|source| OpenError::Capture {
                path: path.clone(),
                source,
            })?;
            let frames = file.clone();
            let decorate = move |_, backend| capture(backend, &frames);
            device = device.decorate_backends(decorate);
            pcap = Some(file);
        }
        if self.reopens() {
            device = device.reopen_with(self.link_again(pcap, broker.clone()));
        }
        device = self.args.programs.hand_to(device)?;
        match &self.args.backend {
            Some(backend) => Ok(device.build_on_link(backend.open(&self.config)?)?),
            None => open(self.args, device),
        }
    }

    /// Opens the tap again, after the kernel completed its name, or connects to the program again.
    fn link_again(
        &self,
        pcap: Option<PcapFile>,
        broker: Arc<OnceLock<Arc<Broker>>>,
    ) -> impl FnMut(Option<&HostInterface>) -> Result<Link, NewError> + use<> {
        let (config, mut tap, number) = (self.config.clone(), self.args.tap(), self.number);
        let program = self.program_to_reconnect();
        move |lost| {
            tap.name = lost.map(|lost| lost.name.clone()).or(tap.name.take());
            let link = match (&program, broker.get()) {
                (Some(program), broker) => {
                    let ask = |broker: &Arc<Broker>| broker.connect_port(number);
                    let socket = broker.map_or_else(|| program.connect(), ask);
                    let link = program.link_over(socket);
                    link.map_err(|error| NewError::Link(io::Error::other(error)))?
                }
                (None, None) => Link::on_tap(&config, &tap)?,
                (None, Some(broker)) => {
                    let fds = broker.open_tap(number).map_err(NewError::Link)?;
                    Link::on_taps(&config, Tap::from_fds(fds)?)?
                }
            };
            Ok(match &pcap {
                Some(pcap) => link.map(|_, backend| capture(backend, pcap)),
                None => link,
            })
        }
    }
}

/// Writes the frames of `backend` to a file as well.
fn capture(backend: Box<dyn FrameBackend>, file: &PcapFile) -> Box<dyn FrameBackend> {
    Box::new(Capture::new(backend, file.clone()))
}

fn open(args: &ServeArgs, device: NetDeviceBuilder<'_>) -> Result<NetDevice, Box<dyn Error>> {
    if args.tap_fd.is_empty() {
        return Ok(device.build_on_tap(&args.tap())?);
    }
    let mut numbers = Vec::new();
    for fd in &args.tap_fd {
        numbers.extend(fd.all()?);
    }
    let own = numbers.into_iter().map(|fd| {
        let failed = |source| OpenError::TapDescriptor { fd, source };
        sys::duplicate(fd).map_err(failed)
    });
    let own = own.collect::<Result<Vec<_>, _>>()?;
    let borrowed: Vec<_> = own.iter().map(AsFd::as_fd).collect();
    Ok(device.build_on_tap_fds(&borrowed)?)
}
