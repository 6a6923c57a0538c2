//! Handles: what an interrupt and other threads read of a device that somebody else has.

use std::io;
use std::sync::{Arc, Mutex};

use net_device::{
    Activation, DeviceHandle, DeviceStats, DropCause, Features, Interrupt, InterruptSource,
    NetDevice, VirtioDevice,
};
use tests::testbed::{Irq, RINGS, Rig, bounded, break_ring, frame, pause, resume};

type F = Features;

/// A reading by an interrupt: for what it came, the reason to reset, the link, the generation.
type Reading = (InterruptSource, Option<String>, bool, u32);

/// An interrupt that reads all that a handle tells.
struct Curious {
    handle: DeviceHandle,
    readings: Mutex<Vec<Reading>>,
    irq: Arc<Irq>,
}

impl Interrupt for Curious {
    fn trigger(&self, source: InterruptSource) -> io::Result<()> {
        let mut config = [0; 28];
        self.handle.read_config(0, &mut config);
        let _ = self.handle.stats();
        let reason = self.handle.failure().map(|reason| reason.to_string());
        assert_eq!(self.handle.needs_reset(), reason.is_some());
        let (link, generation) = (self.handle.is_link_up(), self.handle.config_generation());
        assert_eq!(config[6] & 1 == 1, link);
        self.readings
            .lock()
            .unwrap()
            .push((source, reason, link, generation));
        self.irq.trigger(source)
    }
}

impl Curious {
    fn of(rig: &Rig) -> Arc<Self> {
        Arc::new(Self {
            handle: rig.device.handle(),
            readings: Mutex::default(),
            irq: rig.irq.clone(),
        })
    }

    /// The next configuration interrupt.
    fn config(&self) -> Reading {
        let mut found = None;
        self.irq.wait_until("a configuration interrupt", || {
            let mut readings = self.readings.lock().unwrap();
            let mut all = readings.drain(..);
            found = all.find(|(source, ..)| *source == InterruptSource::Config);
            found.is_some()
        });
        found.unwrap()
    }
}

/// A running device whose interrupt is curious.
fn running(without: Features) -> (Rig, Arc<Curious>) {
    let mut rig = Rig::new(Rig::config(1));
    let irq = Curious::of(&rig);
    rig.negotiate(without);
    rig.lay_out(64);
    let activation = Activation {
        interrupt: irq.clone(),
        ..rig.activation(rig.setups())
    };
    rig.device
        .activate(activation)
        .expect("it can be activated");
    (rig, irq)
}

#[test]
fn an_interrupt_may_read_the_device_on_every_thread_on_which_it_comes() {
    for without in RINGS {
        bounded("all calls that interrupt", move || {
            let (mut rig, irq) = running(without);
            rig.send(0, &frame(60, 1));
            rig.wait_used(1, 1);
            rig.device.set_link(false);
            let (_, reason, link, down) = irq.config();
            assert_eq!((reason, link), (None, false));
            rig.device.set_link(true);
            let (.., link, up) = irq.config();
            assert!(link && up != down);
            rig.device.announce();
            let (.., announced) = irq.config();
            assert_ne!(announced, up);
            pause(&mut rig);
            resume(&mut rig);
            rig.device.reset();
        });
    }
}

#[test]
fn a_failure_is_known_with_its_reason_when_the_interrupt_says_so() {
    bounded("a broken ring", || {
        let (mut rig, irq) = running(F::VIRTIO_F_RING_PACKED);
        break_ring(&mut rig, 1);
        let (_, reason, ..) = irq.config();
        let reason = reason.expect("the device needs a reset");
        assert!(reason.starts_with("transmit queue 1: "), "{reason}");
        rig.device.reset();
        assert_eq!(irq.handle.failure(), None);
        assert!(!irq.handle.needs_reset());
    });
}

#[test]
fn an_activation_that_fails_is_known_to_its_interrupt() {
    bounded("a refused activation", || {
        let mut rig = Rig::new(Rig::config(1));
        let irq = Curious::of(&rig);
        rig.negotiate(F::empty());
        rig.lay_out(64);
        let mut queues = rig.setups();
        queues[0].addrs.desc = 1 << 60;
        let activation = Activation {
            interrupt: irq.clone(),
            ..rig.activation(queues)
        };
        rig.device
            .activate(activation)
            .expect_err("there is no memory");
        let (_, reason, ..) = irq.config();
        let reason = reason.expect("the device needs a reset");
        assert!(reason.starts_with("cannot be activated: "), "{reason}");
    });
}

#[test]
fn counters_are_kept_by_queue_and_their_sums_have_names() {
    let mut rig = Rig::new(Rig::config(2));
    let handle = rig.device.handle();
    assert_eq!(handle.stats().rx.len(), 2);
    rig.start(F::empty());
    assert_eq!(rig.command(4, 0, &[2, 0]), 0, "VQ_PAIRS_SET");
    rig.send(0, &frame(60, 1));
    rig.send(1, &frame(70, 2));
    rig.send(1, &frame(70, 3));
    rig.wait_used(1, 1);
    rig.wait_used(3, 2);
    rig.device.set_link(false);
    rig.send(1, &frame(60, 4));
    rig.wait_used(3, 1);
    pause(&mut rig);
    let stats: DeviceStats = handle.stats();
    let sent: Vec<_> = stats
        .tx
        .iter()
        .map(|queue| (queue.frames, queue.bytes))
        .collect();
    assert_eq!(sent, [(1, 60), (2, 140)]);
    let dropped = stats
        .tx
        .iter()
        .map(|queue| queue.drops(DropCause::LinkDown));
    assert_eq!(dropped.collect::<Vec<_>>(), [0, 1]);
    assert_eq!(stats.tx[1].dropped(), 1);
    assert_eq!(stats.control.frames, 1);
    let named = stats.named();
    assert_eq!(named, rig.device.counters());
    for (name, count) in [
        ("tx_frames", 3),
        ("tx_bytes", 200),
        ("tx_drop_link_down", 1),
    ] {
        assert!(named.contains(&(name.to_owned(), count)), "{name}");
    }
}

#[test]
fn debug_output_names_a_device_and_shows_no_guest_memory() {
    let builder = NetDevice::builder(Rig::config(1));
    assert!(format!("{builder:?}").starts_with("NetDeviceBuilder { config: NetConfig"));
    let mut rig = Rig::new(Rig::config(1));
    let id = rig.device.config().id.clone();
    let device = |rig: &Rig| format!("{:?}", &*rig.device);
    assert_eq!(
        device(&rig),
        format!("NetDevice {{ id: {id:?}, state: Inactive, .. }}")
    );
    rig.start(F::empty());
    assert_eq!(
        device(&rig),
        format!("NetDevice {{ id: {id:?}, state: Running, .. }}")
    );
    let (port, _network) = tests::testbed::port(tests::testbed::all_caps());
    assert!(format!("{port:?}").starts_with("Port { caps: Caps"));
    let activation = format!("{:?}", rig.activation(Vec::new()));
    assert!(
        activation.starts_with("Activation { memory: "),
        "{activation}"
    );
    assert!(activation.ends_with("queues: [], .. }"), "{activation}");
}
