//! The driver's filter in the kernel: a frame that it does not want is dropped before any queue of
//! the link has it, so that it costs the device nothing.
//!
//! Workers look at each frame all the same: at those that came before a change, and at those of
//! links that have no such filter.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use tap::{DroppedFrames, FilterProgram, FilterRules};

use crate::loaded_program::LoadedProgram;
use crate::port::PortControl;
use crate::shared::rx_filter::RxFilter;

/// A program that frames are dropped by, as long as there are any to drop.
#[derive(Debug)]
pub(crate) struct KernelFilter {
    program: LoadedProgram<FilterProgram>,
    /// The link goes by the program; `None`: not known.
    on: Option<bool>,
    /// Rules in force, once there are any of this device.
    rules: Option<FilterRules>,
}

impl KernelFilter {
    /// Loads a program for the link of these ports.
    ///
    /// # Errors
    /// The link cannot go by one, or this process may not load it.
    pub(crate) fn load(controls: &[Box<dyn PortControl>]) -> io::Result<Self> {
        set(controls, None)?;
        let program = FilterProgram::load().map_err(io::Error::other)?;
        Ok(Self::new(LoadedProgram::WithRules(program)))
    }

    /// Takes a program that was loaded by somebody else.
    ///
    /// # Errors
    /// The link of these ports cannot go by it.
    pub(crate) fn take(
        program: LoadedProgram<FilterProgram>,
        controls: &[Box<dyn PortControl>],
    ) -> io::Result<Self> {
        let mut filter = Self::new(program);
        set(controls, Some(filter.program.as_fd()))?;
        filter.stop(controls)?;
        Ok(filter)
    }

    fn new(program: LoadedProgram<FilterProgram>) -> Self {
        Self {
            program,
            on: None,
            rules: None,
        }
    }

    /// The counter of frames that were dropped.
    pub(crate) fn dropped(&self) -> Option<DroppedFrames> {
        match &self.program {
            LoadedProgram::WithRules(program) => Some(program.dropped()),
            LoadedProgram::Foreign(_) => None,
        }
    }

    /// The link is another one.
    pub(crate) fn forget_link(&mut self) {
        self.on = None;
    }

    /// Returns whether the link has to be told when `filter` takes the place of the one before.
    pub(super) fn switches_link(&self, filter: &RxFilter) -> bool {
        self.on != Some(self.program.is_foreign() || !filter.kernel_rules().pass_all())
    }

    /// Makes the link go by `filter`; `None` wants all frames.
    pub(super) fn filter_by(
        &mut self,
        filter: Option<&RxFilter>,
        controls: &[Box<dyn PortControl>],
    ) -> io::Result<()> {
        let rules = filter.map(RxFilter::kernel_rules).unwrap_or_default();
        let wanted = self.program.is_foreign() || !rules.pass_all();
        // In any case, so that what is wanted passes even if the link keeps the program.
        self.set_rules(rules);
        self.switch(wanted, controls)
    }

    /// Lets all frames pass.
    pub(super) fn stop(&mut self, controls: &[Box<dyn PortControl>]) -> io::Result<()> {
        self.set_rules(FilterRules::default());
        self.switch(false, controls)
    }

    fn set_rules(&mut self, rules: FilterRules) {
        if let Some(program) = self.program.rules()
            && self.rules.as_ref() != Some(&rules)
        {
            program.set_rules(&rules);
            self.rules = Some(rules);
        }
    }

    fn switch(&mut self, on: bool, controls: &[Box<dyn PortControl>]) -> io::Result<()> {
        if self.on != Some(on) {
            set(controls, on.then_some(self.program.as_fd()))?;
            self.on = Some(on);
        }
        Ok(())
    }
}

/// Tells the link, by any of its ports.
fn set(controls: &[Box<dyn PortControl>], program: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let control = controls.first().ok_or(io::ErrorKind::NotFound)?;
    control.set_filter(program)
}
