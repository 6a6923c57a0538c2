use super::*;
use rate_limiter::TokenBucketConfig;

#[test]
fn the_default_is_valid_and_survives_serde() {
    let config = NetConfig::default();
    assert_eq!(config.validate(), Ok(()));
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<NetConfig>(&json).unwrap(), config);
    assert_eq!(serde_json::from_str::<NetConfig>("{}").unwrap(), config);
}

#[test]
fn text_and_builder_say_the_same() {
    let text = r#"{
        "id": "net0", "mac": "52:54:00:12:34:56", "mtu": 9000, "speed_mbps": 10000,
        "queue_pairs": 4, "queue_size": 1024, "iommu": true, "seccomp": "log", "poll_us": 50,
        "coalesce": "tcp",
        "tx_limit": {"ops": {"size": 10, "refill_time": 100}}, "limit_scope": "queue",
        "gso": "assume", "disabled": ["event-idx", "guest-uso4"],
        "memory_fault_handler": false, "control_limit": null
    }"#;
    let ops = TokenBucketConfig {
        size: 10,
        one_time_burst: None,
        refill_time: 100,
    };
    let built = NetConfig::builder()
        .id("net0")
        .mac([0x52, 0x54, 0, 0x12, 0x34, 0x56])
        .mtu(9000)
        .speed_mbps(10_000)
        .queue_pairs(4)
        .queue_size(1024)
        .iommu(true)
        .seccomp(SeccompAction::Log)
        .poll_us(50)
        .coalesce(Coalesce {
            tcp: true,
            udp: false,
        })
        .tx_limit(RateLimiterConfig {
            ops: Some(ops),
            ..Default::default()
        })
        .limit_scope(LimitScope::Queue)
        .gso(GsoTrust::Assume)
        .disable(Features::VIRTIO_F_EVENT_IDX)
        .disable(Features::VIRTIO_NET_F_GUEST_USO4)
        .memory_fault_handler(false)
        .control_limit(None)
        .build();
    assert!(built.is_ok());
    assert_eq!(serde_json::from_str(text).ok(), built.ok());
}

#[test]
fn unknown_fields_and_features_are_refused() {
    for text in [
        r#"{"macs": []}"#,
        r#"{"disabled": ["version-1"]}"#,
        r#"{"mac": "x"}"#,
        r#"{"coalesce": "sctp"}"#,
    ] {
        assert!(serde_json::from_str::<NetConfig>(text).is_err());
    }
}

#[test]
fn what_no_device_can_have_is_refused() {
    let build = NetConfig::builder;
    let group = MacAddr::new([1, 0, 0, 0, 0, 1]);
    let mq = Features::VIRTIO_NET_F_MQ;
    let version_1 = Features::VIRTIO_F_VERSION_1;
    let cases = [
        (build().id(""), ConfigError::Id(String::new())),
        (build().id("a\0b"), ConfigError::Id("a\0b".to_owned())),
        (
            build().id("x".repeat(MAX_ID_LEN + 1)),
            ConfigError::Id("x".repeat(MAX_ID_LEN + 1)),
        ),
        (build().poll_us(1001), ConfigError::Poll(1001)),
        (build().mac(group), ConfigError::Mac(group)),
        (build().mac([0; 6]), ConfigError::Mac(MacAddr::default())),
        (build().mtu(67), ConfigError::Mtu(67)),
        (build().speed_mbps(u32::MAX), ConfigError::Speed(u32::MAX)),
        (build().queue_pairs(0), ConfigError::QueuePairs(0)),
        (build().queue_pairs(257), ConfigError::QueuePairs(257)),
        (build().queue_size(0), ConfigError::QueueSize(0)),
        (build().queue_size(100), ConfigError::QueueSize(100)),
        (build().queue_size(65535), ConfigError::QueueSize(65535)),
        (
            build().disable(version_1),
            ConfigError::Mandatory(version_1),
        ),
        (
            build().queue_pairs(2).disable(mq),
            ConfigError::PairsDisabled(mq),
        ),
    ];
    for (builder, error) in cases {
        assert_eq!(builder.build(), Err(error));
    }
}

#[test]
fn limits_of_ranges_are_accepted() {
    let widest = NetConfig::builder()
        .mtu(65535)
        .queue_pairs(256)
        .queue_size(32768)
        .build();
    let smallest = NetConfig::builder()
        .mtu(68)
        .queue_pairs(1)
        .queue_size(1)
        .build();
    assert!(widest.is_ok() && smallest.is_ok());
}

#[test]
fn a_bad_limit_names_its_direction() {
    let bucket = TokenBucketConfig {
        size: u64::MAX,
        one_time_burst: None,
        refill_time: 1,
    };
    let limit = RateLimiterConfig {
        bandwidth: Some(bucket),
        ..Default::default()
    };
    let rx = NetConfig::builder().rx_limit(limit).build();
    let tx = NetConfig::builder().tx_limit(limit).build();
    assert!(matches!(rx, Err(ConfigError::RxLimit(_))));
    assert!(matches!(tx, Err(ConfigError::TxLimit(_))));
}

#[test]
fn taps_are_described_in_text() {
    let text = r#"{"name": "vmtap0", "host_mac": "02:00:00:00:00:01",
        "ipv4": "192.0.2.1/24", "ipv6": "2001:db8::1/64"}"#;
    let tap: TapConfig = serde_json::from_str(text).unwrap();
    let ipv4 = tap.ipv4.unwrap();
    assert_eq!(
        (ipv4.address(), ipv4.prefix()),
        (Ipv4Addr::new(192, 0, 2, 1), 24)
    );
    assert_eq!(tap.ipv6.unwrap().to_string(), "2001:db8::1/64");
    let json = serde_json::to_string(&tap).unwrap();
    assert_eq!(serde_json::from_str::<TapConfig>(&json).unwrap(), tap);
}

#[test]
fn a_prefix_is_no_longer_than_its_address() {
    for text in [
        "192.0.2.1",
        "192.0.2.1/33",
        "192.0.2.1/-1",
        "192.0.2.1/",
        "::1/64",
        "",
    ] {
        assert!(text.parse::<Cidr<Ipv4Addr>>().is_err(), "{text}");
    }
    for text in ["::1", "::1/129", "192.0.2.1/24"] {
        assert!(text.parse::<Cidr<Ipv6Addr>>().is_err(), "{text}");
    }
}

#[test]
fn errors_say_what_is_wrong_with_a_value_and_what_would_be_right() {
    let refused = |mac: [u8; 6]| {
        let config = NetConfig::builder().mac(mac).build();
        config.unwrap_err().to_string()
    };
    assert_eq!(
        refused([1, 0, 0, 0, 0, 0]),
        "01:00:00:00:00:00 is a multicast address; a device needs a unicast one"
    );
    assert_eq!(
        refused([0; 6]),
        "00:00:00:00:00:00 is not an address; a device needs a unicast one"
    );
    let text = "zz".parse::<MacAddr>().unwrap_err().to_string();
    assert_eq!(text, "invalid MAC address \"zz\"");
    let size = NetConfig::builder().queue_size(100).build();
    assert_eq!(
        size.unwrap_err().to_string(),
        "queue size 100 is not a power of two up to 32768"
    );
}

#[test]
fn protocols_to_coalesce_are_written_as_they_are_read() {
    for text in ["tcp,udp", "tcp", "udp", "off"] {
        let read: Coalesce = text.parse().unwrap();
        assert_eq!(read.to_string(), text);
        assert_eq!(
            (read.tcp, read.udp),
            (text.contains("tcp"), text.contains("udp"))
        );
    }
    assert_eq!("udp, tcp".parse(), Ok(Coalesce::default()));
    for text in ["", "on", "tcp,off", "off,off", "tcp,tcp", "tcp,", "icmp"] {
        let error = text.parse::<Coalesce>().unwrap_err();
        assert!(error.to_string().contains(&format!("{text:?}")));
    }
}
