//! System calls of each kind of process, with the reasons. `docs/seccomp.md` shows them.
//!
//! The daemon's own threads need what a thread needs that operates a device, what workers need
//! (these inherit the filter and narrow it by one of their own), and what is here.

use net_device::seccomp;

/// Process of the daemon, by its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The daemon: its main thread, and those of the devices.
    Daemon,
    /// Receivers of messages, and their parent.
    Receiver,
    /// The broker.
    Broker,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Daemon, Self::Receiver, Self::Broker];
}

/// System calls with one reason.
pub struct Group {
    /// Purpose of the calls.
    pub why: &'static str,
    /// Names and numbers.
    pub calls: &'static [(&'static str, i64)],
}

macro_rules! calls {
    ($($(#[$cfg:meta])* $call:ident),* $(,)?) => {
        &[$($(#[$cfg])* (stringify!($call), libc::$call as i64)),*]
    };
}

/// A bound on an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// One of these values; the kernel looks at 32 bits.
    OneOf(&'static [u64]),
    /// This process' number.
    Itself,
    /// Of the bits in the first number those in the second, and no others of them.
    Bits(u64, u64),
}

/// A system call that passes with some arguments.
pub struct Conditional {
    /// Name and number.
    pub call: (&'static str, i64),
    /// Index of the argument.
    pub argument: u8,
    /// Its bound.
    pub bound: Bound,
    /// The bound in words, and the purpose of the call.
    pub why: &'static str,
}

macro_rules! conditional {
    ($call:ident, $argument:literal, $bound:expr, $why:literal) => {
        Conditional {
            call: (stringify!($call), libc::$call as i64),
            argument: $argument,
            bound: $bound,
            why: $why,
        }
    };
}

/// Calls of every process.
const COMMON: &[Group] = &[
    Group {
        why: "waits for any of several descriptors",
        calls: calls![
            #[cfg(target_arch = "x86_64")]
            SYS_poll,
            SYS_ppoll,
        ],
    },
    Group {
        why: "messages and their descriptors",
        calls: calls![
            SYS_recvmsg,
            SYS_sendmsg,
            SYS_recvfrom,
            SYS_sendto,
            SYS_shutdown,
            SYS_write,
            SYS_writev,
            SYS_close,
            SYS_fcntl,
        ],
    },
    Group {
        why: "the kind of a descriptor: its name in /proc, which was opened before; ends of a socket",
        calls: calls![
            SYS_readlinkat,
            SYS_getpeername,
            SYS_getsockname,
            SYS_getsockopt,
        ],
    },
    Group {
        why: "the allocator, locks, clocks, signals, the end of the process",
        calls: calls![
            SYS_brk,
            SYS_mremap,
            SYS_munmap,
            SYS_madvise,
            SYS_futex,
            SYS_clock_gettime,
            SYS_getrandom,
            SYS_rt_sigprocmask,
            SYS_rt_sigaction,
            SYS_rt_sigreturn,
            SYS_restart_syscall,
            SYS_sigaltstack,
            SYS_getpid,
            SYS_gettid,
            SYS_exit,
            SYS_exit_group,
        ],
    },
];

/// Calls of the daemon beyond those that a device needs.
const DAEMON: &[Group] = &[
    Group {
        why: "front-ends, operators, who reads metrics",
        calls: calls![SYS_accept4, SYS_socketpair],
    },
    Group {
        why: "news of the interface of a tap that was opened again",
        calls: calls![SYS_bind],
    },
    Group {
        why: "guest memory: the size of its file",
        calls: calls![SYS_fstat, SYS_lseek],
    },
    Group {
        why: "the state of a device, through a front-end's descriptor; in-flight regions",
        calls: calls![
            SYS_memfd_create,
            SYS_ftruncate,
            SYS_splice,
            SYS_pread64,
            SYS_pwrite64,
        ],
    },
    Group {
        why: "a receiver that is to end; only processes whose descriptor it was given",
        calls: calls![SYS_pidfd_send_signal],
    },
    Group {
        why: "the limit of open files, for the line that names it",
        calls: calls![SYS_prlimit64],
    },
    Group {
        why: "sleeps",
        calls: calls![SYS_nanosleep, SYS_clock_nanosleep],
    },
];

/// Calls of the parent of receivers, and of its children after it.
const RECEIVER: &[Group] = &[
    Group {
        why: "a receiver begins, and the descriptor by which the daemon knows it",
        calls: calls![
            #[cfg(target_arch = "x86_64")]
            SYS_fork,
            SYS_clone,
            SYS_pidfd_open,
            SYS_set_robust_list,
            SYS_set_tid_address,
            SYS_kill,
        ],
    },
    Group {
        why: "the number of its threads, before it forks",
        calls: calls![SYS_newfstatat],
    },
];

/// Calls of the broker.
const BROKER: &[Group] = &[
    Group {
        why: "the tap, its interface, and the state of IPv6 there; sockets of a front-end and of a \
              program that takes frames",
        calls: calls![
            #[cfg(target_arch = "x86_64")]
            SYS_open,
            SYS_openat,
            SYS_read,
            SYS_socket,
            SYS_connect,
            SYS_bind,
            #[cfg(target_arch = "x86_64")]
            SYS_stat,
            #[cfg(target_arch = "x86_64")]
            SYS_lstat,
            SYS_statx,
            SYS_newfstatat,
            SYS_fstat,
            SYS_lseek,
        ],
    },
    Group {
        why: "sockets of the daemon are removed at its end",
        calls: calls![
            #[cfg(target_arch = "x86_64")]
            SYS_unlink,
            SYS_unlinkat,
        ],
    },
];

/// Memory that holds instructions is made by nobody.
const NOT_EXECUTABLE: Bound = Bound::Bits(libc::PROT_EXEC as u64, 0);

const COMMON_CONDITIONAL: &[Conditional] = &[
    conditional!(SYS_mmap, 2, NOT_EXECUTABLE, "memory, without PROT_EXEC"),
    conditional!(SYS_mprotect, 2, NOT_EXECUTABLE, "memory, without PROT_EXEC"),
    conditional!(SYS_tgkill, 0, Bound::Itself, "signals to its own threads"),
    conditional!(
        SYS_prctl,
        0,
        Bound::OneOf(&[
            libc::PR_SET_NAME as u64,
            libc::PR_SET_NO_NEW_PRIVS as u64,
            libc::PR_SET_PDEATHSIG as u64,
            libc::PR_SET_VMA as u64,
        ]),
        "names of threads and memory; filters of workers; the end with a parent"
    ),
];

/// A thread, in this process and no other namespaces.
const THREAD: Bound = Bound::Bits(
    (libc::CLONE_THREAD
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP) as u32 as u64,
    libc::CLONE_THREAD as u64,
);

const DAEMON_CONDITIONAL: &[Conditional] = &[
    conditional!(SYS_clone, 0, THREAD, "threads, and no processes"),
    conditional!(
        SYS_socket,
        0,
        Bound::OneOf(&[libc::AF_INET as u64, libc::AF_NETLINK as u64]),
        "sockets of AF_INET and AF_NETLINK, for the state of a tap's interface"
    ),
    conditional!(
        SYS_ioctl,
        1,
        Bound::OneOf(DAEMON_IOCTLS),
        "requests to a tap, state of its interface, non-blocking sockets"
    ),
];

/// Requests that the daemon makes beyond those that [`seccomp::CALLER_IOCTLS`] has.
#[allow(
    clippy::unnecessary_cast,
    reason = "their type differs between C libraries"
)]
const DAEMON_IOCTLS: &[u64] = &[
    libc::TUNSETQUEUE as u64,
    libc::TUNSETSTEERINGEBPF as u64,
    libc::TUNSETFILTEREBPF as u64,
    libc::TUNGETIFF as u64,
    libc::TUNSETOFFLOAD as u64,
    libc::TUNSETVNETHDRSZ as u64,
    libc::TUNGETVNETHDRSZ as u64,
    libc::TUNSETVNETLE as u64,
    libc::TUNSETSNDBUF as u64,
    libc::TUNATTACHFILTER as u64,
    libc::TUNDETACHFILTER as u64,
    libc::SIOCGIFMTU as u64,
    libc::SIOCGIFHWADDR as u64,
    libc::SIOCGIFINDEX as u64,
    libc::SIOCETHTOOL as u64,
    libc::FIONBIO as u64,
];

/// Requests that make and configure a tap.
#[allow(
    clippy::unnecessary_cast,
    reason = "their type differs between C libraries"
)]
const BROKER_IOCTLS: &[u64] = &[
    libc::TUNSETIFF as u64,
    libc::TUNSETQUEUE as u64,
    libc::TUNGETIFF as u64,
    libc::TUNGETFEATURES as u64,
    libc::TUNSETOFFLOAD as u64,
    libc::TUNSETVNETHDRSZ as u64,
    libc::TUNGETVNETHDRSZ as u64,
    libc::TUNSETVNETLE as u64,
    libc::TUNSETSNDBUF as u64,
    libc::TUNSETPERSIST as u64,
    libc::TUNSETSTEERINGEBPF as u64,
    libc::TUNSETFILTEREBPF as u64,
    libc::TUNATTACHFILTER as u64,
    libc::TUNDETACHFILTER as u64,
    libc::SIOCGIFHWADDR as u64,
    libc::SIOCSIFHWADDR as u64,
    libc::SIOCGIFINDEX as u64,
    libc::SIOCGIFMTU as u64,
    libc::SIOCSIFMTU as u64,
    libc::SIOCGIFADDR as u64,
    libc::SIOCSIFADDR as u64,
    libc::SIOCGIFNETMASK as u64,
    libc::SIOCSIFNETMASK as u64,
    libc::SIOCGIFFLAGS as u64,
    libc::SIOCSIFFLAGS as u64,
    libc::SIOCETHTOOL as u64,
    libc::FIONBIO as u64,
];

const BROKER_CONDITIONAL: &[Conditional] = &[conditional!(
    SYS_ioctl,
    1,
    Bound::OneOf(BROKER_IOCTLS),
    "requests that make and configure a tap"
)];

/// Calls that libraries try on their own account and can do without: they fail. Of these a role may
/// list some, which pass then.
const REFUSED: &[(&str, i64)] = calls![
    #[cfg(target_arch = "x86_64")]
    SYS_open,
    SYS_openat,
    #[cfg(target_arch = "x86_64")]
    SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    SYS_stat,
    #[cfg(target_arch = "x86_64")]
    SYS_lstat,
    SYS_newfstatat,
    SYS_statx,
    SYS_getcwd,
    #[cfg(target_arch = "x86_64")]
    SYS_unlink,
    SYS_unlinkat,
];

impl Role {
    /// The calls that pass whatever their arguments, without those of a device.
    pub fn groups(self) -> impl Iterator<Item = &'static Group> {
        let own = match self {
            Self::Daemon => DAEMON,
            Self::Receiver => RECEIVER,
            Self::Broker => BROKER,
        };
        COMMON.iter().chain(own)
    }

    /// The calls that pass with some arguments.
    pub fn conditional(self) -> impl Iterator<Item = &'static Conditional> {
        let own = match self {
            Self::Daemon => DAEMON_CONDITIONAL,
            Self::Receiver => &[],
            Self::Broker => BROKER_CONDITIONAL,
        };
        COMMON_CONDITIONAL.iter().chain(own)
    }

    /// The calls for the sake of devices and their workers, of which no argument is looked at.
    pub fn of_devices(self) -> impl Iterator<Item = i64> {
        let conditional: Vec<_> = self.conditional().map(|it| it.call.1).collect();
        let kinds = [
            net_device::ThreadKind::QueuePair,
            net_device::ThreadKind::Control,
        ];
        let workers = kinds.into_iter().flat_map(seccomp::allowed);
        let callers = [seccomp::CALLER, seccomp::CALLER_THREADS].concat();
        let all = workers.chain(callers);
        // It takes its flags from memory, where no filter sees them; the C library makes do with
        // the other one.
        let all = all.filter(move |call| *call != libc::SYS_clone3 && !conditional.contains(call));
        all.filter(move |_| self == Self::Daemon)
    }

    /// The calls that fail with `EACCES` instead of ending the process.
    pub fn refused(self) -> impl Iterator<Item = &'static (&'static str, i64)> {
        let listed: Vec<_> = self
            .groups()
            .flat_map(|it| it.calls)
            .map(|it| it.1)
            .collect();
        REFUSED.iter().filter(move |it| !listed.contains(&it.1))
    }
}

#[cfg(test)]
pub(super) use calls;
