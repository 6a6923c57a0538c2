//! A table and a hash that go on in another VMM.

use super::*;
use flows::{flow, hash_config};
use net_device::{Snapshottable, VirtioDevice};
use snapshot::Snapshot;
use snapshot::state::RssState;
use tests::testbed::{chain, pause, resume};

/// Saves `rig` and lets another device go on.
fn moved(mut rig: Rig) -> Rig {
    pause(&mut rig);
    let saved = rig.device.snapshot().expect("it is paused");
    let pairs = rig.device.config().queue_pairs;
    let mut next = rig.move_to(device(pairs));
    next.device.restore(saved).expect("it was just saved");
    next.activate();
    resume(&mut next);
    next
}

#[test]
fn hash_and_table_go_on_where_they_were_saved() {
    let mut rig = running(3, 64, F::empty());
    let config = rss_config(0x1ff, 1, &[2], 3, &KEY);
    assert_eq!(rig.command(MQ, RSS_CONFIG, &config), OK);
    let mut next = moved(rig);
    assert!(next.networks.iter().all(|network| network.is_attached()));
    next.post(2, &[256]);
    next.networks[0].wire.inject(flow(3).bytes());
    let frame = &next.receive(2, 1)[0];
    let (report, value) = flow(3).hash();
    assert_eq!(frame[12..16], value.to_le_bytes());
    assert_eq!(frame[16..18], report.to_le_bytes());

    // A hash alone, after the pairs were chosen.
    assert_eq!(next.command(MQ, PAIRS_SET, &[2, 0]), OK);
    let config = hash_config(0x1ff, 0, &KEY[..7]);
    assert_eq!(next.command(MQ, HASH_CONFIG, &config), OK);
    let mut last = moved(next);
    assert!(last.networks[1].is_attached() && !last.networks[2].is_attached());
    last.post(1, &[256]);
    last.networks[1].wire.inject(flow(3).bytes());
    let frame = &last.receive(1, 1)[0];
    let value = flows::toeplitz(&KEY[..7], &frame[42..78]);
    assert_eq!(frame[12..16], value.to_le_bytes());
}

#[test]
fn what_no_command_can_have_set_is_not_restored() {
    let bad: [fn(&mut RssState); 9] = [
        |rss| rss.hash_types = 0x200,
        |rss| rss.indirection_table = vec![0; 3].into(),
        |rss| rss.indirection_table = vec![0; 256].into(),
        |rss| rss.indirection_table.clear(),
        |rss| rss.indirection_table[0] = 2,
        |rss| rss.unclassified_queue = 2,
        |rss| rss.max_tx_vq = 3,
        |rss| rss.key = vec![0; 41].into(),
        |rss| rss.steering = false,
    ];
    for change in bad {
        let mut rig = running(2, 64, F::empty());
        let config = rss_config(0x1ff, 1, &[1, 0], 2, &KEY);
        assert_eq!(rig.command(MQ, RSS_CONFIG, &config), OK);
        pause(&mut rig);
        let saved = rig.device.snapshot().expect("it is paused");
        let mut state = saved.open().expect("it was just sealed");
        change(state.control.rss.as_mut().expect("there is a table"));
        let saved = Snapshot::seal(&state).expect("no list is too long");
        let mut next = device(2);
        let refused = next.device.restore(saved).expect_err("it cannot be");
        assert!(
            chain(&refused).contains("control.rss"),
            "{}",
            chain(&refused)
        );
        assert!(!next.device.needs_reset());
    }
}

#[test]
fn a_table_of_a_driver_that_cannot_have_one_is_not_restored() {
    let mut rig = running(2, 64, F::VIRTIO_NET_F_RSS);
    pause(&mut rig);
    let saved = rig.device.snapshot().expect("it is paused");
    let mut state = saved.open().expect("it was just sealed");
    state.control.rss = Some(RssState {
        steering: true,
        indirection_table: vec![0].into(),
        max_tx_vq: 1,
        ..RssState::default()
    });
    let saved = Snapshot::seal(&state).expect("no list is too long");
    let refused = device(2)
        .device
        .restore(saved)
        .expect_err("RSS was not accepted");
    assert!(chain(&refused).contains("control.rss"));
}
