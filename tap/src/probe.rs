//! Which offloads this kernel takes, by trial.

use crate::error::Error;
use crate::offload::Offloads;
use crate::tap::Tap;

/// The units of acceptance, each after what it needs.
const STEPS: [Offloads; 8] = [
    Offloads::CSUM,
    Offloads::TSO4,
    Offloads::TSO6,
    Offloads::ECN,
    Offloads::UFO,
    Offloads::USO4.union(Offloads::USO6),
    Offloads::UDP_TUNNEL,
    Offloads::UDP_TUNNEL_CSUM,
];

impl Tap {
    /// Finds the largest set that this kernel takes, by trial, and leaves **none set**.
    ///
    /// Offloads are of the whole interface, not of one queue: probe before any queue moves
    /// frames, and again on another host.
    ///
    /// # Errors
    ///
    /// Any refusal other than of a set, e.g. `EBADFD` when the interface is gone.
    pub fn probe_offloads(&self) -> Result<Offloads, Error> {
        let mut accepted = Offloads::empty();
        for step in STEPS {
            match self.try_offloads(accepted | step) {
                Ok(()) => accepted |= step,
                Err(refused) if refused.errno() == Some(libc::EINVAL) => {}
                Err(refused) => return Err(refused.into()),
            }
        }
        self.set_offloads(Offloads::empty())?;
        Ok(accepted)
    }
}
