//! Frames both ways through real worker threads, woken by kicks and events alone.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use net_device::net_queue::{Access, AccessPlatform, TranslateError};
use net_device::{Activation, Features, Interrupt, InterruptSource, NetConfig, VirtioDevice};
use net_queue::header::HDR_LEN;
use net_queue::testing::{Interrupts, Piece, Random};
use tests::testbed::{
    Interrupting, Irq, Queue, RINGS, Rig, alone, body, frame, pause, process, resume,
};

type F = Features;

#[test]
fn frames_go_out_in_order_and_unchanged_net_tx_15() {
    for without in RINGS {
        let mut rig = Rig::running(without);
        for round in 0..20 {
            for number in 0..32 {
                rig.send(0, &frame(60 + 40 * number as usize, round * 32 + number));
            }
            let sent = rig.networks[0].wait_sent(32);
            for (number, bytes) in (0..).zip(&sent) {
                let expected = frame(60 + 40 * number as usize, round * 32 + number);
                assert_eq!(body(bytes), body(&expected));
            }
            let mut used = 0;
            while used < 32 {
                let chains = rig.wait_used(1, 1);
                assert!(chains.iter().all(|chain| chain.len == 0), "NET-TX-04");
                used += chains.len();
            }
        }
        assert_eq!(rig.counter("tx_frames"), 640);
    }
}

#[test]
fn frames_come_in_in_order_and_unchanged() {
    for without in RINGS {
        let mut rig = Rig::running(without);
        for round in 0..20 {
            rig.post(0, &[2048; 32]);
            for number in 0..32 {
                let bytes = frame(60 + 40 * number as usize, round * 32 + number);
                rig.networks[0].wire.inject(bytes);
            }
            for (number, bytes) in (0..).zip(rig.receive(0, 32)) {
                let expected = frame(60 + 40 * number as usize, round * 32 + number);
                assert_eq!(body(&bytes), body(&expected));
            }
        }
        assert_eq!(rig.counter("rx_frames"), 640);
    }
}

/// Of a batch in order one used element tells all that a driver needs on transmit. On receive
/// drivers in the field read the length of each, so each chain has one: a frame of several buffers
/// would be cut else.
#[test]
fn a_batch_in_order_is_one_used_element_on_transmit_only_vq_spl_20_vq_pkd_15() {
    let in_order = RINGS.into_iter();
    for without in in_order.filter(|without| !without.contains(F::VIRTIO_F_IN_ORDER)) {
        let mut rig = Rig::running(without);
        pause(&mut rig);
        for index in 0..3 {
            rig.queue(index).ring.poison_used();
        }
        for number in 0..8 {
            rig.send(0, &frame(100, number));
        }
        rig.post(0, &[128; 8]);
        rig.networks[0].wire.inject(frame(900, 1));
        resume(&mut rig);
        assert_eq!(rig.networks[0].wait_sent(8).len(), 8);
        let got = rig.receive(0, 1);
        assert_eq!(body(&got[0]), body(&frame(900, 1)));
        let mut sent = 0;
        while sent < 8 {
            sent += rig.wait_used(1, 1).len();
        }
        pause(&mut rig);
        assert_eq!(rig.queue(1).ring.used_elements().len(), 1, "{without:?}");
        let received = rig.queue(0).ring.used_elements();
        let lens: Vec<_> = received.iter().map(|(_, len)| *len as usize).collect();
        let total = frame(900, 1).len();
        let full = total / 128;
        assert_eq!(lens[..full], vec![128; full], "{without:?}");
        assert_eq!(lens[full..], [total % 128], "{without:?}");
    }
}

#[test]
fn a_long_frame_fills_several_buffers_net_rx_02_04_06() {
    let mut rig = Rig::running(F::empty());
    rig.post(0, &[12, 100, 1500, 4096, 4096]);
    rig.networks[0].wire.inject(frame(3000, 1));
    let seen = rig.receive(0, 1);
    assert_eq!(body(&seen[0]), body(&frame(3000, 1)));
    assert_eq!(seen[0][10..12], [4, 0]);
}

#[test]
fn buffers_posted_before_driver_ok_are_used_and_nothing_is_before_dev_life_03_vq_ntf_12() {
    let mut rig = Rig::new(Rig::config(1));
    rig.negotiate(F::empty());
    rig.lay_out(64);
    rig.post(0, &[2048; 4]);
    rig.send(0, &frame(100, 1));
    for index in 0..3 {
        rig.queue(index).kick();
    }
    rig.networks[0].wire.inject(frame(200, 2));
    assert_eq!(rig.networks[0].receives(), 0);
    assert_eq!(rig.networks[0].wire.take_sent().len(), 0);
    assert_eq!(rig.irq.all(), 0);
    rig.activate();
    assert_eq!(body(&rig.networks[0].wait_sent(1)[0]), body(&frame(100, 1)));
    assert_eq!(body(&rig.receive(0, 1)[0]), body(&frame(200, 2)));
}

#[test]
fn a_ping_pong_of_one_buffer_never_stalls_vq_ntf_06() {
    for without in RINGS {
        let mut rig = Rig::running(without);
        for round in 0..3000 {
            rig.send(0, &frame(60, round));
            rig.wait_used(1, 1);
            rig.post(0, &[256]);
            rig.networks[0].wire.inject(frame(60, round));
            assert_eq!(rig.receive(0, 1).len(), 1);
        }
    }
}

/// Spins for a moment that is another one each time: too short to be a time, long enough to hit
/// every gap.
fn dawdle(random: &mut Random) {
    let most = 16 << random.below(9);
    for _ in 0..random.below(most) {
        std::hint::spin_loop();
    }
}

#[test]
fn what_is_posted_while_the_device_goes_to_sleep_is_not_forgotten_vq_ntf_06() {
    for without in RINGS {
        let mut rig = Rig::running(without);
        rig.networks[0].set_endless(true);
        let mut random = Random::new(17);
        let sent = rig.memory.filled(&frame(60, 1));
        let room = rig.memory.room(256);
        let command = [rig.memory.filled(&[0, 1, 0]), rig.memory.room(1)];
        for round in 0..1500 {
            let count = 1 + random.below(4) as usize;
            let (index, pieces) = match round % 3 {
                0 => (0, &[room][..]),
                1 => (1, &[sent][..]),
                _ => (2, &command[..]),
            };
            for _ in 0..count {
                dawdle(&mut random);
                rig.queue(index).post(pieces);
            }
            let irq = rig.irq.clone();
            let queue = rig.queue(index);
            let mut used = 0;
            while used < count {
                used += queue.wait_used(&irq, 1).len();
            }
        }
    }
}

/// A driver that posts one more chain from its interrupt handler, which is before the device asks
/// for kicks again.
struct Reentrant {
    irq: Arc<Irq>,
    chain: Vec<Piece>,
    queue: Mutex<Queue>,
    posted: AtomicBool,
}

impl Interrupt for Reentrant {
    fn trigger(&self, source: InterruptSource) -> io::Result<()> {
        let mut queue = self.queue.lock().expect("nobody panicked");
        let mine = source == InterruptSource::Queue(queue.index);
        if mine && !self.posted.swap(true, Ordering::AcqRel) {
            queue.post(&self.chain);
        }
        self.irq.trigger(source)
    }
}

#[test]
fn what_is_posted_from_an_interrupt_handler_is_not_forgotten_vq_ntf_06() {
    for (without, index) in RINGS.into_iter().flat_map(|it| [(it, 0), (it, 1), (it, 2)]) {
        println!("without {without}, queue {index}");
        let mut rig = Rig::new(Rig::config(1));
        rig.negotiate(without);
        rig.lay_out(16);
        rig.networks[0].set_endless(true);
        let chain = match index {
            0 => vec![rig.memory.room(256)],
            1 => vec![rig.memory.filled(&frame(60, 1))],
            _ => vec![rig.memory.filled(&[0, 1, 0]), rig.memory.room(1)],
        };
        let setups = rig.setups();
        let mut queue = rig.queues.remove(&index).expect("it was laid out");
        // Without a kick: one that is still to be seen would do for the chain that follows.
        queue.ring.ask(Interrupts::Always);
        queue.ring.add(&chain);
        queue.ring.publish();
        let handler = Arc::new(Reentrant {
            irq: rig.irq.clone(),
            chain,
            queue: Mutex::new(queue),
            posted: AtomicBool::new(false),
        });
        let activation = Activation {
            interrupt: handler.clone(),
            ..rig.activation(setups)
        };
        rig.device.activate(activation).expect("it can be used");
        rig.irq.wait_until("both chains to be used", || {
            let mut queue = handler.queue.lock().expect("nobody panicked");
            queue.look(2, Interrupting::Yes)
        });
    }
}

#[test]
fn a_driver_that_wants_no_interrupts_gets_none_vq_ntf_01_02() {
    for without in RINGS {
        let mut rig = Rig::running(without);
        rig.queue(1).ring.ask(Interrupts::Never);
        let before = rig.irq.queue(1);
        for number in 0..32 {
            rig.send(0, &frame(60, number));
        }
        let _ = rig.networks[0].wait_sent(32);
        // Paused, it has published all that it used.
        pause(&mut rig);
        assert_eq!(rig.irq.queue(1), before);
        assert_eq!(rig.queue(1).ring.poll_all().len(), 32);
    }
}

#[test]
fn kicks_for_nothing_are_harmless_vq_ntf_05() {
    let mut rig = Rig::running(F::empty());
    for _ in 0..10_000 {
        for index in 0..3 {
            rig.queue(index).kick();
        }
    }
    rig.send(0, &frame(60, 1));
    assert_eq!(rig.networks[0].wait_sent(1).len(), 1);
    assert_eq!(rig.command(0, 0, &[1]), 0);
    assert!(!rig.device.needs_reset());
}

#[test]
fn rx_full_then_refill_resumes_with_one_kick_net_rx_12() {
    for without in RINGS {
        let mut rig = Rig::running(without);
        rig.post(0, &[2048; 8]);
        for number in 0..1000 {
            rig.networks[0].wire.inject(frame(100, number));
        }
        let mut next = 0;
        while next < 1000 {
            for bytes in rig.receive(0, 8) {
                assert_eq!(body(&bytes), body(&frame(100, next)));
                next += 1;
            }
            // Starved: the other direction and the control queue are not.
            rig.send(0, &frame(60, next));
            assert_eq!(rig.networks[0].wait_sent(1).len(), 1);
            rig.wait_used(1, 1);
            assert_eq!(rig.command(0, 1, &[1]), 0);
            rig.post(0, &[2048; 8]);
        }
        assert_eq!(next, 1000);
    }
}

/// The memory's first region as pages of 4 KiB in reverse order.
struct Reversed {
    base: u64,
    pages: u64,
}

/// Pages below this one are not mapped.
const FIRST_MAPPED: u64 = 16;

impl AccessPlatform for Reversed {
    fn translate(&self, iova: u64, len: u64, _: Access) -> Result<(u64, u64), TranslateError> {
        let (page, offset) = (iova >> 12, iova & 0xfff);
        if page < FIRST_MAPPED || page >= self.pages {
            return Err(TranslateError::NotMapped { iova });
        }
        let gpa = self.base + ((self.pages - 1 - page) << 12) + offset;
        Ok((gpa, len.min(4096 - offset)))
    }
}

impl Reversed {
    /// The address that translates to `gpa`.
    fn iova(&self, gpa: u64) -> u64 {
        let (page, offset) = ((gpa - self.base) >> 12, gpa & 0xfff);
        ((self.pages - 1 - page) << 12) + offset
    }
}

/// A rig behind a virtual IOMMU, rings included.
fn behind_iommu() -> (Rig, Arc<Reversed>) {
    let config = NetConfig {
        iommu: true,
        ..Rig::config(1)
    };
    let mut rig = Rig::new(config);
    let (base, len) = rig.memory.regions()[0];
    let pages = len as u64 >> 12;
    let platform = Arc::new(Reversed { base, pages });
    rig.device.set_access_platform(platform.clone());
    rig.negotiate(F::empty());
    // All rings together take less than a page.
    rig.lay_out(8);
    let mut setups = rig.setups();
    for setup in &mut setups {
        setup.addrs.desc = platform.iova(setup.addrs.desc);
        setup.addrs.driver = platform.iova(setup.addrs.driver);
        setup.addrs.device = platform.iova(setup.addrs.device);
    }
    let activation = rig.activation(setups);
    rig.device
        .activate(activation)
        .expect("rings are in one piece");
    (rig, platform)
}

#[test]
fn addresses_go_through_the_iommu_and_may_be_apart_in_memory_net_feat_11() {
    let (mut rig, platform) = behind_iommu();
    // Three pages in a row for the device are three pages in reverse order in memory.
    let iova = platform.iova(rig.memory.regions()[0].0 + (8 << 20)) & !0xfff;
    let bytes = frame(9000, 1);
    for (at, part) in bytes.chunks(4096).enumerate() {
        let (gpa, _) = platform
            .translate(iova + 4096 * at as u64, 4096, Access::Read)
            .expect("mapped");
        rig.memory.write(gpa, part);
    }
    rig.queue(1)
        .post(&[Piece::readable(iova, bytes.len() as u32)]);
    assert_eq!(body(&rig.networks[0].wait_sent(1)[0]), body(&bytes));

    let room = iova + (64 << 12);
    rig.queue(0).post(&[Piece::writable(room, 3 * 4096)]);
    rig.networks[0].wire.inject(bytes.clone());
    let used = rig.wait_used(0, 1);
    assert_eq!(used[0].len as usize, bytes.len());
    let mut seen = Vec::new();
    for at in 0..3 {
        let (gpa, _) = platform
            .translate(room + 4096 * at, 4096, Access::Write)
            .expect("mapped");
        seen.extend(rig.memory.read(gpa, 4096));
    }
    assert_eq!(body(&seen[..bytes.len()]), body(&bytes));
}

#[test]
fn what_the_iommu_does_not_map_is_never_touched_net_feat_11() {
    let (mut rig, platform) = behind_iommu();
    let hole = (FIRST_MAPPED << 12) - 100;
    let inside = platform.iova(rig.memory.regions()[0].0 + (8 << 20)) & !0xfff;
    rig.queue(1).post(&[Piece::readable(hole, 100)]);
    rig.queue(1).post(&[Piece::readable(hole + 50, 100)]);
    rig.queue(0).post(&[Piece::writable(hole, 2048)]);
    rig.queue(0).post(&[Piece::writable(u64::MAX - 10, 2048)]);
    rig.queue(0).post(&[Piece::writable(inside, 2048)]);
    rig.networks[0].wire.inject(frame(100, 1));
    let used = {
        let mut used = Vec::new();
        while used.len() < 3 {
            used.extend(rig.wait_used(0, 1));
        }
        used
    };
    assert_eq!(used[2].len as usize, HDR_LEN + 100);
    assert_eq!((used[0].len, used[1].len), (0, 0));
    while rig.counter("tx_drop_bad_address") < 2 {
        rig.wait_used(1, 1);
    }
    assert_eq!(rig.networks[0].wire.take_sent().len(), 0);
    assert!(!rig.device.needs_reset());
}

#[test]
fn two_devices_do_not_see_each_other() {
    let (mut one, mut two) = (Rig::running(F::empty()), Rig::running(F::empty()));
    for number in 0..50 {
        one.send(0, &frame(100, number));
        two.send(0, &frame(100, 1000 + number));
        one.post(0, &[2048]);
        two.post(0, &[2048]);
        one.networks[0].wire.inject(frame(90, 2000 + number));
        two.networks[0].wire.inject(frame(90, 3000 + number));
        assert_eq!(
            body(&one.networks[0].wait_sent(1)[0]),
            body(&frame(100, number))
        );
        assert_eq!(
            body(&two.networks[0].wait_sent(1)[0]),
            body(&frame(100, 1000 + number))
        );
        assert_eq!(body(&one.receive(0, 1)[0]), body(&frame(90, 2000 + number)));
        assert_eq!(body(&two.receive(0, 1)[0]), body(&frame(90, 3000 + number)));
        one.wait_used(1, 1);
        two.wait_used(1, 1);
    }
    one.device.reset();
    two.send(0, &frame(100, 1));
    assert_eq!(two.networks[0].wait_sent(1).len(), 1);
}

#[test]
fn random_sizes_both_ways_arrive_whole() {
    let mut rig = Rig::running(F::empty());
    let mut random = Random::new(11);
    for round in 0..200 {
        let len = 14 + random.below(20_000) as usize;
        rig.send(0, &frame(len, round));
        assert_eq!(
            body(&rig.networks[0].wait_sent(1)[0]),
            body(&frame(len, round))
        );
        rig.wait_used(1, 1);
        let lens: Vec<usize> = (0..20)
            .map(|_| 1100 + random.below(3000) as usize)
            .collect();
        let first = rig.queue(0).ring.in_flight();
        rig.post(0, &lens[..20_usize.saturating_sub(first)]);
        rig.networks[0].wire.inject(frame(len, round));
        assert_eq!(body(&rig.receive(0, 1)[0]), body(&frame(len, round)));
    }
}

#[test]
fn counters_tell_frames_bytes_and_causes() {
    let mut rig = Rig::running(F::empty());
    rig.send(0, &frame(100, 1));
    rig.send(0, &frame(100, 1)[..HDR_LEN + 5]);
    rig.send(0, &frame(200, 2));
    assert_eq!(rig.networks[0].wait_sent(2).len(), 2);
    pause(&mut rig);
    assert_eq!(rig.counter("tx_frames"), 2);
    assert_eq!(rig.counter("tx_bytes"), 300);
    let drops = rig.device.counters();
    let drops = drops
        .iter()
        .filter(|(name, _)| name.starts_with("tx_drop_"));
    assert_eq!(drops.map(|(_, count)| count).sum::<u64>(), 1);
}

#[test]
fn only_the_queues_of_a_device_have_threads() {
    alone(|| {
        let rig = Rig::running(F::empty());
        let threads = process::threads_named("net_");
        let names: Vec<_> = threads.iter().map(|thread| thread.name.as_str()).collect();
        assert_eq!(names, ["net_ctrl", "net_qp0"]);
        drop(rig);
        process::await_threads("net_", 0);
    });
}
