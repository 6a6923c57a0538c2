//! The process around the devices: signals that end it, its limit of open files, groups of users.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Signals that come from outside and that end a process which does not care for them: each is an
/// orderly end here. What the kernel sends for a fault of this process is not among them, nor what
/// cannot be caught.
const TERMINATING: [libc::c_int; 13] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    libc::SIGPWR,
    libc::SIGSTKFLT,
    libc::SIGXCPU,
];

/// Signals to end as a descriptor that becomes readable: no handler, no race.
#[derive(Debug)]
pub struct Termination(OwnedFd);

impl Termination {
    /// Blocks every signal that would end the process, for this thread and for those that it starts
    /// from now on. One that whoever started the process had ignored, as `nohup` does, stays
    /// ignored, but SIGTERM.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn new() -> io::Result<Self> {
        // SAFETY: `set` is initialised by sigemptyset before anyone reads it, and lives through the
        // calls; signalfd returns a descriptor that nobody else knows.
        unsafe {
            let mut set = MaybeUninit::<libc::sigset_t>::uninit();
            libc::sigemptyset(set.as_mut_ptr());
            for signal in TERMINATING {
                // Blocked, an ignored signal would wait and be read nevertheless.
                if signal == libc::SIGTERM || !is_ignored(signal) {
                    libc::sigaddset(set.as_mut_ptr(), signal);
                }
            }
            let error = libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut());
            if error != 0 {
                return Err(io::Error::from_raw_os_error(error));
            }
            let fd = libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self(OwnedFd::from_raw_fd(fd)))
        }
    }
}

impl AsFd for Termination {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Returns whether `signal` is ignored by this process.
fn is_ignored(signal: libc::c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: no new action is given, and the present one is written to `action`, of which all-zero
    // bytes are a value already.
    unsafe {
        libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// Makes writing beyond the limit of file sizes an error of the call (`EFBIG`) instead of the end
/// of the process.
pub fn ignore_file_size_signal() {
    // SAFETY: to ignore a signal installs no handler; nothing in this process waits for this one.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Raises the limit of open files as far as this process may, and returns it.
///
/// # Errors
/// The kernel's error.
pub fn raise_open_files_limit() -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum;
    setrlimit(Resource::Nofile, Rlimit { current, ..limit })?;
    Ok(current.unwrap_or(u64::MAX))
}

/// An own descriptor for the file behind number `fd`, which came from the command line. Programs
/// that this process starts inherit neither.
///
/// # Errors
/// `EBADF` when no such descriptor is open.
pub fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(Errno::BADF.into());
    }
    // SAFETY: the number is not -1. Of one that is not open the kernel says so, and nothing was
    // assumed of it.
    let inherited = unsafe { BorrowedFd::borrow_raw(fd) };
    fcntl_setfd(inherited, FdFlags::CLOEXEC)?;
    Ok(fcntl_dupfd_cloexec(inherited, 3)?)
}

/// Returns whether `error` says that the process or the host has none left of something that others
/// may give back.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS | libc::ETOOMANYREFS)
    )
}

/// The limit that `error` is about, and how it is raised.
pub(crate) fn shortage_advice(error: &io::Error) -> Option<String> {
    match error.raw_os_error()? {
        libc::EMFILE => {
            let limit = getrlimit(Resource::Nofile).current?;
            Some(format!(
                "the limit of open files of this process is {limit}; raise it with LimitNOFILE= of \
                 a service or ulimit -n of a shell"
            ))
        }
        libc::ENFILE => Some("the host's limit of open files is fs.file-max; raise it".into()),
        libc::ETOOMANYREFS => Some(
            "processes of this user have more descriptors on their way through sockets than this \
             one may open; give it a user of its own with --user"
                .into(),
        ),
        _ => None,
    }
}

/// The number of a group of users, by its name or as a number already.
///
/// # Errors
/// `NotFound` when there is no such group, or what the system's database says.
pub fn group_id(name: &str) -> io::Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let name = CString::new(name)?;
    let mut buffer = vec![0; 1024];
    loop {
        match lookup(&name, &mut buffer) {
            // A group of many members needs more room.
            Err(libc::ERANGE) if buffer.len() < 1 << 20 => buffer.resize(2 * buffer.len(), 0),
            Err(error) => return Err(io::Error::from_raw_os_error(error)),
            Ok(Some(number)) => return Ok(number),
            Ok(None) => return Err(io::Error::new(io::ErrorKind::NotFound, "no such group")),
        }
    }
}

/// A user's number, and that of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserAndGroup {
    /// The user's.
    pub user: u32,
    /// The group's.
    pub group: u32,
}

/// The numbers of a user and of the group that the user has first.
///
/// # Errors
/// `NotFound` when there is no such user, or what the system's database says.
pub fn user_and_group(name: &str) -> io::Result<UserAndGroup> {
    let name = CString::new(name)?;
    let mut buffer = vec![0 as c_char; 1 << 14];
    let mut entry = MaybeUninit::<libc::passwd>::zeroed();
    let mut found = ptr::null_mut();
    // SAFETY: `name` ends with a zero; `entry`, `found` and the whole of `buffer` are alive and
    // writable for the call.
    let error = unsafe {
        libc::getpwnam_r(
            name.as_ptr(),
            entry.as_mut_ptr(),
            buffer.as_mut_ptr(),
            buffer.len(),
            &raw mut found,
        )
    };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    if found.is_null() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no such user"));
    }
    // SAFETY: there is an entry, so `found` points at `entry`, which is filled in.
    let entry = unsafe { entry.assume_init() };
    Ok(UserAndGroup {
        user: entry.pw_uid,
        group: entry.pw_gid,
    })
}

/// Asks the system's database, or returns the error's number.
fn lookup(name: &CStr, buffer: &mut [c_char]) -> Result<Option<u32>, libc::c_int> {
    let mut entry = MaybeUninit::<libc::group>::zeroed();
    let mut found = ptr::null_mut();
    // SAFETY: `name` ends with a zero; `entry`, `found` and the whole of `buffer` are alive and
    // writable for the call.
    let error = unsafe {
        libc::getgrnam_r(
            name.as_ptr(),
            entry.as_mut_ptr(),
            buffer.as_mut_ptr(),
            buffer.len(),
            &raw mut found,
        )
    };
    if error != 0 {
        return Err(error);
    }
    // SAFETY: when there is an entry, `found` points at `entry`, which is then filled in.
    Ok((!found.is_null()).then(|| unsafe { entry.assume_init() }.gr_gid))
}
