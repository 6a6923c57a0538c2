//! The lists as programs that the kernel runs.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction as Verdict, SeccompCmpArgLen, SeccompCmpOp,
    SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use super::lists::{SeccompError, ThreadKind, allowed, allowed_ioctls, refused};

/// Ends the process at a call that is not listed.
pub(super) fn trap(kind: ThreadKind, more: &[i64]) -> Result<(), SeccompError> {
    // The refusals come first: the other filter lets no further one be installed.
    apply(compile_refusals(more))?;
    apply(compile(kind, Verdict::Trap, more))
}

/// Has the kernel log a call that is not listed.
pub(super) fn log(kind: ThreadKind, more: &[i64]) -> Result<(), SeccompError> {
    apply(compile(kind, Verdict::Log, more))
}

fn apply(program: Result<BpfProgram, BackendError>) -> Result<(), SeccompError> {
    let program = program.map_err(SeccompError::Compile)?;
    seccompiler::apply_filter(&program).map_err(SeccompError::Install)
}

pub(super) fn compile(
    kind: ThreadKind,
    verdict: Verdict,
    more: &[i64],
) -> Result<BpfProgram, BackendError> {
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
        rules.extend(unconditional(refused().iter().copied()));
    }
    rules.extend(unconditional(more.iter().copied()));
    program(rules, verdict, Verdict::Allow)
}

fn compile_refusals(more: &[i64]) -> Result<BpfProgram, BackendError> {
    let refused = refused().iter().filter(|call| !more.contains(call));
    let rules = unconditional(refused.copied());
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
