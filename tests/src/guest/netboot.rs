//! The host's end of a boot over the network: a DHCP server that knows one guest, and a TFTP server
//! with one file (RFC 2131, RFC 1350, RFC 2347).

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{Error, Result, host};

/// Time after which a server looks whether it is to end, and a block is sent again.
const PATIENCE: Duration = Duration::from_millis(500);
/// Times that a block is sent before its transfer is given up.
const TRIES: u32 = 40;

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;
/// Start of the options of a message.
const COOKIE: [u8; 4] = [99, 130, 83, 99];

/// Both servers, until it is dropped.
#[derive(Debug)]
pub struct NetBoot {
    over: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    servers: Vec<JoinHandle<io::Result<()>>>,
}

impl NetBoot {
    /// Serves `file` under any name to the guest that gets the address `guest`, at the interface
    /// `tap` with the address `host`.
    ///
    /// # Errors
    /// The ports cannot be had.
    pub fn serve(tap: &str, host: Ipv4Addr, guest: Ipv4Addr, file: Vec<u8>) -> Result<Self> {
        // A guest without an address is reached by everybody's.
        host::run(&format!("ip route replace 255.255.255.255 dev {tap}"))?;
        let bind = |port| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.set_broadcast(true)?;
            Ok(socket)
        };
        let failed = |port| Error::io(format!("listening at UDP port {port}"));
        let (dhcp, tftp) = (bind(67).map_err(failed(67))?, bind(69).map_err(failed(69))?);
        let over = Arc::<AtomicBool>::default();
        let served = Arc::<AtomicU64>::default();
        let (end, ends, count) = (over.clone(), over.clone(), served.clone());
        let servers = vec![
            thread::spawn(move || give_addresses(&dhcp, host, guest, &end)),
            thread::spawn(move || give_files(&tftp, &file, &count, &ends)),
        ];
        Ok(Self {
            over,
            served,
            servers,
        })
    }

    /// Times that the whole file was taken.
    #[must_use]
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Acquire)
    }
}

impl Drop for NetBoot {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        for server in self.servers.drain(..) {
            let _ = server.join();
        }
    }
}

/// The next message, or `None` if there is none for a while.
fn receive(socket: &UdpSocket, bytes: &mut [u8]) -> io::Result<Option<(usize, SocketAddr)>> {
    match socket.recv_from(bytes) {
        Ok(message) => Ok(Some(message)),
        Err(error) if is_quiet(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_quiet(error: &io::Error) -> bool {
    use io::ErrorKind::{TimedOut, WouldBlock};
    matches!(error.kind(), TimedOut | WouldBlock)
}

fn give_addresses(
    socket: &UdpSocket,
    host: Ipv4Addr,
    guest: Ipv4Addr,
    over: &AtomicBool,
) -> io::Result<()> {
    let mut bytes = [0; 2048];
    while !over.load(Ordering::Acquire) {
        let Some((len, _)) = receive(socket, &mut bytes)? else {
            continue;
        };
        if let Some(reply) = dhcp_reply(&bytes[..len], host, guest) {
            socket.send_to(&reply, (Ipv4Addr::BROADCAST, 68))?;
        }
    }
    Ok(())
}

fn dhcp_reply(request: &[u8], host: Ipv4Addr, guest: Ipv4Addr) -> Option<Vec<u8>> {
    let options = request.get(236..)?.strip_prefix(&COOKIE)?;
    let kind = match message_type(options)? {
        DISCOVER => OFFER,
        REQUEST => ACK,
        _ => return None,
    };
    // A reply over Ethernet, its transaction and flags; addresses of nobody, guest, server, relay.
    let mut reply = vec![2, 1, 6, 0];
    reply.extend(&request[4..12]);
    for address in [Ipv4Addr::UNSPECIFIED, guest, host, Ipv4Addr::UNSPECIFIED] {
        reply.extend(address.octets());
    }
    reply.extend(&request[28..44]);
    reply.extend([0; 64]);
    let mut name = b"boot".to_vec();
    name.resize(128, 0);
    reply.extend(name);
    reply.extend(COOKIE);
    reply.extend([53, 1, kind, 54, 4]);
    reply.extend(host.octets());
    // An hour, and a network of 256 addresses.
    reply.extend([51, 4, 0, 0, 14, 16, 1, 4, 255, 255, 255, 0, 255]);
    reply.resize(300, 0);
    Some(reply)
}

/// The kind of a DHCP message.
fn message_type(mut options: &[u8]) -> Option<u8> {
    loop {
        match options {
            [0, rest @ ..] => options = rest,
            [53, 1, kind, ..] => return Some(*kind),
            [255, ..] | [] => return None,
            [_, len, rest @ ..] => options = rest.get(usize::from(*len)..)?,
            [_] => return None,
        }
    }
}

fn give_files(
    socket: &UdpSocket,
    file: &[u8],
    served: &AtomicU64,
    over: &AtomicBool,
) -> io::Result<()> {
    let mut bytes = [0; 2048];
    while !over.load(Ordering::Acquire) {
        let Some((len, from)) = receive(socket, &mut bytes)? else {
            continue;
        };
        // A request to read.
        if let Some(request) = bytes[..len].strip_prefix(&[0, 1])
            && Transfer::new(from, request, file)?.run(over)?
        {
            served.fetch_add(1, Ordering::Release);
        }
    }
    Ok(())
}

/// One file on its way.
struct Transfer<'a> {
    socket: UdpSocket,
    file: &'a [u8],
    block: usize,
    /// Options that were asked for and are granted.
    granted: Vec<u8>,
}

impl<'a> Transfer<'a> {
    fn new(to: SocketAddr, request: &[u8], file: &'a [u8]) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(to)?;
        let words: Vec<_> = request.split(|byte| *byte == 0).collect();
        let (mut block, mut granted) = (512, Vec::new());
        // Behind the name and the mode: pairs of options and values.
        for pair in words.get(2..).unwrap_or_default().chunks_exact(2) {
            let asked = std::str::from_utf8(pair[1]).unwrap_or_default();
            let value = match pair[0].to_ascii_lowercase().as_slice() {
                b"blksize" => {
                    block = asked.parse().unwrap_or(512).clamp(8, 1428);
                    block
                }
                b"tsize" => file.len(),
                _ => continue,
            };
            granted.extend([pair[0], &[0], value.to_string().as_bytes(), &[0]].concat());
        }
        Ok(Self {
            socket,
            file,
            block,
            granted,
        })
    }

    /// Sends all; returns whether the whole file was taken.
    fn run(&self, over: &AtomicBool) -> io::Result<bool> {
        if !self.granted.is_empty()
            && !self.send(0, &[&[0, 6], &self.granted[..]].concat(), over)?
        {
            return Ok(false);
        }
        let blocks = self.file.len() / self.block + 1;
        for number in 1..=blocks {
            let start = (number - 1) * self.block;
            let end = (start + self.block).min(self.file.len());
            let head = [[0, 3], (number as u16).to_be_bytes()].concat();
            let block = [&head, &self.file[start..end]].concat();
            if !self.send(number as u16, &block, over)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sends a block until it is acknowledged; returns whether it was.
    fn send(&self, number: u16, block: &[u8], over: &AtomicBool) -> io::Result<bool> {
        let mut bytes = [0; 2048];
        for _ in 0..TRIES {
            if over.load(Ordering::Acquire) {
                break;
            }
            self.socket.send(block)?;
            loop {
                match self.socket.recv(&mut bytes) {
                    Ok(len) if bytes[..len].starts_with(&[0, 5]) => return Ok(false),
                    Ok(4) if bytes[..2] == [0, 4] && bytes[2..4] == number.to_be_bytes() => {
                        return Ok(true);
                    }
                    // An answer to what was sent before.
                    Ok(_) => {}
                    Err(error) if is_quiet(&error) => break,
                    // It has closed its port.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                        return Ok(false);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(false)
    }
}
