//! The command line, right and wrong.

use super::*;
use net_device::features::OPTIONAL;

fn parse(words: &str) -> Result<CommandLine, clap::Error> {
    let words = std::iter::once("vhost-user-net").chain(words.split_whitespace());
    CommandLine::read(words.map(OsString::from))
}

fn served(task: Task) -> ServeArgs {
    match task {
        Task::Serve(args) => *args,
        Task::Inspect(args) => panic!("{args:?}"),
    }
}

fn serve(words: &str) -> ServeArgs {
    served(parse(&format!("serve {words}")).unwrap().task)
}

#[test]
fn the_command_is_consistent() {
    CommandLine::command().debug_assert();
}

#[test]
fn without_options_the_help_is_shown() {
    let error = parse("").unwrap_err();
    let expected = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    assert_eq!((error.kind(), error.exit_code()), (expected, 2));
}

#[test]
fn a_device_is_described() {
    let args = serve(
        "--socket-path /run/net.sock --tap tap3 --tap-addr 10.0.0.1/24 --tap-addr fd00::1/64 --host-mac 02:00:00:00:00:01 \
         --mac 02:00:00:00:00:02 --mtu 9000 --queue-pairs 4 --queue-size 512",
    );
    let device = args.device().unwrap();
    assert_eq!(device.mac, Some("02:00:00:00:00:02".parse().unwrap()));
    assert_eq!(
        (device.mtu, device.queue_pairs, device.queue_size),
        (Some(9000), 4, 512)
    );
    let tap = args.tap();
    assert_eq!(tap.name.as_deref(), Some("tap3"));
    assert_eq!(tap.host_mac, Some("02:00:00:00:00:01".parse().unwrap()));
    assert_eq!(tap.ipv4.unwrap().to_string(), "10.0.0.1/24");
    assert_eq!(tap.ipv6.unwrap().to_string(), "fd00::1/64");
    assert_eq!(args.to_string(), "queue pairs: 4, at /run/net.sock");
}

#[test]
fn a_kernel_is_tried_unless_told_otherwise() {
    let trust = |words: &str| serve(words).device().unwrap().gso;
    assert_eq!(trust("--fd 7 --tap t"), GsoTrust::Probe);
    assert_eq!(trust("--fd 7 --tap t --gso assume"), GsoTrust::Assume);
    assert_eq!(trust("--fd 7 --tap t --gso trust"), GsoTrust::Trust);
    assert!(parse("serve --fd 7 --tap t --gso never").is_err());
}

#[test]
fn control_commands_are_limited_unless_told_otherwise() {
    let limit = |words: &str| {
        let config = serve(words).device().unwrap();
        let limit = config.control_limit.unwrap();
        (limit.size, limit.refill_time)
    };
    assert_eq!(limit("--fd 7 --tap t"), (200, 2000));
    assert_eq!(limit("--fd 7 --tap t --control-rate 5"), (10, 2000));
    assert_eq!(limit("--fd 7 --tap t --control-rate 0").0, 0, "no limit");
}

#[test]
fn descriptors_are_listed() {
    let args = serve("--fd 7 --tap-fd 3,4 --queue-pairs 2");
    let expected = [3, 4].map(Inherited::Number);
    assert_eq!(args.fd, Some(Inherited::Number(7)));
    assert_eq!(args.tap_fd, expected);
    let args = serve("--fd net --tap-fd taps --queue-pairs 2");
    assert_eq!(args.fd, Some(Inherited::Name("net".into())));
    assert_eq!(args.tap_fd, [Inherited::Name("taps".into())]);
}

#[test]
fn rates_are_limits_of_the_device() {
    let args = serve(
        "--fd 7 --tap t --rx-rate 1Gbit --tx-rate 8Mbit --rx-pps 20kpps --burst 256KiB --control-path /run/net.ctl",
    );
    let device = args.device().unwrap();
    let (rx, tx) = (device.rx_limit.unwrap(), device.tx_limit.unwrap());
    assert_eq!(rx.bandwidth.unwrap().size, 1_250_000);
    assert_eq!(rx.ops.unwrap().size, 200);
    assert_eq!(tx.bandwidth.unwrap().size, 263_000);
    assert_eq!(tx.ops, None);
    assert!(args.control_path.is_some());
    let unlimited = serve("--fd 7 --tap t --burst 1MB").device().unwrap();
    assert_eq!((unlimited.rx_limit, unlimited.tx_limit), (None, None));
}

#[test]
fn a_limit_is_the_devices_unless_told() {
    let scope = |words: &str| serve(words).device().unwrap().limit_scope;
    assert_eq!(scope("--fd 7 --tap t"), LimitScope::Device);
    assert_eq!(
        scope("--fd 7 --tap t --limit-scope queue"),
        LimitScope::Queue
    );
}

#[test]
fn one_process_serves_several_devices() {
    let line = parse(
        "serve --fd 3 --tap t --group a:tx=1Gbit --and --fd 4 --tap u --group a -vv --and --fd 5 --tap v",
    );
    let line = line.unwrap();
    assert_eq!(line.verbose, 2);
    let first = served(line.task);
    let group = |args: &ServeArgs| args.group.as_ref().map(|group| group.name.clone());
    let fd = |args: &ServeArgs| args.fd.as_ref().and_then(|fd| fd.one().ok());
    assert_eq!((fd(&first), group(&first)), (Some(3), Some("a".into())));
    let [second, third] = &line.others[..] else {
        panic!("{:?}", line.others)
    };
    assert_eq!((fd(second), group(second)), (Some(4), Some("a".into())));
    assert_eq!((fd(third), group(third)), (Some(5), None));
}

#[test]
fn every_optional_feature_has_its_flag() {
    for (name, feature) in OPTIONAL {
        if feature.bits() > u64::MAX.into() {
            // It has no bit in any message.
            assert!(parse(&format!("serve --fd 7 --tap t --no-{name}")).is_err());
            continue;
        }
        let args = serve(&format!("--fd 7 --tap t --no-{name}"));
        assert_eq!(args.without, Without(*feature), "{name}");
        assert_eq!(args.device().unwrap().disabled, *feature);
    }
    assert_eq!(serve("--fd 7 --tap t").without, Without::default());
}

#[test]
fn capabilities_need_nothing_else() {
    assert!(serve("--print-capabilities").print_capabilities);
    assert!(serve("--print-capabilities --fd 3 --tap x").print_capabilities);
}

#[test]
fn options_of_serve_stand_without_the_word() {
    for words in [
        "--socket-path p --tap t",
        "-v --socket-path p --tap t",
        "--verbose -vv --tap t --socket-path=p",
    ] {
        let args = served(parse(words).unwrap().task);
        assert_eq!(args.tap.as_deref(), Some("t"), "{words}");
    }
    for words in ["--fd 3 --tap t", "--print-capabilities"] {
        assert!(parse(words).is_ok(), "{words}");
    }
    let several = parse("--fd 3 --tap t --and --fd 4 --tap u").unwrap();
    assert_eq!(several.others.len(), 1);
    assert_eq!(parse("-vv").unwrap_err().exit_code(), 2);
    for words in ["--help", "-v --help", "--version"] {
        assert_eq!(parse(words).unwrap_err().exit_code(), 0, "{words}");
    }
}

#[test]
fn a_socket_is_for_whom_it_is_said_to_be() {
    let args = serve("--socket-path p --tap t --socket-mode 0660 --socket-group kvm");
    let access = Access {
        mode: Some(0o660),
        group: Some("kvm".into()),
    };
    assert_eq!(args.access(), access);
    assert_eq!(serve("--socket-path p --tap t").access(), Access::default());
}

#[test]
fn rings_may_be_as_large_as_there_are() {
    assert_eq!(serve("--fd 3 --tap t").device().unwrap().queue_size, 32768);
}

#[test]
fn pairs_beyond_what_messages_can_number_are_refused_with_the_reason() {
    let device = |pairs: u16| serve(&format!("--fd 3 --tap t --queue-pairs {pairs}")).device();
    assert_eq!(device(128).unwrap().queue_pairs, 128);
    for pairs in [0, 129, 256, 257] {
        let error = device(pairs).unwrap_err();
        assert!(matches!(error, DeviceError::QueuePairs(_)), "{error:?}");
        assert!(error.to_string().contains("8 bits"), "{error}");
    }
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    for words in [
        "serve",
        "serve --fd 3",
        "serve --tap t",
        "serve --fd 3 --socket-path p --tap t",
        "serve --fd 3 --tap t --tap-fd 4",
        "serve --fd 3 --client --tap t",
        "serve --fd 3 --tap-fd 4 --tap-addr 10.0.0.1/8",
        "serve --fd 3 --tap t --mac 1:2",
        "serve --fd 3 --tap t --tap-addr 10.0.0.1",
        "serve --fd 3 --tap t --no-version-1",
        "serve --fd 3 --tap t --queue-pairs -1",
        "serve --fd 3 --tap t --rx-rate 5pps",
        "serve --fd 3 --tap t --tx-pps 1Gbit",
        "serve --fd 3 --tap t --tx-rate fast",
        "serve --fd 3 --tap t --burst 1MB/s",
        "serve --fd 3 --tap t --limit-scope pair",
        "serve --fd 3 --tap t --group",
        "serve --fd 3 --tap t --group :tx=1Gbit",
        "serve --fd 3 --tap t --group a:tx=fast",
        "serve --fd 3 --tap t --socket-mode 0660",
        "serve --socket-path p --client --tap t --socket-group kvm",
        "serve --socket-path p --tap t --socket-mode 0668",
        "serve --socket-path p --tap t --socket-mode 1777",
        "--tap t",
        "--fd 3",
        "--colour",
        "serve --and --fd 3 --tap t",
        "serve --fd 3 --tap t --and",
        "serve --fd 3 --tap t --and --fd 4",
        "serve --fd 3 --tap t --and serve --fd 4 --tap u",
        "--and --fd 3 --tap t",
        "demo --and --fd 3 --tap t",
        "server",
    ] {
        assert_eq!(parse(words).unwrap_err().exit_code(), 2, "{words}");
    }
}

#[test]
fn a_device_that_cannot_be_is_refused() {
    for words in [
        "--queue-pairs 0",
        "--queue-size 100",
        "--mtu 10",
        "--mac ff:ff:ff:ff:ff:ff",
        "--rx-rate 0.00000001bit",
    ] {
        assert!(
            serve(&format!("--fd 3 --tap t {words}")).device().is_err(),
            "{words}"
        );
    }
}

#[test]
fn a_file_gives_the_options_that_the_command_line_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("net.toml");
    let read = |text: &str, words: &str| {
        std::fs::write(&path, text).unwrap();
        parse(&words.replace("FILE", path.to_str().unwrap()))
    };
    let one = "fd = 3\ntap = 't'\nmtu = 9000\nrx-rate = '1Gbit'\nno-mq = true\nverbose = 1\n";
    for words in [
        "serve --config FILE --mtu 1500",
        "--config=FILE --mtu=1500",
        "--mtu 1500 --config FILE",
        "-v serve --mtu 1500 --config FILE",
    ] {
        let line = read(one, words).unwrap();
        let args = served(line.task);
        assert_eq!((args.mtu, args.tap.as_deref()), (Some(1500), Some("t")));
        assert!(args.limits.rx().unwrap().is_some() && !args.without.0.is_empty());
        assert!(line.verbose > 0);
    }
    let two = "queue-size = 64\nlog-format = 'json'\n[[device]]\nfd = 3\ntap = 't'\n\
               [[device]]\nfd = 4\ntap = 'u'\n";
    let line = read(two, "serve --config FILE --and --fd 5 --tap v").unwrap();
    let first = served(line.task);
    assert_eq!(first.log_format, Some(LogFormat::Json));
    let sizes = line.others.iter().map(|args| args.queue_size);
    assert_eq!(sizes.collect::<Vec<_>>(), [64, 32768]);
    for (text, words) in [
        (one, "serve --fd 3 --tap t --and --config FILE"),
        ("taps = 't'", "serve --config FILE"),
        ("tap = 't'", "serve --config FILE"),
        ("tap = ", "serve --config FILE --fd 3"),
        (one, "serve --config nothing"),
    ] {
        assert_eq!(read(text, words).unwrap_err().exit_code(), 2, "{text}");
    }
}

#[test]
fn protocols_to_coalesce_are_both_unless_others_are_named() {
    let coalesce = |words: &str| {
        let words = format!("--socket-path s --tap t {words}");
        serve(&words).device().unwrap().coalesce.to_string()
    };
    assert_eq!(coalesce(""), "tcp,udp");
    assert_eq!(coalesce("--coalesce udp"), "udp");
    assert_eq!(coalesce("--coalesce off"), "off");
    assert!(parse("serve --socket-path s --tap t --coalesce sctp").is_err());
}

#[test]
fn a_snapshot_is_rewritten_into_a_file_of_its_own() {
    let inspect = |words: &str| parse(&format!("inspect {words}"));
    for words in [
        "FILE",
        "- --json",
        "FILE --output NEW --id net1 --mac 02:00:00:00:00:02",
    ] {
        assert!(
            matches!(inspect(words).unwrap().task, Task::Inspect(_)),
            "{words}"
        );
    }
    for words in [
        "",
        "FILE --id net1",
        "FILE --release 1",
        "FILE --tap t",
        "FILE --and --fd 3 --tap t",
    ] {
        assert_eq!(inspect(words).unwrap_err().exit_code(), 2, "{words}");
    }
}
