//! Those who are connected to a socket that the daemon listens on for its operators.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use log::warn;

use crate::daemon::listener::{BoundListener, OwnPath};
use crate::sys::Wanted;

/// Clients at a time. One more takes the place of the first: who forgot to leave locks nobody out.
pub(crate) const MAX_CLIENTS: usize = 8;

/// One connection.
pub(crate) trait Client: Sized {
    /// Takes a socket, which it makes non-blocking.
    fn new(socket: OwnedFd) -> io::Result<Self>;

    /// Event that it waits for.
    fn wanted(&self) -> Wanted<'_>;
}

/// A listening socket and its clients.
#[derive(Debug)]
pub(crate) struct Clients<C> {
    /// Gone when it failed.
    listener: Option<BoundListener>,
    /// The first came first.
    pub(crate) connected: VecDeque<C>,
}

impl<C: Client> Clients<C> {
    pub(crate) fn of(listener: BoundListener) -> Self {
        Self {
            listener: Some(listener),
            connected: VecDeque::new(),
        }
    }

    /// The path that is listened at.
    pub(crate) fn own_path(&self) -> Option<&OwnPath> {
        self.listener.as_ref()?.own_path()
    }

    /// Events to wait for before the clients are served.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = Wanted<'_>> {
        let listener = self.listener.iter().filter_map(BoundListener::wanted);
        listener.chain(self.connected.iter().map(Client::wanted))
    }

    /// Milliseconds until [`Clients::wanted`] has to be asked again, for the listener's sake.
    pub(crate) fn pause_ms(&self) -> Option<u16> {
        self.listener.as_ref().and_then(BoundListener::pause_ms)
    }

    /// Takes one more client, if one waits. `name` is for messages about it, `service` for the one
    /// that nobody is served any more.
    pub(crate) fn accept(&mut self, name: &str, service: &str) {
        let Some(listener) = &mut self.listener else {
            return;
        };
        let client = listener.accept(name);
        match client.and_then(|socket| socket.map(C::new).transpose()) {
            Ok(None) => {}
            Ok(Some(client)) => {
                if self.connected.len() >= MAX_CLIENTS {
                    self.connected.pop_front();
                }
                self.connected.push_back(client);
            }
            Err(error) => {
                // It would stay ready, and the wait would not wait any more.
                warn!("{service} is closed: {error}");
                self.listener = None;
            }
        }
    }

    /// Keeps those for which `serve` says so; one that fails has vanished, and needs no answer.
    pub(crate) fn serve(&mut self, mut serve: impl FnMut(&mut C) -> io::Result<bool>) {
        self.connected
            .retain_mut(|client| serve(client).unwrap_or(false));
    }
}
