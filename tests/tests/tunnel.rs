//! Large packets inside tunnels over UDP, whose headers tell where the tunnel's are. VirtIO 1.4
//! §5.1.9.2, §5.1.9.4.1, §5.1.9.5.9.

use std::net::{Ipv4Addr, UdpSocket};

use net_device::net_queue::Caps;
use net_device::{Features, NetDevice, Snapshottable, TapConfig, VirtioDevice};
use net_queue::Offloads;
use net_queue::header::{flags, gso};
use nix::sys::socket::{setsockopt, sockopt};
use tests::testbed::{
    GUEST_MAC, Host, RINGS, Rig, all_caps, body, frame, ip, isolated, pause, resume, without_ipv6,
};

type F = Features;

const OK: u8 = 0;
const ERR: u8 = 1;

/// Bytes of a header with the fields of a tunnel.
const HEADER: usize = 24;
/// Bits of GUEST_OFFLOADS_SET.
const SEGMENTS: u64 = 1 << 1 | 1 << 7 | 1 << 8 | 1 << 54 | 1 << 55;
const TUNNEL: u64 = 1 << 46;
const TUNNEL_CSUM: u64 = 1 << 47;

const HOST_TUNNEL: F = F::VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO;
const GUEST_TUNNEL: F = F::VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO;

/// A device on ports that take and deliver packets in tunnels.
fn rig() -> Rig {
    let caps = Caps {
        tx: Offloads::all(),
        rx: Offloads::all(),
        ..all_caps()
    };
    Rig::with_caps(Rig::config(1), caps)
}

fn start(rig: &mut Rig, without: F) {
    rig.accept(without);
    rig.lay_out(64);
    rig.activate();
}

/// Fields of the header of a large frame in VXLAN over IPv4 that has UDP over IPv4 inside.
struct Fields {
    flags: u8,
    gso_size: u16,
    num_buffers: u16,
}

impl Fields {
    const OUTER_TH: u16 = 14 + 20;
    const INNER_NH: u16 = Self::OUTER_TH + 8 + 8 + 14;
    const INNER_TH: u16 = Self::INNER_NH + 20;

    fn header(&self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[0] = self.flags;
        header[1] = gso::UDP_L4 | gso::UDP_TUNNEL_IPV4;
        let words = [
            (2, Self::INNER_TH + 8),
            (4, self.gso_size),
            (6, Self::INNER_TH),
            (8, 6),
            (10, self.num_buffers),
            (20, Self::OUTER_TH),
            (22, Self::INNER_NH),
        ];
        for (at, word) in words {
            header[at..at + 2].copy_from_slice(&word.to_le_bytes());
        }
        header
    }
}

/// A large frame in a tunnel, with any bytes.
fn tunnel_frame(num_buffers: u16) -> Vec<u8> {
    let fields = Fields {
        flags: flags::NEEDS_CSUM | flags::UDP_TUNNEL_CSUM,
        gso_size: 1400,
        num_buffers,
    };
    [&fields.header()[..], body(&frame(9000, 1))].concat()
}

#[test]
fn frames_in_tunnels_pass_both_ways_behind_longer_headers() {
    for without in RINGS {
        let mut rig = rig();
        start(&mut rig, without);
        assert!(rig.accepted().contains(HOST_TUNNEL | GUEST_TUNNEL));
        let link = rig.networks[0].wire.links().pop().expect("it runs");
        assert_eq!((link.hdr_len, link.rx), (HEADER, Offloads::all()));
        rig.send(0, &tunnel_frame(0));
        assert_eq!(rig.networks[0].wait_sent(1), [tunnel_frame(0)]);
        for _ in 0..8 {
            rig.post(0, &[2048]);
        }
        rig.networks[0].wire.inject(tunnel_frame(0));
        let used = rig.wait_used(0, 5);
        let bytes: Vec<_> = used
            .iter()
            .map(|used| rig.queue(0).ring.bytes(used))
            .collect();
        assert_eq!(bytes.concat(), tunnel_frame(5));
    }
}

#[test]
fn either_direction_alone_makes_the_header_longer_net_rx_17() {
    for (without, len, rx) in [
        (HOST_TUNNEL, HEADER, Offloads::all()),
        (GUEST_TUNNEL, HEADER, all_caps().rx),
        (HOST_TUNNEL | GUEST_TUNNEL, 12, all_caps().rx),
        // No part of a driver that does not take every kind of segment.
        (
            F::VIRTIO_NET_F_GUEST_USO6 | F::VIRTIO_NET_F_HOST_TSO4,
            12,
            Offloads::DONE_HERE | Offloads::UFO,
        ),
    ] {
        let mut rig = rig();
        start(&mut rig, without);
        let link = rig.networks[0].wire.links().pop().expect("it runs");
        assert_eq!((link.hdr_len, link.rx), (len, rx), "{without}");
    }
}

#[test]
fn tunnels_need_their_prerequisites_net_feat_07() {
    let rows = [
        (GUEST_TUNNEL, F::VIRTIO_NET_F_GUEST_TSO4),
        (GUEST_TUNNEL, F::VIRTIO_NET_F_GUEST_TSO6),
        (GUEST_TUNNEL, F::VIRTIO_NET_F_GUEST_USO4),
        (GUEST_TUNNEL, F::VIRTIO_NET_F_GUEST_USO6),
        (F::VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO_CSUM, GUEST_TUNNEL),
        (HOST_TUNNEL, F::VIRTIO_NET_F_HOST_TSO4),
        (HOST_TUNNEL, F::VIRTIO_NET_F_HOST_TSO6),
        (HOST_TUNNEL, F::VIRTIO_NET_F_HOST_USO),
        (F::VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO_CSUM, HOST_TUNNEL),
    ];
    for (feature, needed) in rows {
        let mut rig = rig();
        let accepted = (rig.offered() - needed).closure() | feature;
        assert!(rig.offered().contains(feature));
        assert!(
            rig.device.ack_features(accepted.bits()).is_err(),
            "{feature} without {needed}"
        );
    }
}

#[test]
fn drivers_switch_tunnels_by_bits_of_their_own_net_cvq_20() {
    let mut rig = rig();
    start(&mut rig, F::empty());
    let set = |rig: &mut Rig, mask: u64| rig.command(5, 0, &mask.to_le_bytes());
    let off = Offloads::UDP_TUNNEL | Offloads::UDP_TUNNEL_CSUM | Offloads::UFO;
    for (mask, result, link) in [
        (SEGMENTS, OK, Offloads::all() - off),
        (
            SEGMENTS | TUNNEL,
            OK,
            Offloads::all() - (off - Offloads::UDP_TUNNEL),
        ),
        (
            SEGMENTS | TUNNEL | TUNNEL_CSUM,
            OK,
            Offloads::all() - Offloads::UFO,
        ),
        (SEGMENTS | TUNNEL_CSUM, ERR, Offloads::all() - Offloads::UFO),
        (
            SEGMENTS & !(1 << 55) | TUNNEL,
            ERR,
            Offloads::all() - Offloads::UFO,
        ),
        (0, OK, Offloads::all() - off),
    ] {
        assert_eq!(set(&mut rig, mask), result, "{mask:#x}");
        assert_eq!(rig.networks[0].offloads().pop(), Some(link), "{mask:#x}");
    }
    assert_eq!(set(&mut rig, SEGMENTS | TUNNEL), OK);
    // What is in force stays over a pause and a move to another device.
    pause(&mut rig);
    let snapshot = rig.device.snapshot().expect("it is paused");
    let mut next = rig.move_to(self::rig());
    next.device.restore(snapshot).expect("it is such a device");
    next.activate();
    resume(&mut next);
    let link = next.networks[0].wire.links().pop().expect("it runs");
    assert_eq!(
        (link.hdr_len, link.rx),
        (HEADER, Offloads::all() - (off - Offloads::UDP_TUNNEL))
    );

    // Without the feature they are bits that nobody knows.
    let mut rig = self::rig();
    start(&mut rig, GUEST_TUNNEL);
    for mask in [TUNNEL, TUNNEL_CSUM, SEGMENTS | TUNNEL] {
        assert_eq!(set(&mut rig, mask), ERR);
    }
}

/// The other end of the tunnel, in the host's kernel: an interface of VXLAN over the tap.
struct Vxlan {
    socket: UdpSocket,
    mac: [u8; 6],
    outer_mac: [u8; 6],
}

const OUTER_HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const OUTER_GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const INNER_HOST: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const INNER_GUEST: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
const PORT: u16 = 4000;
const VXLAN_PORT: u16 = 4789;
const VNI: [u8; 4] = [0, 0, 7, 0];
const INNER_GUEST_MAC: [u8; 6] = [2, 0, 0, 0, 1, 2];

impl Vxlan {
    fn over(tap: &str, csum: &str) -> Self {
        ip(&format!(
            "link add vx0 address 02:00:00:00:01:01 type vxlan id 7 dstport {VXLAN_PORT} \
             local {OUTER_HOST} remote {OUTER_GUEST} dev {tap} {csum}"
        ));
        ip(&format!("addr add {INNER_HOST}/24 dev vx0"));
        ip("link set vx0 up");
        ip(&format!(
            "neigh replace {INNER_GUEST} lladdr 02:00:00:00:01:02 dev vx0 nud permanent"
        ));
        let socket = UdpSocket::bind((INNER_HOST, PORT)).expect("the address is there");
        let limit = std::time::Duration::from_secs(60);
        socket
            .set_read_timeout(Some(limit))
            .expect("a socket has timeouts");
        Self {
            socket,
            mac: [2, 0, 0, 0, 1, 1],
            outer_mac: [0; 6],
        }
    }

    /// A large frame of the guest: datagrams of `size` bytes with this `payload`, in VXLAN.
    fn datagrams(&self, payload: &[u8], size: u16, csum: bool) -> Vec<u8> {
        let udp_len = 8 + payload.len() as u16;
        let pseudo = |from: Ipv4Addr, to: Ipv4Addr, len: u16| {
            let words = [from.octets(), to.octets()].concat();
            sum(&words) + 17 + u32::from(len)
        };
        let mut inner = [&self.mac[..], &INNER_GUEST_MAC, &[8, 0]].concat();
        inner.extend(ipv4(INNER_GUEST, INNER_HOST, udp_len));
        inner.extend(
            [
                PORT,
                PORT,
                udp_len,
                fold(pseudo(INNER_GUEST, INNER_HOST, udp_len)),
            ]
            .into_iter()
            .flat_map(u16::to_be_bytes),
        );
        inner.extend(payload);
        let outer_len = 8 + 8 + inner.len() as u16;
        let mut outer = [&self.outer_mac[..], &GUEST_MAC, &[8, 0]].concat();
        outer.extend(ipv4(OUTER_GUEST, OUTER_HOST, outer_len));
        let sum = if csum {
            fold(pseudo(OUTER_GUEST, OUTER_HOST, outer_len))
        } else {
            0
        };
        outer.extend(
            [50_000, VXLAN_PORT, outer_len, sum]
                .into_iter()
                .flat_map(u16::to_be_bytes),
        );
        outer.extend([8, 0, 0, 0]);
        outer.extend(VNI);
        outer.extend(inner);
        let fields = Fields {
            flags: flags::NEEDS_CSUM | if csum { flags::UDP_TUNNEL_CSUM } else { 0 },
            gso_size: size,
            num_buffers: 0,
        };
        [&fields.header()[..], &outer].concat()
    }
}

fn ipv4(from: Ipv4Addr, to: Ipv4Addr, len: u16) -> Vec<u8> {
    let mut header = vec![0x45, 0];
    header.extend((20 + len).to_be_bytes());
    header.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    header.extend(from.octets());
    header.extend(to.octets());
    let sum = !fold(sum(&header));
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header
}

fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2);
    words
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Datagrams in VXLAN cross a real tap as one frame: the kernel's VXLAN takes those of the guest
/// apart, and makes such of its own.
#[test]
fn the_kernels_vxlan_and_the_guest_exchange_large_frames() {
    isolated(|| {
        for (name, csum) in [("udpcsum", true), ("noudpcsum", false)] {
            without_ipv6();
            let tap = TapConfig {
                name: Some("vt0".to_owned()),
                ..TapConfig::default()
            };
            let device =
                NetDevice::from_tap_name(Rig::config(1), &tap).expect("a namespace of its own");
            let mut rig = Rig::over(device);
            if !rig.offered().contains(HOST_TUNNEL | GUEST_TUNNEL) {
                // Kernels before 6.17 have no such frames.
                assert!(!rig.offered().intersects(HOST_TUNNEL | GUEST_TUNNEL));
                return;
            }
            let host = Host::on("vt0");
            let mut vxlan = Vxlan::over("vt0", name);
            vxlan.outer_mac = host.mac();
            start(&mut rig, F::empty());
            let payload: Vec<u8> = (0..5_000_u32).map(|at| (at % 251) as u8).collect();

            rig.send(0, &vxlan.datagrams(&payload, 1400, csum));
            for part in payload.chunks(1400) {
                let mut seen = [0; 2048];
                let len = vxlan.socket.recv(&mut seen).expect("a datagram comes");
                assert_eq!(&seen[..len], part);
            }

            for _ in 0..8 {
                rig.post(0, &[2048]);
            }
            setsockopt(&vxlan.socket, sockopt::UdpGsoSegment, &1400).expect("the kernel has it");
            vxlan
                .socket
                .send_to(&payload, (INNER_GUEST, PORT))
                .expect("it goes out");
            let used = rig.wait_used(0, 3);
            let bytes: Vec<_> = used
                .iter()
                .map(|used| rig.queue(0).ring.bytes(used))
                .collect();
            let bytes = bytes.concat();
            let (header, rest) = bytes.split_at(HEADER);
            let fields = Fields {
                flags: flags::NEEDS_CSUM | if csum { flags::UDP_TUNNEL_CSUM } else { 0 },
                gso_size: 1400,
                num_buffers: 3,
            };
            let mut expected = fields.header();
            // The kernel says how much of the frame lies in its first piece.
            expected[2..4].copy_from_slice(&header[2..4]);
            assert_eq!(header, expected);
            let payload_at = usize::from(Fields::INNER_TH) + 8;
            assert_eq!(rest[payload_at..], payload);
            assert_eq!(rig.counter("rx_gso_frames"), 1);
            ip("link del vx0");
        }
    });
}
