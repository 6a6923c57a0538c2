//! What a worker thread may ask of the kernel.
//!
//! Each kind of thread has one list, each system call in it a reason; what is not listed ends the
//! process (or is logged). Of `ioctl` only the tap requests of the control thread pass, of `fcntl`
//! only the question whether a descriptor is open. The filter covers the thread that installs it
//! and those it starts, so a VMM's own threads stay free; but what a VMM does in its interrupt
//! callback runs here, so it should be an event descriptor.
//!
//! No file can be opened, but to try does not end the process: libraries do so on their own
//! account and can do without. The backtrace of a panic (`RUST_BACKTRACE`) lacks its names.

use seccompiler::{
    BackendError, BpfProgram, SeccompAction as Verdict, SeccompCmpArgLen, SeccompCmpOp,
    SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thiserror::Error;

#[cfg(test)]
mod tests;

/// What happens to a worker that makes a system call outside its list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SeccompAction {
    /// It gets SIGSYS, which ends the process unless somebody handles it.
    #[cfg_attr(not(sanitized), default)]
    Trap,
    /// The kernel logs the call and lets it pass.
    Log,
    /// No filter at all. The default in tests under a sanitizer (`--cfg sanitized`), which makes calls of its own.
    #[cfg_attr(sanitized, default)]
    Allow,
}

/// What a thread is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadKind {
    /// Moves the frames of one queue pair.
    QueuePair,
    /// Executes control commands.
    Control,
}

/// Why a filter is not in force.
#[derive(Debug, Error)]
pub enum SeccompError {
    /// The list did not become a program: a fault of this crate.
    #[error("seccomp filter did not compile")]
    Compile(#[source] BackendError),
    /// The kernel refused it.
    #[error("seccomp filter was refused")]
    Install(#[source] seccompiler::Error),
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

/// What libraries try on their own account and can do without: it fails, with `EACCES`. The C
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

/// Puts the calling thread, and those it will start, under the filter of its kind.
///
/// # Errors
/// The thread must not serve a guest then.
pub fn install(kind: ThreadKind, action: SeccompAction) -> Result<(), SeccompError> {
    let verdict = match action {
        SeccompAction::Trap => Verdict::Trap,
        SeccompAction::Log => Verdict::Log,
        SeccompAction::Allow => return Ok(()),
    };
    // The refusals come first: the other filter lets no further one be installed.
    if matches!(verdict, Verdict::Trap) {
        apply(compile_refusals())?;
    }
    apply(compile(kind, verdict))
}

fn apply(program: Result<BpfProgram, BackendError>) -> Result<(), SeccompError> {
    let program = program.map_err(SeccompError::Compile)?;
    seccompiler::apply_filter(&program).map_err(SeccompError::Install)
}

fn compile(kind: ThreadKind, verdict: Verdict) -> Result<BpfProgram, BackendError> {
    let mut rules = unconditional(allowed(kind));
    // A call without rules would pass with any argument.
    if !allowed_ioctls(kind).is_empty() {
        let requests = allowed_ioctls(kind)
            .iter()
            .map(|&request| second_is(request));
        rules.insert(libc::SYS_ioctl, requests.collect::<Result<_, _>>()?);
    }
    // With debug assertions the standard library looks before it closes.
    rules.insert(libc::SYS_fcntl, vec![second_is(libc::F_GETFD as u64)?]);
    // Of two filters the kernel follows the stricter one: what this one traps no other can refuse.
    if matches!(verdict, Verdict::Trap) {
        rules.extend(unconditional(REFUSED.iter().copied()));
    }
    program(rules, verdict, Verdict::Allow)
}

fn compile_refusals() -> Result<BpfProgram, BackendError> {
    let rules = unconditional(REFUSED.iter().copied());
    program(rules, Verdict::Allow, Verdict::Errno(libc::EACCES as u32))
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn unconditional(calls: impl Iterator<Item = i64>) -> Rules {
    calls.map(|call| (call, Vec::new())).collect()
}

fn program(rules: Rules, others: Verdict, listed: Verdict) -> Result<BpfProgram, BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, others, listed, arch)?.try_into()
}

/// The second argument, which the kernel takes as 32 bits, is `value`.
fn second_is(value: u64) -> Result<SeccompRule, BackendError> {
    let is = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)?;
    SeccompRule::new(vec![is])
}
