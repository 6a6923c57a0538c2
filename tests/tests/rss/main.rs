//! Hashes that are reported, and flows that the driver's table steers.

mod flows;
mod kernel_steering;
mod real_tap;
mod report;
mod restore;
mod steering;
mod under_load;

use flows::{KEY, rss_config};
use net_device::{Features, VirtioDevice};
use tests::testbed::Rig;

type F = Features;

const OK: u8 = 0;
const ERR: u8 = 1;

const MQ: u8 = 4;
const PAIRS_SET: u8 = 0;
const RSS_CONFIG: u8 = 1;
const HASH_CONFIG: u8 = 2;

/// A device of `pairs` pairs that offers both.
fn device(pairs: u16) -> Rig {
    let mut config = Rig::config(pairs);
    config.rss = true;
    config.hash_report = true;
    config.control_limit = None;
    config.queue_size = 4096;
    Rig::new(config)
}

/// The same, whose driver runs with rings of `size` and takes all but `without`.
fn running(pairs: u16, size: u16, without: F) -> Rig {
    let mut rig = device(pairs);
    rig.negotiate(without);
    rig.lay_out(size);
    rig.activate();
    rig
}

#[test]
fn configuration_space_shows_what_can_be_hashed_net_cfg_10_11_12() {
    let shown = |without: F| {
        let mut config = Rig::config(2);
        config.rss = !without.contains(F::VIRTIO_NET_F_RSS);
        config.hash_report = !without.contains(F::VIRTIO_NET_F_HASH_REPORT);
        let rig = Rig::new(config);
        let features = F::VIRTIO_NET_F_RSS | F::VIRTIO_NET_F_HASH_REPORT;
        assert_eq!(rig.offered() & features, features - without);
        let [pairs, _] = rig.read::<2>(8);
        assert_eq!(pairs, 2);
        rig.read::<11>(17)
    };
    let both = [40, 128, 0, 0xff, 1, 0, 0, 0, 0, 0, 0];
    let (rss, hash_report) = (F::VIRTIO_NET_F_RSS, F::VIRTIO_NET_F_HASH_REPORT);
    assert_eq!(shown(F::empty()), both);
    assert_eq!(shown(hash_report), both);
    assert_eq!(shown(rss), [40, 0, 0, 0xff, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(shown(rss | hash_report), [0; 11]);
}

#[test]
fn without_the_features_there_are_no_such_commands() {
    let mut rig = running(2, 64, F::VIRTIO_NET_F_RSS | F::VIRTIO_NET_F_HASH_REPORT);
    let config = rss_config(0x1ff, 0, &[0, 1], 2, &KEY);
    assert_eq!(rig.command(MQ, RSS_CONFIG, &config), ERR);
    assert_eq!(rig.command(MQ, HASH_CONFIG, &[0; 13]), ERR);
    assert_eq!(rig.counter("ctrl_refused_not_negotiated"), 2);
}

#[test]
fn control_queue_follows_all_pairs_if_one_of_their_features_was_accepted_net_cvq_01() {
    let mut rig = running(3, 64, F::VIRTIO_NET_F_MQ);
    assert_eq!(rig.control_index(), 6);
    let config = rss_config(0x1ff, 0, &[0, 2], 3, &KEY);
    assert_eq!(rig.command(MQ, RSS_CONFIG, &config), OK);
    assert_eq!(rig.command(MQ, PAIRS_SET, &[2, 0]), ERR);
}

#[test]
fn reset_forgets_hash_and_table_dev_life_07() {
    let mut rig = running(2, 64, F::empty());
    let config = rss_config(0x1ff, 1, &[1], 2, &KEY);
    assert_eq!(rig.command(MQ, RSS_CONFIG, &config), OK);
    rig.device.reset();
    rig.start(F::empty());
    rig.post(0, &[256]);
    rig.networks[0].wire.inject(flows::flow(7).bytes());
    let frame = &rig.receive(0, 1)[0];
    assert_eq!(frame[12..20], [0; 8], "no hash");
    assert!(!rig.networks[1].is_attached());
}
