//! The lists as programs that the kernel runs.

use std::collections::BTreeMap;
use std::process;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction as Verdict, SeccompCmpArgLen, SeccompCmpOp,
    SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use super::lists::{Bound, Conditional, Role};

/// Reasons why a filter is not in force.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The list did not become a program: a fault of this crate.
    #[error("a filter of system calls did not compile")]
    Compile(#[from] BackendError),
    /// The kernel refused it.
    #[error("a filter of system calls was refused")]
    Install(#[from] seccompiler::Error),
}

/// Puts the calling thread, and those that it will start, under the filter of its role: a call that
/// is not listed ends the process.
///
/// # Errors
/// There is no filter in force, or not all of it.
pub fn install(role: Role) -> Result<(), FilterError> {
    // The main one comes last: it lets no further one be installed by some roles. Of several the
    // kernel follows the strictest, so those that refuse have to let pass what is not theirs, and
    // the main one what they refuse.
    for program in compile(role)? {
        seccompiler::apply_filter(&program)?;
    }
    Ok(())
}

pub(super) fn compile(role: Role) -> Result<[BpfProgram; 3], BackendError> {
    let refused: Vec<_> = role.refused().map(|it| it.1).collect();
    let new_threads = [libc::SYS_clone3];
    let listed = role.groups().flat_map(|it| it.calls).map(|it| it.1);
    let listed = listed.chain(role.of_devices());
    let listed = listed.chain(refused.iter().copied()).chain(new_threads);
    let mut rules = unconditional(listed);
    for conditional in role.conditional() {
        rules.insert(conditional.call.1, of_conditional(conditional)?);
    }
    Ok([
        program(
            unconditional(refused.into_iter()),
            Verdict::Allow,
            Verdict::Errno(libc::EACCES as u32),
        )?,
        // The C library then makes threads by a call whose flags are seen.
        program(
            unconditional(new_threads.into_iter()),
            Verdict::Allow,
            Verdict::Errno(libc::ENOSYS as u32),
        )?,
        program(rules, Verdict::Trap, Verdict::Allow)?,
    ])
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn unconditional(calls: impl Iterator<Item = i64>) -> Rules {
    calls.map(|call| (call, Vec::new())).collect()
}

/// One rule for each value that may pass.
fn of_conditional(conditional: &Conditional) -> Result<Vec<SeccompRule>, BackendError> {
    let equal = SeccompCmpOp::Eq;
    let values: Vec<_> = match conditional.bound {
        Bound::OneOf(values) => values.iter().map(|&value| (equal.clone(), value)).collect(),
        Bound::Itself => vec![(equal, u64::from(process::id()))],
        Bound::Bits(mask, value) => vec![(SeccompCmpOp::MaskedEq(mask), value)],
    };
    let rules = values.into_iter().map(|(operation, value)| {
        let argument = SeccompCmpArgLen::Dword;
        let is = SeccompCondition::new(conditional.argument, argument, operation, value)?;
        SeccompRule::new(vec![is])
    });
    rules.collect()
}

fn program(rules: Rules, others: Verdict, listed: Verdict) -> Result<BpfProgram, BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, others, listed, arch)?.try_into()
}
