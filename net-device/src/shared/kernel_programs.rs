//! Programs that work for the link in the kernel.

use std::io;

use tap::{DroppedFrames, FilterProgram, SteeringProgram};

use crate::config::NetConfig;
use crate::error::NewError;
use crate::loaded_program::LoadedProgram;
use crate::port::PortControl;
use crate::shared::kernel_filter::KernelFilter;
use crate::shared::kernel_steering::KernelSteering;

/// Programs that were handed in.
#[derive(Debug, Default)]
pub(crate) struct LoadedPrograms {
    pub(crate) steering: Option<LoadedProgram<SteeringProgram>>,
    pub(crate) filter: Option<LoadedProgram<FilterProgram>>,
}

/// Programs of one link, over all activations of its device.
#[derive(Debug, Default)]
pub(crate) struct KernelPrograms {
    pub(super) steering: Option<KernelSteering>,
    pub(super) filter: Option<KernelFilter>,
}

impl KernelPrograms {
    /// Programs that `config` wants, for the link of these ports, which all are attached: those
    /// that were handed in, or else those that can be loaded.
    ///
    /// # Errors
    /// The link cannot go by one that was handed in.
    pub(crate) fn load(
        config: &NetConfig,
        loaded: LoadedPrograms,
        controls: &[Box<dyn PortControl>],
    ) -> Result<Self, NewError> {
        let id = &config.id;
        let steers = config.kernel_steering && controls.len() > 1;
        let steering = match loaded.steering {
            Some(program) if steers && (config.rss || program.is_foreign()) => {
                Some(KernelSteering::take(program, controls).map_err(NewError::SteeringProgram)?)
            }
            None if steers && config.rss => {
                let loaded = KernelSteering::load(controls);
                or_tell(loaded, &format_args!("{id}: frames are steered"))
            }
            _ => None,
        };
        let filter = match loaded.filter {
            Some(program) if config.kernel_filter => {
                Some(KernelFilter::take(program, controls).map_err(NewError::FilterProgram)?)
            }
            None if config.kernel_filter => {
                let loaded = KernelFilter::load(controls);
                or_tell(loaded, &format_args!("{id}: frames are filtered"))
            }
            _ => None,
        };
        Ok(Self { steering, filter })
    }

    /// The counter of frames that are dropped in the kernel.
    pub(crate) fn dropped(&self) -> Option<DroppedFrames> {
        self.filter.as_ref()?.dropped()
    }

    /// The link is another one, of ports that all are attached.
    pub(crate) fn forget_link(&mut self, pairs: usize) {
        if let Some(steering) = &mut self.steering {
            steering.forget_link(pairs);
        }
        if let Some(filter) = &mut self.filter {
            filter.forget_link();
        }
    }
}

/// The program, if it could be loaded; otherwise the log says why not, unless the link has no use
/// for programs.
fn or_tell<P>(loaded: io::Result<P>, done: &dyn std::fmt::Display) -> Option<P> {
    match loaded {
        Ok(program) => Some(program),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => None,
        Err(error) => {
            log::info!("{done} here, not in the kernel: {error}");
            None
        }
    }
}
