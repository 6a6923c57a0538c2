//! The lists, and what names them.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Consequence for a worker that makes a system call outside its list.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SeccompAction {
    /// It gets SIGSYS, which ends the process unless somebody handles it.
    #[cfg_attr(all(feature = "seccomp", not(sanitized)), default)]
    Trap,
    /// The kernel logs the call and lets it pass.
    Log,
    /// No filter at all. The default in tests under a sanitizer (`--cfg sanitized`), which makes
    /// calls of its own, and without the cargo feature `seccomp`.
    #[cfg_attr(any(not(feature = "seccomp"), sanitized), default)]
    Allow,
}

/// Task of a thread.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadKind {
    /// Moves the frames of one queue pair.
    QueuePair,
    /// Executes control commands.
    Control,
}

/// Reason why a filter is not in force.
#[non_exhaustive]
#[derive(Debug, Error)]
pub enum SeccompError {
    /// The list did not become a program: a fault of this crate.
    #[cfg(feature = "seccomp")]
    #[error("seccomp filter did not compile")]
    Compile(#[source] seccompiler::BackendError),
    /// The kernel refused it.
    #[cfg(feature = "seccomp")]
    #[error("seccomp filter was refused")]
    Install(#[source] seccompiler::Error),
    /// The cargo feature `seccomp` is off.
    #[error("no seccomp filter for {0:?} threads is part of this build")]
    NotBuilt(ThreadKind),
}

/// Every worker.
const COMMON: &[i64] = &[
    // The event loop: wait, change interest, drain event and timer descriptors.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_ctl,
    libc::SYS_read,
    // Signal events; log lines to standard error.
    libc::SYS_write,
    // Deadlines of the limiters.
    libc::SYS_timerfd_settime,
    libc::SYS_clock_gettime,
    // Locks and the pause barrier.
    libc::SYS_futex,
    libc::SYS_sched_yield,
    // The allocator: never per frame, but for commands, faults and shutdown.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    // Seeds of hash tables.
    libc::SYS_getrandom,
    // Log lines through a socket; requests to a vhost-user front-end and its replies.
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    // Descriptors that a worker owns end with it.
    libc::SYS_close,
    // Signals: a handler returns, what it interrupted goes on, its stack is put away.
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_restart_syscall,
    libc::SYS_sigaltstack,
    // An abort is a signal to oneself.
    libc::SYS_rt_sigaction,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    // Start and end of a thread.
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_exit,
];

/// Frames to and from the backend.
const QUEUE_PAIR: &[i64] = &[
    libc::SYS_readv,
    libc::SYS_writev,
    // Datagram sockets tell a frame's end only this way.
    libc::SYS_recvfrom,
];

/// Calls that libraries try on their own account and can do without: it fails, with `EACCES`. The C
/// library's allocator reads `/proc/sys/vm/overcommit_memory` the first time it shrinks a thread's
/// heap; a panic looks for the symbols of its backtrace.
const REFUSED: &[i64] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    libc::SYS_openat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_getcwd,
];

/// The tap requests that commands of the driver lead to.
#[allow(
    clippy::unnecessary_cast,
    reason = "their type differs between C libraries"
)]
const CONTROL_IOCTLS: &[u64] = &[
    // MQ_VQ_PAIRS_SET: attach and detach queues; when that is refused, see how the queue is.
    libc::TUNSETQUEUE as u64,
    libc::TUNGETIFF as u64,
    // GUEST_OFFLOADS_SET.
    libc::TUNSETOFFLOAD as u64,
    // MQ_RSS_CONFIG and what ends it: the queue of a frame is the kernel's choice.
    libc::TUNSETSTEERINGEBPF as u64,
    // Modes, addresses and VLANs: the kernel drops frames, or none any more.
    libc::TUNSETFILTEREBPF as u64,
];

/// The system calls that a thread of the VMM makes when it operates a device whose threads were
/// [started early](crate::NetDeviceBuilder::start_threads_early): all operations of an existing
/// device, its destruction aside. Those of its interrupt, observer, allocator and logger come on
/// top.
pub const CALLER: &[i64] = &[
    // Activation, resumption, changes of memory, links, limits and queues: what a worker waits
    // with.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    // A stop: the worker's event.
    libc::SYS_write,
    libc::SYS_read,
    // Hand-over between threads.
    libc::SYS_futex,
    // Dirty marks that are switched on by a `DeviceHandle`.
    libc::SYS_membarrier,
    // Question for the MTU of a tap.
    libc::SYS_socket,
    // What the kernel tells of the host's interface.
    libc::SYS_recvfrom,
    // Announcements that the device sends itself; frames that came while a queue was reset.
    libc::SYS_writev,
    libc::SYS_sendto,
    libc::SYS_readv,
    // Whether a port is gone.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    // Kick descriptors of queues that are taken out, and what a worker waited with.
    libc::SYS_close,
    // Deadlines and clocks.
    libc::SYS_clock_gettime,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    // The allocator. The C library's also reads `/proc/sys/vm/overcommit_memory`, once in a
    // process, when it first shrinks a thread's heap, and can do without.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    // With debug assertions the standard library looks before it closes.
    libc::SYS_fcntl,
];

/// Calls that such a thread makes beyond [`CALLER`] when it starts worker threads: when it
/// activates a device, or starts the first queue of a pair. A thread inherits the filter of the one
/// that starts it, so that one has to let pass what is [`allowed`] to the worker as well.
pub const CALLER_THREADS: &[i64] = &[
    libc::SYS_eventfd2,
    libc::SYS_clone3,
    libc::SYS_clone,
    libc::SYS_rt_sigprocmask,
    // The new thread: its stack, its name, and its own filter.
    libc::SYS_sigaltstack,
    libc::SYS_sched_getaffinity,
    libc::SYS_prctl,
    libc::SYS_seccomp,
];

/// The `ioctl` requests that such a thread makes on a tap: its offloads and queues are switched as
/// the device is activated and resumed, and queues come and go.
#[allow(
    clippy::unnecessary_cast,
    reason = "their type differs between C libraries"
)]
pub const CALLER_IOCTLS: &[u64] = &[
    libc::TUNSETOFFLOAD as u64,
    libc::TUNSETQUEUE as u64,
    libc::TUNSETSTEERINGEBPF as u64,
    libc::TUNSETFILTEREBPF as u64,
    libc::TUNGETIFF as u64,
    libc::TUNSETVNETHDRSZ as u64,
    libc::TUNSETVNETLE as u64,
    // The interface's MTU, by its name, in the tap's network namespace.
    libc::SIOCGIFMTU as u64,
    libc::SIOCGIFHWADDR as u64,
    // Its carrier.
    libc::SIOCETHTOOL as u64,
];

/// The system calls such a thread may make without a look at their arguments.
pub fn allowed(kind: ThreadKind) -> impl Iterator<Item = i64> {
    let own = match kind {
        ThreadKind::QueuePair => QUEUE_PAIR,
        ThreadKind::Control => &[],
    };
    COMMON.iter().chain(own).copied()
}

/// The `ioctl` requests such a thread may make.
pub fn allowed_ioctls(kind: ThreadKind) -> &'static [u64] {
    match kind {
        ThreadKind::QueuePair => &[],
        ThreadKind::Control => CONTROL_IOCTLS,
    }
}

/// The system calls that fail with `EACCES` in any such thread, instead of ending the process.
pub fn refused() -> &'static [i64] {
    REFUSED
}
