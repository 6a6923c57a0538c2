//! Taps handed in as descriptors, from this network namespace or another.

mod common;

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use common::{in_other_namespace, isolated, isolated_as_root, open, open_all, raw_tun};
use libc::{IFF_MULTI_QUEUE, IFF_NO_PI, IFF_TAP, IFF_TUN, IFF_VNET_HDR};
use tap::{Differences, Error, Offloads, Tap, TapOptions, VNET_HEADER_LEN};

const GOOD: i32 = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;

fn differences(fds: Vec<OwnedFd>) -> Differences {
    match Tap::from_fds(fds) {
        Err(Error::Different { differences, .. }) => differences,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_fitting_descriptor_becomes_a_tap() {
    isolated(|| {
        let fd = raw_tun("fd0", GOOD);
        let number = fd.as_raw_fd();
        let tap = Tap::from_fd(fd).unwrap();
        assert_eq!(tap.as_raw_fd(), number);
        assert_eq!(tap.name().unwrap(), "fd0");
        assert!(!tap.was_created());
        assert_eq!(tap.vnet_header_len().unwrap(), VNET_HEADER_LEN);
        let error = tap.read(&mut [0; 64]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    });
}

#[test]
fn one_queue_of_a_multi_queue_interface_fits() {
    isolated(|| {
        let tap = Tap::from_fd(raw_tun("one0", GOOD | IFF_MULTI_QUEUE)).unwrap();
        assert_eq!(tap.name().unwrap(), "one0");
    });
}

#[test]
fn queues_of_one_interface_fit_together() {
    isolated(|| {
        let fds = (0..3)
            .map(|_| raw_tun("set0", GOOD | IFF_MULTI_QUEUE))
            .collect();
        let taps = Tap::from_fds(fds).unwrap();
        assert_eq!(taps.len(), 3);
        assert!(taps.iter().all(|tap| tap.name().unwrap() == "set0"));
    });
}

#[test]
fn everything_that_differs_is_named() {
    isolated(|| {
        assert_eq!(
            differences(vec![raw_tun("tun0", IFF_TUN)]),
            Differences::TUN | Differences::NO_VNET_HEADER
        );
        assert_eq!(
            differences(vec![raw_tun("bare0", IFF_TAP)]),
            Differences::PACKET_INFO | Differences::NO_VNET_HEADER
        );
        assert_eq!(
            differences(vec![raw_tun("nohdr0", IFF_TAP | IFF_NO_PI)]),
            Differences::NO_VNET_HEADER
        );
        assert_eq!(
            differences(vec![raw_tun("pi0", IFF_TAP | IFF_VNET_HDR)]),
            Differences::PACKET_INFO
        );
        let single = raw_tun("single0", GOOD);
        let again = single.try_clone().unwrap();
        assert_eq!(differences(vec![single, again]), Differences::SINGLE_QUEUE);
    });
}

#[test]
fn a_descriptor_that_is_no_tap_is_named_by_position() {
    isolated(|| {
        let null = || OwnedFd::from(File::open("/dev/null").unwrap());
        let unattached = || OwnedFd::from(File::open("/dev/net/tun").unwrap());
        for other in [null(), unattached()] {
            let result = Tap::from_fds(vec![raw_tun("set0", GOOD | IFF_MULTI_QUEUE), other]);
            assert!(
                matches!(result, Err(Error::NotTap { index: 1, .. })),
                "{result:?}"
            );
        }
        let result = Tap::from_fd(null());
        assert!(
            matches!(result, Err(Error::NotTap { index: 0, .. })),
            "{result:?}"
        );
        let result = Tap::from_fds(Vec::new());
        assert!(matches!(result, Err(Error::QueueCount(0))), "{result:?}");
    });
}

#[test]
fn a_tap_whose_driver_has_no_filters_fits_and_a_plain_file_does_not() {
    isolated(|| {
        let fds = [0, IFF_MULTI_QUEUE].map(|more| raw_tun(&format!("mv{more}"), GOOD | more));
        let [single, multi] = fds;
        let bare = raw_tun("mvbare", IFF_TAP | IFF_NO_PI);
        common::refuse_filters();
        let again = single.try_clone().unwrap();
        assert_eq!(Tap::from_fds(vec![single, again]).unwrap().len(), 2);
        assert_eq!(differences(vec![bare]), Differences::NO_VNET_HEADER);
        let tap = Tap::from_fd(multi).unwrap();
        tap.detach_queue().unwrap();
        tap.detach_queue().unwrap();
        let null = OwnedFd::from(File::open("/dev/null").unwrap());
        let error = Tap::from_fd(null).unwrap_err();
        assert!(matches!(error, Error::NotTap { .. }), "{error:?}");
    });
}

#[test]
fn a_macvtaps_descriptors_are_its_queues() {
    isolated_as_root(|| {
        let taps = Tap::from_fds(common::macvtap().into()).unwrap();
        let names = taps.iter().map(|tap| tap.name().unwrap());
        assert!(names.eq(["mvt0", "mvt0"]));
        let offloads = taps[0].probe_offloads().unwrap();
        assert!(offloads.contains(Offloads::CSUM | Offloads::TSO4 | Offloads::TSO6));
        assert_eq!(taps[0].vnet_header_len().unwrap(), VNET_HEADER_LEN);
        assert_eq!(taps[0].mtu().unwrap(), 1500);
        for attached in [false, false, true, true] {
            if attached {
                taps[1].attach_queue().unwrap();
            } else {
                taps[1].detach_queue().unwrap();
            }
        }
        assert_eq!(taps[1].write(&[0; 12 + 64]).unwrap(), 12 + 64);
    });
}

#[test]
fn queues_of_two_interfaces_do_not_mix() {
    isolated(|| {
        let fds = ["a0", "b0"].map(|name| raw_tun(name, GOOD | IFF_MULTI_QUEUE));
        let error = Tap::from_fds(fds.into()).unwrap_err();
        assert!(
            matches!(error, Error::OtherInterface { index: 1, .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains("b0"), "{error}");
    });
}

#[test]
fn namesakes_of_two_namespaces_do_not_mix() {
    isolated(|| {
        let here = raw_tun("same0", GOOD | IFF_MULTI_QUEUE);
        let there = in_other_namespace(|| raw_tun("same0", GOOD | IFF_MULTI_QUEUE));
        let error = Tap::from_fds(vec![here, there]).unwrap_err();
        assert!(
            matches!(error, Error::OtherInterface { index: 1, .. }),
            "{error:?}"
        );
    });
}

#[test]
fn a_refused_set_of_descriptors_is_left_as_it_was() {
    isolated(|| {
        let kept = raw_tun("kept0", GOOD | IFF_MULTI_QUEUE);
        let mine = kept.try_clone().unwrap();
        let other = raw_tun("other0", GOOD | IFF_MULTI_QUEUE);
        Tap::from_fds(vec![kept, other]).unwrap_err();
        // The kernel's own length, which a tap of this crate never starts with.
        assert_eq!(raw_header_len(&mine), 10);
        assert_eq!(
            Tap::from_fd(mine).unwrap().vnet_header_len().unwrap(),
            VNET_HEADER_LEN
        );
    });
}

#[test]
fn a_tap_of_another_namespace_moves_frames_but_is_not_configured_from_here() {
    isolated(|| {
        let fds = in_other_namespace(|| {
            let taps = open_all(TapOptions::new("far0").queues(2).up());
            taps.into_iter().map(OwnedFd::from).collect()
        });
        let taps = Tap::from_fds(fds).unwrap();
        let tap = &taps[0];
        assert_eq!(tap.name().unwrap(), "far0");

        // Through the queue.
        tap.set_mac([2, 0, 0, 0, 0, 9]).unwrap();
        assert_eq!(tap.mac().unwrap(), [2, 0, 0, 0, 0, 9]);
        tap.set_offloads(tap.probe_offloads().unwrap()).unwrap();
        taps[1].detach_queue().unwrap();
        taps[1].attach_queue().unwrap();
        tap.set_carrier(true).unwrap();
        assert_eq!(tap.write(&[0; 12 + 64]).unwrap(), 12 + 64);

        // By name: neither without a namesake nor with one.
        let refused = |result: Result<(), Error>| match result {
            Err(Error::OtherNamespace { name }) => assert_eq!(name, "far0"),
            other => panic!("{other:?}"),
        };
        refused(tap.mtu().map(drop));
        let namesake = open(TapOptions::new("far0").mtu(1234));
        refused(tap.mtu().map(drop));
        refused(tap.if_index().map(drop));
        refused(tap.is_up().map(drop));
        refused(tap.carrier().map(drop));
        refused(tap.set_mtu(1300));
        refused(tap.set_ipv4([10, 0, 0, 1].into(), 24));
        refused(tap.add_ipv6("fd00::1".parse().unwrap(), 64));
        refused(tap.up());
        refused(tap.down());
        assert_eq!(namesake.mtu().unwrap(), 1234);
        assert!(!namesake.is_up().unwrap());
    });
}

#[test]
fn a_clone_is_the_same_queue() {
    isolated(|| {
        let tap = open(TapOptions::new("dup0"));
        let clone = tap.try_clone().unwrap();
        assert!(clone.was_created());
        drop(tap);
        assert_eq!(clone.name().unwrap(), "dup0");
        assert_ne!(clone.as_fd().as_raw_fd(), -1);
    });
}

#[allow(unsafe_code)]
fn raw_header_len(fd: &OwnedFd) -> i32 {
    let mut length = 0i32;
    // SAFETY: TUNGETVNETHDRSZ writes one `int`.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNGETVNETHDRSZ, &mut length) };
    assert_eq!(result, 0);
    length
}
