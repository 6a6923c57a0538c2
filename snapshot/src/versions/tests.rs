use super::*;

fn versions_of(row: &Row) -> [u16; 10] {
    [
        row.net,
        row.config,
        row.queue,
        row.stopped,
        row.layout,
        row.control,
        row.rss,
        row.notf_coal,
        row.limiter,
        row.bucket,
    ]
}

#[test]
fn the_last_row_is_what_the_structs_are() {
    let current = [
        NetState::version(),
        ConfigState::version(),
        QueueState::version(),
        StoppedQueueState::version(),
        QueueLayout::version(),
        ControlState::version(),
        RssState::version(),
        NotfCoalState::version(),
        LimiterState::version(),
        BucketState::version(),
    ];
    assert_eq!(RELEASES.last().map(versions_of), Some(current));
}

#[test]
fn no_version_ever_goes_down() {
    assert_eq!(versions_of(&RELEASES[0]), [1; 10]);
    for pair in RELEASES.windows(2) {
        let (old, new) = (versions_of(&pair[0]), versions_of(&pair[1]));
        assert!(old.iter().zip(new).all(|(&old, new)| old <= new));
        assert_ne!(old, new, "a release that changes nothing needs no row");
    }
}

#[test]
fn the_map_has_one_version_per_release() {
    assert_eq!(version_map().latest_version(), LATEST);
}

#[test]
fn every_field_that_came_later_is_one_of_a_release_after_the_first() {
    for added in ADDED {
        assert!((2..=LATEST).contains(&added.release), "{}", added.field);
        assert!((added.is_default)(&NetState::default()), "{}", added.field);
    }
}
