//! A network that is slow, refuses frames, or dies.

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use net_device::net_queue::capture::{Capture, FrameTap};
use net_device::port::stream_port;
use net_device::{Features, NetDevice, VirtioDevice};
use net_queue::testing::Answer;
use rustix::net::sockopt::set_socket_send_buffer_size;
use tests::testbed::{RINGS, Rig, all_caps, body, frame, pause, port, socket_port, wait_readable};

type F = Features;

#[test]
fn a_full_backend_is_waited_for_and_nothing_is_lost() {
    let (port, far) = socket_port();
    let device = NetDevice::from_ports(Rig::config(1), vec![port]).expect("one port");
    let mut rig = Rig::over(device);
    rig.start(F::empty());
    for number in 0..60 {
        rig.send(0, &frame(100, number));
    }
    let mut buffer = [0; 4096];
    let mut next = 0;
    while next < 60 {
        match far.recv(&mut buffer) {
            Ok(len) => {
                assert_eq!(body(&buffer[..len]), body(&frame(100, next)));
                next += 1;
            }
            Err(_) => wait_readable(&far, "the next frame"),
        }
    }
}

#[test]
fn a_backend_that_would_block_is_asked_again() {
    let mut rig = Rig::running(F::empty());
    rig.networks[0].wire.script_send([Answer::WouldBlock; 3]);
    for number in 0..5 {
        rig.send(0, &frame(60, number));
    }
    let sent = rig.networks[0].wait_sent(5);
    for (number, bytes) in (0..).zip(&sent) {
        assert_eq!(body(bytes), body(&frame(60, number)));
    }
}

#[test]
fn a_backend_that_refuses_frames_loses_only_those_net_tx_14() {
    let mut rig = Rig::running(F::empty());
    let script = [Answer::Refused, Answer::Pass, Answer::Refused];
    rig.networks[0].wire.script_send(script);
    for number in 0..5 {
        rig.send(0, &frame(60, number));
    }
    assert_eq!(rig.networks[0].wait_sent(3).len(), 3);
    pause(&mut rig);
    assert_eq!(rig.queue(1).ring.poll_all().len(), 5);
    assert_eq!(rig.counter("tx_drop_refused"), 2);
    assert!(!rig.device.needs_reset());
}

fn dies(kill: impl FnOnce(&mut Rig)) {
    let mut rig = Rig::new(Rig::config(2));
    rig.start(F::empty());
    kill(&mut rig);
    rig.irq.wait_config(1);
    assert!(rig.device.needs_reset(), "DEV-LIFE-04");
    assert_eq!(rig.status() & 1, 0, "the link is down");
    // The other pair and the control queue go on; the worker can be stopped.
    rig.send(1, &frame(60, 2));
    assert_eq!(rig.networks[1].wait_sent(1).len(), 1);
    assert_eq!(rig.command(0, 0, &[1]), 0);
    pause(&mut rig);
    rig.device.reset();
    assert!(!rig.device.needs_reset());
}

#[test]
fn a_dead_backend_fails_the_device_when_sending_dev_life_05() {
    dies(|rig| {
        rig.networks[0].wire.script_send([Answer::Dead]);
        rig.send(0, &frame(60, 1));
    });
}

#[test]
fn a_dead_backend_fails_the_device_when_receiving_dev_life_05() {
    dies(|rig| {
        rig.networks[0].wire.script_recv([Answer::Dead; 2]);
        rig.post(0, &[2048]);
    });
}

/// Frames that passed, without their virtio-net headers.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Vec<u8>>>>);

impl FrameTap for Seen {
    fn frame(&mut self, bytes: &[u8]) {
        self.0.lock().expect("nobody panics").push(bytes.to_vec());
    }
}

#[test]
fn a_capture_shows_each_frame_that_passes_and_no_other() {
    for without in RINGS {
        let (port, network) = port(all_caps());
        let seen = Seen::default();
        let tap = seen.clone();
        let device = NetDevice::builder(Rig::config(1))
            .decorate_backends(move |_, backend| Box::new(Capture::new(backend, tap.clone())))
            .build_on_ports(vec![port])
            .expect("the device can be made");
        let mut rig = Rig::over(device);
        rig.networks = vec![network];
        rig.start(without);
        rig.networks[0].wire.script_send([Answer::Refused]);
        rig.send(0, &frame(60, 1));
        rig.wait_used(1, 1);
        rig.send(0, &frame(1000, 2));
        assert_eq!(rig.networks[0].wait_sent(1).len(), 1);
        rig.post(0, &[2048; 2]);
        rig.networks[0].wire.inject(frame(1514, 3));
        rig.receive(0, 1);
        pause(&mut rig);
        let seen = seen.0.lock().expect("nobody panics").clone();
        let passed = [frame(1000, 2), frame(1514, 3)];
        assert_eq!(seen, passed.map(|bytes| body(&bytes).to_vec()));
    }
}

#[test]
fn an_announcement_does_not_part_a_frame_from_its_rest() {
    const FRAMES: u64 = 40;
    const RARP: [u8; 2] = [0x80, 0x35];
    let (near, mut far) = UnixStream::pair().expect("sockets can be made");
    // A part of a frame at a time.
    set_socket_send_buffer_size(&near, 4608).expect("it is not too small");
    far.set_nonblocking(true).expect("it can be asked");
    let port = stream_port(near).expect("it can be asked not to block");
    let device = NetDevice::from_ports(Rig::config(1), vec![port]).expect("one port");
    let mut rig = Rig::over(device);
    rig.start(F::VIRTIO_NET_F_GUEST_ANNOUNCE);
    for number in 0..FRAMES {
        rig.send(0, &frame(9000, number));
    }
    let (mut bytes, mut seen, mut announced) = (Vec::new(), Vec::new(), 0);
    while seen.len() < FRAMES as usize {
        rig.device.announce();
        let mut part = [0; 3000];
        match far.read(&mut part) {
            Ok(len) => bytes.extend_from_slice(&part[..len]),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                wait_readable(&far, "the rest of a frame");
            }
        }
        while let Some((len, rest)) = bytes.split_first_chunk::<4>()
            && let Some(whole) = rest.get(..u32::from_be_bytes(*len) as usize)
        {
            if whole[12..14] == RARP {
                announced += 1;
            } else {
                seen.push(whole.to_vec());
            }
            bytes.drain(..4 + whole.len());
        }
    }
    let sent = (0..FRAMES).map(|number| body(&frame(9000, number)).to_vec());
    assert!(
        seen.into_iter().eq(sent),
        "a frame is missing, or there twice"
    );
    assert!(announced > 0);
}
