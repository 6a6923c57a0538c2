//! A guest's stream beside the front-end of another device of the same daemon, which does what it
//! can to harm.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::stream::Stream;
use super::traffic;
use crate::guest::error::require;
use crate::guest::{Error, Result, Testbed};

/// Socket of the other device, in the scenario's folder.
pub(super) const SOCKET: &str = "hostile.sock";

/// Malformed messages, and those on each connection.
const MESSAGES: usize = 10_000;
const EACH: usize = 40;
/// Connections that hang half-way through a message, and that ask and never listen.
const HALVES: usize = 200;
const FLOODS: usize = 20;

/// Version 1 of the protocol, and a reply that is wanted.
const VERSION: u32 = 1;
const NEED_REPLY: u32 = 1 << 3;
const SET_PROTOCOL_FEATURES: u32 = 16;
const GET_QUEUE_NUM: u32 = 17;
const SET_VRING_NUM: u32 = 8;
const REPLY_ACK: u64 = 1 << 3;

/// Bytes of the stream that have to come back behind each kind of attack.
const MORE: u64 = 1 << 20;
const LIMIT: Duration = Duration::from_secs(30);

/// Every byte of a stream comes back while the other device's front-end sends malformed messages,
/// halves of some, and floods.
pub(super) fn tcp(bed: &mut Testbed) -> Result<String> {
    let path = bed.folder().join(SOCKET);
    let stream = Stream::open(&mut bed.guest)?;
    stream.await_more(MORE)?;
    let _start = stream.take_pause();
    let refused = malformed(&path)?;
    stream.await_more(MORE)?;
    halves(&path)?;
    stream.await_more(MORE)?;
    floods(&path)?;
    stream.await_more(MORE)?;
    let pause = stream.take_pause();
    let bytes = stream.finish()?;
    require!(
        refused >= MESSAGES - MESSAGES / EACH,
        "{refused} messages were refused"
    );
    bed.daemon.expect_alive()?;
    traffic::ping(&mut bed.guest)?;
    Ok(format!(
        "{} MiB came back as they were sent, longest pause {} ms; {MESSAGES} malformed messages, {HALVES} halves, {FLOODS} floods",
        bytes >> 20,
        pause.as_millis()
    ))
}

fn message(request: u32, flags: u32, body: &[u8]) -> Vec<u8> {
    let header = [request, VERSION | flags, body.len() as u32];
    [header.map(u32::to_ne_bytes).as_flattened(), body].concat()
}

fn connect(path: &Path) -> Result<UnixStream> {
    let connected = UnixStream::connect(path).and_then(|socket| {
        socket.set_read_timeout(Some(LIMIT))?;
        socket.set_write_timeout(Some(LIMIT))?;
        Ok(socket)
    });
    connected.map_err(Error::io("connecting to the other device"))
}

/// Returns how many were refused by an answer.
fn malformed(path: &Path) -> Result<usize> {
    let (mut seed, mut refused) = (1_u64, 0);
    for _ in 0..MESSAGES / EACH {
        let mut bytes = message(SET_PROTOCOL_FEATURES, 0, &REPLY_ACK.to_ne_bytes());
        for _ in 1..EACH {
            // No ring has this number.
            bytes.extend(message(
                SET_VRING_NUM,
                NEED_REPLY,
                &[200, 0, 0, 0, 1, 0, 0, 0],
            ));
        }
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // Of no version: it ends the connection.
        let noise = [seed as u32, (seed >> 20) as u32 & !3, (seed >> 40) as u32];
        bytes.extend(noise.map(u32::to_ne_bytes).as_flattened());
        let mut socket = connect(path)?;
        // It may be cut off before it has said everything.
        let _cut = socket.write_all(&bytes);
        let mut answers = Vec::new();
        let _reset = socket.read_to_end(&mut answers);
        refused += answers.len() / 20;
    }
    Ok(refused)
}

fn halves(path: &Path) -> Result<()> {
    let whole = message(SET_VRING_NUM, 0, &[0; 8]);
    for number in 0..HALVES {
        let part = &whole[..1 + number % (whole.len() - 1)];
        let sent = connect(path)?.write_all(part);
        sent.map_err(Error::io("sending half of a message"))?;
    }
    Ok(())
}

/// Questions until nobody reads them any more, since their answers are not read.
fn floods(path: &Path) -> Result<()> {
    let questions = message(GET_QUEUE_NUM, 0, &[]).repeat(1000);
    for _ in 0..FLOODS {
        let mut socket = connect(path)?;
        let patience = socket.set_write_timeout(Some(Duration::from_millis(20)));
        patience.map_err(Error::io("limiting a wait"))?;
        while socket.write_all(&questions).is_ok() {}
    }
    Ok(())
}
