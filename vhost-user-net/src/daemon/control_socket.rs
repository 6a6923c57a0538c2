//! The control socket: an operator's commands to the running daemon.
//!
//! Lines in, lines out, over a Unix stream socket that only the daemon's user can connect to. Each
//! command is answered by what it prints, and then `ok`; or by `error: ` and why, and has no
//! effect:
//!
//! | command | does |
//! |---|---|
//! | `limits` | prints the rate limits |
//! | `limits rx=1Gbit tx=off rx-pps=20kpps tx-pps=off burst=1MB` | changes those that are named, at once |
//! | `group` | prints the name and the limits of the group that the device shares |
//! | `group rx=1Gbit tx=off` | changes those that are named, at once and for all devices of the group |
//! | `counters` | prints what the device has moved and dropped since the start, a name and a number each |
//! | `announce` | announces the guest to the network, by itself or by the device |
//! | `json` and one of these | answers in one line of JSON: `{"ok": …}` or `{"error": "…"}` |
//! | `help` | prints this list |
//!
//! It is served in the daemon's one wait and never blocks: lines have a largest length, only so
//! many clients are kept, and one that does not read its answers is not asked for more.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use net_device::{Announcer, NetDevice, VirtioDevice, log_limited};
use serde_json::{Value, json};

use crate::daemon::clients::{self, Clients};
use crate::daemon::groups::Shared;
use crate::daemon::listener::{Access, BoundListener, ListenError, OwnPath, is_transient};
use crate::daemon::log_text::{chain, name_of};
use crate::daemon::rate_limits::Limits;
use crate::sys::{Interest, Wanted};

#[cfg(test)]
mod tests;

/// Longest line, in bytes.
const MAX_LINE: usize = 512;

/// Word before a command that is to be answered in JSON.
const JSON: &str = "json";

const HELP: &str = "\
limits                 print the rate limits
limits NAME=RATE ...   change them: rx and tx (such as 1Gbit or 100MB), rx-pps and tx-pps (such as 20kpps),
                       burst (such as 1MB); off lifts one, and what is not named stays
group                  print the name and the rate limits of the device's group
group NAME=RATE ...    change them for all its devices, in the words of limits
counters               print what was moved and dropped since the start
announce               announce the guest to the network, as after a migration
json COMMAND           answer in one line of JSON: {\"ok\": ...} or {\"error\": \"...\"}
help                   print this
";

/// A listening control socket and its clients.
#[derive(Debug)]
pub struct ControlSocket {
    clients: Clients<Client>,
    /// Those of the device.
    limits: Limits,
    /// Budgets that the device shares.
    group: Option<Arc<Shared>>,
    /// A counter of the daemon's own.
    overdue_receivers: u64,
}

impl ControlSocket {
    /// Listens at `path`, for a device that has `limits`. A socket that nobody listens on any more
    /// is replaced.
    ///
    /// # Errors
    /// Somebody listens, the path is something else, or cannot be made.
    pub fn listen(path: &Path, limits: Limits) -> Result<Self, ListenError> {
        Ok(Self {
            clients: Clients::of(BoundListener::bind(path, &Access::private())?),
            limits,
            group: None,
            overdue_receivers: 0,
        })
    }

    /// The path that is listened at.
    pub(crate) fn own_path(&self) -> Option<&OwnPath> {
        self.clients.own_path()
    }

    /// The same socket, for a device of `group`.
    #[must_use]
    pub fn with_group(mut self, group: Option<Arc<Shared>>) -> Self {
        self.group = group;
        self
    }

    /// Sets what `counters` prints after those of the device: connections that were ended because a
    /// descriptor could not be closed.
    pub(crate) fn set_overdue_receivers(&mut self, count: u64) {
        self.overdue_receivers = count;
    }

    /// Events to wait for before [`ControlSocket::serve`] is called.
    pub fn wanted(&self) -> impl Iterator<Item = Wanted<'_>> {
        self.clients.wanted()
    }

    /// Milliseconds until [`ControlSocket::wanted`] has to be asked again.
    pub(crate) fn pause_ms(&self) -> Option<u16> {
        self.clients.pause_ms()
    }

    /// Does what clients ask, as far as they are ready.
    pub fn serve(&mut self, device: &mut NetDevice) {
        self.clients.accept(&name_of(device), "the control socket");
        let (limits, group) = (&mut self.limits, self.group.as_deref());
        let own = [("overdue_receivers".to_owned(), self.overdue_receivers)];
        self.clients
            .serve(|client| client.advance(|line| answer(line, limits, group, &own, device)));
    }
}

/// Outcome of a command, before it is put into words.
enum Reply {
    /// Nothing to tell.
    Done,
    Text(&'static str),
    Counters(Vec<(String, u64)>),
    /// The words of limits, behind the name of their group if they are of one.
    Limits(String),
}

/// Returns the answer to one line.
fn answer(
    line: &str,
    limits: &mut Limits,
    group: Option<&Shared>,
    own: &[(String, u64)],
    device: &mut NetDevice,
) -> String {
    let (json, line) = match line.split_once(char::is_whitespace) {
        Some((JSON, rest)) => (true, rest.trim()),
        None if line == JSON => (true, ""),
        _ => (false, line),
    };
    let done = match (line, json) {
        ("", false) => return String::new(),
        _ => execute(line, limits, group, own, device),
    };
    match (done, json) {
        (Ok(reply), false) => reply.text() + "ok\n",
        (Err(error), false) => format!("error: {}\n", chain(error.as_ref())),
        (Ok(reply), true) => format!("{}\n", json!({ "ok": reply.json() })),
        (Err(error), true) => format!("{}\n", json!({ "error": chain(error.as_ref()) })),
    }
}

fn execute(
    line: &str,
    limits: &mut Limits,
    group: Option<&Shared>,
    own: &[(String, u64)],
    device: &mut NetDevice,
) -> Result<Reply, Box<dyn std::error::Error>> {
    let (command, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    match (command, rest) {
        ("help", "") => Ok(Reply::Text(HELP)),
        ("counters", "") => {
            let mut counters = device.counters();
            counters.extend_from_slice(own);
            Ok(Reply::Counters(counters))
        }
        ("announce", "") => match device.announce() {
            Announcer::Nobody => Err("the driver cannot, and the device has no MAC address".into()),
            Announcer::Device if !device.handle().is_link_up() => {
                Err("the link is down; announcements go on when it is up".into())
            }
            Announcer::Driver | Announcer::Device => Ok(Reply::Done),
        },
        ("limits", "") => Ok(Reply::Limits(limits.to_string())),
        ("limits", changes) => change(changes, limits, device).map(|()| Reply::Done),
        ("group", changes) => match group {
            Some(group) if changes.is_empty() => Ok(Reply::Limits(group.to_string())),
            Some(group) => change_group(changes, group, device).map(|()| Reply::Done),
            None => Err("the device is in no group; it would need --group".into()),
        },
        _ => Err(format!("{line:?} is not a command; try help").into()),
    }
}

impl Reply {
    /// Lines of text.
    fn text(&self) -> String {
        match self {
            Self::Done => String::new(),
            Self::Text(text) => (*text).to_owned(),
            Self::Counters(all) => {
                let lines = all.iter().map(|(name, count)| format!("{name} {count}\n"));
                lines.collect()
            }
            Self::Limits(words) => format!("{words}\n"),
        }
    }

    /// A value of JSON: objects by name, where a limit that is off is null.
    fn json(&self) -> Value {
        match self {
            Self::Done => Value::Null,
            Self::Text(text) => (*text).into(),
            Self::Counters(all) => {
                let all = all.iter();
                all.map(|(name, count)| (name.clone(), Value::from(*count)))
                    .collect()
            }
            Self::Limits(words) => {
                let words = words.split_whitespace();
                let pairs = words.map(|word| match word.split_once('=') {
                    Some((name, "off")) => (name.to_owned(), Value::Null),
                    Some((name, limit)) => (name.to_owned(), Value::from(limit)),
                    None => ("name".to_owned(), Value::from(word)),
                });
                pairs.collect()
            }
        }
    }
}

fn change(
    changes: &str,
    limits: &mut Limits,
    device: &mut NetDevice,
) -> Result<(), Box<dyn std::error::Error>> {
    let next = limits.with(changes)?;
    device.set_limits(next.rx()?, next.tx()?)?;
    *limits = next;
    log_limited!(
        device.log_limit(),
        Info,
        "{}: limits: {limits}",
        name_of(device)
    );
    Ok(())
}

fn change_group(
    changes: &str,
    group: &Shared,
    device: &NetDevice,
) -> Result<(), Box<dyn std::error::Error>> {
    group.change(changes)?;
    log_limited!(device.log_limit(), Info, "group {group}");
    Ok(())
}

/// A client at the control socket.
#[derive(Debug)]
struct Client {
    socket: UnixStream,
    /// Received bytes of lines that are not answered yet: at most [`MAX_LINE`] bytes.
    inbound: Vec<u8>,
    /// Bytes of one answer that are left to send.
    outbound: Vec<u8>,
    /// Nothing more comes.
    ended: bool,
}

impl clients::Client for Client {
    fn new(socket: OwnedFd) -> io::Result<Self> {
        let socket = UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            inbound: Vec::new(),
            outbound: Vec::new(),
            ended: false,
        })
    }

    fn wanted(&self) -> Wanted<'_> {
        let interest = if self.outbound.is_empty() {
            Interest::Readable
        } else {
            Interest::Writable
        };
        (self.socket.as_fd(), interest)
    }
}

impl Client {
    /// Does what the socket is ready for, reading once at most. Whether the client stays.
    fn advance(&mut self, mut answer: impl FnMut(&str) -> String) -> io::Result<bool> {
        let mut may_read = true;
        loop {
            if !self.flush()? {
                return Ok(true);
            }
            if let Some(end) = self.inbound.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.inbound.drain(..=end).collect();
                self.outbound = answer(String::from_utf8_lossy(&line).trim()).into_bytes();
            } else if self.ended {
                return Ok(false);
            } else if self.inbound.len() == MAX_LINE {
                self.inbound.clear();
                self.ended = true;
                self.outbound = format!("error: line is longer than {MAX_LINE} bytes\n").into();
            } else if !(std::mem::take(&mut may_read) && self.receive()?) {
                return Ok(true);
            }
        }
    }

    /// Takes what has arrived, and whether there was something.
    fn receive(&mut self) -> io::Result<bool> {
        let mut bytes = [0; MAX_LINE];
        let room = MAX_LINE - self.inbound.len();
        match self.socket.read(&mut bytes[..room]) {
            Ok(0) => self.ended = true,
            Ok(count) => self.inbound.extend(&bytes[..count]),
            Err(error) if is_transient(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// Sends what the socket takes, and whether that was all.
    fn flush(&mut self) -> io::Result<bool> {
        while !self.outbound.is_empty() {
            match self.socket.write(&self.outbound) {
                Ok(count) => drop(self.outbound.drain(..count)),
                Err(error) if is_transient(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}
