use super::{Credit, tokens_at_least};

#[test]
fn tokens_at_least_are_exact_for_powers_of_two_and_half_at_worst() {
    for period in [1, 2, 3, 4, 5, 1000, 1 << 40, (1 << 40) + 1, i64::MAX as u64] {
        for tokens in [0, 1, 2, 1000, 1 << 20] {
            let parts = u128::from(tokens) * u128::from(period);
            let found = tokens_at_least(parts, period);
            assert!(
                found <= tokens && tokens <= 2 * found + 1,
                "{tokens} of {period}"
            );
            if period.is_power_of_two() {
                assert_eq!(found, tokens, "of {period}");
                let short = tokens_at_least(parts.saturating_sub(1), period);
                assert_eq!(
                    short,
                    tokens.saturating_sub(u64::from(period > 1 || tokens > 0))
                );
            }
        }
    }
    assert_eq!(tokens_at_least(u128::MAX, 1), u64::MAX);
}

#[test]
fn credit_is_what_the_poorest_bucket_has() {
    let mut credit = Credit::of([Some(100), Some(2), Some(70)]);
    assert!(!credit.take(71, 1));
    assert!(!credit.take(1, 3));
    assert!(credit.take(40, 1) && credit.take(30, 1));
    assert!(!credit.take(1, 0) && !credit.take(0, 1));
    assert!(credit.take(0, 0));
    assert_eq!(credit.close(), Some([70, 2, 70]));
    assert_eq!(credit.close(), None, "it is ended");
    assert!(!credit.take(1, 0));
}

#[test]
fn a_settled_credit_names_what_was_taken_if_anything() {
    for (bytes, ops) in [(1, 0), (0, 1), (1, 1), (3, 1)] {
        let mut credit = Credit::of([Some(10), Some(10), None]);
        assert!(credit.take(bytes, ops));
        assert_eq!(credit.close(), Some([bytes, ops, bytes]));
    }
    assert_eq!(Credit::of([Some(10), None, None]).close(), None);
}

#[test]
fn where_nothing_is_limited_credit_has_no_end() {
    let mut credit = Credit::of([None; 3]);
    assert!(credit.take(u64::MAX, u64::MAX));
    assert!(!credit.take(1, 0));
}
