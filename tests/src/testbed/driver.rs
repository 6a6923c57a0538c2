//! A guest's driver, a device and its networks in one hand.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use net_device::net_queue::Caps;
use net_device::net_queue::ring::RingConfig;
use net_device::{
    ActivateError, Activation, Features, Interrupt, Layout, NetConfig, NetDevice, NetDeviceBuilder,
    Pausable, Port, QueueSetup, VirtioDevice,
};
use net_queue::header::HDR_LEN;
use net_queue::testing::{Piece, SplitFields, TestMemory, Used};

use crate::testbed::{GUEST_MAC, Irq, Network, Queue, all_caps, bounded, port};

/// Descriptors of each ring.
const SIZE: u16 = 64;

const EVENT_IDX: Features = Features::VIRTIO_F_EVENT_IDX;
const PACKED: Features = Features::VIRTIO_F_RING_PACKED;
const IN_ORDER: Features = Features::VIRTIO_F_IN_ORDER;

/// Features that a driver leaves out to get each kind of ring: packed and split, with and without
/// event index, in order and not.
pub const RINGS: [Features; 8] = [
    Features::empty(),
    EVENT_IDX,
    PACKED,
    PACKED.union(EVENT_IDX),
    IN_ORDER,
    IN_ORDER.union(EVENT_IDX),
    IN_ORDER.union(PACKED),
    IN_ORDER.union(PACKED).union(EVENT_IDX),
];

/// A device that cannot hang a test when it is dropped.
#[derive(Debug)]
pub struct Held(Option<NetDevice>);

impl Held {
    /// Takes the device out.
    #[must_use]
    pub fn into_inner(mut self) -> NetDevice {
        self.0.take().expect("it is held until then")
    }
}

impl From<NetDevice> for Held {
    fn from(device: NetDevice) -> Self {
        Self(Some(device))
    }
}

impl Deref for Held {
    type Target = NetDevice;

    fn deref(&self) -> &NetDevice {
        self.0.as_ref().expect("it is held until dropped")
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut NetDevice {
        self.0.as_mut().expect("it is held until dropped")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(device) = self.0.take() {
            // A second panic would hide the first.
            if std::thread::panicking() {
                std::thread::spawn(move || drop(device));
            } else {
                bounded("dropping the device", move || drop(device));
            }
        }
    }
}

/// A scripted driver, its device and the networks behind it.
#[derive(Debug)]
pub struct Rig {
    /// The device under test.
    pub device: Held,
    /// Guest memory.
    pub memory: TestMemory,
    /// The guest's interrupts.
    pub irq: Arc<Irq>,
    /// The network behind each port that is not a real one.
    pub networks: Vec<Network>,
    /// The queues by index, once they were laid out.
    pub queues: BTreeMap<u16, Queue>,
    pairs: u16,
}

impl Rig {
    /// A configuration with `pairs` pairs and the guest's usual address.
    #[must_use]
    pub fn config(pairs: u16) -> NetConfig {
        NetConfig::builder()
            .mac(GUEST_MAC)
            .queue_pairs(pairs)
            .build()
            .expect("it is a usable configuration")
    }

    /// A device on ports that can do all.
    #[must_use]
    pub fn new(config: NetConfig) -> Self {
        Self::with_caps(config, all_caps())
    }

    /// A device on ports that can do `caps`.
    #[must_use]
    pub fn with_caps(config: NetConfig, caps: Caps) -> Self {
        Self::with_caps_built(config, caps, |builder| builder)
    }

    /// A device on ports that can do all, built with the options that `options` chooses.
    #[must_use]
    pub fn built<'a>(
        config: NetConfig,
        options: impl FnOnce(NetDeviceBuilder<'a>) -> NetDeviceBuilder<'a>,
    ) -> Self {
        Self::with_caps_built(config, all_caps(), options)
    }

    fn with_caps_built<'a>(
        config: NetConfig,
        caps: Caps,
        options: impl FnOnce(NetDeviceBuilder<'a>) -> NetDeviceBuilder<'a>,
    ) -> Self {
        let (ports, networks): (Vec<Port>, Vec<Network>) =
            (0..config.queue_pairs).map(|_| port(caps)).unzip();
        let device = options(NetDevice::builder(config)).build_on_ports(ports);
        let device = device.expect("the device can be made");
        let mut rig = Self::over(device);
        rig.networks = networks;
        rig
    }

    /// A driver for `device`.
    #[must_use]
    pub fn over(device: NetDevice) -> Self {
        Self {
            pairs: device.config().queue_pairs,
            device: device.into(),
            memory: TestMemory::new(),
            irq: Arc::default(),
            networks: Vec::new(),
            queues: BTreeMap::new(),
        }
    }

    /// A device with one pair whose driver accepted all that is offered except `without`, and is
    /// running.
    #[must_use]
    pub fn running(without: Features) -> Self {
        let mut rig = Self::new(Self::config(1));
        rig.start(without);
        rig
    }

    /// Moves the guest, its memory and its queues, over to the device of `next`, in another VMM.
    #[must_use]
    pub fn move_to(self, mut next: Self) -> Self {
        next.memory = self.memory;
        next.queues = self.queues;
        next.queues.values_mut().for_each(Queue::rewire);
        next
    }

    /// Features that the device offers.
    #[must_use]
    pub fn offered(&self) -> Features {
        Features::from_bits_retain(self.device.features())
    }

    /// Features that the driver accepted.
    #[must_use]
    pub fn accepted(&self) -> Features {
        Features::from_bits_retain(self.device.acked_features())
    }

    /// Accepts all that is offered except `without` and what needs it, lays rings out, and sets
    /// DRIVER_OK.
    pub fn start(&mut self, without: Features) {
        self.negotiate(without);
        self.lay_out(SIZE);
        self.activate();
    }

    /// Accepts all that is offered except `without` and what needs it, and except tunnels, whose
    /// header is longer than those of the other frames here.
    pub fn negotiate(&mut self, without: Features) {
        let tunnels = Features::VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO
            | Features::VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO;
        self.accept(without | tunnels);
    }

    /// Accepts all that is offered except `without` and what needs it.
    pub fn accept(&mut self, without: Features) {
        let accepted = (self.offered() - without).closure();
        self.device
            .ack_features(accepted.bits())
            .expect("a closed subset is accepted");
    }

    /// Pairs that the driver knows of.
    #[must_use]
    pub fn pairs(&self) -> u16 {
        let several = Features::VIRTIO_NET_F_MQ | Features::VIRTIO_NET_F_RSS;
        if self.accepted().intersects(several) {
            self.pairs
        } else {
            1
        }
    }

    /// Index of the control queue (NET-CVQ-01).
    #[must_use]
    pub fn control_index(&self) -> u16 {
        2 * self.pairs()
    }

    /// Configuration of a ring of `size` under what was negotiated.
    #[must_use]
    pub fn ring_config(&self, size: u16) -> RingConfig {
        let packed = self.accepted().contains(Features::VIRTIO_F_RING_PACKED);
        RingConfig {
            layout: if packed {
                Layout::Packed
            } else {
                Layout::Split
            },
            size,
            event_idx: self.accepted().contains(Features::VIRTIO_F_EVENT_IDX),
            indirect: self.accepted().contains(Features::VIRTIO_F_INDIRECT_DESC),
            in_order: self.accepted().contains(IN_ORDER),
            ..RingConfig::default()
        }
    }

    /// Lays out a fresh ring of `size` for every queue that the driver knows of.
    pub fn lay_out(&mut self, size: u16) {
        let control = self.accepted().contains(Features::VIRTIO_NET_F_CTRL_VQ);
        let count = self.control_index() + u16::from(control);
        let config = self.ring_config(size);
        let queue = |index| (index, Queue::new(&self.memory, index, config));
        self.queues = (0..count).map(queue).collect();
    }

    /// Queues that the driver set up.
    #[must_use]
    pub fn setups(&self) -> Vec<QueueSetup> {
        self.queues.values().map(Queue::setup).collect()
    }

    /// Activation that the VMM hands in for `queues`.
    #[must_use]
    pub fn activation(&self, queues: Vec<QueueSetup>) -> Activation {
        Activation {
            memory: self.memory.ram(),
            interrupt: self.irq.clone() as Arc<dyn Interrupt>,
            queues,
        }
    }

    /// DRIVER_OK with every queue that was laid out.
    pub fn activate(&mut self) {
        if let Err(error) = self.try_activate(self.setups()) {
            panic!("{}", super::chain(&error));
        }
    }

    /// DRIVER_OK with `queues`.
    ///
    /// # Errors
    /// The device refuses.
    pub fn try_activate(&mut self, queues: Vec<QueueSetup>) -> Result<(), ActivateError> {
        let activation = self.activation(queues);
        self.device.activate(activation)
    }

    /// Queue `index`.
    pub fn queue(&mut self, index: u16) -> &mut Queue {
        self.queues.get_mut(&index).expect("the queue was laid out")
    }

    /// Sends header and frame through pair `pair`.
    pub fn send(&mut self, pair: u16, bytes: &[u8]) {
        let piece = self.memory.filled(bytes);
        self.queue(2 * pair + 1).post(&[piece]);
    }

    /// Posts one buffer of each length to receive into.
    pub fn post(&mut self, pair: u16, lens: &[usize]) {
        for len in lens {
            let piece = self.memory.room(*len);
            self.queue(2 * pair).ring.add(&[piece]);
        }
        self.queue(2 * pair).publish();
    }

    /// Waits until `count` more chains of queue `index` were used.
    pub fn wait_used(&mut self, index: u16, count: usize) -> Vec<Used> {
        let irq = self.irq.clone();
        self.queue(index).wait_used(&irq, count)
    }

    /// Waits until pair `pair` received `count` frames; each with its header, in order.
    pub fn receive(&mut self, pair: u16, count: usize) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut left = 0;
        let mut chains = Vec::new();
        while frames.len() < count || left > 0 {
            if chains.is_empty() {
                chains = self.wait_used(2 * pair, 1);
                chains.reverse();
            }
            let Some(used) = chains.pop() else { break };
            let bytes = self.queue(2 * pair).ring.bytes(&used);
            if left == 0 {
                left = u16::from_le_bytes([bytes[10], bytes[11]]);
                frames.push(bytes);
            } else if let Some(frame) = frames.last_mut() {
                frame.extend(bytes);
            }
            left -= 1;
        }
        // The rest of a batch is for the next call.
        chains.reverse();
        self.queue(2 * pair).used = chains;
        frames
    }

    /// Gives a command and waits for its answer: 0 for OK, 1 for ERR.
    pub fn command(&mut self, class: u8, command: u8, data: &[u8]) -> u8 {
        self.raw_command(&[&[class, command], data].concat())
    }

    /// The same for bytes that may not be a command.
    pub fn raw_command(&mut self, bytes: &[u8]) -> u8 {
        let pieces = [self.memory.filled(bytes), self.memory.room(1)];
        let used = self.control(&pieces);
        assert_eq!(used.len, 1, "an answer is one byte");
        self.memory.read(pieces[1].addr, 1)[0]
    }

    /// Posts a chain to the control queue and waits until it is used.
    pub fn control(&mut self, pieces: &[Piece]) -> Used {
        let index = self.control_index();
        self.queue(index).post(pieces);
        self.wait_used(index, 1).remove(0)
    }

    /// Reads `N` bytes of the configuration space.
    #[must_use]
    pub fn read<const N: usize>(&self, offset: u64) -> [u8; N] {
        let mut bytes = [0xaa; N];
        self.device.read_config(offset, &mut bytes);
        bytes
    }

    /// The status field of the configuration space.
    #[must_use]
    pub fn status(&self) -> u16 {
        u16::from_le_bytes(self.read(6))
    }

    /// One counter of the device.
    #[must_use]
    pub fn counter(&self, name: &str) -> u64 {
        let counters = self.device.counters();
        let found = counters.iter().find(|(known, _)| known == name);
        found.expect("there is a counter of this name").1
    }

    /// Lets `frames` arrive at pair 0 and returns those that the driver gets to see. The device is
    /// paused and resumed in between: then it has looked at all of them.
    pub fn sees(&mut self, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
        self.post(0, &vec![HDR_LEN + 2048; frames.len()]);
        for bytes in frames {
            self.networks[0].wire.inject(bytes.clone());
        }
        self.networks[0].wait_drained();
        self.device.pause().expect("the device pauses");
        self.device.resume().expect("the device resumes");
        let mut used = self.queue(0).ring.poll_all();
        let ring = &self.queue(0).ring;
        used.drain(..).map(|used| ring.bytes(&used)).collect()
    }
}

/// Pauses the device of `rig`: all that its workers did is to be seen then.
pub fn pause(rig: &mut Rig) {
    Pausable::pause(&mut *rig.device).expect("the device pauses");
}

/// Lets the device of `rig` go on.
pub fn resume(rig: &mut Rig) {
    Pausable::resume(&mut *rig.device).expect("the device resumes");
}

/// Makes more available on queue `index`, a split ring, than it has room for: the ring is broken
/// (VQ-SPL-11).
pub fn break_ring(rig: &mut Rig, index: u16) {
    let memory = rig.memory.clone();
    let queue = rig.queue(index);
    let config = queue.ring.config();
    let fields = SplitFields::of(&config);
    let now: u16 = memory.load(fields.avail_idx());
    memory.store(fields.avail_idx(), now.wrapping_add(config.size + 1));
    queue.kick();
}
