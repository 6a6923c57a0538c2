//! Steering: the ports of the link that frames are let into.

use std::mem;

use net_queue::Offloads;

use crate::features::Features;
use crate::port::PortControl;
use crate::shared::kernel_programs::KernelPrograms;
use crate::shared::rss::{RssParams, SteeringTable};
use crate::shared::rx_filter::RxFilter;

/// Most ports that are fed while a table steers: the workers of these distribute to all, and each
/// has a ring to each other one.
const MOST_READERS: usize = 16;

/// The policy was not changed: the link did not follow.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SteerError {
    #[error("pairs are not set up")]
    Pairs,
    #[error("link refused")]
    Link(#[from] std::io::Error),
}

/// Which queues run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Running {
    pub(crate) rx: Vec<bool>,
    pub(crate) tx: Vec<bool>,
    /// The driver has reset the first pair's receive queue.
    pub(crate) first_reset: bool,
}

/// Ports of the link, as the device is given them for an activation.
pub(crate) struct LinkPorts {
    /// One for each pair.
    pub(crate) controls: Vec<Box<dyn PortControl>>,
    /// Work that all of them can leave undone in received frames.
    pub(crate) rx: Offloads,
    /// Programs that work for them in the kernel.
    pub(crate) kernel: KernelPrograms,
}

/// Which ports of the link are fed.
pub(super) struct Steering {
    pub(super) running: Running,
    /// `VIRTIO_NET_F_CTRL_VQ` was negotiated.
    commanded: bool,
    /// Number of pairs that the driver asked for by command.
    pub(super) chosen: Option<u16>,
    /// Hash and table that the driver has set, if it has.
    pub(super) rss: Option<RssParams>,
    pub(super) controls: Vec<Box<dyn PortControl>>,
    kernel: KernelPrograms,
    /// Offloads of the link that stay on, whatever the driver takes.
    always: Offloads,
    attached: Vec<Option<bool>>,
}

impl Steering {
    pub(super) fn new(features: Features, ports: LinkPorts) -> Self {
        let LinkPorts {
            controls,
            rx,
            kernel,
        } = ports;
        let pairs = controls.len();
        let running = Running {
            rx: vec![false; pairs],
            tx: vec![false; pairs],
            first_reset: false,
        };
        Self {
            running,
            commanded: features.contains(Features::VIRTIO_NET_F_CTRL_VQ),
            chosen: None,
            rss: None,
            attached: vec![None; pairs],
            controls,
            kernel,
            always: rx & Offloads::DONE_HERE,
        }
    }

    /// A driver that negotiated a control queue says there how many pairs receive, and starts with
    /// one, whether that queue runs yet or not (NET-MQ-01). Otherwise (a VMM that serves that queue
    /// itself starts and stops the others) every pair that runs does.
    ///
    /// While a table steers, every pair that runs does, whatever the table says: a port that is
    /// detached loses the frames in it, and one more or less makes the host spread flows anew. So a
    /// change of the table neither loses nor reorders the frames of a flow that stays where it was.
    pub(super) fn pairs(&self) -> u16 {
        let initial = if self.commanded { 1 } else { u16::MAX };
        if self.steers() {
            u16::MAX
        } else {
            self.chosen.unwrap_or(initial)
        }
    }

    /// Returns whether a table of the driver's steers.
    fn steers(&self) -> bool {
        self.rss.as_ref().is_some_and(|rss| rss.steers)
    }

    /// The pairs below this number may have ports that are fed.
    fn readers(&self) -> usize {
        let running = self.running.rx.iter();
        let mut running = (1..).zip(running).filter(|(_, runs)| **runs);
        match running.nth(MOST_READERS - 1) {
            Some((behind, _)) if self.steers() => behind,
            _ => usize::MAX,
        }
    }

    /// The table in force.
    pub(super) fn table(&self) -> Option<SteeringTable> {
        self.rss.as_ref()?.steering_table(&self.running.rx)
    }

    /// Returns whether every queue that `rss` names is set up, and its device can do the rest
    /// (NET-MQ-11).
    pub(super) fn takes(&self, rss: &RssParams) -> bool {
        let runs = |queue| self.running.rx.get(usize::from(queue)) == Some(&true);
        rss.queues().all(runs)
    }

    /// Offloads that the link has on for a driver that takes `offloads`.
    ///
    /// One frame of 64 KiB costs less to receive and to cut here than its segments cost one by one.
    pub(super) fn link_offloads(&self, offloads: Offloads) -> Offloads {
        offloads | self.always
    }

    /// Switches the offloads of the link, if they are others than for a driver that took `before`.
    pub(super) fn set_offloads(
        &self,
        before: Offloads,
        offloads: Offloads,
    ) -> Result<(), SteerError> {
        let offloads = self.link_offloads(offloads);
        if offloads == self.link_offloads(before) {
            return Ok(());
        }
        match self.controls.first() {
            Some(control) => Ok(control.set_offloads(offloads)?),
            None => Err(SteerError::Pairs),
        }
    }

    /// Returns whether all of these pairs are set up.
    pub(super) fn can_activate_pairs(&self, pairs: u16) -> bool {
        let count = usize::from(pairs);
        let up = |queues: &[bool]| {
            queues
                .get(..count)
                .is_some_and(|queues| queues.iter().all(|runs| *runs))
        };
        pairs != 0 && up(&self.running.rx) && up(&self.running.tx)
    }

    /// Takes the driver's choice, if all of these pairs are set up.
    pub(super) fn choose(&mut self, pairs: u16) -> Result<(), SteerError> {
        if !self.can_activate_pairs(pairs) {
            return Err(SteerError::Pairs);
        }
        self.chosen = Some(pairs);
        Ok(())
    }

    /// The ports that are not yet as they should be when `pairs` receive, and whether each is to be
    /// attached.
    pub(super) fn to_switch(&self, pairs: u16) -> impl Iterator<Item = (usize, bool)> {
        let pairs = usize::from(pairs).min(self.readers());
        let fed = move |pair: usize| pair < pairs && self.running.rx[pair];
        // A link needs one queue even when nothing is to be received; the first one stays, unless
        // its driver has reset it (NET-MQ-06) or a table steers, and others receive.
        let others = (1..self.controls.len()).any(fed);
        let gone =
            self.running.first_reset || self.steers() && !self.running.rx.starts_with(&[true]);
        let first = !(gone && others);
        let wanted = move |pair| if pair == 0 { first } else { fed(pair) };
        let ports = (0..self.controls.len()).map(move |pair| (pair, wanted(pair)));
        ports.filter(|(pair, on)| self.attached[*pair] != Some(*on))
    }

    /// Attaches and detaches what is not yet as it should be.
    pub(super) fn apply(&mut self) -> std::io::Result<()> {
        if !self.steers()
            && let Some(kernel) = &mut self.kernel.steering
        {
            tell_refusal(kernel.end_table(&self.controls));
        }
        let ports: Vec<_> = self.to_switch(self.pairs()).collect();
        for (pair, on) in ports {
            self.controls[pair].attach(on)?;
            self.attached[pair] = Some(on);
            if let Some(kernel) = &mut self.kernel.steering {
                kernel.port_switched(pair, on);
            }
        }
        let table = self.rss.as_ref().filter(|rss| rss.steers);
        if let Some(kernel) = &mut self.kernel.steering {
            tell_refusal(kernel.steer_by(table, &self.controls));
        }
        Ok(())
    }

    /// Lets the kernel drop what `filter` does not want.
    pub(super) fn filter_by(&mut self, filter: Option<&RxFilter>) {
        if let Some(kernel) = &mut self.kernel.filter {
            tell_refusal(kernel.filter_by(filter, &self.controls));
        }
    }

    /// Returns whether the link has to be told of a driver with this filter.
    pub(super) fn filter_switches_link(&self, filter: &RxFilter) -> bool {
        let kernel = self.kernel.filter.as_ref();
        kernel.is_some_and(|kernel| kernel.switches_link(filter))
    }

    /// Hands the ports' handles on.
    pub(super) fn release(&mut self) -> (Vec<Box<dyn PortControl>>, KernelPrograms) {
        if let Some(kernel) = &mut self.kernel.steering {
            tell_refusal(kernel.stop(&self.controls));
        }
        if let Some(kernel) = &mut self.kernel.filter {
            tell_refusal(kernel.stop(&self.controls));
        }
        (mem::take(&mut self.controls), mem::take(&mut self.kernel))
    }
}

/// Workers do it all for a link that goes by no program; one that refuses to go without is gone.
fn tell_refusal(done: std::io::Result<()>) {
    if let Err(error) = done {
        log::debug!("the link does not change its programs: {error}");
    }
}

impl Drop for Steering {
    /// The link may outlive its device.
    fn drop(&mut self) {
        self.release();
    }
}
