//! The one wait of a device's thread: the end, an operator, and whatever else the caller waits for.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use net_device::NetDevice;

use crate::daemon::control_socket::ControlSocket;
use crate::sys::{self, Interest, Termination, Wanted};

/// Reasons to wait no more.
#[derive(Debug)]
pub(crate) enum Stop {
    /// A signal ends the process.
    Terminated,
    /// A worker of a device died.
    WorkerLost,
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
}

impl<'a> EventLoop<'a> {
    pub(crate) fn new(termination: &'a Termination, worker_lost: &'a File) -> Self {
        Self {
            termination,
            worker_lost,
            control: None,
        }
    }

    /// Serves the operators at `control` during waits.
    pub(crate) fn set_control(&mut self, control: Option<ControlSocket>) {
        self.control = control;
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
        wanted.extend(self.control.iter().flat_map(ControlSocket::wanted));
        let pause = self.control.as_ref().and_then(ControlSocket::pause_ms);
        let timeout = timeout_ms.into_iter().chain(pause).min();
        let mut ready = sys::wait(&wanted, timeout)
            .map_err(Stop::System)?
            .into_iter();
        let mut next = || ready.next().unwrap_or(false);
        let (terminated, lost) = (next(), next());
        let own = own.map(|wanted| wanted.is_some() && next());
        if terminated {
            return Err(Stop::Terminated);
        }
        if lost {
            return Err(Stop::WorkerLost);
        }
        if let Some(control) = &mut self.control
            && ready.any(|ready| ready)
        {
            control.serve(device);
        }
        Ok(own)
    }
}
