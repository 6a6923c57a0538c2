//! Failures of the device to come up.

use std::io;

use net_device::{ActivateError, FeatureError};
use thiserror::Error;
use virtio_queue::Error as QueueError;

use super::arena::ArenaError;

/// Reason why the device did not come up.
#[derive(Debug, Error)]
pub enum TransportError {
    /// The device refused the features.
    #[error("the device refused the feature set {features:#x}")]
    Features {
        /// Features that the driver asked for.
        features: u64,
        /// Cause.
        #[source]
        source: FeatureError,
    },
    /// There is no guest memory.
    #[error("no guest memory")]
    Memory(#[source] &'static ArenaError),
    /// The device does not take the guest memory.
    #[error("the device cannot map the guest's memory")]
    Ram(#[source] net_device::net_queue::RamError),
    /// A queue's size is none that a split ring can have.
    #[error("queue size")]
    Queue(#[source] QueueError),
    /// No descriptor for a doorbell.
    #[error("doorbell")]
    Doorbell(#[source] io::Error),
    /// The device refused to start.
    #[error("the device did not start")]
    Activate(#[source] ActivateError),
}
