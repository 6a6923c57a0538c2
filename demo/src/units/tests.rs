use std::time::Duration;

use super::{bit_rate, bytes, event_rate, grouped, micros};

#[test]
fn digits_stand_in_groups_of_three() {
    for (number, text) in [
        (0, "0"),
        (999, "999"),
        (1000, "1 000"),
        (12_345_678, "12 345 678"),
    ] {
        assert_eq!(grouped(number), text);
    }
}

#[test]
fn bytes_have_three_digits_at_most() {
    for (count, text) in [
        (0, "0 B"),
        (12, "12.0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (999_600, "1.00 MB"),
        (1_234_567_890, "1.23 GB"),
    ] {
        assert_eq!(bytes(count), text);
    }
}

#[test]
fn a_rate_is_over_the_time_it_took() {
    assert_eq!(
        bit_rate(1_250_000_000, Duration::from_secs(2)),
        "5.00 Gbit/s"
    );
    assert_eq!(event_rate(3000, Duration::from_millis(500)), "6 000");
}

#[test]
fn no_time_is_no_rate() {
    assert_eq!(bit_rate(5, Duration::ZERO), "0 bit/s");
    assert_eq!(event_rate(5, Duration::ZERO), "0");
}

#[test]
fn short_times_are_in_microseconds() {
    assert_eq!(micros(Duration::from_nanos(12_345)), "12.3 us");
}
