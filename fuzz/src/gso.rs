//! Frames that become one on their way, and one that becomes many.
//!
//! Transmit: frames of several flows, large ones among them, with fields that lie, go through an
//! engine that coalesces and cuts. Cut by [`segmentation`](crate::segmentation), what the backend
//! got is what the driver sent, byte for byte, flow by flow in its order, whatever the backend
//! refused or had no room for meanwhile. Receive: large frames are cut into a driver's buffers as
//! that model does it.

mod frames;
mod receive;
mod transmit;

use net_queue::ring::{Layout, RingConfig};

use crate::bytes::{Bytes, hdr_size};
use crate::{Seed, Target};

/// See the module.
pub const TARGET: Target = Target {
    name: "gso",
    run,
    seeds,
};

/// Input: direction and ring (1), header size, then the terms and steps of the direction.
fn run(input: &[u8]) {
    let mut input = Bytes::new(input);
    let (bits, size) = (input.u8(), input.u8());
    let ring = RingConfig {
        layout: [Layout::Split, Layout::Packed][usize::from(bits & 1)],
        size: 256,
        event_idx: bits & 2 != 0,
        in_order: bits & 4 != 0,
        indirect: true,
        ..RingConfig::default()
    };
    let size = hdr_size(size);
    if bits & 0x80 == 0 {
        transmit::run(&mut input, ring, size);
    } else {
        receive::run(&mut input, ring, size);
    }
}

fn seeds() -> Vec<Seed> {
    [transmit::seeds(), receive::seeds()].concat()
}
