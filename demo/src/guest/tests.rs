//! The guest against devices that do not behave.

use std::io::Read;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fs::File, io};

use net_device::net_queue::AccessPlatform;
use net_device::{
    ActivateError, Activation, FeatureError, Interrupt, InterruptSource, QueueSetup, VirtioDevice,
};
use smoltcp::wire::Ipv4Cidr;
use vm_memory::{Bytes, GuestAddress};

use super::{Arena, DriverError, Guest, GuestConfig, GuestError, QUEUE_SIZE, TransportError, Turn};

const EVENT_IDX: u128 = 1 << 29;
const VERSION_1: u128 = 1 << 32;
const RX: usize = 0;

/// A device that does nothing unless a test does it.
#[derive(Default)]
struct Idle {
    queue_sizes: Vec<u16>,
    refuses_features: bool,
    refuses_activation: bool,
    needs_reset: bool,
    resets: u32,
    interrupt: Option<Arc<dyn Interrupt>>,
    queues: Vec<QueueSetup>,
}

impl Idle {
    fn new() -> Self {
        Self {
            queue_sizes: vec![QUEUE_SIZE as u16; 2],
            ..Self::default()
        }
    }

    /// Writes one used element, whatever it says.
    fn use_buffer(&self, queue: usize, id: u32, len: u32) {
        let used = self.queues[queue].addrs.device;
        let memory = Arena::global().unwrap().memory();
        memory.write_obj(id, GuestAddress(used + 4)).unwrap();
        memory.write_obj(len, GuestAddress(used + 8)).unwrap();
        memory.write_obj(1_u16, GuestAddress(used + 2)).unwrap();
        self.interrupt(InterruptSource::Queue(queue as u16));
    }

    fn set_avail_event(&self, queue: usize, value: u16) {
        let at = self.queues[queue].addrs.device + 4 + 8 * QUEUE_SIZE as u64;
        Arena::global()
            .unwrap()
            .memory()
            .write_obj(value, GuestAddress(at))
            .unwrap();
    }

    /// Takes the kicks of a queue.
    fn kicks(&self, queue: usize) -> u64 {
        let kick: OwnedFd = self.queues[queue].kick.try_clone().unwrap();
        let mut count = [0; 8];
        match File::from(kick).read(&mut count) {
            Ok(_) => u64::from_ne_bytes(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => panic!("{error}"),
        }
    }

    fn interrupt(&self, source: InterruptSource) {
        self.interrupt.as_ref().unwrap().trigger(source).unwrap();
    }
}

impl VirtioDevice for Idle {
    fn device_type(&self) -> u32 {
        1
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn features(&self) -> u128 {
        EVENT_IDX | VERSION_1
    }

    fn ack_features(&mut self, features: u128) -> Result<(), FeatureError> {
        if self.refuses_features {
            return Err(FeatureError::NotOffered(features));
        }
        Ok(())
    }

    fn acked_features(&self) -> u128 {
        self.features()
    }

    fn read_config(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    fn config_generation(&self) -> u32 {
        0
    }

    fn needs_reset(&self) -> bool {
        self.needs_reset
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        if self.refuses_activation {
            return Err(ActivateError::Queues);
        }
        self.interrupt = Some(activation.interrupt);
        self.queues = activation.queues;
        self.queues.sort_by_key(|queue| queue.index);
        Ok(())
    }

    fn reset(&mut self) -> Option<Arc<dyn Interrupt>> {
        self.resets += 1;
        self.queues.clear();
        self.interrupt.take()
    }

    fn counters(&self) -> Vec<(String, u64)> {
        Vec::new()
    }

    fn set_access_platform(&mut self, _platform: Arc<dyn AccessPlatform>) {}
}

fn boot(device: Idle) -> (Arc<Mutex<Idle>>, Result<Guest, GuestError>) {
    let device = Arc::new(Mutex::new(device));
    let config = GuestConfig {
        address: Ipv4Cidr::new(Ipv4Addr::new(10, 0, 2, 15), 24),
        mtu: 1500,
        tcp_buffer: 4096,
    };
    let guest = Guest::boot(Arc::clone(&device) as _, &config);
    (device, guest)
}

fn boot_error(device: Idle) -> DriverError {
    match boot(device).1 {
        Err(GuestError::Driver(error)) => error,
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("booted"),
    }
}

/// Lets the guest wait for something that never comes.
fn wait(guest: &mut Guest, patience: Duration) -> GuestError {
    let idle = |_: &mut Guest| Ok::<Turn<()>, GuestError>(Turn::Idle);
    guest.run("nothing", patience, idle).unwrap_err()
}

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(60);

#[test]
fn every_receive_buffer_is_posted_and_rung_at_boot() {
    let (device, guest) = boot(Idle::new());
    let _guest = guest.unwrap();
    let device = device.lock().unwrap();
    let avail = device.queues[RX].addrs.driver;
    let posted: u16 = Arena::global()
        .unwrap()
        .memory()
        .read_obj(GuestAddress(avail + 2))
        .unwrap();
    assert_eq!(usize::from(posted), QUEUE_SIZE);
    assert!(device.kicks(RX) > 0);
}

#[test]
fn a_guest_that_goes_away_stops_the_device() {
    let (device, guest) = boot(Idle::new());
    let before = device.lock().unwrap().resets;
    drop(guest);
    assert_eq!(device.lock().unwrap().resets, before + 1);
}

#[test]
fn a_guest_without_a_given_address_has_its_own() {
    let (_device, guest) = boot(Idle::new());
    assert_ne!(guest.unwrap().mac(), [0; 6]);
}

#[test]
fn refused_features_end_the_boot_before_the_device_is_activated() {
    let error = boot_error(Idle {
        refuses_features: true,
        ..Idle::new()
    });
    assert!(
        matches!(error, DriverError::Boot(TransportError::Features { .. })),
        "{error:?}"
    );
}

#[test]
fn a_refused_activation_ends_the_boot() {
    let error = boot_error(Idle {
        refuses_activation: true,
        ..Idle::new()
    });
    assert!(
        matches!(error, DriverError::Boot(TransportError::Activate(_))),
        "{error:?}"
    );
}

#[test]
fn a_queue_that_is_too_small_ends_the_boot() {
    let error = boot_error(Idle {
        queue_sizes: vec![2; 2],
        ..Idle::new()
    });
    assert!(
        matches!(
            error,
            DriverError::Ring {
                action: "start",
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn silence_is_an_error_that_says_what_was_awaited() {
    let (_device, guest) = boot(Idle::new());
    let error = wait(&mut guest.unwrap(), SHORT);
    assert!(
        matches!(
            error,
            GuestError::Stalled {
                awaited: "nothing",
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn a_descriptor_that_the_device_does_not_hold_is_an_error() {
    let (device, guest) = boot(Idle::new());
    let mut guest = guest.unwrap();
    device
        .lock()
        .unwrap()
        .use_buffer(RX, QUEUE_SIZE as u32 + 7, 60);
    let error = wait(&mut guest, LONG);
    let token = QUEUE_SIZE as u16 + 7;
    assert!(
        matches!(error, GuestError::Driver(DriverError::Token(t)) if t == token),
        "{error:?}"
    );
}

#[test]
fn a_length_beyond_the_buffer_is_an_error() {
    let (device, guest) = boot(Idle::new());
    let mut guest = guest.unwrap();
    device.lock().unwrap().use_buffer(RX, 0, 1 << 20);
    let error = wait(&mut guest, LONG);
    assert!(
        matches!(error, GuestError::Driver(DriverError::Length(_))),
        "{error:?}"
    );
}

#[test]
fn a_device_that_asks_for_a_reset_is_an_error() {
    let (device, guest) = boot(Idle::new());
    let mut guest = guest.unwrap();
    {
        let mut device = device.lock().unwrap();
        device.needs_reset = true;
        device.interrupt(InterruptSource::Config);
    }
    let error = wait(&mut guest, LONG);
    assert!(matches!(error, GuestError::NeedsReset), "{error:?}");
}

#[test]
fn a_doorbell_that_the_driver_did_not_ring_is_rung_soon_after() {
    let (device, guest) = boot(Idle::new());
    let mut guest = guest.unwrap();
    {
        let device = device.lock().unwrap();
        device.kicks(RX);
        // The driver compares without wrap-around, so this event is never reached.
        device.set_avail_event(RX, u16::MAX - 1);
        device.use_buffer(RX, 0, 12 + 60);
    }
    // The used buffer is posted again without a ring; then all is quiet.
    let rung = guest.run("a ring", LONG, |_| {
        let rung = device.lock().unwrap().kicks(RX) > 0;
        Ok::<_, GuestError>(if rung { Turn::Done(()) } else { Turn::Idle })
    });
    rung.unwrap();
}
