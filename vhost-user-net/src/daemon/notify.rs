//! The service manager's socket, which is found before the files are given up.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use log::warn;
use sd_notify::NotifyState;

/// A service manager that wants to know (`NOTIFY_SOCKET`), or none.
#[derive(Debug)]
pub(crate) struct Notifier(Option<UnixDatagram>);

impl Notifier {
    /// Finds the one that started this process.
    pub(crate) fn find() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET") else {
            return Self(None);
        };
        Self(connect(name.as_bytes()).map_or_else(
            |error| {
                complain(&error);
                None
            },
            Some,
        ))
    }

    /// Tells it.
    pub(crate) fn tell(&self, state: NotifyState<'_>) {
        if let Some(socket) = &self.0
            && let Err(error) = socket.send(format!("{state}\n").as_bytes())
        {
            complain(&error);
        }
    }
}

fn complain(error: &io::Error) {
    warn!("the service manager cannot be told: {error}");
}

fn connect(name: &[u8]) -> io::Result<UnixDatagram> {
    let address = match name {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    Ok(socket)
}
