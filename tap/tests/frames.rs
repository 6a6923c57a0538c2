//! The data path: frames both ways, and what the kernel answers when it cannot.

mod common;

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, UdpSocket};

use common::{isolated, open, read_until, wait_readable};
use tap::{Offloads, Tap, TapOptions};

const HEADER: usize = 12;
const HOST: Ipv4Addr = Ipv4Addr::new(10, 6, 0, 1);
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 6, 0, 2);
const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const GUEST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// A tap on which nothing moves but what the test causes.
fn tap() -> Tap {
    common::without_ipv6();
    open(TapOptions::new("frame0").mac(HOST_MAC).ipv4(HOST, 24).up())
}

/// A request of the guest for the host's MAC, behind an empty header.
fn arp_request() -> Vec<u8> {
    let mut frame = vec![0; HEADER];
    frame.extend([0xff; 6]);
    frame.extend(GUEST_MAC);
    // ARP; Ethernet, IPv4, 6- and 4-byte addresses, request.
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, 0, 1]);
    frame.extend(GUEST_MAC);
    frame.extend(GUEST.octets());
    frame.extend([0; 6]);
    frame.extend(HOST.octets());
    frame
}

fn is_arp_reply(frame: &[u8]) -> bool {
    let ethernet = frame.get(HEADER..).unwrap_or_default();
    ethernet.starts_with(&GUEST_MAC)
        && ethernet.get(12..14) == Some(&[0x08, 0x06])
        && ethernet.get(20..22) == Some(&[0, 2])
        && ethernet.get(22..28) == Some(&HOST_MAC)
}

fn errno(result: io::Result<usize>) -> Option<i32> {
    result.expect_err("the kernel refuses").raw_os_error()
}

#[test]
fn the_kernel_answers_a_frame() {
    isolated(|| {
        let tap = tap();
        let request = arp_request();
        assert_eq!(tap.write(&request).unwrap(), request.len());
        let reply = read_until(&tap, is_arp_reply);
        assert_eq!(reply.len(), HEADER + 42);
        // No checksum, no segmentation; `num_buffers` is left to the device.
        assert_eq!(reply[..HEADER], [0; HEADER]);
    });
}

#[test]
fn pieces_are_gathered_and_scattered() {
    isolated(|| {
        let tap = tap();
        let request = arp_request();
        let (header, rest) = request.split_at(HEADER);
        let (ethernet, arp) = rest.split_at(14);
        let pieces = [header, ethernet, &[], arp].map(IoSlice::new);
        assert_eq!(tap.write_vectored(&pieces).unwrap(), request.len());

        let (mut header, mut ethernet, mut body) = ([0xaa; HEADER], [0; 14], [0; 1500]);
        loop {
            let mut pieces = [&mut header[..], &mut ethernet, &mut body].map(IoSliceMut::new);
            match tap.read_vectored(&mut pieces) {
                Ok(length) => {
                    let frame = [&header[..], &ethernet, &body].concat();
                    if is_arp_reply(&frame[..length]) {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait_readable(&tap),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(body[2..4], [0x08, 0x00]);
    });
}

#[test]
#[allow(unsafe_code)]
fn raw_memory_moves_frames() {
    isolated(|| {
        let tap = tap();
        let request = arp_request();
        let (a, b) = request.split_at(HEADER);
        let iov = [a, b].map(|piece| libc::iovec {
            iov_base: piece.as_ptr().cast_mut().cast(),
            iov_len: piece.len(),
        });
        // SAFETY: `iov` is two pieces of `request`, which outlives the call.
        let sent = unsafe { tap.writev_raw(iov.as_ptr(), iov.len()) };
        assert_eq!(sent.unwrap(), request.len());
        read_until(&tap, is_arp_reply);
        // SAFETY: all of `request`.
        let sent = unsafe { tap.write_raw(request.as_ptr(), request.len()) };
        assert_eq!(sent.unwrap(), request.len());

        wait_readable(&tap);
        let mut frame = vec![0u8; 2048];
        // SAFETY: all of `frame`, which nothing else refers to.
        let received = unsafe { tap.read_raw(frame.as_mut_ptr(), frame.len()) };
        assert!(received.unwrap() >= HEADER + 14);
        let iov = libc::iovec {
            iov_base: frame.as_mut_ptr().cast(),
            iov_len: frame.len(),
        };
        tap.write(&request).unwrap();
        wait_readable(&tap);
        // SAFETY: one piece, all of `frame`, which nothing else refers to.
        let received = unsafe { tap.readv_raw(&iov, 1) };
        assert!(received.unwrap() >= HEADER + 14);
        // SAFETY: the kernel refuses the count before it looks at the pieces.
        let refused = unsafe { tap.readv_raw(&iov, 1025) };
        assert_eq!(errno(refused), Some(libc::EINVAL));
        // SAFETY: as before.
        let refused = unsafe { tap.writev_raw(&iov, usize::MAX) };
        assert_eq!(errno(refused), Some(libc::EINVAL));
    });
}

#[test]
fn a_partial_checksum_is_left_to_the_guest_only_when_set() {
    isolated(|| {
        let tap = tap();
        let socket = UdpSocket::bind((HOST, 0)).unwrap();
        socket.set_broadcast(true).unwrap();
        let frame_with = |offloads| {
            tap.set_offloads(offloads).unwrap();
            socket
                .send_to(b"checksum?", (Ipv4Addr::new(10, 6, 0, 255), 9))
                .unwrap();
            read_until(&tap, |frame| frame.ends_with(b"checksum?"))
        };
        // VIRTIO_NET_HDR_F_NEEDS_CSUM; start and offset are little-endian: UDP at 34, sum at 6.
        let partial = frame_with(Offloads::CSUM);
        assert_eq!(partial[0], 1);
        assert_eq!(partial[6..10], [34, 0, 6, 0]);
        assert_eq!(frame_with(Offloads::empty())[0], 0);
    });
}

#[test]
fn nothing_queued_would_block() {
    isolated(|| {
        let tap = open(TapOptions::new("quiet0"));
        let error = tap.read(&mut [0; 2048]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn a_frame_longer_than_the_room_is_cut_and_lost() {
    isolated(|| {
        let tap = tap();
        tap.write(&arp_request()).unwrap();
        wait_readable(&tap);
        let mut short = [0; HEADER + 20];
        // The call says how much was stored; nothing tells that it was less than the frame.
        assert_eq!(tap.read(&mut short).unwrap(), short.len());
        assert_eq!(common::drain(&tap, |_| true), 0);
    });
}

#[test]
fn room_below_the_header_loses_the_frame() {
    isolated(|| {
        let tap = tap();
        tap.write(&arp_request()).unwrap();
        wait_readable(&tap);
        assert_eq!(errno(tap.read(&mut [0; HEADER - 1])), Some(libc::EINVAL));
    });
}

#[test]
fn runts_and_bad_headers_are_refused_and_the_tap_lives_on() {
    isolated(|| {
        let tap = tap();
        assert_eq!(errno(tap.write(&[0; HEADER - 1])), Some(libc::EINVAL));
        assert_eq!(errno(tap.write(&[0; HEADER + 13])), Some(libc::EINVAL));
        let mut beyond = arp_request();
        beyond[0] = 1; // needs a checksum, from byte 60000 on
        beyond[6..8].copy_from_slice(&60_000u16.to_le_bytes());
        assert_eq!(errno(tap.write(&beyond)), Some(libc::EINVAL));
        tap.write(&arp_request()).unwrap();
        read_until(&tap, is_arp_reply);
    });
}

#[test]
fn an_interface_that_is_down_answers_eio() {
    isolated(|| {
        let tap = tap();
        tap.down().unwrap();
        assert_eq!(errno(tap.write(&arp_request())), Some(libc::EIO));
        tap.up().unwrap();
        tap.write(&arp_request()).unwrap();
        read_until(&tap, is_arp_reply);
    });
}

#[test]
fn a_deleted_interface_answers_ebadfd() {
    isolated(|| {
        let tap = tap();
        common::delete(tap.if_index().unwrap());
        assert_eq!(errno(tap.write(&arp_request())), Some(libc::EBADFD));
        assert_eq!(errno(tap.read(&mut [0; 2048])), Some(libc::EBADFD));
        tap.name().unwrap_err();
        tap.probe_offloads().unwrap_err();
        tap.detach_queue().unwrap_err();
        tap.attach_queue().unwrap_err();
        tap.mtu().unwrap_err();
        assert!(format!("{tap:?}").contains("None"));
    });
}
