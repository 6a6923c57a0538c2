//! The devices of one process, which end together.
//!
//! Each device has a thread of its own that serves its front-ends, the first one the main thread. A
//! signal ends them all. So does a worker that is lost, whichever device it belonged to: what
//! supervises the daemon sees the process and starts it again, while a device that is dead in a
//! process that lives would stay so. Hence devices of one process had better have one owner.

use std::error::Error;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::{mem, thread};

use log::{Level, debug, warn};
use net_device::NetDevice;
use sd_notify::NotifyState;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::daemon::broker::{Broker, Errands};
use crate::daemon::control_socket::ControlSocket;
use crate::daemon::device_plan::DevicePlan;
use crate::daemon::log_format::announce;
use crate::daemon::log_text::name_of;
use crate::daemon::metrics::{FrontEnds, Reported};
use crate::daemon::metrics_socket::MetricsSocket;
use crate::daemon::notify::Notifier;
use crate::daemon::sandbox::{self, Sandbox, filter, lists::Role};
use crate::daemon::serve::{LostPort, ServeError, Server, Source};
use crate::protocol::interrupts::signal;
use crate::protocol::receiver::ReceiverParent;
use crate::sys::{self, Termination, foreign};

#[cfg(test)]
mod tests;

/// Opens the devices and serves them until a signal.
///
/// # Errors
/// One of them cannot be opened, or not be served any more.
pub fn run(plans: &[DevicePlan<'_>]) -> Result<(), Box<dyn Error>> {
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
    let metrics = plans.iter().find_map(|plan| plan.args.metrics.as_ref());
    let metrics = metrics.map(MetricsSocket::listen).transpose()?;
    let notifier = Notifier::find();
    let to_come = Arc::default();
    let mut devices = Vec::new();
    for (plan, (source, control)) in sockets {
        let device = plan.device(&exit, &to_come)?;
        devices.push(ServedDevice {
            device,
            source,
            control,
            number: plan.number,
            confined: Confined::default(),
            lost_port: plan.lost_port(),
            require_sealed: plan.args.require_sealed,
            iommu: plan.args.iommu,
            front_ends: Arc::default(),
            metrics: None,
        });
    }
    if let Some(metrics) = metrics {
        assign(metrics, &mut devices);
    }
    let confined = confine(plans, &devices)?;
    for device in &mut devices {
        device.confined = confined.clone();
    }
    if let Some(broker) = &confined.broker {
        let _ = to_come.set(broker.clone());
    }
    announce_start(plans, &devices);
    notifier.tell(NotifyState::Ready);
    let end = serve(devices, &termination, &lost);
    notifier.tell(NotifyState::Stopping);
    if let Some(Err(error)) = confined.broker.map(|broker| broker.remove_sockets()) {
        warn!("sockets stay behind: {error}");
    }
    Ok(end?)
}

/// Says what is served, once it is.
fn announce_start(plans: &[DevicePlan<'_>], devices: &[ServedDevice]) {
    for device in devices {
        if let Some(plan) = plans.iter().find(|plan| plan.number == device.number) {
            // The kernel completes a template, and an inherited tap has a name that nobody gave
            // here.
            let tap = match (&plan.args.backend, device.device.host_interface()) {
                (Some(backend), _) => backend.to_string(),
                (None, Some(host)) => format!("tap {}", host.name),
                (None, None) => "an unnamed tap".into(),
            };
            announce(Level::Info, format_args!("{tap}, {}", plan.args));
        }
        if let Some(metrics) = &device.metrics {
            let address = metrics.address();
            announce(Level::Info, format_args!("metrics at {address}"));
        }
    }
}

/// Processes that do for the devices what this one cannot.
#[derive(Clone, Debug, Default)]
struct Confined {
    receivers: Option<Arc<ReceiverParent>>,
    broker: Option<Arc<Broker>>,
}

/// Gives up all that is not needed to serve `devices`, which are open.
fn confine(plans: &[DevicePlan<'_>], devices: &[ServedDevice]) -> Result<Confined, Box<dyn Error>> {
    let extent = plans.iter().find_map(|plan| plan.args.sandbox);
    let extent = extent.unwrap_or_default();
    let user = plans.iter().find_map(|plan| plan.args.user.as_ref());
    if extent == Sandbox::None && user.is_none() {
        return Ok(Confined {
            receivers: Some(Arc::new(ReceiverParent::start()?)),
            broker: None,
        });
    }
    let null = sys::open_null()?;
    foreign::proc()?;
    let errands = errands(plans, devices, extent);
    let broker = (!errands.is_empty()).then(|| Broker::start(&errands));
    let broker = broker.transpose()?.map(Arc::new);
    let confinement = sandbox::enter(extent, user)?;
    let filter = |role| match extent {
        Sandbox::None => Ok(()),
        _ => filter::install(role),
    };
    let own = || filter(Role::Receiver).map_err(io::Error::other);
    let receivers = ReceiverParent::start_with(&null, own)?;
    filter(Role::Daemon)?;
    announce(Level::Info, format_args!("sandbox: {confinement}"));
    Ok(Confined {
        receivers: Some(Arc::new(receivers)),
        broker,
    })
}

/// Errands that are left, which take a path or a privilege.
fn errands(plans: &[DevicePlan<'_>], devices: &[ServedDevice], extent: Sandbox) -> Errands {
    let mut errands = Errands {
        unconfined: extent == Sandbox::None,
        ..Errands::default()
    };
    for plan in plans {
        let device = devices.iter().find(|it| it.number == plan.number);
        let host = device.and_then(|it| it.device.host_interface());
        errands.taps.push(plan.tap_to_reopen(host));
        errands.programs.push(plan.program_to_reconnect());
        errands.front_ends.push(plan.front_end());
    }
    for device in devices {
        let control = device.control.as_ref().and_then(ControlSocket::own_path);
        let metrics = device.metrics.as_ref().and_then(MetricsSocket::own_path);
        let own = [device.source.own_path(), control, metrics];
        errands.sockets.extend(own.into_iter().flatten().cloned());
    }
    errands
}

/// Has the metrics of all `devices` served by the thread of one of them: one that may have more
/// than one front-end, since its thread lives as long as the process.
fn assign(metrics: MetricsSocket, devices: &mut [ServedDevice]) {
    let mut reported: Vec<Reported> = Vec::new();
    for device in devices.iter() {
        let mut name = name_of(&device.device);
        if reported.iter().any(|other| other.name == name) {
            // Queues of one tap may have been given to several devices.
            name = format!("{name}/{}", device.device.config().id);
        }
        reported.push(Reported {
            name,
            device: device.device.handle(),
            front_ends: device.front_ends.clone(),
        });
    }
    let stays = |device: &ServedDevice| !matches!(device.source, Source::Connected(_));
    let place = devices.iter().position(stays).unwrap_or(0);
    if let Some(device) = devices.get_mut(place) {
        device.metrics = Some(metrics.reporting(reported));
    }
}

/// A device, where its front-ends come from, and its operator.
#[derive(Debug)]
struct ServedDevice {
    device: NetDevice,
    source: Source,
    control: Option<ControlSocket>,
    /// Its number in this process.
    number: u16,
    /// Each front-end's messages are received in a process of their own.
    confined: Confined,
    lost_port: LostPort,
    require_sealed: bool,
    iommu: bool,
    front_ends: Arc<FrontEnds>,
    /// Of all devices.
    metrics: Option<MetricsSocket>,
}

impl ServedDevice {
    /// Serves until the end, which is everybody's unless its front-end was the only one it could
    /// have.
    fn serve(mut self, termination: &Termination, lost: &File) -> Result<(), ServeError> {
        let shutdown = ShutdownOnDrop(lost);
        let mut server = Server::new(&mut self.device, termination, lost)
            .with_control(self.control)
            .with_metrics(self.metrics)
            .counting(self.front_ends)
            .requiring_sealed(self.require_sealed)
            .offering_iommu(self.iommu)
            .on_lost_port(self.lost_port);
        let broker = self.confined.broker.clone();
        server = server.with_broker(broker.map(|broker| (broker, self.number)));
        if let Some(parent) = &self.confined.receivers {
            server = server.with_receivers(parent);
        }
        server.run(self.source)?;
        mem::forget(shutdown);
        Ok(())
    }
}

/// Ends all devices, unless it is forgotten.
struct ShutdownOnDrop<'a>(&'a File);

impl Drop for ShutdownOnDrop<'_> {
    fn drop(&mut self) {
        // A counter that cannot be written is gone, and then so is everybody who waits for it.
        let _ = signal(Some(self.0));
    }
}

fn serve(
    devices: Vec<ServedDevice>,
    termination: &Termination,
    lost: &File,
) -> Result<(), ServeError> {
    let mut devices = devices.into_iter();
    let Some(first) = devices.next() else {
        return Ok(());
    };
    thread::scope(|scope| {
        let spawn = |device: ServedDevice| {
            let name = device.device.config().id.clone();
            let serve = move || device.serve(termination, lost);
            thread::Builder::new().name(name).spawn_scoped(scope, serve)
        };
        let others = devices.map(spawn).collect::<Result<Vec<_>, _>>();
        // Those that run end with the first error; the scope waits for them.
        let others = others.inspect_err(|_| drop(ShutdownOnDrop(lost)))?;
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
