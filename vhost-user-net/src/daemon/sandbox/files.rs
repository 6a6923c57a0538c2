//! Files that can be used at all, by Landlock.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    Scope,
};

/// A path, and what may be done with files at or below it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule<'a> {
    pub(crate) path: &'a Path,
    pub(crate) access: FileAccess,
}

/// Use of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FileAccess {
    /// A file is read and written.
    ReadWrite,
    /// Files are read.
    Read,
    /// Files and sockets are removed.
    Remove,
}

impl FileAccess {
    fn flags(self) -> BitFlags<AccessFs> {
        match self {
            Self::ReadWrite => AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev,
            Self::Read => AccessFs::ReadFile.into(),
            Self::Remove => AccessFs::RemoveFile.into(),
        }
    }
}

/// Restricts this thread, and those that it will start, to `rules`: no other file can be opened,
/// made or removed, no TCP socket bound or connected, no abstract Unix socket of others connected
/// to. Returns whether the kernel can do that, in part at least.
///
/// # Errors
/// The kernel can, and does not.
pub(super) fn restrict(rules: &[Rule<'_>]) -> Result<bool, RulesetError> {
    let abi = ABI::V6;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::AbstractUnixSocket)?
        .create()?;
    for rule in rules {
        // What is not there cannot be used, whatever comes to its place later.
        if let Ok(path) = PathFd::new(rule.path) {
            ruleset = ruleset.add_rule(PathBeneath::new(path, rule.access.flags()))?;
        }
    }
    let RestrictionStatus { ruleset, .. } = ruleset.restrict_self()?;
    Ok(ruleset != RulesetStatus::NotEnforced)
}
