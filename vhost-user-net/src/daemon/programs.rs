//! Programs of the kernel's for a device's tap, which whoever starts the daemon has loaded.

use std::io;
use std::os::fd::OwnedFd;

use clap::Args;
use net_device::tap::{self, FilterProgram, SteeringProgram};
use net_device::{LoadedProgram, NetDeviceBuilder};

use crate::daemon::inherited::{InheritError, Inherited};
use crate::sys;

/// Reasons why a program that was handed over is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It was not handed over.
    #[error(transparent)]
    Inherit(#[from] InheritError),
    /// Its descriptor is not open.
    #[error("cannot use descriptor {fd} of a program or its rules")]
    Descriptor {
        /// The number.
        fd: i32,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Its rules are those of another program.
    #[error("the rules that came with a program are not its own")]
    Rules(#[source] tap::Error),
}

/// Programs that the daemon inherits, instead of loading its own, which takes CAP_BPF.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Programs in the kernel")]
pub struct ProgramArgs {
    /// Inherited eBPF program that chooses the queue of each frame: number, or name that the
    /// service manager gives it
    #[arg(long, value_name = "N|NAME")]
    steering_program: Option<Inherited>,

    /// Inherited map with its rules, which the daemon writes; without it the program is used as it
    /// is
    #[arg(long, value_name = "N|NAME", requires = "steering_program")]
    steering_rules: Option<Inherited>,

    /// Inherited eBPF program that drops frames
    #[arg(long, value_name = "N|NAME")]
    filter_program: Option<Inherited>,

    /// Inherited map with its rules, which the daemon writes; without it the program is used as it
    /// is
    #[arg(long, value_name = "N|NAME", requires = "filter_program")]
    filter_rules: Option<Inherited>,
}

impl ProgramArgs {
    /// Hands the programs on to a device.
    ///
    /// # Errors
    /// One of them is of no use.
    pub(super) fn hand_to<'a>(
        &self,
        mut device: NetDeviceBuilder<'a>,
    ) -> Result<NetDeviceBuilder<'a>, ProgramError> {
        if let Some(program) = &self.steering_program {
            let rules = self.steering_rules.as_ref();
            let program = loaded(program, rules, SteeringProgram::from_fds)?;
            device = device.steering_program(program);
        }
        if let Some(program) = &self.filter_program {
            let rules = self.filter_rules.as_ref();
            let program = loaded(program, rules, FilterProgram::from_fds)?;
            device = device.filter_program(program);
        }
        Ok(device)
    }
}

fn loaded<P>(
    program: &Inherited,
    rules: Option<&Inherited>,
    from_fds: impl FnOnce(OwnedFd, OwnedFd) -> Result<P, tap::Error>,
) -> Result<LoadedProgram<P>, ProgramError> {
    let program = own(program)?;
    Ok(match rules {
        Some(rules) => {
            let program = from_fds(program, own(rules)?).map_err(ProgramError::Rules)?;
            LoadedProgram::WithRules(program)
        }
        None => LoadedProgram::Foreign(program),
    })
}

fn own(inherited: &Inherited) -> Result<OwnedFd, ProgramError> {
    let fd = inherited.one()?;
    sys::duplicate(fd).map_err(|source| ProgramError::Descriptor { fd, source })
}
