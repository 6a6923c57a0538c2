//! Coalesced frames through the kernel: cut by it, they are what the driver sent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use net_device::GsoTrust;
use net_device::port::{GsoPolicy, TapBackend};
use net_queue::header::{HDR_LEN, TxRules};
use net_queue::ring::{AnyRing, Layout, RingConfig};
use net_queue::testing::packets::{Packet, Sums, on_the_wire};
use net_queue::testing::{GuestRing, LAYOUTS, Random, TestMemory};
use net_queue::{
    Budget, FrameBackend, LinkConfig, Offloads, QueueCounters, RecvError, Scatter, Stop, TxConfig,
    TxEngine, Unlimited,
};
use tap::TapOptions;
use tests::testbed::{ip, isolated, without_ipv6};

/// Longest wait for frames that were sent. It only ends a test that would hang.
const LIMIT: Duration = Duration::from_secs(60);

/// All that a group can be.
const ALL: Offloads = Offloads::CSUM
    .union(Offloads::TSO4)
    .union(Offloads::TSO6)
    .union(Offloads::USO4)
    .union(Offloads::USO6);

fn open(name: &str) -> TapBackend {
    let tap = TapOptions::new(name).up().open().expect("a tap").remove(0);
    let mut backend = TapBackend::new(tap, false, GsoPolicy::of_this_kernel(GsoTrust::Trust))
        .expect("it can be probed");
    let link = LinkConfig {
        hdr_len: HDR_LEN,
        rx: Offloads::empty(),
    };
    backend.configure(&link).expect("a tap without offloads");
    backend
}

/// A transmit queue on one tap, and another tap to which a bridge leads: what comes out there has
/// nothing left to be done.
struct Bridged {
    guest: GuestRing,
    engine: TxEngine<AnyRing>,
    counters: Arc<QueueCounters>,
    near: TapBackend,
    far: TapBackend,
}

impl Bridged {
    fn new(layout: Layout) -> Self {
        let memory = TestMemory::new();
        let config = RingConfig {
            layout,
            size: 256,
            ..RingConfig::default()
        };
        let guest = GuestRing::new(&memory, config);
        let (near, far) = (open("near"), open("far"));
        assert!(near.caps().tx.contains(ALL), "this kernel cannot be tried");
        ip("link add bridge type bridge");
        for name in ["near", "far"] {
            ip(&format!("link set {name} master bridge"));
        }
        ip("link set bridge up");
        let counters = Arc::<QueueCounters>::default();
        let terms = TxConfig {
            coalesce: ALL,
            ..TxConfig::new(TxRules::new(ALL))
        };
        let engine = TxEngine::new(guest.device(), terms, counters.clone());
        Self {
            guest,
            engine,
            counters,
            near,
            far,
        }
    }

    /// Sends all packets in one run, and waits for what comes out.
    fn pass(&mut self, packets: &[Packet]) -> Vec<Vec<u8>> {
        for packet in packets {
            let bytes = packet.bytes();
            let pieces = self.guest.memory().cut(&bytes, &[]);
            self.guest.add(&pieces);
        }
        self.guest.publish();
        let budget = Budget {
            frames: 1 << 20,
            bytes: 1 << 40,
        };
        let done = self.engine.run(&mut self.near, &mut Unlimited, 0, budget);
        assert!(matches!(done.stop, Stop::Driver), "{:?}", done.stop);
        assert_eq!(done.frames, packets.len() as u64);
        self.guest.poll_all();
        let begun = Instant::now();
        let mut arrived = Vec::new();
        while arrived.len() < packets.len() {
            assert!(begun.elapsed() < LIMIT, "{} frames came", arrived.len());
            let mut bytes = vec![0; 1 << 16];
            let len = Scatter::with_bytes(&mut bytes, |room| self.far.recv(room));
            match len {
                // The kernel's own frames have other addresses.
                Ok(len) if bytes[HDR_LEN..HDR_LEN + 5] == [2, 0, 0, 0, 1] => {
                    arrived.push(bytes[HDR_LEN..len].to_vec());
                }
                Ok(_) => {}
                Err(RecvError::WouldBlock) => std::thread::yield_now(),
                Err(error) => panic!("{error:?}"),
            }
        }
        arrived
    }
}

/// Frames of the flow of `first`, by its ports.
fn of_flow(frames: &[Vec<u8>], first: &Packet) -> Vec<Vec<u8>> {
    let (from, to) = first.ports;
    let ports = [from.to_be_bytes(), to.to_be_bytes()].concat();
    let start = first.transport();
    let is_of = |frame: &&Vec<u8>| frame.get(start..start + 4) == Some(&ports);
    frames.iter().filter(is_of).cloned().collect()
}

/// A few flows of any kind in turn, each in packets of a length of its own with others between.
fn traffic(random: &mut Random, round: u16) -> Vec<Vec<Packet>> {
    let flows = 1 + random.below(5);
    let flow = |index: u64, random: &mut Random| {
        let kind = random.below(4);
        let len = 1 + random.below(1300) as usize;
        let first = Packet {
            tcp: kind & 1 > 0,
            v6: kind & 2 > 0,
            tags: random.below(3) as usize,
            tos: [0, 2, 0x10][random.below(3) as usize],
            ports: (100 + index as u16, round),
            fragment: [0, 0x4000][random.below(2) as usize],
            id: random.next_u64() as u16,
            seq: random.next_u64() as u32,
            options: vec![1; 4 * random.below(11) as usize],
            sums: [Sums::Partial, Sums::Complete][random.below(2) as usize],
            payload: random.bytes(len),
            ..Packet::udp(&[])
        };
        let count = 1 + random.below(20) as usize;
        let mut packets: Vec<_> = (0..count)
            .map(|n| first.after(n, &random.bytes(len)))
            .collect();
        if first.tcp {
            for packet in &mut packets {
                packet.flags |= [0, 0, 0, 0, 0, 0, 8, 1][random.below(8) as usize];
            }
        }
        let last = random.below(len as u64) as usize;
        packets.push(first.after(count, &random.bytes(last)));
        packets
    };
    (0..flows).map(|index| flow(index, random)).collect()
}

/// Packets of all flows, mixed.
fn mixed(flows: &[Vec<Packet>], random: &mut Random) -> Vec<Packet> {
    let mut rest: Vec<_> = flows.iter().map(|flow| flow.iter()).collect();
    let mut packets = Vec::new();
    while !rest.is_empty() {
        let at = random.below(rest.len() as u64) as usize;
        match rest[at].next() {
            Some(packet) => packets.push(packet.clone()),
            None => drop(rest.remove(at)),
        }
    }
    packets
}

#[test]
fn the_kernel_cuts_groups_into_the_frames_that_were_sent() {
    isolated(|| {
        without_ipv6();
        for (seed, layout) in (1..).zip(LAYOUTS) {
            let mut bridged = Bridged::new(layout);
            let mut random = Random::new(seed);
            for round in 0..400 {
                let flows = traffic(&mut random, round);
                let packets = mixed(&flows, &mut random);
                let arrived = bridged.pass(&packets);
                for flow in &flows {
                    let sent = flow.iter().map(Packet::bytes);
                    let sent: Vec<_> = sent.flat_map(|bytes| on_the_wire(&bytes)).collect();
                    assert_eq!(of_flow(&arrived, &flow[0]), sent, "{:?}", flow[0]);
                }
            }
            let stats = bridged.counters.stats();
            assert!(stats.grouped > stats.frames / 2, "{stats:?}");
            assert_eq!((stats.groups_refused, stats.dropped()), (0, 0));
            drop(bridged);
            ip("link delete bridge");
        }
    });
}
