//! Confinement of the process once everything is open: it keeps nothing that it does not need.
//!
//! ```text
//!   daemon ----- fork -----> broker         keeps user and CAP_NET_ADMIN where a tap is to be opened
//!     |  user, capabilities, namespaces,    again; does four things, and never sees a guest
//!     |  no files
//!     +------- fork -------> receivers      confined as the daemon, with a list of their own
//!     |  list of system calls
//!     +--> threads of devices --> workers   each narrows the list by its own
//! ```
//!
//! | part | holds where |
//! |---|---|
//! | list of system calls, for every thread | everywhere |
//! | no capability, no new ones by a program | everywhere |
//! | another user (`--user`) | started as root |
//! | no file to open, no TCP (Landlock) | the kernel has Landlock |
//! | an empty root folder, namespaces of its own | they may be made |
//!
//! Everything that needs a path is done before, or by the broker.

use std::error::Error;
use std::fmt;
use std::io;
use std::str::FromStr;

use clap::ValueEnum;
use landlock::RulesetError;
use rustix::thread::CapabilitySet;

use crate::sys::{self, UserAndGroup};

mod files;
pub mod filter;
pub mod lists;
mod namespaces;
mod privileges;
#[cfg(test)]
mod tests;

pub(crate) use self::files::{FileAccess, Rule};
use self::filter::FilterError;
use self::lists::Role;

/// Extent of the confinement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Sandbox {
    /// All that can be had here.
    #[default]
    Auto,
    /// All of it, or the daemon does not start.
    Full,
    /// The lists of system calls for workers alone.
    None,
}

/// A user that the daemon becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// By name, with the group that it has first.
    Name(String),
    /// By the numbers of user and group.
    Ids(UserAndGroup),
}

impl FromStr for User {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u32>().ok().filter(|id| *id != u32::MAX);
        match text.split_once(':') {
            Some((user, group)) => match (number(user), number(group)) {
                (Some(user), Some(group)) => Ok(Self::Ids(UserAndGroup { user, group })),
                _ => Err("it is not two numbers, as in 990:36".into()),
            },
            None if number(text).is_some() => {
                Err("a number needs that of a group, as in 990:36".into())
            }
            None => Ok(Self::Name(text.to_owned())),
        }
    }
}

impl User {
    /// Its numbers.
    ///
    /// # Errors
    /// There is none of this name.
    fn ids(&self) -> io::Result<UserAndGroup> {
        match self {
            Self::Name(name) => sys::user_and_group(name),
            Self::Ids(ids) => Ok(*ids),
        }
    }
}

/// Reasons why the process is not confined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// It cannot become the user.
    #[error("cannot become the user of --user, which takes root")]
    User(#[source] io::Error),
    /// Capabilities cannot be dropped.
    #[error("cannot drop capabilities")]
    Privileges(#[source] io::Error),
    /// Namespaces are not to be had, where all is asked for.
    #[error("cannot have namespaces and an empty root folder, as --sandbox full wants")]
    Namespaces(#[source] io::Error),
    /// Landlock is not there, where all is asked for.
    #[error("this kernel has no Landlock, as --sandbox full wants")]
    NoLandlock,
    /// Landlock is there and fails.
    #[error("cannot give files up")]
    Files(#[from] RulesetError),
    /// The list of system calls is not in force.
    #[error(transparent)]
    SystemCalls(#[from] FilterError),
}

/// Parts of the confinement that are in force, beside those that always are.
#[derive(Debug)]
pub struct Confinement {
    /// The user that the daemon became.
    user: Option<UserAndGroup>,
    /// The answer of the kernel where there are no namespaces.
    namespaces: Result<(), io::Error>,
    landlock: bool,
}

/// The parts, for a line of the log.
impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no capability, ")?;
        if let Some(UserAndGroup { user, group }) = self.user {
            write!(f, "user {user}:{group}, ")?;
        }
        match self.landlock {
            true => f.write_str("no file, ")?,
            false => f.write_str("without Landlock, ")?,
        }
        match &self.namespaces {
            Ok(()) => f.write_str("an empty root folder"),
            Err(error) => write!(f, "without namespaces ({error})"),
        }
    }
}

/// Gives everything up but system calls: user, capabilities, files. It is for the one thread that
/// there is; [`filter::install`] has to follow.
///
/// # Errors
/// Something that always has to be done fails, or something of what is asked for.
pub fn enter(extent: Sandbox, user: Option<&User>) -> Result<Confinement, SandboxError> {
    let user = user
        .map(User::ids)
        .transpose()
        .map_err(SandboxError::User)?;
    let switch = || match user {
        Some(ids) => privileges::become_user(ids.user, ids.group).map_err(SandboxError::User),
        None => Ok(()),
    };
    let privileged = privileges::has(CapabilitySet::SYS_ADMIN);
    let privileged = privileged.map_err(SandboxError::Privileges)?;
    // In a user namespace of its own it could become nobody.
    if !privileged {
        switch()?;
    }
    let namespaces = match extent {
        Sandbox::None => Err(io::ErrorKind::Unsupported.into()),
        _ => namespaces::enter(privileged),
    };
    if privileged {
        switch()?;
    }
    let namespaces = match (extent, namespaces) {
        (Sandbox::Full, Err(error)) => return Err(SandboxError::Namespaces(error)),
        (_, namespaces) => namespaces,
    };
    privileges::drop_capabilities(CapabilitySet::empty()).map_err(SandboxError::Privileges)?;
    let landlock = extent != Sandbox::None && files::restrict(&[])?;
    if extent == Sandbox::Full && !landlock {
        return Err(SandboxError::NoLandlock);
    }
    Ok(Confinement {
        user,
        namespaces,
        landlock,
    })
}

/// Confines the broker to files of `rules`, and to the right to make taps where it is needed and
/// there.
///
/// # Errors
/// The kernel's errors.
pub(crate) fn enter_broker(
    rules: &[Rule<'_>],
    network: bool,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let kept = if network {
        CapabilitySet::NET_ADMIN
    } else {
        CapabilitySet::empty()
    };
    privileges::drop_capabilities(kept)?;
    files::restrict(rules)?;
    Ok(filter::install(Role::Broker)?)
}
