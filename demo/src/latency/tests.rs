use std::time::Duration;

use super::Latency;

fn of(micros: impl IntoIterator<Item = u64>) -> Latency {
    Latency::of(micros.into_iter().map(Duration::from_micros).collect()).unwrap()
}

#[test]
fn there_is_no_percentile_of_nothing() {
    assert!(Latency::of(Vec::new()).is_none());
}

#[test]
fn one_sample_is_every_percentile() {
    let one = of([7]);
    for percent in [0, 1, 50, 99, 100, 255] {
        assert_eq!(one.percentile(percent), Duration::from_micros(7));
    }
}

#[test]
fn a_percentile_is_the_nearest_rank() {
    let hundred = of((1..=100).rev());
    assert_eq!(hundred.count(), 100);
    for percent in [1, 50, 90, 99, 100] {
        assert_eq!(
            hundred.percentile(percent),
            Duration::from_micros(percent.into())
        );
    }
    let ten = of(1..=10);
    assert_eq!(ten.percentile(50), Duration::from_micros(5));
    assert_eq!(ten.percentile(51), Duration::from_micros(6));
    assert_eq!(ten.percentile(99), Duration::from_micros(10));
}

#[test]
fn the_ends_are_the_extremes() {
    let some = of([5, 900, 3, 40]);
    assert_eq!(some.min(), Duration::from_micros(3));
    assert_eq!(some.max(), Duration::from_micros(900));
}
