//! The interface around the queues.

mod common;

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};

use common::{flags, isolated, open, set_flags, without_capabilities};
use libc::{IFF_ALLMULTI, IFF_NOARP, IFF_UP};
use tap::{Error, TapOptions};

#[test]
fn mtu_is_set_and_read_back() {
    isolated(|| {
        let tap = open(TapOptions::new("mtu0"));
        assert_eq!(tap.mtu().unwrap(), 1500);
        for mtu in [68, 1280, 9000, 65_521] {
            tap.set_mtu(mtu).unwrap();
            assert_eq!(tap.mtu().unwrap(), mtu);
        }
        let error = tap.set_mtu(67).unwrap_err();
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
    });
}

#[test]
fn mac_is_set_and_read_back_also_while_up() {
    isolated(|| {
        let tap = open(TapOptions::new("mac0").up());
        let mac = [0x02, 0xfe, 0x80, 0xff, 0x00, 0x7f];
        tap.set_mac(mac).unwrap();
        assert_eq!(tap.mac().unwrap(), mac);
        let error = tap.set_mac([0xff; 6]).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Request {
                    request: "SIOCSIFHWADDR",
                    ..
                }
            ),
            "{error:?}"
        );
        assert_eq!(tap.mac().unwrap(), mac);
    });
}

#[test]
fn index_is_the_kernels() {
    isolated(|| {
        let tap = open(TapOptions::new("idx0"));
        assert_eq!(tap.if_index().ok(), common::index("idx0"));
    });
}

#[test]
fn an_ipv4_address_replaces_the_one_before() {
    isolated(|| {
        let tap = open(TapOptions::new("v40").up());
        let first = Ipv4Addr::new(10, 20, 30, 1);
        let second = Ipv4Addr::new(192, 168, 77, 1);
        tap.set_ipv4(first, 24).unwrap();
        UdpSocket::bind((first, 0)).unwrap();
        tap.set_ipv4(second, 20).unwrap();
        tap.set_ipv4(second, 20).unwrap();
        UdpSocket::bind((second, 0)).unwrap();
        UdpSocket::bind((first, 0)).unwrap_err();
        // Destination and mask of the connected route, in the kernel's byte order.
        let routes = fs::read_to_string("/proc/net/route").unwrap();
        let mask = format!("{:08X}", u32::from_ne_bytes([255, 255, 240, 0]));
        let network = format!("{:08X}", u32::from_ne_bytes([192, 168, 64, 0]));
        let found = routes.lines().any(|line| {
            let columns: Vec<_> = line.split_whitespace().collect();
            columns[0] == "v40" && columns[1] == network && columns[7] == mask
        });
        assert!(found, "{routes}");
        let error = tap.set_ipv4(second, 33).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Prefix {
                    prefix: 33,
                    bits: 32
                }
            ),
            "{error:?}"
        );
    });
}

#[test]
fn ipv6_addresses_add_up_and_may_repeat() {
    isolated(|| {
        let tap = open(TapOptions::new("v60").up());
        tap.add_ipv6("fd00::1".parse().unwrap(), 64).unwrap();
        tap.add_ipv6("fd00::1".parse().unwrap(), 64).unwrap();
        tap.add_ipv6("fd01::2".parse().unwrap(), 48).unwrap();
        let addresses = fs::read_to_string("/proc/net/if_inet6").unwrap();
        // Address, interface index, prefix length.
        let has = |address: &str, prefix: &str| {
            addresses.lines().any(|line| {
                let columns: Vec<_> = line.split_whitespace().collect();
                columns[0] == address && columns[2] == prefix
            })
        };
        assert!(has("fd000000000000000000000000000001", "40"), "{addresses}");
        assert!(has("fd010000000000000000000000000002", "30"), "{addresses}");
        let error = tap.add_ipv6("fd00::3".parse().unwrap(), 129).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Prefix {
                    prefix: 129,
                    bits: 128
                }
            ),
            "{error:?}"
        );
    });
}

#[test]
fn up_and_down_keep_the_other_flags() {
    isolated(|| {
        let tap = open(TapOptions::new("up0"));
        let others = IFF_NOARP | IFF_ALLMULTI;
        set_flags("up0", flags("up0") | others);
        assert!(!tap.is_up().unwrap());

        tap.up().unwrap();
        assert!(tap.is_up().unwrap());
        assert_eq!(flags("up0") & (others | IFF_UP), others | IFF_UP);

        tap.down().unwrap();
        assert!(!tap.is_up().unwrap());
        assert_eq!(flags("up0") & (others | IFF_UP), others);
    });
}

#[test]
fn carrier_is_plugged_and_unplugged() {
    isolated(|| {
        let tap = open(TapOptions::new("cable0").up());
        assert!(tap.carrier().unwrap());
        tap.set_carrier(false).unwrap();
        assert!(!tap.carrier().unwrap());
        assert!(tap.is_up().unwrap());
        tap.set_carrier(true).unwrap();
        assert!(tap.carrier().unwrap());
        tap.down().unwrap();
        assert!(!tap.carrier().unwrap());

        let queue = open(TapOptions::new("cable1").multi_queue(true));
        queue.detach_queue().unwrap();
        let error = queue.set_carrier(true).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Request {
                    request: "TUNSETCARRIER",
                    ..
                }
            ),
            "{error:?}"
        );
    });
}

#[test]
fn changes_without_capability_say_what_is_missing() {
    isolated(|| {
        let tap = open(TapOptions::new("priv0"));
        without_capabilities(|| {
            assert_eq!(tap.mtu().unwrap(), 1500);
            assert!(!tap.is_up().unwrap());
            assert!(!tap.carrier().unwrap());
            let refusals = [
                tap.set_mtu(1400),
                tap.set_ipv4([10, 0, 0, 1].into(), 24),
                tap.add_ipv6("fd00::1".parse().unwrap(), 64),
                tap.up(),
            ];
            for refusal in refusals {
                assert!(
                    matches!(refusal, Err(Error::NeedsNetAdmin { .. })),
                    "{refusal:?}"
                );
            }
        });
    });
}

#[test]
fn what_is_set_already_needs_no_capability() {
    isolated(|| {
        let (address, other) = ([10, 0, 0, 1].into(), "fd00::1".parse().unwrap());
        let tap = open(
            TapOptions::new("same0")
                .mtu(1400)
                .ipv4(address, 24)
                .ipv6(other, 64)
                .up(),
        );
        without_capabilities(|| {
            tap.up().unwrap();
            tap.set_mtu(1400).unwrap();
            tap.set_mac(tap.mac().unwrap()).unwrap();
            tap.set_ipv4(address, 24).unwrap();
            tap.add_ipv6(other, 64).unwrap();
            for refusal in [
                tap.down(),
                tap.set_mtu(1401),
                tap.set_ipv4(address, 25),
                tap.set_ipv4([10, 0, 0, 2].into(), 24),
                tap.add_ipv6("fd00::2".parse().unwrap(), 64),
            ] {
                assert!(
                    matches!(refusal, Err(Error::NeedsNetAdmin { .. })),
                    "{refusal:?}"
                );
            }
        });
    });
}
