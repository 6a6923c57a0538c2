//! Configuration texts, and rates as operators spell them.

mod common;

use common::bucket;
use rate_limiter::{
    ConfigError, Quantity, Rate, RateError, RateLimiter, RateLimiterConfig, TokenBucketConfig,
};

fn parse(text: &str) -> Result<RateLimiterConfig, serde_json::Error> {
    serde_json::from_str(text)
}

#[test]
fn reads_and_writes_the_usual_shape() {
    let text = r#"{"bandwidth":{"size":1000,"one_time_burst":5,"refill_time":100},"ops":{"size":10,"refill_time":1}}"#;
    let config = parse(text).unwrap();
    let bandwidth = config.bandwidth.unwrap();
    assert_eq!(
        (
            bandwidth.size,
            bandwidth.one_time_burst,
            bandwidth.refill_time
        ),
        (1000, Some(5), 100)
    );
    assert_eq!(config.ops, Some(bucket(10, 1)));
    assert_eq!(serde_json::to_string(&config).unwrap(), text);
    assert_eq!(parse("{}").unwrap(), RateLimiterConfig::default());
    assert_eq!(
        parse(r#"{"ops": null}"#).unwrap(),
        RateLimiterConfig::default()
    );
}

#[test]
fn refuses_what_it_does_not_know() {
    for text in [
        r#"{"bandwith": {"size": 1, "refill_time": 1}}"#,
        r#"{"bandwidth": {"size": 1}}"#,
        r#"{"bandwidth": {"refill_time": 1}}"#,
        r#"{"bandwidth": {"size": 1, "refill_time": 1, "burst": 1}}"#,
        r#"{"bandwidth": {"size": -1, "refill_time": 1}}"#,
        r#"{"bandwidth": {"size": 1.5, "refill_time": 1}}"#,
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
}

#[test]
fn zero_means_no_limit() {
    for (size, refill_time) in [(0, 0), (0, 100), (100, 0)] {
        let config = common::bandwidth(size, refill_time);
        assert!(RateLimiter::new(&config).unwrap().is_unlimited());
    }
}

#[test]
fn refuses_what_cannot_be_counted() {
    let field = "bandwidth";
    let check = |size, refill_time| common::bandwidth(size, refill_time).validate();
    assert_eq!(check(1 << 56, 1), Ok(()));
    assert_eq!(
        check((1 << 56) + 1, 1),
        Err(ConfigError::TooLarge { field })
    );
    let century_ms = 36_600 * 24 * 3_600_000;
    assert_eq!(check(1, century_ms), Ok(()));
    assert_eq!(
        check(1, century_ms + 1),
        Err(ConfigError::TooSlow { field })
    );
    assert_eq!(check(1, u64::MAX), Err(ConfigError::TooSlow { field }));
    let mut config = common::bandwidth(1000, 10);
    let bucket_of = |burst| {
        Some(TokenBucketConfig {
            one_time_burst: Some(burst),
            ..bucket(1000, 10)
        })
    };
    config.bandwidth = bucket_of(1 << 56);
    assert_eq!(config.validate(), Ok(()));
    config.bandwidth = bucket_of((1 << 56) + 1);
    assert_eq!(config.validate(), Err(ConfigError::TooLarge { field }));
    let mut config = common::bandwidth(1000, 10);
    config.peak_bandwidth = Some(bucket(10_000, 101));
    assert_eq!(config.validate(), Err(ConfigError::PeakBelowBandwidth));
    config.peak_bandwidth = Some(bucket(100, 1));
    assert_eq!(config.validate(), Ok(()));
    config.ops = Some(common::bucket(1, 1));
    config.ops.as_mut().unwrap().one_time_burst = Some(u64::MAX);
    assert_eq!(
        config.validate(),
        Err(ConfigError::TooLarge { field: "ops" })
    );
}

#[test]
fn a_refused_update_changes_nothing() {
    for (name, mut limiter) in common::every_kind(&common::bandwidth(1000, 1)) {
        limiter
            .update(0, &common::bandwidth(u64::MAX, 1))
            .unwrap_err();
        limiter.take(0, 1000, 1).unwrap();
        assert_eq!(limiter.take(0, 1, 1).unwrap_err().ns(), 1000, "{name}");
    }
}

#[test]
fn each_prefix_of_a_unit_has_its_factor() {
    for (prefix, factor) in [
        ("", 1),
        ("k", 1000),
        ("K", 1000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
        ("Ki", 1024),
        ("Mi", 1_048_576),
        ("Gi", 1_073_741_824),
        ("Ti", 1_099_511_627_776),
    ] {
        for (unit, tokens, quantity) in [
            ("B", 3 * factor, Quantity::Bytes),
            ("bit", 3 * factor, Quantity::Bytes),
            ("pps", 3 * factor, Quantity::Operations),
            ("ops", 3 * factor, Quantity::Operations),
        ] {
            let second = 1_000_000_000 * if unit == "bit" { 8 } else { 1 };
            let rate = Rate::new(tokens, second, quantity).unwrap();
            let text = format!("3{prefix}{unit}");
            assert_eq!(text.parse(), Ok(rate), "{text}");
        }
    }
}

#[test]
fn rates_have_units() {
    let bytes = |tokens, ns| Rate::new(tokens, ns, Quantity::Bytes).unwrap();
    let second = 1_000_000_000;
    for (text, rate) in [
        ("1Gbit", bytes(125_000_000, second)),
        ("500kbit", bytes(62_500, second)),
        ("500 Kbit/s", bytes(62_500, second)),
        ("1bit", bytes(1, 8 * second)),
        ("10MB", bytes(10_000_000, second)),
        ("1.5MiB/s", bytes(1_572_864, second)),
        ("0.1B", bytes(1, 10 * second)),
        ("2.50Tbit", bytes(312_500_000_000, second)),
        ("1Kibit", bytes(128, second)),
        (
            "20kpps",
            Rate::new(20_000, second, Quantity::Operations).unwrap(),
        ),
        ("3ops", Rate::new(3, second, Quantity::Operations).unwrap()),
    ] {
        assert_eq!(text.parse(), Ok(rate), "{text}");
    }
    assert_eq!("1Gbit".parse::<Rate>().unwrap().to_string(), "125000000B");
    assert_eq!("20kpps".parse::<Rate>().unwrap().to_string(), "20000pps");
    assert_eq!(
        "1bit".parse::<Rate>().unwrap().to_string(),
        "1B per 8000000000 ns"
    );
}

#[test]
fn bad_rates_say_why() {
    let number = |text: &str| Err(RateError::Number(text.to_owned()));
    let unit = |unit: &str| Err(RateError::Unit(unit.to_owned()));
    for (text, error) in [
        ("", number("")),
        ("Gbit", number("Gbit")),
        ("-1bit", number("-1bit")),
        (".5bit", number(".5bit")),
        ("1.bit", number("1.bit")),
        ("1.2.3bit", number("1.2.3bit")),
        ("1", Err(RateError::NoUnit("1".to_owned()))),
        ("1mbit", unit("mbit")),
        ("1 furlong", unit("furlong")),
        ("1MB/h", unit("MB/h")),
        ("0bit", Err(RateError::Range)),
        ("99999999999999999999TiB", Err(RateError::Range)),
    ] {
        assert_eq!(text.parse::<Rate>(), error, "{text}");
    }
}

#[test]
fn a_rate_makes_a_bucket_of_exactly_that_rate() {
    for text in [
        "1bit",
        "64kbit",
        "33.3Mbit",
        "1Gbit",
        "40Gbit",
        "1B",
        "7pps",
        "148.81Mpps",
    ] {
        for burst in [0, 1, 1500, 65_562, 10_000_000] {
            let rate: Rate = text.parse().unwrap();
            let bucket = rate.bucket(burst).unwrap();
            assert!(
                bucket.size >= burst && bucket.refill_time >= 10,
                "{text} {bucket:?}"
            );
            let ns = bucket.refill_time * common::MS;
            assert_eq!(
                Rate::new(bucket.size, ns, rate.quantity()),
                Ok(rate),
                "{text} {burst}"
            );
        }
    }
    assert_eq!(
        "1Gbit".parse::<Rate>().unwrap().bucket(0),
        Ok(bucket(1_250_000, 10))
    );
}
