//! The driver's table in the kernel: a tap puts each frame into the queue that the table names, so
//! that no worker has to move it.
//!
//! Workers look frames up all the same. What comes by another queue than it should, because the
//! kernel hashes fewer kinds of packets, or numbers its queues otherwise for a moment, is moved as
//! it is without this.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use tap::{STEERING_QUEUES, SteeringProgram, SteeringRules};

use crate::loaded_program::LoadedProgram;
use crate::port::PortControl;
use crate::shared::rss::RssParams;

/// Pairs whose ports are attached, in the kernel's order of their queues.
#[derive(Clone, Debug, PartialEq, Eq)]
struct AttachedPairs(Vec<u16>);

impl AttachedPairs {
    /// All of so many, as they were opened.
    fn all(pairs: usize) -> Self {
        Self((0..pairs as u16).collect())
    }

    /// The port of `pair` was attached, or was detached.
    fn switch(&mut self, pair: u16, attached: bool) {
        match (self.position(pair), attached) {
            (None, true) => self.0.push(pair),
            // The last queue takes the place of one that is detached.
            (Some(at), false) => drop(self.0.swap_remove(at)),
            _ => {}
        }
    }

    /// The queue that `pair` reads. One whose port is not attached reads none, and gets its frames
    /// from any other.
    fn queue_of(&self, pair: u16) -> u16 {
        let other = usize::from(pair) % self.0.len().max(1);
        self.position(pair).unwrap_or(other) as u16
    }

    fn position(&self, pair: u16) -> Option<usize> {
        self.0.iter().position(|it| *it == pair)
    }
}

/// A program that the link's queues are chosen by, as long as a table of the driver's steers.
#[derive(Debug)]
pub(crate) struct KernelSteering {
    program: LoadedProgram<SteeringProgram>,
    attached: AttachedPairs,
    /// The link goes by the program.
    on: bool,
    /// Parameters in force, and the queues that they were made for.
    rules: Option<(RssParams, AttachedPairs)>,
}

impl KernelSteering {
    /// Loads a program for the link of these ports, which all are attached.
    ///
    /// # Errors
    /// The link cannot go by one, or this process may not load it.
    pub(crate) fn load(controls: &[Box<dyn PortControl>]) -> io::Result<Self> {
        // One of an earlier process may have stayed with the interface.
        set(controls, None)?;
        let program = SteeringProgram::load().map_err(io::Error::other)?;
        Ok(Self::new(LoadedProgram::WithRules(program), controls.len()))
    }

    /// Takes a program that was loaded by somebody else.
    ///
    /// # Errors
    /// The link of these ports, which all are attached, cannot go by it.
    pub(crate) fn take(
        program: LoadedProgram<SteeringProgram>,
        controls: &[Box<dyn PortControl>],
    ) -> io::Result<Self> {
        set(controls, Some(program.as_fd()))?;
        set(controls, None)?;
        Ok(Self::new(program, controls.len()))
    }

    fn new(program: LoadedProgram<SteeringProgram>, pairs: usize) -> Self {
        Self {
            program,
            attached: AttachedPairs::all(pairs),
            on: false,
            rules: None,
        }
    }

    /// The link is another one, of ports that all are attached.
    pub(crate) fn forget_link(&mut self, pairs: usize) {
        self.attached = AttachedPairs::all(pairs);
        self.on = false;
    }

    /// The port of `pair` was attached, or was detached.
    pub(super) fn port_switched(&mut self, pair: usize, attached: bool) {
        self.attached.switch(pair as u16, attached);
    }

    /// Makes the link go by the table of `params`, or by a program that knows no table.
    pub(super) fn steer_by(
        &mut self,
        params: Option<&RssParams>,
        controls: &[Box<dyn PortControl>],
    ) -> io::Result<()> {
        if let Some(params) = params {
            self.set_rules(params);
        }
        let wanted = params.is_some() || self.program.is_foreign();
        if wanted && !self.on {
            set(controls, Some(self.program.as_fd()))?;
            self.on = true;
        }
        Ok(())
    }

    /// Leaves the choice to the link, if the program goes by a table.
    pub(super) fn end_table(&mut self, controls: &[Box<dyn PortControl>]) -> io::Result<()> {
        if self.program.is_foreign() {
            return Ok(());
        }
        self.stop(controls)
    }

    /// Leaves the choice to the link again.
    pub(super) fn stop(&mut self, controls: &[Box<dyn PortControl>]) -> io::Result<()> {
        if std::mem::take(&mut self.on) {
            set(controls, None)?;
        }
        Ok(())
    }

    fn set_rules(&mut self, params: &RssParams) {
        let Some(program) = self.program.rules() else {
            return;
        };
        let in_force = self.rules.as_ref();
        if in_force.is_some_and(|(rss, attached)| rss == params && *attached == self.attached) {
            return;
        }
        let hasher = params.hasher();
        let table = params.table.iter().cycle();
        let mut queues = [0; STEERING_QUEUES];
        for (entry, pair) in queues.iter_mut().zip(table) {
            *entry = self.attached.queue_of(*pair);
        }
        program.set_rules(&SteeringRules {
            hash_types: params.types.bits(),
            contributions: hasher.contributions(),
            queues,
            unclassified: self.attached.queue_of(params.unclassified_queue),
        });
        self.rules = Some((params.clone(), self.attached.clone()));
    }
}

/// Tells the link, by any of its ports.
fn set(controls: &[Box<dyn PortControl>], program: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let control = controls.first().ok_or(io::ErrorKind::NotFound)?;
    control.set_steering(program)
}

#[cfg(test)]
mod tests;
