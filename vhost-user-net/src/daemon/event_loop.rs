//! The one wait of a device's thread: the end, an operator, who reads metrics, and whatever else
//! the caller waits for.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use net_device::NetDevice;

use crate::daemon::control_socket::ControlSocket;
use crate::daemon::metrics_socket::MetricsSocket;
use crate::daemon::receiver_process::{LeavingReceiver, ReceiverProcess};
use crate::sys::{self, Interest, Termination, Wanted};

/// Reasons to wait no more.
#[derive(Debug)]
pub(crate) enum Stop {
    /// A signal ends the process.
    Terminated,
    /// A worker of a device died.
    WorkerLost,
    /// The device's tap is gone.
    PortLost,
    /// The wait failed.
    System(io::Error),
}

/// Events of a device's thread that have nothing to do with a front-end.
#[derive(Debug)]
pub(crate) struct EventLoop<'a> {
    termination: &'a Termination,
    /// Becomes readable when a worker of any device dies.
    worker_lost: &'a File,
    control: Option<ControlSocket>,
    /// The receiver of the front-end that was there before.
    leaving: Option<LeavingReceiver>,
    overdue_receivers: u64,
    metrics: Option<MetricsSocket>,
}

impl<'a> EventLoop<'a> {
    pub(crate) fn new(termination: &'a Termination, worker_lost: &'a File) -> Self {
        Self {
            termination,
            worker_lost,
            control: None,
            leaving: None,
            overdue_receivers: 0,
            metrics: None,
        }
    }

    /// Serves the operators at `control` during waits.
    pub(crate) fn set_control(&mut self, control: Option<ControlSocket>) {
        self.control = control;
    }

    /// Has a receiver end, and waits for that beside everything else.
    pub(crate) fn retire(&mut self, receiver: ReceiverProcess) {
        self.leaving = Some(receiver.end());
    }

    /// Gives the receiver that was retired last a moment to end. Returns its number if it is stuck.
    pub(crate) fn stuck_receiver(&mut self, device: &mut NetDevice) -> Result<Option<u32>, Stop> {
        while let Some(leaving) = &self.leaving {
            let Some(patience) = leaving.patience_ms() else {
                return Ok(Some(leaving.id()));
            };
            self.wait([], Some(patience), device)?;
        }
        Ok(None)
    }

    /// Waits for everything but front-ends, for so long.
    pub(crate) fn pause(&mut self, time: Duration, device: &mut NetDevice) -> Result<(), Stop> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.wait([], Some(sys::ms_until(end)), device)?;
        }
        Ok(())
    }

    /// Counts a receiver that was not ready in time.
    pub(crate) fn count_overdue_receiver(&mut self) {
        self.overdue_receivers += 1;
        if let Some(control) = &mut self.control {
            control.set_overdue_receivers(self.overdue_receivers);
        }
    }

    /// Serves the metrics of all devices during waits.
    pub(crate) fn set_metrics(&mut self, metrics: Option<MetricsSocket>) {
        self.metrics = metrics;
    }

    /// Waits once for those of `own` that are there, at most `timeout_ms`, and returns which of
    /// them are ready. An operator who asks for something meanwhile is answered, about `device`.
    pub(crate) fn wait<const N: usize>(
        &mut self,
        own: [Option<Wanted<'_>>; N],
        timeout_ms: Option<u16>,
        device: &mut NetDevice,
    ) -> Result<[bool; N], Stop> {
        let ends = [self.termination.as_fd(), self.worker_lost.as_fd()];
        let mut wanted = Vec::from(ends.map(|fd| (fd, Interest::Readable)));
        wanted.extend(own.iter().flatten());
        wanted.extend(self.leaving.iter().map(LeavingReceiver::wanted));
        wanted.extend(self.control.iter().flat_map(ControlSocket::wanted));
        let before_link = wanted.len();
        let link = device.host_link_fd();
        wanted.extend(link.map(|fd| (fd, Interest::Readable)));
        let before_metrics = wanted.len();
        wanted.extend(self.metrics.iter().flat_map(MetricsSocket::wanted));
        let pause = self.control.as_ref().and_then(ControlSocket::pause_ms);
        let deadline = self.metrics.as_ref().and_then(MetricsSocket::timeout_ms);
        let announcement = device.next_announcement().map(sys::ms_of);
        let timeouts = timeout_ms.into_iter().chain(pause).chain(deadline);
        let timeout = timeouts.chain(announcement).min();
        let mut ready = sys::wait(&wanted, timeout).map_err(Stop::System)?;
        let time_is_up = !ready.contains(&true);
        let metrics = ready.split_off(before_metrics);
        let link = ready.split_off(before_link);
        let mut ready = ready.into_iter();
        let mut next = || ready.next().unwrap_or(false);
        let (terminated, lost) = (next(), next());
        let own = own.map(|wanted| wanted.is_some() && next());
        if self.leaving.is_some() && next() {
            self.leaving = None;
        }
        if terminated {
            return Err(Stop::Terminated);
        }
        if lost {
            return Err(Stop::WorkerLost);
        }
        if link.contains(&true) {
            device.follow_host_link();
        }
        device.continue_announcement();
        if let Some(control) = &mut self.control
            && ready.any(|ready| ready)
        {
            control.serve(device);
        }
        if let Some(endpoint) = &mut self.metrics
            && (time_is_up || metrics.contains(&true))
        {
            endpoint.serve();
        }
        Ok(own)
    }
}
