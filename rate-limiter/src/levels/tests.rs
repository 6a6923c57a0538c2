use super::{Level, Levels};

#[test]
fn a_level_is_whole_tokens_and_what_they_lack() {
    for (parts, period, tokens, fraction) in [
        (7, 1, 7, 0),
        (7, 2, 3, 1 << 63),
        (-7, 2, -4, 1 << 63),
        (3, 4, 0, 3 << 62),
        (-1, 4, -1, 3 << 62),
        (1, 3, 0, u64::MAX / 3),
        (-8, 4, -2, 0),
    ] {
        let level = Level::from_parts(parts, period, 5);
        let expected = Level {
            tokens,
            fraction,
            one_time_burst: 5,
        };
        assert_eq!(level, expected, "{parts} of {period}");
        assert_eq!(level.parts(period), parts, "{parts} of {period}");
    }
}

#[test]
fn a_level_beyond_what_can_be_said_is_the_farthest() {
    assert_eq!(Level::from_parts(i128::MAX, 1, 0).tokens, i64::MAX);
    assert_eq!(Level::from_parts(i128::MIN, 1, 0).tokens, i64::MIN);
    assert_eq!(Level::from_parts(1 << 63, 1, 0).tokens, i64::MAX);
    assert_eq!(Level::from_parts(-(1 << 63), 1, 0).tokens, i64::MIN);
}

#[test]
fn a_fraction_counts_as_the_next_part() {
    let level = Level {
        tokens: 1,
        fraction: 1,
        one_time_burst: 0,
    };
    assert_eq!(level.parts(10), 11);
    let most = Level {
        tokens: -1,
        fraction: u64::MAX,
        one_time_burst: 0,
    };
    assert_eq!(most.parts(10), 0);
}

#[test]
fn levels_keep_their_order() {
    let level = |tokens| {
        Some(Level {
            tokens,
            ..Level::default()
        })
    };
    let levels = Levels {
        bandwidth: level(1),
        ops: level(2),
        peak_bandwidth: level(3),
    };
    assert_eq!(levels.to_array(), [level(1), level(2), level(3)]);
    assert_eq!(Levels::from_array(levels.to_array()), levels);
}
