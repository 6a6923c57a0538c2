//! Segmentation that a kernel is trusted with.

use std::sync::Once;

use tap::{GsoFault, GsoReport, Offloads};

use crate::config::GsoTrust;

/// Segmentation of frames that the device merges itself, where only TCP is believed.
const TCP: Offloads = Offloads::TSO4.union(Offloads::TSO6);
/// All of it.
const SEGMENTS: Offloads = TCP.union(Offloads::USO4).union(Offloads::USO6);
/// Packets in tunnels, which the device never merges.
const TUNNELS: Offloads = Offloads::UDP_TUNNEL.union(Offloads::UDP_TUNNEL_CSUM);

/// Offloads of a tap that are not to be used although the kernel takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GsoPolicy {
    /// Not left to the kernel: what a driver asks for is done before.
    pub refused: Offloads,
    /// Used for frames that the device merges itself.
    pub coalesced: Offloads,
}

impl GsoPolicy {
    /// Policy for the kernel of this process, which is tried if `trust` wants that. What is found
    /// is logged once.
    #[must_use]
    pub fn of_this_kernel(trust: GsoTrust) -> Self {
        match trust {
            GsoTrust::Probe => {
                static LOGGED: Once = Once::new();
                let report = tap::gso_report();
                LOGGED.call_once(|| log(report));
                Self::of(report)
            }
            GsoTrust::Assume => Self::believing(TCP),
            GsoTrust::Trust => Self::believing(SEGMENTS),
        }
    }

    /// Policy for a kernel with this report.
    #[must_use]
    pub fn of(report: &GsoReport) -> Self {
        if report.not_tried().is_some() {
            return Self::believing(TCP);
        }
        Self {
            refused: report.failed(),
            coalesced: report.verified() & SEGMENTS,
        }
    }

    fn believing(coalesced: Offloads) -> Self {
        Self {
            refused: Offloads::empty(),
            coalesced,
        }
    }
}

fn log(report: &GsoReport) {
    if let Some(reason) = report.not_tried() {
        log::info!(
            "how this kernel cuts large frames was not tried, since {reason}: all it takes is \
             left to it"
        );
    }
    for (name, offload, fault) in report.faults() {
        // A kernel without frames in tunnels says so when it is asked, too.
        if TUNNELS.contains(offload) && matches!(fault, GsoFault::Refused(_)) {
            continue;
        }
        log::warn!(
            "this kernel does not cut large frames of {name} as it should: {fault}; they are \
             not left to it"
        );
    }
    log::debug!("this kernel cuts {:?} well", report.verified());
}
