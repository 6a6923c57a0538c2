//! Opening by name and by template: created or existing, and every reason to refuse.

mod common;

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::PermissionsExt;

use common::{chain, index, isolated, open, open_all, raw_persistent, raw_tun};
use libc::{IFF_MULTI_QUEUE, IFF_NO_PI, IFF_TAP, IFF_TUN, IFF_VNET_HDR};
use tap::{Differences, Error, MAX_QUEUES, NameFault, TapOptions, VNET_HEADER_LEN};

const MAC: [u8; 6] = [0x02, 0x11, 0x22, 0x33, 0x44, 0x55];
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 9, 8, 1);

fn differences(options: TapOptions) -> Differences {
    match options.open() {
        Err(Error::Different { differences, .. }) => differences,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_name_creates_the_interface_and_the_last_queue_removes_it() {
    isolated(|| {
        let tap = open(TapOptions::new("named0"));
        assert!(tap.was_created());
        assert_eq!(tap.name().unwrap(), "named0");
        assert_eq!(tap.vnet_header_len().unwrap(), VNET_HEADER_LEN);
        drop(tap);
        assert_eq!(index("named0"), None);
    });
}

#[test]
fn a_template_takes_the_first_free_number() {
    isolated(|| {
        let first = open(TapOptions::new("vmtap%d"));
        let second = open(TapOptions::new("vmtap%d"));
        assert_eq!(first.name().unwrap(), "vmtap0");
        assert_eq!(second.name().unwrap(), "vmtap1");
        assert!(first.was_created() && second.was_created());
    });
}

#[test]
fn several_queues_are_of_one_interface() {
    isolated(|| {
        let taps = open_all(TapOptions::new("multi%d").queues(4));
        assert_eq!(taps.len(), 4);
        for tap in &taps {
            assert!(tap.was_created());
            assert_eq!(tap.name().unwrap(), "multi0");
            assert_eq!(tap.vnet_header_len().unwrap(), VNET_HEADER_LEN);
            assert!(tap.is_queue_attached().unwrap());
        }
    });
}

#[test]
fn all_queues_can_be_opened_and_not_one_more() {
    isolated(|| {
        let taps = open_all(TapOptions::new("full").queues(MAX_QUEUES));
        assert_eq!(taps.len(), MAX_QUEUES);
        let error = TapOptions::new("full")
            .multi_queue(true)
            .open()
            .unwrap_err();
        assert!(
            matches!(&error, Error::Full { name, .. } if name == "full"),
            "{error:?}"
        );
    });
}

#[test]
fn descriptors_are_non_blocking_and_close_on_exec() {
    isolated(|| {
        for tap in open_all(TapOptions::new("fdflags").queues(2)) {
            use std::os::fd::AsRawFd;
            let info =
                fs::read_to_string(format!("/proc/self/fdinfo/{}", tap.as_raw_fd())).unwrap();
            let flags = info
                .lines()
                .find_map(|line| line.strip_prefix("flags:"))
                .unwrap();
            let flags = i32::from_str_radix(flags.trim(), 8).unwrap();
            assert_eq!(flags & libc::O_NONBLOCK, libc::O_NONBLOCK);
            assert_eq!(flags & libc::O_CLOEXEC, libc::O_CLOEXEC);
        }
    });
}

#[test]
fn a_created_interface_is_configured_as_asked() {
    isolated(|| {
        let tap = open(
            TapOptions::new("conf0")
                .mac(MAC)
                .mtu(9000)
                .ipv4(ADDRESS, 24)
                .ipv6("fd00::1".parse().unwrap(), 64)
                .up(),
        );
        assert_eq!(tap.mac().unwrap(), MAC);
        assert_eq!(tap.mtu().unwrap(), 9000);
        assert!(tap.is_up().unwrap());
        UdpSocket::bind((ADDRESS, 0)).expect("the address is there");
        let addresses = fs::read_to_string("/proc/net/if_inet6").unwrap();
        assert!(
            addresses.contains("fd000000000000000000000000000001"),
            "{addresses}"
        );
    });
}

#[test]
fn an_existing_interface_keeps_mac_mtu_and_address() {
    isolated(|| {
        let before = open(
            TapOptions::new("keep0")
                .mac(MAC)
                .mtu(1400)
                .ipv4(ADDRESS, 24)
                .up(),
        );
        before.set_persist(true).unwrap();
        drop(before);

        let tap = open(
            TapOptions::new("keep0")
                .mac([0x02; 6])
                .mtu(9000)
                .ipv4(Ipv4Addr::new(10, 1, 1, 1), 8)
                .ipv6("fd00::1".parse().unwrap(), 64)
                .up(),
        );
        assert!(!tap.was_created());
        assert_eq!(tap.mac().unwrap(), MAC);
        assert_eq!(tap.mtu().unwrap(), 1400);
        UdpSocket::bind((ADDRESS, 0)).expect("the address is still there");
        UdpSocket::bind((Ipv4Addr::new(10, 1, 1, 1), 0)).expect_err("no other address");
        let addresses = fs::read_to_string("/proc/net/if_inet6").unwrap();
        assert!(!addresses.contains("fd00"), "{addresses}");
    });
}

#[test]
fn an_existing_interface_is_made_ready_for_virtio() {
    isolated(|| {
        let before = open(TapOptions::new("ready0"));
        before.set_persist(true).unwrap();
        before.set_vnet_header_len(10).unwrap();
        drop(before);
        let tap = open(TapOptions::new("ready0"));
        assert_eq!(tap.vnet_header_len().unwrap(), VNET_HEADER_LEN);
    });
}

#[test]
fn further_queues_join_an_existing_multi_queue_interface() {
    isolated(|| {
        let first = open_all(TapOptions::new("join0").queues(2));
        let more = open_all(TapOptions::new("join0").queues(2));
        assert!(first.iter().all(|tap| tap.was_created()));
        assert!(more.iter().all(|tap| !tap.was_created()));
    });
}

#[test]
fn a_single_queue_interface_refuses_several_queues() {
    isolated(|| {
        raw_persistent("single0", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
        let options = TapOptions::new("single0").queues(2);
        assert_eq!(differences(options), Differences::SINGLE_QUEUE);
    });
}

#[test]
fn a_multi_queue_interface_wants_to_be_asked_for() {
    isolated(|| {
        raw_persistent("mq0", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE);
        assert_eq!(
            differences(TapOptions::new("mq0")),
            Differences::MULTI_QUEUE
        );
        open(TapOptions::new("mq0").multi_queue(true));
    });
}

#[test]
fn a_tun_is_refused_as_such() {
    isolated(|| {
        raw_persistent("tun0", IFF_TUN | IFF_NO_PI);
        let options = TapOptions::new("tun0");
        assert_eq!(differences(options.clone()), Differences::TUN);
        let message = chain(&options.open().unwrap_err());
        assert_eq!(
            message,
            "interface tun0 does not fit: it is a tun, not a tap"
        );
    });
}

#[test]
fn an_interface_of_another_driver_is_refused_as_such() {
    isolated(|| {
        assert_eq!(
            differences(TapOptions::new("lo")),
            Differences::OTHER_DRIVER
        );
    });
}

#[test]
fn queues_without_header_or_with_packet_information_are_named_together() {
    isolated(|| {
        // The kernel lets later queues of a live interface inherit what the first ones set.
        let _others = [
            raw_tun("plain0", IFF_TAP | IFF_MULTI_QUEUE),
            raw_tun("plain0", IFF_TAP | IFF_MULTI_QUEUE),
        ];
        let found = differences(TapOptions::new("plain0").multi_queue(true));
        assert_eq!(
            found,
            Differences::NO_VNET_HEADER | Differences::PACKET_INFO
        );
    });
}

#[test]
fn a_single_queue_in_use_is_busy() {
    isolated(|| {
        let _user = open(TapOptions::new("busy0"));
        let error = TapOptions::new("busy0").open().unwrap_err();
        assert!(
            matches!(&error, Error::Busy { name, .. } if name == "busy0"),
            "{error:?}"
        );
        assert!(error.to_string().contains("busy0 is in use"), "{error}");
    });
}

#[test]
fn a_failed_configuration_leaves_no_interface() {
    isolated(|| {
        let error = TapOptions::new("gone0").mtu(10).open().unwrap_err();
        assert!(
            matches!(
                error,
                Error::Request {
                    request: "SIOCSIFMTU",
                    ..
                }
            ),
            "{error:?}"
        );
        assert_eq!(index("gone0"), None);
    });
}

#[test]
fn a_missing_capability_is_named() {
    isolated(|| {
        let error = common::without_capabilities(|| TapOptions::new("cap0").open().unwrap_err());
        assert!(
            matches!(&error, Error::Permission { name, .. } if name == "cap0"),
            "{error:?}"
        );
        assert!(chain(&error).contains("CAP_NET_ADMIN"), "{}", chain(&error));
    });
}

#[test]
fn a_missing_driver_is_named() {
    isolated(|| {
        std::os::unix::fs::chroot("/proc").unwrap();
        let error = TapOptions::new("none0").open().unwrap_err();
        assert!(matches!(error, Error::NoDriver(_)), "{error:?}");
        assert!(error.to_string().contains("modprobe tun"), "{error}");
    });
}

#[test]
fn a_driver_closed_to_this_user_is_named() {
    isolated(|| {
        // The working directory stays outside the new root, so the latter can be removed.
        let root = format!("tap-test-{}", std::process::id());
        std::env::set_current_dir(std::env::temp_dir()).unwrap();
        fs::create_dir_all(format!("{root}/dev/net")).unwrap();
        let driver = format!("{root}/dev/net/tun");
        fs::write(&driver, "").unwrap();
        fs::set_permissions(&driver, fs::Permissions::from_mode(0o000)).unwrap();
        std::os::unix::fs::chroot(&root).unwrap();
        let result = common::without_capabilities(|| TapOptions::new("shut0").open());
        fs::remove_dir_all(&root).unwrap();
        let error = result.unwrap_err();
        assert!(matches!(error, Error::DriverPermission(_)), "{error:?}");
        assert!(
            error.to_string().contains("chmod 0666 /dev/net/tun"),
            "{error}"
        );
    });
}

#[test]
fn senseless_requests_are_refused_before_the_kernel_is_asked() {
    let name = TapOptions::new("a-name-too-long-for-linux").open();
    assert!(
        matches!(
            name,
            Err(Error::Name {
                fault: NameFault::TooLong,
                ..
            })
        ),
        "{name:?}"
    );
    for queues in [0, MAX_QUEUES + 1] {
        let result = TapOptions::new("q").queues(queues).open();
        assert!(
            matches!(result, Err(Error::QueueCount(n)) if n == queues),
            "{result:?}"
        );
    }
    let ipv4 = TapOptions::new("p").ipv4(ADDRESS, 33).open();
    assert!(
        matches!(
            ipv4,
            Err(Error::Prefix {
                prefix: 33,
                bits: 32
            })
        ),
        "{ipv4:?}"
    );
    let ipv6 = TapOptions::new("p")
        .ipv6("::1".parse().unwrap(), 129)
        .open();
    assert!(
        matches!(
            ipv6,
            Err(Error::Prefix {
                prefix: 129,
                bits: 128
            })
        ),
        "{ipv6:?}"
    );
}

#[test]
fn the_owner_of_a_tap_that_is_up_needs_no_capability() {
    isolated(|| {
        for (name, multi_queue, queues) in [("own0", 0, 1), ("own1", IFF_MULTI_QUEUE, 4)] {
            common::raw_owned(name, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | multi_queue);
            let options = TapOptions::new(name).queues(queues).mtu(9000).up();
            let error = common::without_capabilities(|| options.open().unwrap_err());
            assert!(matches!(error, Error::Down { .. }), "{error:?}");
            common::set_flags(name, common::flags(name) | libc::IFF_UP);
            let taps = common::without_capabilities(|| open_all(options));
            assert_eq!(taps.len(), queues);
            assert!(!taps[0].was_created());
            assert!(taps[0].is_up().unwrap());
        }
    });
}
