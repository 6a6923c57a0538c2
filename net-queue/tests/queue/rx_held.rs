//! Receive: frames that wait, for the limit or for buffers, are judged by what holds when they are
//! delivered.

use net_queue::header::{HDR_LEN, flags, gso};
use net_queue::testing::ScriptedLimit;
use net_queue::{DropCause, FrameFilter, Offloads, RxConfig, Stop};

use crate::gso::Large;
use crate::rig::{MERGE, PLENTY, RxRig, every_ring, frame, packet};

const ALL: RxConfig = RxConfig {
    offloads: Offloads::all(),
    ..MERGE
};

struct OnlyFrom(u8);

impl FrameFilter for OnlyFrom {
    fn admit(&self, head: &[u8]) -> bool {
        head.get(6) == Some(&self.0)
    }
}

/// Reason that holds a frame back.
#[derive(Clone, Copy, Debug)]
enum By {
    Limit,
    Buffers,
}

/// Next event of the queue.
#[derive(Clone, Copy, Debug)]
enum Then {
    Run,
    Settle,
}

/// Calls `test` for a queue that holds `bytes`, with what is to happen to it.
fn every_hold(bytes: &[u8], test: impl Fn(&mut RxRig, By, Then)) {
    every_ring(64, |ring| {
        for by in [By::Limit, By::Buffers] {
            for then in [Then::Run, Then::Settle] {
                println!("held by {by:?}, then {then:?}");
                let mut rig = RxRig::new(ring, ALL);
                rig.post(&[60, 400]);
                if matches!(by, By::Limit) {
                    rig.post(&[20_000]);
                }
                rig.wire.inject(bytes);
                rig.limit = ScriptedLimit::holding_after(0, 77);
                let stop = rig.run().stop;
                match by {
                    By::Limit => assert!(matches!(stop, Stop::Limited(77)), "{stop:?}"),
                    By::Buffers => assert!(matches!(stop, Stop::Driver), "{stop:?}"),
                }
                rig.limit = ScriptedLimit::default();
                test(&mut rig, by, then);
            }
        }
    });
}

fn go_on(rig: &mut RxRig, then: Then, filter: Option<&dyn FrameFilter>) {
    match then {
        Then::Run => {
            rig.post(&[20_000]);
            rig.run_with(filter, 0, PLENTY);
        }
        Then::Settle => {
            rig.engine.drain(&mut rig.limit, filter, 9);
        }
    }
}

/// It comes in segments then. NET-HDR-21, NET-CVQ-19
#[test]
fn held_segments_do_not_reach_a_driver_that_switched_them_off_meanwhile() {
    let large = Large::new(gso::TCPV4, false, 0, 6000, flags::DATA_VALID);
    every_hold(&large.bytes, |rig, by, then| {
        rig.engine.set_offloads(Offloads::CSUM);
        go_on(rig, then, None);
        rig.engine.drain(&mut rig.limit, None, 9);
        let mut came = 0;
        while let Some((header, bytes, _)) = rig.take_frame() {
            assert_eq!((header[0], header[1]), (flags::NEEDS_CSUM, gso::NONE));
            assert!(bytes.len() <= 66 + 1448);
            came += 1;
        }
        let expected = match (by, then) {
            // It lacked buffers anyway.
            (By::Buffers, Then::Settle) => (0, 1),
            // Two buffers for five segments, the first too short for one.
            (By::Limit, Then::Settle) | (By::Buffers, Then::Run) => (1, 4),
            (By::Limit, Then::Run) => (2, 3),
        };
        assert_eq!((came, rig.dropped_for(DropCause::Stopped)), expected);
    });
}

/// NET-HDR-20
#[test]
fn held_partial_checksum_is_completed_for_a_driver_that_takes_none_any_more() {
    let mut partial = packet(6000, 3);
    partial[0] = flags::NEEDS_CSUM;
    partial[6] = 34;
    partial[8] = 16;
    every_hold(&partial, |rig, by, then| {
        rig.engine.set_offloads(Offloads::empty());
        go_on(rig, then, None);
        if let (By::Buffers, Then::Settle) = (by, then) {
            assert_eq!(rig.dropped_for(DropCause::Stopped), 1);
            return;
        }
        let (header, bytes, _) = rig.take_frame().expect("it is delivered");
        assert_eq!(header[..10], [0; 10]);
        let sum: u64 = bytes[34..]
            .chunks(2)
            .map(|word| u64::from(word[0]) << 8 | word.get(1).copied().map_or(0, u64::from))
            .sum();
        // The sum over all but the field is what the field completes.
        let field = u64::from(bytes[50]) << 8 | u64::from(bytes[51]);
        let before = frame(6000, 3);
        let old = u64::from(before[50]) << 8 | u64::from(before[51]);
        let folded = (0..4).fold(sum - field + old, |sum, _| (sum & 0xffff) + (sum >> 16));
        assert_eq!(field, u64::from(!(folded as u16)));
    });
}

/// NET-CVQ-12
#[test]
fn held_frame_is_dropped_when_the_filter_excludes_it_meanwhile() {
    let mut bytes = packet(6000, 1);
    bytes[HDR_LEN + 6] = 1;
    every_hold(&bytes, |rig, by, then| {
        go_on(rig, then, Some(&OnlyFrom(2)));
        assert_eq!(rig.guest.poll_all(), []);
        let cause = match (by, then) {
            (By::Buffers, Then::Settle) => DropCause::Stopped,
            _ => DropCause::Filtered,
        };
        assert_eq!(rig.dropped_for(cause), 1);
    });
}

#[test]
fn held_frame_that_still_passes_is_delivered_as_it_came() {
    let large = Large::new(gso::TCPV6, true, 2, 6000, 0);
    every_hold(&large.bytes, |rig, by, then| {
        go_on(rig, then, Some(&OnlyFrom(2)));
        if let (By::Buffers, Then::Settle) = (by, then) {
            return;
        }
        let (header, bytes, chains) = rig.take_frame().expect("it is delivered");
        assert_eq!(header[..2], [flags::NEEDS_CSUM, gso::TCPV6]);
        assert_eq!(
            (usize::from(header[10]), bytes.len()),
            (chains.len(), large.bytes.len() - 12)
        );
        assert_eq!(rig.counters.dropped(), 0);
    });
}

/// NET-RX-13: the driver never posts as many buffers as the frame needs.
#[test]
fn frame_that_waits_for_buffers_in_vain_is_given_up() {
    every_ring(64, |config| {
        let mut rig = RxRig::new(config, MERGE);
        for _ in 0..4 {
            rig.post(&[1526]);
        }
        rig.wire.inject(packet(20_000, 1));
        rig.wire.inject(packet(100, 2));
        assert_eq!(rig.engine.missing(), None);
        assert!(matches!(rig.run().stop, Stop::Driver));
        let missing = 12 + 20_000 - 4 * 1526;
        assert_eq!(rig.engine.missing(), Some(missing));
        rig.post(&[1000]);
        assert!(matches!(rig.run().stop, Stop::Driver));
        assert_eq!(rig.engine.missing(), Some(missing - 1000));
        rig.engine.give_up();
        assert_eq!(
            (rig.engine.missing(), rig.dropped_for(DropCause::NoRoom)),
            (None, 1)
        );
        rig.drain();
        assert_eq!(rig.take_frame().expect("the next one").1, frame(100, 2));
        // Nothing is held any more, so there is nothing to give up.
        rig.engine.give_up();
        assert_eq!(rig.counters.dropped(), 1);
    });
}

/// A driver that never posts more than so much is not waited for with every long frame.
#[test]
fn after_one_frame_was_given_up_others_as_long_are_dropped_at_once() {
    every_ring(64, |config| {
        let mut rig = RxRig::new(config, MERGE);
        for _ in 0..4 {
            rig.post(&[1526]);
        }
        rig.wire.inject(packet(20_000, 1));
        rig.run();
        rig.engine.give_up();
        for n in 0..5 {
            rig.wire.inject(packet(20_000, 1));
            rig.wire.inject(packet(100, n));
            rig.drain();
            assert_eq!(rig.take_frame().expect("the short one").1, frame(100, n));
            assert_eq!(rig.dropped_for(DropCause::NoRoom), 2 + n);
            rig.post(&[1526]);
        }
        // One buffer more than ever before: it may go on like this.
        rig.post(&[1526]);
        rig.wire.inject(packet(20_000, 7));
        for _ in 5..14 {
            assert!(matches!(rig.run().stop, Stop::Driver));
            rig.post(&[1526]);
        }
        rig.drain();
        assert_eq!(rig.take_frame().expect("the long one").1, frame(20_000, 7));
        // And it is waited for as before.
        rig.post(&[1526]);
        rig.wire.inject(packet(20_000, 8));
        assert!(matches!(rig.run().stop, Stop::Driver));
    });
}
