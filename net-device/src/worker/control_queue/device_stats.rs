//! Statistics that a driver asks for. VirtIO 1.4 §5.1.9.5.11.
//!
//! They are the counters that the operator reads, since the device was made: a reset does not set
//! them back, a migration does.

use std::sync::Arc;

use net_queue::ctrl::{Reply, StatsRequest, StatsRequests, StatsTypes};
use net_queue::{DropCause, QueueCounters, Refusal};

use crate::features::Features;
use crate::queue_role::QueueRole;
use crate::shared::Shared;

use Features as F;

/// Types that a driver can get with these features.
///
/// A query is answered with them, and not with types for which a feature is missing: drivers ask
/// for all that it names, and one that cannot be had fails the whole request (NET-CVQ-27,
/// NET-CVQ-28).
pub(super) fn supported(features: Features) -> StatsTypes {
    let rx_gso = F::VIRTIO_NET_F_GUEST_TSO4 | F::VIRTIO_NET_F_GUEST_TSO6;
    let tx_gso = F::VIRTIO_NET_F_HOST_TSO4 | F::VIRTIO_NET_F_HOST_TSO6 | F::VIRTIO_NET_F_HOST_USO;
    let conditions = [
        (StatsTypes::RX_CSUM, F::VIRTIO_NET_F_GUEST_CSUM),
        (StatsTypes::RX_GSO, rx_gso),
        (StatsTypes::TX_CSUM, F::VIRTIO_NET_F_CSUM),
        (StatsTypes::TX_GSO, tx_gso),
    ];
    let missing = conditions
        .into_iter()
        .filter(|(_, any_of)| !features.intersects(*any_of));
    StatsTypes::all() - missing.map(|(types, _)| types).collect()
}

/// Checks one entry of a request.
///
/// # Errors
/// There is no such queue, or types that it does not have, or has not with these features.
fn check(request: StatsRequest, features: Features, pairs: u16) -> Result<(), Refusal> {
    let role = QueueRole::of(request.queue, features, pairs).ok_or(Refusal::Value)?;
    let possible = match role {
        QueueRole::Rx(_) => StatsTypes::RX,
        QueueRole::Tx(_) => StatsTypes::TX,
        QueueRole::Ctrl => StatsTypes::CVQ,
    };
    if !possible.contains(request.types) {
        return Err(Refusal::Value);
    }
    if !supported(features).contains(request.types) {
        return Err(Refusal::NotNegotiated);
    }
    Ok(())
}

/// Answers a request whose entries are all good; none of it otherwise. `counters` holds those of
/// every queue, the control queue's last.
pub(super) fn get(
    requests: StatsRequests<'_>,
    shared: &Shared,
    counters: &[Arc<QueueCounters>],
    reply: &mut Reply<'_>,
) -> Result<(), Refusal> {
    let (control, queues) = counters.split_last().ok_or(Refusal::Value)?;
    let (features, pairs) = (shared.features, (queues.len() / 2) as u16);
    for request in requests.iter() {
        check(request, features, pairs)?;
    }
    for request in requests.iter() {
        let role = QueueRole::of(request.queue, features, pairs);
        let queue = match role {
            Some(QueueRole::Ctrl) => control,
            _ => queues
                .get(usize::from(request.queue))
                .ok_or(Refusal::Value)?,
        };
        let mut stats = queue.stats();
        if role == Some(QueueRole::Rx(0)) {
            stats.add_drops(DropCause::Filtered, shared.status.kernel_filtered());
        }
        reply.push_stats(request, &stats);
    }
    Ok(())
}
