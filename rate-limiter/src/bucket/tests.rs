use super::TokenBucket;
use crate::rate::{Quantity, Rate};

/// A member's fast way is as long as this; with too little it is never taken, and every frame goes
/// the slow one.
#[test]
fn funds_are_at_least_half_of_the_tokens_and_all_of_the_burst_but_never_more() {
    for (tokens, period_ns) in [
        (1, 1),
        (1, 1000),
        (999, 1000),
        (1_000_000_000, 1_000_000_007),
    ] {
        let rate = Rate::new(tokens, period_ns, Quantity::Bytes).expect("it brings tokens");
        for (capacity, burst) in [(1000, 0), (1000, 77), (1 << 40, 5)] {
            let mut bucket = TokenBucket::new(capacity, rate, burst);
            let funds = bucket.funds();
            assert!(funds >= capacity / 2 + burst, "{funds} of {capacity}");
            assert!(funds <= capacity + burst, "{funds} of {capacity}");
            bucket.charge(funds);
            assert!(bucket.funds() <= capacity - capacity / 2);
            bucket.charge(capacity);
            assert_eq!(bucket.funds(), 0, "a debt gives none");
        }
    }
}
