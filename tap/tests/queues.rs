//! Properties of queues: attachment, framing, offloads.

mod common;

use std::net::{Ipv4Addr, UdpSocket};
use std::thread;

use common::{drain, isolated, open, open_all};
use tap::{Differences, Error, Offloads, Tap, TapOptions};

const FLOWS: u16 = 64;
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);
const BROADCAST: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 255);
const MARK: &[u8] = b"a frame of the flow test";

/// Sends one broadcast of each of many flows into the interface, then counts them per queue.
fn spread(taps: &[Tap]) -> Vec<usize> {
    for _ in 0..FLOWS {
        let socket = UdpSocket::bind((ADDRESS, 0)).unwrap();
        socket.set_broadcast(true).unwrap();
        socket.send_to(MARK, (BROADCAST, 9)).unwrap();
    }
    taps.iter()
        .map(|tap| drain(tap, |frame| frame.ends_with(MARK)))
        .collect()
}

#[test]
fn flows_follow_attachment() {
    isolated(|| {
        let taps = open_all(TapOptions::new("flow0").queues(4).ipv4(ADDRESS, 24).up());
        let all = usize::from(FLOWS);

        let attached = spread(&taps);
        assert_eq!(attached.iter().sum::<usize>(), all);
        assert!(
            attached.iter().filter(|&&count| count > 0).count() > 1,
            "{attached:?}"
        );

        taps[1..].iter().for_each(|tap| tap.detach_queue().unwrap());
        assert_eq!(spread_attached(&taps), [all, 0, 0, 0]);

        taps[1..].iter().for_each(|tap| tap.attach_queue().unwrap());
        let again = spread(&taps);
        assert_eq!(again.iter().sum::<usize>(), all);
        assert!(again[1..].iter().sum::<usize>() > 0, "{again:?}");
    });
}

fn spread_attached(taps: &[Tap]) -> Vec<usize> {
    let states: Vec<_> = taps
        .iter()
        .map(|tap| tap.is_queue_attached().unwrap())
        .collect();
    assert_eq!(states, [true, false, false, false]);
    spread(taps)
}

#[test]
fn attaching_and_detaching_twice_changes_nothing() {
    isolated(|| {
        let taps = open_all(TapOptions::new("twice0").queues(2));
        taps[1].attach_queue().unwrap();
        assert!(taps[1].is_queue_attached().unwrap());
        for _ in 0..2 {
            taps[1].detach_queue().unwrap();
            assert!(!taps[1].is_queue_attached().unwrap());
        }
        for _ in 0..2 {
            taps[1].attach_queue().unwrap();
            assert!(taps[1].is_queue_attached().unwrap());
        }
        assert!(taps[0].is_queue_attached().unwrap());
    });
}

#[test]
fn a_control_thread_detaches_through_a_clone() {
    isolated(|| {
        let mut taps = open_all(TapOptions::new("ctl0").queues(2).up());
        let worker = taps.pop().unwrap();
        let control = worker.try_clone().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..1000 {
                    // The kernel takes frames from a detached queue too.
                    assert_eq!(worker.write(&[0; 12 + 60]).unwrap(), 12 + 60);
                }
            });
            scope.spawn(|| {
                for _ in 0..100 {
                    control.detach_queue().unwrap();
                    control.attach_queue().unwrap();
                }
            });
        });
        assert!(worker.is_queue_attached().unwrap());
    });
}

#[test]
fn the_only_queue_of_a_single_queue_interface_stays() {
    isolated(|| {
        let tap = open(TapOptions::new("only0"));
        tap.attach_queue().unwrap();
        let error = tap.detach_queue().unwrap_err();
        let Error::Different { differences, .. } = error else {
            panic!("{error:?}")
        };
        assert_eq!(differences, Differences::SINGLE_QUEUE);
    });
}

#[test]
fn framing_is_of_the_whole_interface() {
    isolated(|| {
        let taps = open_all(TapOptions::new("hdr0").queues(2));
        taps[0].set_vnet_header_len(20).unwrap();
        assert_eq!(taps[1].vnet_header_len().unwrap(), 20);
        taps[1].set_vnet_header_len(10).unwrap();
        assert_eq!(taps[0].vnet_header_len().unwrap(), 10);
        let error = taps[0].set_vnet_header_len(9).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Request {
                    request: "TUNSETVNETHDRSZ",
                    ..
                }
            ),
            "{error:?}"
        );
        taps[0].set_little_endian(false).unwrap();
        taps[0].set_little_endian(true).unwrap();
        taps[0].set_send_buffer(1 << 16).unwrap();
        let error = taps[0].set_send_buffer(0).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Request {
                    request: "TUNSETSNDBUF",
                    ..
                }
            ),
            "{error:?}"
        );
    });
}

#[test]
fn offloads_found_by_probing_can_be_set() {
    isolated(|| {
        let tap = open(TapOptions::new("off0"));
        let found = tap.probe_offloads().unwrap();
        let everywhere = Offloads::CSUM | Offloads::TSO4 | Offloads::TSO6 | Offloads::ECN;
        assert!(found.contains(everywhere), "{found:?}");
        // Linux 6.2 and later take both, earlier ones neither.
        assert_eq!(
            found.contains(Offloads::USO4),
            found.contains(Offloads::USO6)
        );
        tap.set_offloads(found).unwrap();
        tap.set_offloads(Offloads::empty()).unwrap();
    });
}

#[test]
fn probing_leaves_no_offload_set() {
    isolated(|| {
        let tap = open(TapOptions::new("probe0").ipv4(ADDRESS, 24).up());
        tap.set_offloads(Offloads::CSUM).unwrap();
        assert!(needs_checksum(&tap));
        tap.probe_offloads().unwrap();
        assert!(!needs_checksum(&tap));
    });
}

#[test]
fn an_existing_interface_loses_the_offloads_of_its_last_user() {
    isolated(|| {
        let options = TapOptions::new("left0").ipv4(ADDRESS, 24).up();
        let before = open(options.clone());
        before.set_persist(true).unwrap();
        before.set_offloads(Offloads::CSUM).unwrap();
        drop(before);
        assert!(!needs_checksum(&open(options)));
    });
}

/// Returns whether the kernel leaves the checksum of a datagram to the reader of the tap.
fn needs_checksum(tap: &Tap) -> bool {
    let socket = UdpSocket::bind((ADDRESS, 0)).unwrap();
    socket.set_broadcast(true).unwrap();
    socket.send_to(MARK, (BROADCAST, 9)).unwrap();
    let frame = common::read_until(tap, |frame| frame.ends_with(MARK));
    frame[0] & 1 != 0
}

#[test]
fn sets_that_are_not_closed_are_refused() {
    isolated(|| {
        let tap = open(TapOptions::new("closed0"));
        let refused = [
            Offloads::TSO4,
            Offloads::TSO6,
            Offloads::UFO,
            Offloads::USO4 | Offloads::USO6,
            Offloads::CSUM | Offloads::ECN,
            Offloads::CSUM | Offloads::USO4,
            Offloads::CSUM | Offloads::USO6,
        ];
        for offloads in refused {
            match tap.set_offloads(offloads) {
                Err(Error::Request {
                    request: "TUNSETOFFLOAD",
                    source,
                }) => {
                    assert_eq!(source.raw_os_error(), Some(libc::EINVAL), "{offloads:?}");
                }
                other => panic!("{offloads:?}: {other:?}"),
            }
        }
    });
}

#[test]
fn requests_on_a_queue_need_no_capability() {
    isolated(|| {
        let taps = open_all(TapOptions::new("drop0").queues(2).up());
        common::without_capabilities(|| {
            taps[1].detach_queue().unwrap();
            taps[1].attach_queue().unwrap();
            taps[0]
                .set_offloads(taps[0].probe_offloads().unwrap())
                .unwrap();
            taps[0].set_vnet_header_len(12).unwrap();
            taps[0].set_little_endian(true).unwrap();
            taps[0].set_send_buffer(1 << 20).unwrap();
            taps[0].set_persist(false).unwrap();
            taps[0].set_carrier(true).unwrap();
            taps[0].set_mac([2, 0, 0, 0, 0, 1]).unwrap();
            assert_eq!(taps[0].mac().unwrap(), [2, 0, 0, 0, 0, 1]);
        });
    });
}
