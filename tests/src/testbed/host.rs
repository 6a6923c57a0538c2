//! The host's end of a real tap, in a network namespace of its own.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use net_queue::header::HDR_LEN;

use crate::testbed::{GUEST_MAC, Rig, ip};

const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// The guest's UDP port in both directions.
const PORT: u16 = 4000;
/// Longest wait for a datagram that was sent. It only ends a test that would hang.
const LIMIT: Duration = Duration::from_secs(60);

/// Keeps interfaces made from here on free of the frames that the kernel sends by itself.
pub fn without_ipv6() {
    match std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {} // a kernel without IPv6
        result => result.expect("the setting belongs to the namespace"),
    }
}

/// A host that talks to a guest through one tap.
#[derive(Debug)]
pub struct Host {
    mac: [u8; 6],
    socket: UdpSocket,
}

impl Host {
    /// Gives the tap `name` an address, and the guest one that need not be asked for.
    #[must_use]
    pub fn on(name: &str) -> Self {
        ip(&format!("addr add {HOST}/24 dev {name}"));
        Self::take_up(name);
        let text = std::fs::read_to_string(format!("/sys/class/net/{name}/address"));
        // A namespace without its own /sys: the tools know.
        let mac = text.ok().and_then(|text| parse_mac(text.trim()));
        Self {
            mac: mac.unwrap_or_else(|| link_mac(name)),
            socket: Self::flow(),
        }
    }

    /// Its address on the tap.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Sets the tap up; while it is down the kernel forgets the guest's address.
    pub fn take_up(name: &str) {
        let [a, b, c, d, e, f] = GUEST_MAC;
        ip(&format!("link set {name} up"));
        ip(&format!(
            "neigh replace {GUEST} lladdr {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} dev {name} nud permanent"
        ));
    }

    /// A socket with a source port of its own.
    #[must_use]
    pub fn flow() -> UdpSocket {
        let socket = UdpSocket::bind((HOST, 0)).expect("the address is there");
        socket
            .set_read_timeout(Some(LIMIT))
            .expect("a socket has timeouts");
        socket
    }

    /// Sends a datagram to the guest.
    pub fn send(&self, payload: &[u8]) {
        Self::send_by(&self.socket, payload);
    }

    /// Sends a datagram to the guest from `socket`.
    pub fn send_by(socket: &UdpSocket, payload: &[u8]) {
        socket
            .send_to(payload, (GUEST, PORT))
            .expect("the tap takes datagrams");
    }

    /// Waits for a datagram from the guest.
    #[must_use]
    pub fn receive(&self) -> Vec<u8> {
        let mut buffer = vec![0; 65_536];
        let len = self.socket.recv(&mut buffer).expect("a datagram comes");
        buffer.truncate(len);
        buffer
    }

    /// Checks that a datagram of the guest comes here through pair 0 of `rig`, and one to the guest
    /// there.
    ///
    /// # Panics
    /// One is lost or changed.
    pub fn check_traffic(&self, rig: &mut Rig) {
        rig.send(0, &self.datagram(b"to the host"));
        assert_eq!(self.receive(), b"to the host");
        rig.post(0, &[2048]);
        self.send(b"to the guest");
        let seen = rig.receive(0, 1);
        assert_eq!(Self::payload(&seen[0]), Some(&b"to the guest"[..]));
    }

    /// Header and frame of a datagram from the guest to this host.
    #[must_use]
    pub fn datagram(&self, payload: &[u8]) -> Vec<u8> {
        let port = self.socket.local_addr().expect("it is bound").port();
        let udp_len = 8 + payload.len() as u16;
        let mut packet = vec![0x45, 0];
        packet.extend((20 + udp_len).to_be_bytes());
        packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
        packet.extend(GUEST.octets());
        packet.extend(HOST.octets());
        let sum = checksum(&packet);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend(PORT.to_be_bytes());
        packet.extend(port.to_be_bytes());
        packet.extend(udp_len.to_be_bytes());
        // A sum of 0 means that there is none.
        packet.extend([0, 0]);
        packet.extend(payload);
        let mut bytes = vec![0; HDR_LEN];
        bytes.extend(self.mac);
        bytes.extend(GUEST_MAC);
        bytes.extend([0x08, 0x00]);
        bytes.extend(packet);
        bytes
    }

    /// The payload of a datagram that the guest received with its header, if it is one.
    #[must_use]
    pub fn payload(bytes: &[u8]) -> Option<&[u8]> {
        let packet = bytes.get(HDR_LEN + 14..)?;
        (packet.first() == Some(&0x45) && packet.get(9) == Some(&17)).then(|| &packet[28..])
    }
}

fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let bytes = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).ok());
    bytes.collect::<Option<Vec<u8>>>()?.try_into().ok()
}

fn link_mac(name: &str) -> [u8; 6] {
    let output = std::process::Command::new("ip")
        .args(["-o", "link", "show", name])
        .output()
        .expect("these tests need `ip`: install iproute2");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut words = text.split_whitespace();
    let found = words.find(|word| *word == "link/ether").and(words.next());
    found.and_then(parse_mac).expect("a tap has an address")
}
