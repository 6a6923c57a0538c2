//! Resources that a pair keeps over resets of its device.

use std::io;

use net_queue::{FrameBackend, Gather, LinkConfig};
use rate_limiter::Levels;

use crate::announcement::Announcement;
use crate::rate_limit::{Change, QueueLimit};

/// Resources of a pair over all resets: its port's backend and its limiters.
pub(crate) struct QueuePairResources {
    pub(crate) backend: Box<dyn FrameBackend>,
    /// Length of the header that the backend was last told of.
    pub(crate) hdr_len: usize,
    pub(crate) rx_limit: QueueLimit,
    pub(crate) tx_limit: QueueLimit,
}

impl QueuePairResources {
    /// Programs header size and offloads into the backend.
    pub(crate) fn configure(&mut self, link: &LinkConfig) -> io::Result<()> {
        self.backend.configure(link)?;
        self.hdr_len = link.hdr_len;
        Ok(())
    }

    /// Levels of the pair's limits, by queue index.
    pub(crate) fn levels(&mut self, pair: u16) -> Vec<(u16, Levels)> {
        let limits = [&mut self.rx_limit, &mut self.tx_limit].into_iter();
        let queues = (2 * pair..)
            .zip(limits)
            .filter(|(_, limit)| limit.timer.is_some());
        queues
            .map(|(queue, limit)| (queue, limit.limiter.levels(limit.now_ns())))
            .collect()
    }

    /// Sets what is left of one of them.
    pub(crate) fn restore(&mut self, queue: u16, levels: &Levels) {
        let limit = if queue.is_multiple_of(2) {
            &mut self.rx_limit
        } else {
            &mut self.tx_limit
        };
        let now = limit.now_ns();
        limit.limiter.restore(now, levels);
    }

    /// Sends `frames` beside what its worker sends, each behind a header as the backend expects
    /// it. One that cannot be sent now is given up, and so are all while the worker has a frame of
    /// which a part has left.
    pub(crate) fn send(&mut self, frames: &[Announcement]) {
        if self.backend.is_mid_frame() {
            return;
        }
        for frame in frames {
            let send = |frame: &Gather<'_>| self.backend.send(frame);
            // An answer would have nobody to go to; the next round comes.
            let bytes = frame.behind_header(self.hdr_len);
            let _ = Gather::with_bytes(bytes, self.hdr_len, send);
        }
    }

    /// Changes its limits.
    pub(crate) fn change_limits(
        &mut self,
        rx: &mut Change,
        tx: &mut Change,
    ) -> Result<(), rate_limiter::ConfigError> {
        rx.apply(&mut self.rx_limit)?;
        tx.apply(&mut self.tx_limit)
    }
}
