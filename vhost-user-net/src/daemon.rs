//! A process that serves one device or several: what each is made of, and the fate they share.
//!
//! Each device has a thread of its own that serves its front-ends, the first one the main thread. A signal ends them
//! all. So does a worker that is lost, whichever device it belonged to: what supervises the daemon sees the process
//! and starts it again, while a device that is dead in a process that lives would stay so. Hence devices of one process
//! had better have one owner.

use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::{mem, thread};

use log::{debug, warn};
use net_device::net_queue::decorate::Capture;
use net_device::{NetConfig, NetDevice};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::args::{DeviceError, ServeArgs};
use crate::control::Control;
use crate::group::{self, GroupError, Shared};
use crate::interrupts::signal;
use crate::pcap::PcapFile;
use crate::serve::{ServeError, Server, Source};
use crate::sys::{self, Termination};

#[cfg(test)]
mod tests;

/// Why a command line describes no devices.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// One of them cannot be.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// One of their groups cannot be.
    #[error(transparent)]
    Group(#[from] GroupError),
}

/// Why something that an option names cannot be had.
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

/// A device that is to be served.
#[derive(Debug)]
pub struct Plan<'a> {
    args: &'a ServeArgs,
    config: NetConfig,
    group: Option<Arc<Shared>>,
}

/// What the options of every device come to. Nothing is opened yet.
///
/// # Errors
/// There is no such device, or no such group.
pub fn plan<'a>(all: &[&'a ServeArgs]) -> Result<Vec<Plan<'a>>, PlanError> {
    let places: Vec<_> = all.iter().map(|args| args.group.as_ref()).collect();
    let groups = group::form(&places)?;
    let numbered = all.iter().zip(groups).enumerate();
    let plans = numbered.map(|(number, (args, group))| {
        let mut config = args.device()?;
        if number > 0 {
            // Names of threads tell which device they are of.
            config.id.push_str(&number.to_string());
        }
        Ok(Plan {
            args,
            config,
            group,
        })
    });
    plans.collect()
}

impl Plan<'_> {
    /// What has no effect on the network.
    fn sockets(&self) -> Result<Option<(Source, Option<Control>)>, ServeError> {
        let args = self.args;
        let source = match (&args.socket_path, args.fd) {
            (Some(path), _) if args.client => Source::Client(path.clone()),
            (Some(path), _) => Source::listen(path, &args.access())?,
            (None, Some(fd)) => Source::inherit(fd)?,
            (None, None) => return Ok(None),
        };
        let control = args.control_path.as_ref();
        let control = control.map(|path| {
            Ok::<_, ServeError>(Control::listen(path, args.limits)?.with_group(self.group.clone()))
        });
        Ok(Some((source, control.transpose()?)))
    }

    /// The device, which tells `exit` of a dead worker.
    fn device(&self, exit: &EventFd) -> Result<NetDevice, Box<dyn Error>> {
        let mut device = open(self.args, self.config.clone())?.with_exit_event(exit.try_clone()?);
        if let Some(group) = &self.group {
            device = group.with(device)?;
        }
        if let Some(path) = &self.args.pcap {
            let pcap = PcapFile::create(path).map_err(|source| OpenError::Capture {
                path: path.clone(),
                source,
            })?;
            device =
                device.map_backends(|_, backend| Box::new(Capture::new(backend, pcap.clone())));
        }
        Ok(device)
    }
}

fn open(args: &ServeArgs, config: NetConfig) -> Result<NetDevice, Box<dyn Error>> {
    if args.tap_fd.is_empty() {
        return Ok(NetDevice::from_tap_name(config, &args.tap())?);
    }
    let own = args.tap_fd.iter().map(|fd| {
        let failed = |source| OpenError::TapDescriptor { fd: *fd, source };
        sys::duplicate(*fd).map_err(failed)
    });
    let own = own.collect::<Result<Vec<_>, _>>()?;
    let borrowed: Vec<_> = own.iter().map(AsFd::as_fd).collect();
    Ok(NetDevice::from_tap_fds(config, &borrowed)?)
}

/// Opens the devices and serves them until a signal.
///
/// # Errors
/// One of them cannot be opened, or not be served any more.
pub fn run(plans: &[Plan<'_>]) -> Result<(), Box<dyn Error>> {
    match sys::raise_open_files_limit() {
        Ok(limit) => debug!("up to {limit} files may be open"),
        Err(error) => warn!("the limit of open files stays as it is: {error}"),
    }
    // A capture that grows too long ends alone.
    sys::ignore_file_size_signal();
    // Before there is any other thread: each inherits that these signals wait.
    let termination = Termination::new()?;
    let exit = EventFd::new(EFD_NONBLOCK)?;
    let lost = File::from(sys::duplicate(exit.as_raw_fd())?);
    // First what has no effect on the network if it fails. A front-end that comes early waits.
    let mut sockets = Vec::new();
    for plan in plans {
        sockets.extend(plan.sockets()?.map(|sockets| (plan, sockets)));
    }
    let mut seats = Vec::new();
    for (plan, (source, control)) in sockets {
        let device = plan.device(&exit)?;
        // The kernel completes a template, and an inherited tap has a name that nobody gave here.
        let tap = device.host_interface().map_or_else(
            || "an unnamed tap".into(),
            |host| format!("tap {}", host.name),
        );
        let _ = writeln!(io::stderr(), "vhost-user-net: {tap}, {}", plan.args);
        seats.push(Seat {
            device,
            source,
            control,
        });
    }
    Ok(serve(seats, &termination, &lost)?)
}

/// A device, where its front-ends come from, and its operator.
#[derive(Debug)]
struct Seat {
    device: NetDevice,
    source: Source,
    control: Option<Control>,
}

impl Seat {
    /// Serves until the end, which is everybody's unless its front-end was the only one it could have.
    fn serve(mut self, termination: &Termination, lost: &File) -> Result<(), ServeError> {
        let fate = Fate(lost);
        let server = Server::new(&mut self.device, termination, lost);
        server.with_control(self.control).run(self.source)?;
        mem::forget(fate);
        Ok(())
    }
}

/// Ends all devices, unless it is forgotten.
struct Fate<'a>(&'a File);

impl Drop for Fate<'_> {
    fn drop(&mut self) {
        // A counter that cannot be written is gone, and then so is everybody who waits for it.
        let _ = signal(Some(self.0));
    }
}

fn serve(seats: Vec<Seat>, termination: &Termination, lost: &File) -> Result<(), ServeError> {
    let mut seats = seats.into_iter();
    let Some(first) = seats.next() else {
        return Ok(());
    };
    thread::scope(|scope| {
        let spawn = |seat: Seat| {
            let name = seat.device.config().id.clone();
            let serve = move || seat.serve(termination, lost);
            thread::Builder::new().name(name).spawn_scoped(scope, serve)
        };
        let others = seats.map(spawn).collect::<Result<Vec<_>, _>>();
        // Those that run end with the first error; the scope waits for them.
        let others = others.inspect_err(|_| drop(Fate(lost)))?;
        let first = first.serve(termination, lost);
        let others = others.into_iter().map(|other| {
            // It was a panic; there is no better word for a thread that is gone.
            other.join().unwrap_or(Err(ServeError::WorkerLost))
        });
        let failed = std::iter::once(first).chain(others).filter_map(Result::err);
        // Who is told to end reports a lost worker; the one that told the others may know more.
        let cause = failed.reduce(|one, other| match one {
            ServeError::WorkerLost => other,
            cause => cause,
        });
        cause.map_or(Ok(()), Err)
    })
}
