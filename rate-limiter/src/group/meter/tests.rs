use super::{LONGEST_NS, Timeline};
use crate::rate::{Quantity, Rate};

fn timeline(tokens: u64, period_ns: u64) -> Timeline {
    Timeline::of(Rate::new(tokens, period_ns, Quantity::Bytes).unwrap())
}

#[test]
fn tokens_and_time_exchange_without_a_gap() {
    // Three tokens in seven nanoseconds: a token has seven parts, three arrive each nanosecond.
    let line = timeline(3, 7);
    assert_eq!(line.parts(2), 14);
    assert_eq!(line.parts_in(4), 12);
    for (parts, up, down) in [(0, 0, 0), (1, 1, 0), (3, 1, 1), (4, 2, 1), (14, 5, 4)] {
        assert_eq!(
            (line.ns(parts), line.whole_ns(parts)),
            (up, down),
            "{parts}"
        );
    }
    for (parts, tokens) in [(0, 0), (1, 1), (7, 1), (8, 2)] {
        assert_eq!(line.tokens(parts), tokens, "{parts}");
    }
    assert_eq!(timeline(1, 4).tokens_at_least(12), 3);
}

#[test]
fn time_beyond_64_bits_of_parts_is_exact_and_beyond_64_bits_of_ns_the_longest() {
    let parts = u128::from(u64::MAX) + 2;
    assert_eq!(timeline(2, 1).ns(parts), 1 << 63 | 1);
    assert_eq!(timeline(1, 1).ns(parts), u64::MAX);
    assert_eq!(timeline(1, 1).whole_ns(parts), u64::MAX);
    assert_eq!(timeline(1, 1).tokens(parts), u64::MAX);
}

#[test]
fn tokens_move_to_another_timeline_rounded_down() {
    let (old, new) = (timeline(3, 7), timeline(5, 11));
    for (parts, moved) in [(0, 0), (6, 9), (7, 11), (13, 20), (14, 22), (20, 31)] {
        assert_eq!(new.parts_from(parts, old), moved, "{parts}");
    }
}

#[test]
fn time_moves_to_another_timeline_rounded_up() {
    let (old, new) = (timeline(3, 7), timeline(5, 11));
    assert_eq!(new.ns_from(1000, new), 1000);
    // 1000 ns are 3000 parts, 428 4/7 tokens: 4714 2/7 parts of the other, 943 of its ns.
    assert_eq!(new.ns_from(1000, old), 943);
    // 35 parts, 5 tokens: 55 parts are 11 ns, and one more is kept as there may be a rest.
    assert_eq!(timeline(5, 11).ns_from(35, timeline(1, 7)), 12);
    let (slow, fast) = (timeline(1, 1 << 40), timeline(1 << 40, 1));
    assert_eq!(slow.ns_from(LONGEST_NS, fast), LONGEST_NS);
}
