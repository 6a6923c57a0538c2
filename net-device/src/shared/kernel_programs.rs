//! Programs that work for the link in the kernel.

use std::io;

use tap::DroppedFrames;

use crate::config::NetConfig;
use crate::port::PortControl;
use crate::shared::kernel_filter::KernelFilter;
use crate::shared::kernel_steering::KernelSteering;

/// Programs of one link, over all activations of its device.
#[derive(Debug, Default)]
pub(crate) struct KernelPrograms {
    pub(super) steering: Option<KernelSteering>,
    pub(super) filter: Option<KernelFilter>,
}

impl KernelPrograms {
    /// Loads those that `config` wants and that can be had, for the link of these ports, which all
    /// are attached.
    pub(crate) fn load(config: &NetConfig, controls: &[Box<dyn PortControl>]) -> Self {
        let steers = config.rss && config.kernel_steering && controls.len() > 1;
        let filters = config.kernel_filter;
        let id = &config.id;
        Self {
            steering: steers
                .then(|| KernelSteering::load(controls))
                .and_then(|loaded| or_tell(loaded, &format_args!("{id}: frames are steered"))),
            filter: filters
                .then(|| KernelFilter::load(controls))
                .and_then(|loaded| or_tell(loaded, &format_args!("{id}: frames are filtered"))),
        }
    }

    /// The counter of frames that are dropped in the kernel.
    pub(crate) fn dropped(&self) -> Option<DroppedFrames> {
        self.filter.as_ref().map(KernelFilter::dropped)
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
