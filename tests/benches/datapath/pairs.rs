//! Two queue pairs against one: frames a second of real workers.

use std::time::Instant;

use net_device::{Features, NetConfig, NetDevice};
use net_queue::testing::Interrupts;
use tests::testbed::Rig;

use crate::frames::Kind;
use crate::host;
use crate::paired::quartiles;

const SIZE: u16 = 1024;
const ROUNDS: usize = 100;

fn rig(pairs: u16) -> Rig {
    let config = NetConfig::builder().queue_pairs(pairs).queue_size(SIZE);
    let config = config.build().expect("it is a usable configuration");
    let taps = host::open_taps(pairs.into());
    let mut rig = Rig::over(NetDevice::from_taps(config, taps).expect("the device can be made"));
    rig.negotiate(Features::empty());
    rig.lay_out(SIZE);
    rig.activate();
    rig
}

/// Nanoseconds from the first kick until every frame of every pair's full ring was sent.
fn drain(rig: &mut Rig, pairs: u16) -> f64 {
    let frame = Kind::Plain(64).bytes();
    let irq = rig.irq.clone();
    let indices = (0..pairs).map(|pair| 2 * pair + 1);
    for index in indices.clone() {
        let piece = rig.memory.filled(&frame);
        let ring = &mut rig.queue(index).ring;
        let _ = ring.poll_all();
        for _ in 0..SIZE {
            ring.add(&[piece]);
        }
        ring.ask(Interrupts::After(SIZE));
    }
    let target: Vec<_> = indices
        .clone()
        .map(|index| (index, irq.queue(index) + 1))
        .collect();
    let start = Instant::now();
    for index in indices {
        rig.queue(index).publish();
    }
    irq.wait_until("all frames to be sent", || {
        target
            .iter()
            .all(|(index, count)| irq.queue(*index) >= *count)
    });
    start.elapsed().as_nanos() as f64
}

/// Both in turn.
pub(crate) fn run() {
    let (mut one, mut two) = (rig(1), rig(2));
    let round = |_| 2.0 * drain(&mut one, 1) / drain(&mut two, 2);
    let [low, gain, high] = quartiles((0..ROUNDS).map(round).collect());
    println!("\ntwo pairs against one, 64 bytes, frames a second: {gain:.2} ({low:.2}-{high:.2})");
}
