//! The driver's filter in the kernel: a frame that it does not want is dropped before any queue of
//! the link has it, so that it costs the device nothing.
//!
//! Workers look at each frame all the same: at those that came before a change, and at those of
//! links that have no such filter.

use std::io;
use std::os::fd::AsFd;

use tap::{DroppedFrames, FilterProgram, FilterRules};

use crate::port::PortControl;
use crate::shared::rx_filter::RxFilter;

/// A program that frames are dropped by, as long as there are any to drop.
#[derive(Debug)]
pub(crate) struct KernelFilter {
    program: FilterProgram,
    /// The link goes by the program; `None`: not known.
    on: Option<bool>,
    rules: FilterRules,
}

impl KernelFilter {
    /// Loads a program for the link of these ports.
    ///
    /// # Errors
    /// The link cannot go by one, or this process may not load it.
    pub(crate) fn load(controls: &[Box<dyn PortControl>]) -> io::Result<Self> {
        set(controls, None)?;
        Ok(Self {
            program: FilterProgram::load().map_err(io::Error::other)?,
            on: None,
            rules: FilterRules::default(),
        })
    }

    /// The counter of frames that were dropped.
    pub(crate) fn dropped(&self) -> DroppedFrames {
        self.program.dropped()
    }

    /// The link is another one.
    pub(crate) fn forget_link(&mut self) {
        self.on = None;
    }

    /// Returns whether the link has to be told when `filter` takes the place of the one before.
    pub(super) fn switches_link(&self, filter: &RxFilter) -> bool {
        self.on != Some(!filter.kernel_rules().pass_all())
    }

    /// Makes the link go by `filter`; `None` wants all frames.
    pub(super) fn filter_by(
        &mut self,
        filter: Option<&RxFilter>,
        controls: &[Box<dyn PortControl>],
    ) -> io::Result<()> {
        let rules = filter.map(RxFilter::kernel_rules).unwrap_or_default();
        // In any case, so that what is wanted passes even if the link keeps the program.
        if rules != self.rules {
            self.program.set_rules(&rules);
            self.rules = rules;
        }
        let wanted = !self.rules.pass_all();
        if self.on != Some(wanted) {
            set(controls, wanted.then_some(&self.program))?;
            self.on = Some(wanted);
        }
        Ok(())
    }
}

/// Tells the link, by any of its ports.
fn set(controls: &[Box<dyn PortControl>], program: Option<&FilterProgram>) -> io::Result<()> {
    let control = controls.first().ok_or(io::ErrorKind::NotFound)?;
    control.set_filter(program.map(AsFd::as_fd))
}
