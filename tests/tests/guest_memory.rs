//! Guest memory as a VMM changes and watches it: regions that are plugged, writes that are marked.

use std::sync::Arc;

use net_device::{Activation, Features, GuestRam, Migratable, NetDeviceBuilder, VirtioDevice};
use net_queue::testing::{DirtyRanges, Piece};
use tests::testbed::{EventLoop, RINGS, Rig, body, frame, pause, resume};
use vm_memory::{
    Bytes, GuestAddress, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap, GuestRegionMmap,
    MmapRegion,
};

/// A running device of one pair whose writes are told to the result.
fn watched(mut rig: Rig, without: Features) -> (Rig, Arc<DirtyRanges>) {
    let marks = Arc::new(DirtyRanges::default());
    rig.negotiate(without);
    rig.lay_out(256);
    let activation = Activation {
        memory: rig.memory.ram().with_dirty_log(Some(marks.clone())),
        ..rig.activation(rig.setups())
    };
    rig.device.activate(activation).expect("it can be used");
    (rig, marks)
}

/// Bytes that a migration copies: those in use of the memory for rings and of that for buffers.
fn copy(rig: &Rig) -> Vec<(u64, Vec<u8>)> {
    let [(rings, _), _, (buffers, _)] = rig.memory.regions();
    let parts = [(rings, 64 << 10), (buffers, 2 << 20)];
    parts
        .map(|(start, len)| (start, rig.memory.read(start, len)))
        .into()
}

/// Copies again what was marked.
fn copy_again(rig: &Rig, copied: &mut [(u64, Vec<u8>)], marks: &DirtyRanges) {
    for (gpa, len) in marks.take() {
        let part = copied
            .iter_mut()
            .find(|(start, bytes)| (*start..*start + bytes.len() as u64).contains(&gpa));
        let (start, bytes) = part.expect("rings and buffers are all that a device writes");
        let at = (gpa - *start) as usize;
        bytes[at..at + len as usize].copy_from_slice(&rig.memory.read(gpa, len as usize));
    }
}

/// Frames arrive before, while and after logging is switched on. The memory that is copied then,
/// and again where it was marked, is the memory of the paused device.
fn migrate(rig: &mut Rig, marks: &DirtyRanges, start: impl Fn(&mut Rig)) {
    for round in 0..10 {
        rig.device
            .stop_dirty_log()
            .expect("a device without a log runs");
        rig.queue(0).ring.poll_all();
        let free = rig.queue(0).ring.free();
        rig.post(0, &vec![512; free]);
        rig.networks[0].wait_drained();
        marks.take();
        for number in 0..100 {
            rig.networks[0].wire.inject(frame(300, number));
            if number == 50 + 4 * round {
                start(rig);
                let mut copied = copy(rig);
                for number in 0..20 {
                    rig.networks[0].wire.inject(frame(400, number));
                }
                rig.networks[0].wait_drained();
                pause(rig);
                let before = copied.clone();
                copy_again(rig, &mut copied, marks);
                assert!(copied != before, "frames came after the copy");
                assert!(copied == copy(rig), "a write was not marked");
                resume(rig);
            }
        }
        rig.networks[0].wait_drained();
    }
}

fn start_by_device(rig: &mut Rig) {
    rig.device.start_dirty_log().expect("the device runs");
}

/// A thread that migrates, while another one has the device.
fn start_by_handle(rig: &mut Rig) {
    let handle = rig.device.handle();
    let migration = std::thread::spawn(move || {
        assert!(!handle.is_dirty_logging());
        handle.set_dirty_logging(true)
    });
    let started = migration.join().expect("it does not panic");
    started.expect("the kernel has this call");
    assert!(rig.device.is_dirty_logging());
}

#[test]
fn every_write_is_marked_from_the_moment_that_logging_is_on() {
    for without in RINGS {
        for start in [start_by_device, start_by_handle] {
            let (mut rig, marks) = watched(Rig::new(Rig::config(1)), without);
            migrate(&mut rig, &marks, start);
        }
    }
}

#[test]
fn so_it_is_for_a_device_in_an_event_loop() {
    for without in RINGS {
        for start in [start_by_device, start_by_handle] {
            let rig = Rig::built(Rig::config(1), NetDeviceBuilder::event_loop);
            let (mut rig, marks) = watched(rig, without);
            let _loop = EventLoop::drive(rig.device.event_workers());
            migrate(&mut rig, &marks, start);
        }
    }
}

/// Reset and activation belong to the driver, the switch to the VMM.
#[test]
fn logging_is_on_unless_the_vmm_switches_it_off_and_stays_so_over_a_reset() {
    for without in RINGS {
        let (mut rig, marks) = watched(Rig::new(Rig::config(1)), without);
        let exchange = |rig: &mut Rig| {
            rig.post(0, &[512]);
            rig.networks[0].wire.inject(frame(60, 1));
            assert_eq!(body(&rig.receive(0, 1)[0]), body(&frame(60, 1)));
            assert_eq!(rig.command(0, 0, &[1]), 0);
        };
        assert!(rig.device.is_dirty_logging());
        exchange(&mut rig);
        rig.device.set_dirty_logging(false).expect("it runs");
        assert!(!marks.take().is_empty());
        exchange(&mut rig);
        rig.device.reset();
        let (mut rig, marks) = watched(rig, without);
        exchange(&mut rig);
        assert_eq!(marks.take(), [], "nobody wants to know");
        assert!(!rig.device.is_dirty_logging());
        rig.device.set_dirty_logging(true).expect("it runs");
        exchange(&mut rig);
        assert!(!marks.take().is_empty());
    }
}

/// Address at which a region is plugged in.
const PLUGGED: u64 = 0x2_0000_0000;

#[test]
fn a_plugged_region_is_used_after_one_call() {
    for without in RINGS {
        let mut rig = Rig::new(Rig::config(1));
        rig.negotiate(without);
        rig.lay_out(64);
        let memory = GuestMemoryAtomic::from(rig.memory.mmap().clone());
        rig.device.follow_memory(memory.clone());
        rig.device
            .memory_changed()
            .expect("a device that no driver has activated has nothing to do");
        let ram = GuestRam::new(memory.memory().into_inner()).expect("it is mapped");
        let activation = Activation {
            memory: ram,
            ..rig.activation(rig.setups())
        };
        rig.device.activate(activation).expect("it can be used");

        let region = MmapRegion::new(1 << 20).expect("it can be mapped");
        let region = GuestRegionMmap::new(region, GuestAddress(PLUGGED)).expect("it has an end");
        let plugged = memory.memory().insert_region(Arc::new(region));
        let plugged = plugged.expect("it overlaps none");
        memory
            .lock()
            .expect("nobody panicked")
            .replace(plugged.clone());
        rig.device.memory_changed().expect("the same rings");

        let bytes = frame(200, 7);
        rig.queue(0).post(&[Piece::writable(PLUGGED + 100, 512)]);
        rig.networks[0].wire.inject(bytes.clone());
        rig.wait_used(0, 1);
        let mut received = vec![0; bytes.len()];
        plugged
            .read_slice(&mut received, GuestAddress(PLUGGED + 100))
            .expect("it is there");
        assert_eq!(body(&received), body(&bytes));
    }
}

#[test]
fn memory_that_loses_its_rings_ends_the_activation() {
    let mut rig = Rig::running(Features::empty());
    assert!(
        rig.device.memory_changed().is_err(),
        "there is none to follow"
    );
    let elsewhere = [(GuestAddress(PLUGGED), 1 << 20)];
    let other = GuestMemoryMmap::<()>::from_ranges(&elsewhere).expect("it can be mapped");
    rig.device.follow_memory(GuestMemoryAtomic::new(other));
    assert!(rig.device.memory_changed().is_err());
    rig.irq.wait_config(1);
    assert!(rig.device.needs_reset());
}
