//! A listening socket of the daemon: its path, who may connect, and what happens when nobody can be
//! accepted.
//!
//! The path is made for this user alone and gets its group and mode before anybody can connect. At
//! the end it is removed, unless another process has put its own socket there meanwhile.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use net_device::log_limit::LogLimit;
use net_device::log_limited;
use rustix::fs::{Mode, OFlags};

use crate::sys::{self, Interest, Wanted};

#[cfg(test)]
mod tests;

/// Time between two attempts to accept while the process may have no more descriptors.
const PAUSE: Duration = Duration::from_millis(500);

/// Reasons why a path cannot be listened at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The path names something other than a socket.
    #[error("{} exists and is not a socket; remove it or choose another path", .0.display())]
    NotASocket(PathBuf),
    /// A daemon serves there.
    #[error("{} is in use by a running daemon; stop that one or choose another path", .0.display())]
    InUse(PathBuf),
    /// The path cannot be used.
    #[error("cannot listen at {}", path.display())]
    Listen {
        /// The path.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The socket cannot be given to the group.
    #[error("cannot give {} to group {group}", path.display())]
    Group {
        /// The path.
        path: PathBuf,
        /// Name or number of the group.
        group: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// Users that may connect to a socket, beside its owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Permission bits of the path; without them 0660 if there is a group, or else what the umask
    /// leaves.
    pub mode: Option<u32>,
    /// Name or number of the group that the path belongs to.
    pub group: Option<String>,
}

impl Access {
    /// Access for the user of the daemon alone.
    pub(crate) fn private() -> Self {
        Self {
            mode: Some(0o600),
            group: None,
        }
    }

    fn is_asked_for(&self) -> bool {
        self.mode.is_some() || self.group.is_some()
    }

    fn mode(&self) -> Option<u32> {
        // A group that may not write to the path could not connect.
        self.mode.or(self.group.is_some().then_some(0o660))
    }
}

/// A path that this process has made, as the file system knows it.
#[derive(Clone, Debug)]
pub(crate) struct OwnPath {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

/// A path that is removed with this value.
#[derive(Debug)]
struct RemovedPath(OwnPath);

impl Drop for RemovedPath {
    fn drop(&mut self) {
        self.0.remove();
    }
}

/// A listening socket, and the path to remove at the end if it is the daemon's own.
#[derive(Debug)]
pub struct BoundListener {
    // First, so that it goes while the socket still keeps the inode from being that of another
    // file.
    path: Option<RemovedPath>,
    listener: OwnedFd,
    /// The end of a pause after an attempt for which there was no descriptor.
    paused_until: Option<Instant>,
    /// True if such an attempt was the last one.
    short: bool,
    /// For lines that who connects can cause.
    log: Box<LogLimit>,
}

impl BoundListener {
    /// Listens at `path`. A socket that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// Somebody listens, the path is something else, cannot be made, or cannot be given the
    /// `access`.
    pub fn bind(path: &Path, access: &Access) -> Result<Self, ListenError> {
        claim(path)?;
        let failed = |source| ListenError::Listen {
            path: path.to_owned(),
            source,
        };
        let group = access.group.as_deref();
        let refused = |source| ListenError::Group {
            path: path.to_owned(),
            group: group.unwrap_or_default().to_owned(),
            source,
        };
        // To look it up may take a while, which a socket that does not listen yet should not.
        let group_id = group.map(sys::group_id).transpose().map_err(refused)?;
        let socket = sys::bind(path, access.is_asked_for()).map_err(failed)?;
        let (own, handle) = OwnPath::of(path).map_err(failed)?;
        if group_id.is_some() {
            chown(handle.name(), None, group_id).map_err(refused)?;
        }
        // Only now, or the group that the path had at first might connect.
        if let Some(mode) = access.mode() {
            let mode = Permissions::from_mode(mode);
            std::fs::set_permissions(handle.name(), mode).map_err(failed)?;
        }
        let listener = sys::listen(socket).map_err(failed)?;
        // Until now it looked like one that was left over, and another daemon may have replaced it.
        if !own.is_there() {
            return Err(ListenError::InUse(path.to_owned()));
        }
        Ok(Self::new(listener.into(), Some(own)))
    }

    /// Takes over a listening socket that was inherited, whose path is somebody else's affair.
    ///
    /// # Errors
    /// The socket refuses to be non-blocking.
    pub fn inherited(listener: UnixListener) -> io::Result<Self> {
        // A client may be gone between the wait and the accept, which then must not block.
        listener.set_nonblocking(true)?;
        Ok(Self::without_path(listener.into()))
    }

    /// Takes a listening socket that does not block and has no path to look after.
    pub(crate) fn without_path(listener: OwnedFd) -> Self {
        Self::new(listener, None)
    }

    fn new(listener: OwnedFd, path: Option<OwnPath>) -> Self {
        Self {
            path: path.map(RemovedPath),
            listener,
            paused_until: None,
            short: false,
            log: Box::default(),
        }
    }

    /// The path that it made.
    pub(crate) fn own_path(&self) -> Option<&OwnPath> {
        self.path.as_ref().map(|path| &path.0)
    }

    /// Event to wait for before [`BoundListener::accept`] is called; `None` during a pause.
    pub(crate) fn wanted(&self) -> Option<Wanted<'_>> {
        let ready = self.pause_ms().is_none();
        ready.then(|| (self.listener.as_fd(), Interest::Readable))
    }

    /// Milliseconds until it is to be waited for again.
    pub(crate) fn pause_ms(&self) -> Option<u16> {
        let left = self.paused_until?.checked_duration_since(Instant::now())?;
        // At least one, so that the end of the wait is not before the end of the pause.
        u16::try_from(left.as_millis() + 1).ok()
    }

    /// Accepts nobody for a while.
    pub(crate) fn pause(&mut self) {
        self.paused_until = Some(Instant::now() + PAUSE);
    }

    /// Accepts one connection, if there is one. When the process or the host has no descriptor
    /// left, it waits until there is one again and pauses meanwhile; `name` says in the log who
    /// waits.
    ///
    /// # Errors
    /// The socket cannot be used any more.
    pub(crate) fn accept(&mut self, name: &str) -> io::Result<Option<OwnedFd>> {
        if self.pause_ms().is_some() {
            return Ok(None);
        }
        match sys::accept(self.listener.as_fd()) {
            Ok(socket) => {
                (self.paused_until, self.short) = (None, false);
                Ok(Some(socket))
            }
            Err(error) if is_transient(&error) => Ok(None),
            Err(error) if sys::is_shortage(&error) => {
                // The kernel looks for a descriptor before it looks for a connection.
                if !sys::is_ready(&self.listener, Interest::Readable, Some(0))? {
                    return Ok(None);
                }
                self.pause();
                if !std::mem::replace(&mut self.short, true) {
                    let advice = sys::shortage_advice(&error).map(|advice| format!("; {advice}"));
                    let advice = advice.unwrap_or_default();
                    log_limited!(
                        self.log,
                        Warn,
                        "{name}: a connection waits to be accepted: {error}{advice}"
                    );
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl OwnPath {
    /// The folder that it is in.
    pub(crate) fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    /// Removes it, unless it is something else by now.
    pub(crate) fn remove(&self) {
        if self.is_there() {
            let _ = std::fs::remove_file(&self.path);
        }
    }

    /// Returns whether the path still is what this process made: another daemon may have it by now.
    fn is_there(&self) -> bool {
        let found = std::fs::symlink_metadata(&self.path);
        found.is_ok_and(|found| (found.dev(), found.ino()) == self.identity)
    }

    /// The path that was just bound, and a handle on it.
    fn of(path: &Path) -> io::Result<(Self, Handle)> {
        // Not by `OpenOptions`, which with musl takes O_PATH for a kind of access and drops it.
        let handle = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(path, handle, Mode::empty())?);
        let found = file.metadata()?;
        let own = Self {
            path: path.to_owned(),
            identity: (found.dev(), found.ino()),
        };
        Ok((own, Handle(file)))
    }
}

/// The file that a path named when it was opened, whatever it names later.
struct Handle(File);

impl Handle {
    /// A name for calls that take no descriptor.
    fn name(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

/// Makes sure that nothing is at `path`. A socket that nobody listens on any more is removed.
fn claim(path: &Path) -> Result<(), ListenError> {
    let failed = |source| ListenError::Listen {
        path: path.to_owned(),
        source,
    };
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ListenError::NotASocket(path.to_owned()));
        }
        Ok(_) => match sys::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(failed)?;
            }
            // Who has more connections waiting than it accepts listens all the same.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(ListenError::InUse(path.to_owned()));
            }
            Ok(_) => return Err(ListenError::InUse(path.to_owned())),
            Err(error) => return Err(failed(error)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    Ok(())
}

/// Errors that say nothing about the socket. Of a connection that waits to be accepted, the kernel
/// tells what has become of it.
pub(crate) fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock
            | io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
    )
}
