//! Limits of a device, whose frames are counted a second time: those that are sent as the network
//! takes them, and those that are received as they are shown to the driver.

use crate::bucket::Bucket;
use crate::profile::FrameLimit;

/// Buckets of what all pairs of a device may receive and send, where frames can be told one by one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) rx: Option<Bucket>,
    pub(crate) tx: Option<Bucket>,
    /// Received frames that were counted.
    pub(crate) received: u64,
}

impl Limits {
    /// Full buckets.
    pub(crate) fn new(rx: Option<FrameLimit>, tx: Option<FrameLimit>, pairs: u16) -> Self {
        let bucket = |limit: FrameLimit| limit.bucket(pairs);
        Self {
            rx: rx.map(bucket),
            tx: tx.map(bucket),
            received: 0,
        }
    }

    /// The bucket of queue `index`.
    pub(crate) fn of(&mut self, index: u16) -> Option<&mut Bucket> {
        if index.is_multiple_of(2) {
            self.rx.as_mut()
        } else {
            self.tx.as_mut()
        }
    }
}
