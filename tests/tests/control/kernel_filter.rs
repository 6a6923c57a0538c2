//! Frames that the kernel drops for the driver, where it may be told of that.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::*;
use net_device::net_queue::{
    Caps, FrameBackend, Gather, LinkConfig, RecvError, Scatter, SendError,
};
use net_device::port::Link;
use net_device::tap::{FilterProgram, FilterRules, Tap, TapOptions, Verdict};
use net_device::{LoadedProgram, NetConfig, NetDevice, NetDeviceBuilder, NewError, Snapshottable};
use tests::guest::probe::Probe;
use tests::testbed::{
    Interrupting, ip, isolated, isolated_as_root, pause, resume, without_bpf, without_ipv6,
};

/// Descriptors of each ring: room for all frames of a test.
const SIZE: u16 = 2048;
const VLAN: u16 = 5;

/// Of frames that do not count.
const HELLO: u16 = 0;

/// Longest wait for frames; it only ends a test that hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// A backend of which the frames are counted that it reads.
struct Counted {
    inner: Box<dyn FrameBackend>,
    reads: Arc<AtomicU64>,
}

impl FrameBackend for Counted {
    fn caps(&self) -> Caps {
        self.inner.caps()
    }

    fn mtu(&self) -> Option<u16> {
        self.inner.mtu()
    }

    fn configure(&mut self, link: &LinkConfig) -> std::io::Result<()> {
        self.inner.configure(link)
    }

    fn send(&mut self, frame: &Gather<'_>) -> Result<(), SendError> {
        self.inner.send(frame)
    }

    fn recv(&mut self, room: &mut Scatter<'_>) -> Result<usize, RecvError> {
        let received = self.inner.recv(room);
        self.reads.fetch_add(u64::from(received.is_ok()), SeqCst);
        received
    }

    fn poll_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.inner.poll_fd()
    }

    fn check(&self) -> std::io::Result<()> {
        self.inner.check()
    }
}

/// A device over a real tap, with a wire to it.
struct Lab {
    rig: Rig,
    probe: Probe,
    reads: Arc<AtomicU64>,
}

fn config() -> NetConfig {
    NetConfig {
        control_limit: None,
        queue_size: SIZE,
        ..Rig::config(1)
    }
}

/// A device over the tap of this name, and the counter of its reads.
fn device(name: &str) -> (NetDevice, Arc<AtomicU64>) {
    device_with(name, |builder| builder)
}

/// A tap that is made, with room for all frames of a test.
fn taps(name: &str) -> Vec<Tap> {
    let taps = TapOptions::new(name).up().open().expect("a namespace");
    ip(&format!("link set {name} txqueuelen 10000"));
    taps
}

/// The same, built with the options that `options` chooses.
fn device_with<'a>(
    name: &str,
    options: impl FnOnce(NetDeviceBuilder<'a>) -> NetDeviceBuilder<'a>,
) -> (NetDevice, Arc<AtomicU64>) {
    let taps = taps(name);
    let reads = Arc::new(AtomicU64::new(0));
    let counter = reads.clone();
    let builder = options(NetDevice::builder(config()));
    let builder = builder.decorate_backends(move |_, inner| {
        let reads = counter.clone();
        Box::new(Counted { inner, reads })
    });
    let device = builder.build_on_taps(taps).expect("they fit");
    (device, reads)
}

impl Lab {
    fn new(without: F) -> Self {
        Self::with(without, |builder| builder)
    }

    fn with<'a>(
        without: F,
        options: impl FnOnce(NetDeviceBuilder<'a>) -> NetDeviceBuilder<'a>,
    ) -> Self {
        without_ipv6();
        let (device, reads) = device_with("flt0", options);
        let mut lab = Self {
            rig: Rig::over(device),
            probe: Probe::on("flt0", 1514).expect("a bridge"),
            reads,
        };
        lab.start(without);
        lab
    }

    /// Activates the device, and waits for the wire: a bridge forwards nothing until it has noticed
    /// the carrier of its ports.
    fn start(&mut self, without: F) {
        self.rig.negotiate(without);
        self.rig.lay_out(SIZE);
        self.rig.activate();
        self.await_wire();
    }

    fn await_wire(&mut self) {
        self.post();
        let before = self.rig.counter("rx_frames");
        let deadline = Instant::now() + LIMIT;
        while self.rig.counter("rx_frames") == before {
            assert!(Instant::now() < deadline, "the bridge does not forward");
            self.send(&[numbered(BROADCAST, HELLO)]);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn post(&mut self) {
        let room = self.rig.queue(0).ring.free();
        self.rig.post(0, &vec![256; room]);
    }

    fn send(&self, frames: &[Vec<u8>]) {
        self.probe.send(frames).expect("it is up");
    }

    /// Sends frames that are not wanted, and waits until each is dropped: by the kernel without a
    /// read of the device, if it `may` be told.
    fn sends_in_vain(&mut self, frames: &[Vec<u8>], may: bool) {
        // Whatever came before is read.
        self.sends(&[numbered(BROADCAST, 9999)]);
        let total = ["rx_drop_filtered", "rx_kernel_filtered"];
        let [before, in_kernel] = total.map(|name| self.rig.counter(name));
        let reads = self.reads.load(SeqCst);
        self.send(frames);
        let deadline = Instant::now() + LIMIT;
        while self.rig.counter("rx_drop_filtered") < before + frames.len() as u64 {
            assert!(Instant::now() < deadline, "frames are not dropped");
            std::thread::sleep(Duration::from_millis(1));
        }
        let dropped = self.rig.counter("rx_kernel_filtered") - in_kernel;
        if may {
            assert!(dropped >= frames.len() as u64, "{dropped}");
            assert_eq!(
                self.reads.load(SeqCst),
                reads,
                "they cost the device nothing"
            );
        } else {
            assert_eq!(dropped, 0);
        }
    }

    /// Sends frames that are wanted, and all arrive in order.
    fn sends(&mut self, frames: &[Vec<u8>]) {
        self.post();
        self.send(frames);
        let arrived = self.take(frames.len());
        assert_eq!(
            arrived,
            frames.iter().map(|frame| number(frame)).collect::<Vec<_>>()
        );
    }

    /// Numbers of so many frames that arrive.
    fn take(&mut self, count: usize) -> Vec<Option<u16>> {
        let mut arrived = Vec::new();
        let (irq, queues) = (self.rig.irq.clone(), &mut self.rig.queues);
        irq.wait_until("all frames to arrive", || {
            let queue = queues.get_mut(&0).expect("it was laid out");
            queue.look(usize::MAX, Interrupting::Yes);
            for used in std::mem::take(&mut queue.used) {
                let number = number(body(&queue.ring.bytes(&used)));
                // What a bridge sends by itself has none.
                if number.is_some_and(|number| number != HELLO) {
                    arrived.push(number);
                }
            }
            arrived.len() >= count
        });
        arrived
    }
}

/// A frame with a number by which it is known.
fn numbered(to: [u8; 6], number: u16) -> Vec<u8> {
    let mut bytes = [to, PEER_MAC].concat();
    bytes.extend([0x88, 0xb5]);
    bytes.extend(number.to_be_bytes());
    bytes.resize(60, 0);
    bytes
}

fn in_vlan(id: u16, number: u16) -> Vec<u8> {
    let mut bytes = numbered(GUEST_MAC, number);
    let [high, low] = id.to_be_bytes();
    bytes.splice(12..12, [0x81, 0, high, low]);
    bytes
}

fn number(frame: &[u8]) -> Option<u16> {
    let mark = frame.windows(2).position(|two| two == [0x88, 0xb5])?;
    Some(u16::from_be_bytes([frame[mark + 2], frame[mark + 3]]))
}

/// A thousand frames that a driver does not want as long as it gives no commands.
fn unwanted() -> Vec<Vec<u8>> {
    let frames = (0..1000).map(|number| match number % 4 {
        0 => numbered(GROUP_A, number),
        1 => in_vlan(VLAN, number),
        _ => numbered(OTHER, number),
    });
    frames.collect()
}

fn wanted() -> Vec<Vec<u8>> {
    let frames = (1..=200).map(|number| match number % 3 {
        0 => numbered(BROADCAST, number),
        1 => in_vlan(0, number),
        _ => numbered(GUEST_MAC, number),
    });
    frames.collect()
}

/// Frames of each kind that is unwanted at first.
fn others() -> Vec<Vec<u8>> {
    let frames = [numbered(GROUP_A, 1), in_vlan(VLAN, 2), numbered(OTHER, 3)];
    frames.into()
}

#[test]
fn unwanted_frames_cost_the_device_nothing_net_cvq_07_12_16() {
    isolated_as_root(|| {
        let may = FilterProgram::load().is_ok();
        let mut lab = Lab::new(F::empty());
        lab.sends_in_vain(&unwanted(), may);
        let rx_drops = stats::get(&mut lab.rig, 0, stats::RX[0])[4];
        assert!(rx_drops >= 1000, "{rx_drops}");
        lab.sends(&wanted());
        // What the driver adds passes with the answer to its command.
        assert_eq!(lab.rig.command(1, 0, &table(&[OTHER], &[GROUP_A])), OK);
        assert_eq!(lab.rig.command(2, 0, &VLAN.to_le_bytes()), OK);
        lab.sends(&others());
        lab.sends(&wanted());
        lab.sends_in_vain(&[numbered(GROUP_B, 1), in_vlan(VLAN + 1, 2)], may);
        // With promiscuous mode nothing is dropped, whoever looks.
        assert_eq!(lab.rig.command(1, 0, &table(&[], &[])), OK);
        assert_eq!(lab.rig.command(0, 0, &[1]), OK);
        lab.sends(&[
            numbered(GROUP_B, 1),
            in_vlan(VLAN + 1, 2),
            numbered(OTHER, 3),
        ]);
        assert_eq!(lab.rig.command(0, 0, &[0]), OK);
        assert_eq!(lab.rig.command(2, 1, &VLAN.to_le_bytes()), OK);
        lab.sends_in_vain(&unwanted(), may);
        lab.sends(&wanted());
    });
}

#[test]
fn the_kernels_filter_lasts_over_a_pause_and_ends_with_a_reset() {
    isolated_as_root(|| {
        let may = FilterProgram::load().is_ok();
        let mut lab = Lab::new(F::empty());
        pause(&mut lab.rig);
        lab.send(&unwanted());
        lab.send(&wanted());
        lab.post();
        resume(&mut lab.rig);
        assert_eq!(lab.take(200).len(), 200);
        lab.sends_in_vain(&unwanted(), may);
        // A driver without filters wants all, and the next one has its own again.
        lab.rig.device.reset();
        let filters = F::VIRTIO_NET_F_CTRL_RX | F::VIRTIO_NET_F_CTRL_VLAN;
        lab.start(filters | F::VIRTIO_NET_F_CTRL_RX_EXTRA);
        lab.sends(&others());
        lab.rig.device.reset();
        lab.start(F::VIRTIO_NET_F_CTRL_VLAN);
        lab.sends(&[in_vlan(VLAN, 2)]);
        lab.sends_in_vain(&[numbered(OTHER, 1), numbered(GROUP_A, 2)], may);
    });
}

#[test]
fn the_kernels_filter_moves_with_a_guest_to_another_tap() {
    isolated_as_root(|| {
        let may = FilterProgram::load().is_ok();
        let mut lab = Lab::new(F::empty());
        assert_eq!(lab.rig.command(1, 0, &table(&[OTHER], &[])), OK);
        pause(&mut lab.rig);
        let state = lab.rig.device.snapshot().expect("it can be saved");
        let (mut next, reads) = device("flt1");
        next.restore(state).expect("it was just saved");
        ip("link set flt0 nomaster");
        ip("link set flt1 master probe-br");
        let mut rig = lab.rig.move_to(Rig::over(next));
        rig.activate();
        resume(&mut rig);
        let mut lab = Lab {
            rig,
            probe: lab.probe,
            reads,
        };
        lab.await_wire();
        lab.sends_in_vain(&[numbered(GROUP_A, 1), in_vlan(VLAN, 2)], may);
        lab.sends(&[numbered(OTHER, 3)]);
        lab.sends(&wanted());
    });
}

#[test]
fn the_kernels_filter_serves_a_link_that_was_opened_again() {
    isolated_as_root(|| {
        let may = FilterProgram::load().is_ok();
        let reads = Arc::new(AtomicU64::new(0));
        let counter = reads.clone();
        let mut lab = Lab::with(F::empty(), |builder| {
            builder.reopen_with(move |_| {
                let link = Link::on_taps(&config(), taps("flt0"))?;
                ip("link set flt0 master probe-br");
                let reads = counter.clone();
                Ok(link.map(move |pair, inner| {
                    assert_eq!(pair, 0);
                    let reads = reads.clone();
                    Box::new(Counted { inner, reads })
                }))
            })
        });
        lab.sends_in_vain(&unwanted(), may);
        ip("link delete flt0");
        lab.rig.irq.wait_config(1);
        lab.rig.device.reset();
        lab.rig.queues.clear();
        assert!(!lab.rig.device.is_port_lost());
        lab.reads = reads;
        lab.start(F::empty());
        lab.sends_in_vain(&unwanted(), may);
        assert!(lab.reads.load(SeqCst) > 0, "of the frames before");
        lab.sends(&wanted());
    });
}

#[test]
fn changes_of_the_filter_lose_no_frame_that_is_always_wanted_net_cvq_03() {
    const FRAMES: u16 = 1500;
    isolated_as_root(|| {
        let mut lab = Lab::new(F::empty());
        lab.post();
        let (probe, rig) = (&lab.probe, &mut lab.rig);
        let many: Vec<[u8; 6]> = (0..60).map(|number| [2, 0, 0, 0, 1, number]).collect();
        let mut changes = 0;
        std::thread::scope(|scope| {
            let sender = scope.spawn(move || {
                for number in 1..=FRAMES {
                    let frame = numbered([GUEST_MAC, BROADCAST][usize::from(number % 2)], number);
                    probe.send(&[frame]).expect("it is up");
                }
            });
            while !sender.is_finished() || changes < 100 {
                changes += 1;
                let answer = match changes % 4 {
                    0 => rig.command(0, 0, &[1]),
                    1 => rig.command(0, 0, &[0]),
                    2 => rig.command(1, 0, &table(&many, &[GROUP_A])),
                    _ => rig.command(1, 0, &table(&[OTHER], &[])),
                };
                assert_eq!(answer, OK);
            }
        });
        let arrived = lab.take(usize::from(FRAMES));
        assert_eq!(arrived, (1..=FRAMES).map(Some).collect::<Vec<_>>());
    });
}

#[test]
fn without_a_right_to_the_kernels_filter_the_device_filters() {
    isolated(|| {
        let mut lab = Lab::new(F::empty());
        lab.sends_in_vain(&unwanted(), false);
        lab.sends(&wanted());
        assert_eq!(lab.rig.counter("rx_kernel_filtered"), 0);
    });
}

#[test]
fn a_filter_that_was_handed_in_needs_no_right() {
    isolated_as_root(|| {
        let Ok(program) = FilterProgram::load() else {
            return;
        };
        without_bpf();
        assert!(FilterProgram::load().is_err());
        let program = LoadedProgram::WithRules(program);
        let mut lab = Lab::with(F::empty(), |builder| builder.filter_program(program));
        lab.sends_in_vain(&unwanted(), true);
        lab.sends(&wanted());
    });
}

#[test]
fn a_foreign_filter_drops_as_it_is_and_the_device_does_the_rest() {
    isolated_as_root(|| {
        let Ok(mut theirs) = FilterProgram::load() else {
            return;
        };
        theirs.set_rules(&FilterRules {
            multicast: Verdict::Listed,
            addresses: vec![GROUP_B],
            ..FilterRules::default()
        });
        let program = theirs.as_fd().try_clone_to_owned().expect("a descriptor");
        let program = LoadedProgram::Foreign(program);
        let mut lab = Lab::with(F::empty(), |builder| builder.filter_program(program));
        lab.sends_in_vain(&[numbered(OTHER, 1), numbered(GROUP_B, 2)], false);
        lab.sends(&wanted());
        // Whatever the driver says, their program keeps a group out.
        let before = theirs.dropped().get();
        assert_eq!(lab.rig.command(0, 0, &[1]), OK);
        lab.send(&[numbered(GROUP_A, 1)]);
        lab.sends(&[numbered(GROUP_B, 2), numbered(OTHER, 3)]);
        assert!(theirs.dropped().get() > before);
        assert_eq!(lab.rig.counter("rx_kernel_filtered"), 0);
    });
}

#[test]
fn a_descriptor_that_is_no_program_makes_no_device() {
    isolated(|| {
        let taps = TapOptions::new("flt0").up().open().expect("a namespace");
        let file = std::fs::File::open("/dev/null").expect("it is there");
        let builder = NetDevice::builder(config());
        let builder = builder.filter_program(LoadedProgram::Foreign(file.into()));
        let error = builder.build_on_taps(taps).expect_err("no program");
        assert!(matches!(error, NewError::FilterProgram(_)), "{error:?}");
    });
}
