//! A virtual IOMMU whose mappings change while the device runs.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use net_device::net_queue::{Access, AccessPlatform, TranslateError};
use net_device::{Features, Lifecycle, NetConfig, QueueSetup, VirtioDevice};
use net_queue::testing::Piece;
use tests::testbed::{EventLoop, RINGS, Rig, body, frame, pause, resume};

const PAGE: u64 = 4096;
/// Address at which the driver's window begins.
const WINDOW: u64 = 0x70_0000_0000;

/// Translates each address to itself, but for pages that are mapped, taken away or awaited.
#[derive(Default)]
struct Iommu {
    pages: Mutex<Pages>,
}

#[derive(Default)]
struct Pages {
    /// Page number to guest page number and whether it may be written; `None`: nothing is there.
    mapped: HashMap<u64, Option<(u64, bool)>>,
    awaited: HashSet<u64>,
}

impl Iommu {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().expect("no panic before")
    }

    /// Maps `len` bytes from `iova` on to what lies at `gpa`.
    fn map(&self, iova: u64, gpa: u64, len: u64) {
        for page in 0..len.div_ceil(PAGE) {
            let to = Some((gpa / PAGE + page, true));
            self.pages().mapped.insert(iova / PAGE + page, to);
        }
    }

    fn unmap(&self, iova: u64, len: u64) {
        for page in iova / PAGE..(iova + len).div_ceil(PAGE) {
            self.pages().mapped.insert(page, None);
        }
    }
}

impl AccessPlatform for Iommu {
    fn translate(&self, iova: u64, len: u64, access: Access) -> Result<(u64, u64), TranslateError> {
        let (page, offset) = (iova / PAGE, iova % PAGE);
        let pages = self.pages();
        if pages.awaited.contains(&page) {
            return Err(TranslateError::Awaited { iova });
        }
        let (to, writable) = match pages.mapped.get(&page) {
            None => (page, true),
            Some(Some(to)) => *to,
            Some(None) => return Err(TranslateError::NotMapped { iova }),
        };
        if access == Access::Write && !writable {
            return Err(TranslateError::NotMapped { iova });
        }
        Ok((to * PAGE + offset, len.min(PAGE - offset)))
    }
}

/// A device with `pairs` behind an IOMMU, whose rings are where `place` says.
fn behind_iommu(
    pairs: u16,
    without: Features,
    place: impl Fn(&Rig, &Iommu, &mut QueueSetup),
) -> (Rig, Arc<Iommu>) {
    let config = NetConfig {
        iommu: true,
        ..Rig::config(pairs)
    };
    let mut rig = Rig::new(config);
    let platform = Arc::new(Iommu::default());
    rig.device.set_access_platform(platform.clone());
    rig.negotiate(without);
    rig.lay_out(64);
    let mut setups = rig.setups();
    for setup in &mut setups {
        place(&rig, &platform, setup);
    }
    let activation = rig.activation(setups);
    rig.device.activate(activation).expect("rings are mapped");
    if pairs > 1 {
        assert_eq!(rig.command(4, 0, &[pairs as u8, 0]), 0, "all receive");
    }
    (rig, platform)
}

fn identity(_: &Rig, _: &Iommu, _: &mut QueueSetup) {}

/// Address at which the ring of queue `index` begins for a driver whose rings are [`far`].
fn ring_window(index: u16) -> u64 {
    WINDOW + 0x1_0000_0000 * u64::from(index + 1)
}

/// First address of all rings, and their length in whole pages.
fn rings(rig: &Rig) -> (u64, u64) {
    let start = rig.memory.regions()[0].0;
    let len = rig.memory.rings_end() - start;
    (start, len.next_multiple_of(PAGE))
}

/// Puts a ring behind an address of its own.
fn far(rig: &Rig, platform: &Iommu, setup: &mut QueueSetup) {
    let base = ring_window(setup.index);
    let (rings, len) = rings(rig);
    platform.map(base, rings, len);
    for addr in [
        &mut setup.addrs.desc,
        &mut setup.addrs.driver,
        &mut setup.addrs.device,
    ] {
        *addr = *addr - rings + base;
    }
}

/// `count` pages of guest memory, poisoned.
fn pages(rig: &Rig, count: u64) -> u64 {
    let len = (count * PAGE) as usize;
    let at = rig.memory.alloc(len, PAGE);
    rig.memory.write(at, &vec![0xa5; len]);
    at
}

fn is_untouched(rig: &Rig, at: u64, count: u64) -> bool {
    let bytes = rig.memory.read(at, (count * PAGE) as usize);
    bytes.iter().all(|byte| *byte == 0xa5)
}

/// Buffers that were looked up before a mapping changed are not written through it afterwards,
/// however many of them the device held.
#[test]
fn received_frames_follow_a_mapping_that_moves_net_feat_11() {
    for without in RINGS {
        let (mut rig, platform) = behind_iommu(1, without, identity);
        const COUNT: u64 = 24;
        let places: Vec<_> = (0..6).map(|_| pages(&rig, COUNT)).collect();
        platform.map(WINDOW, places[0], COUNT * PAGE);
        // After a long frame the device takes many buffers ahead.
        for (round, move_to) in places.iter().enumerate().skip(1) {
            for page in 0..COUNT {
                let piece = Piece::writable(WINDOW + page * PAGE, PAGE as u32);
                rig.queue(0).ring.add(&[piece]);
            }
            rig.queue(0).publish();
            rig.networks[0].wire.inject(frame(9000, round as u64));
            let mut left = rig.wait_used(0, 3).len() as u64;
            assert_eq!(left, 3, "a frame of three pages");
            assert!(!is_untouched(&rig, places[round - 1], 3), "they were used");
            assert!(is_untouched(&rig, places[round - 1] + 3 * PAGE, COUNT - 3));

            platform.map(WINDOW, *move_to, COUNT * PAGE);
            let done = rig.device.mappings_removed(WINDOW, COUNT * PAGE);
            done.expect("the workers go on");
            let old = places[round - 1];
            rig.memory.write(old, &vec![0xa5; (COUNT * PAGE) as usize]);
            for number in 0..COUNT - 3 {
                rig.networks[0].wire.inject(frame(1000, number));
                left += rig.wait_used(0, 1).len() as u64;
                assert!(left <= COUNT);
                let at = move_to + (3 + number) * PAGE;
                assert_eq!(body(&rig.memory.read(at, 1012)), body(&frame(1000, number)));
            }
            assert!(is_untouched(&rig, old, COUNT), "round {round}");
            // The next round begins in pages that nothing was written to.
            rig.memory
                .write(*move_to, &vec![0xa5; (COUNT * PAGE) as usize]);
        }
        assert_eq!(rig.counter("rx_drop_bad_address"), 0);
        assert!(!rig.device.needs_reset());
    }
}

/// Frames of a driver come from where its addresses lead when they are looked at.
#[test]
fn sent_frames_follow_a_mapping_that_moves_net_feat_11() {
    for without in RINGS {
        let (mut rig, platform) = behind_iommu(1, without, identity);
        let places: Vec<_> = (0..20).map(|_| pages(&rig, 1)).collect();
        for (number, place) in places.iter().enumerate() {
            let bytes = frame(3000, number as u64);
            rig.memory.write(*place, &bytes);
            platform.map(WINDOW, *place, PAGE);
            let done = rig.device.mappings_removed(WINDOW, PAGE);
            done.expect("the workers go on");
            let piece = Piece::readable(WINDOW, bytes.len() as u32);
            rig.queue(1).post(&[piece]);
            assert_eq!(body(&rig.networks[0].wait_sent(1)[0]), body(&bytes));
            rig.wait_used(1, 1);
        }
        assert_eq!(rig.counter("tx_frames"), 20);
    }
}

/// A mapping that changes again and again under traffic both ways loses nothing and mixes nothing
/// up.
#[test]
fn traffic_goes_on_while_mappings_change_net_feat_11() {
    for without in [Features::empty(), Features::VIRTIO_F_RING_PACKED] {
        let (mut rig, platform) = behind_iommu(2, without, identity);
        for number in 0..200_u64 {
            let pair = (number % 2) as u16;
            rig.send(pair, &frame(200, number));
            rig.post(pair, &[2048]);
            let wire = &rig.networks[usize::from(pair)].wire;
            wire.inject(frame(300, number));
            platform.map(WINDOW, pages(&rig, 1), PAGE);
            let done = rig.device.mappings_removed(WINDOW, PAGE);
            done.expect("the workers go on");
            let sent = rig.networks[usize::from(pair)].wait_sent(1);
            assert_eq!(body(&sent[0]), body(&frame(200, number)));
            rig.wait_used(2 * pair + 1, 1);
            let received = rig.receive(pair, 1);
            assert_eq!(body(&received[0]), body(&frame(300, number)));
        }
        assert_eq!(rig.counter("rx_frames") + rig.counter("tx_frames"), 400);
    }
}

/// A ring whose addresses lead elsewhere is used there, and not where it was.
#[test]
fn rings_follow_a_mapping_that_moves_net_feat_11() {
    for without in RINGS {
        for paused in [false, true] {
            let (mut rig, platform) = behind_iommu(1, without, far);
            let (rings, len) = rings(&rig);
            rig.send(0, &frame(60, 1));
            assert_eq!(rig.networks[0].wait_sent(1).len(), 1);
            rig.wait_used(1, 1);
            // The device stands in a copy from now on, of which nobody makes anything available.
            pause(&mut rig);
            let copy = pages(&rig, len / PAGE);
            let bytes = |rig: &Rig| rig.memory.read(rings, len as usize);
            rig.memory.write(copy, &bytes(&rig));
            for index in 0..3 {
                platform.map(ring_window(index), copy, len);
            }
            if !paused {
                resume(&mut rig);
            }
            let whole = rig.device.mappings_removed(WINDOW, u64::MAX - WINDOW);
            whole.expect("the workers go on");
            if paused {
                resume(&mut rig);
            }
            let piece = rig.memory.filled(&frame(60, 2));
            rig.queue(1).ring.add(&[piece]);
            rig.queue(1).publish();
            let left = bytes(&rig);
            pause(&mut rig);
            resume(&mut rig);
            assert!(rig.networks[0].wire.take_sent().is_empty());
            assert_eq!(bytes(&rig), left, "the old ring was used");
            for index in 0..3 {
                platform.map(ring_window(index), rings, len);
            }
            let back = rig.device.mappings_removed(ring_window(0), 3 << 32);
            back.expect("the workers go on");
            let sent = rig.networks[0].wait_sent(1);
            assert_eq!(body(&sent[0]), body(&frame(60, 2)));
            assert!(!rig.device.needs_reset());
        }
    }
}

/// One ring without a mapping stops, and says so; the others go on, and a reset cures it.
#[test]
fn a_ring_that_is_mapped_nowhere_stops_alone_net_feat_11() {
    for without in RINGS {
        for index in 0..5 {
            let (mut rig, platform) = behind_iommu(2, without, far);
            platform.unmap(ring_window(index), rings(&rig).1);
            let done = rig.device.mappings_removed(ring_window(index), PAGE << 10);
            done.expect("the other workers go on");
            rig.irq.wait_config(1);
            assert!(rig.device.needs_reset());
            let reason = rig.device.handle().failure().unwrap_or_default();
            assert!(reason.contains("not mapped any more"), "{reason}");
            for pair in 0..2 {
                if index != 2 * pair + 1 {
                    rig.send(pair, &frame(60, 7));
                    let sent = rig.networks[usize::from(pair)].wait_sent(1);
                    assert_eq!(body(&sent[0]), body(&frame(60, 7)));
                }
                if index != 2 * pair {
                    rig.post(pair, &[2048]);
                    rig.networks[usize::from(pair)].wire.inject(frame(60, 8));
                    assert_eq!(body(&rig.receive(pair, 1)[0]), body(&frame(60, 8)));
                }
            }
            // Nothing more is to be said of it, nor is it found again by itself.
            let done = rig.device.mappings_removed(0, u64::MAX);
            done.expect("the other workers go on");
            assert_eq!(rig.irq.config(), 1);
            drop(rig.device.reset());
            assert_eq!(rig.device.lifecycle(), Lifecycle::Inactive);
            assert!(!rig.device.needs_reset());
            rig.queues.clear();
            rig.start(without);
            rig.send(0, &frame(60, 9));
            let sent = rig.networks[0].wait_sent(1);
            assert_eq!(body(&sent[0]), body(&frame(60, 9)));
        }
    }
}

/// A buffer that crosses into a hole, or into a page that may only be read, is not used at all.
#[test]
fn buffers_that_are_mapped_in_part_are_refused_net_feat_11() {
    for without in RINGS {
        let (mut rig, platform) = behind_iommu(1, without, identity);
        let place = pages(&rig, 3);
        platform.map(WINDOW, place, 3 * PAGE);
        let read_only = Some((place / PAGE + 1, false));
        platform.pages().mapped.insert(WINDOW / PAGE + 1, read_only);
        platform.pages().mapped.insert(WINDOW / PAGE + 3, None);
        let across = |page: u64| WINDOW + page * PAGE - 100;
        for at in [across(1), across(3)] {
            rig.queue(0).ring.add(&[Piece::writable(at, 2048)]);
        }
        rig.queue(0).publish();
        rig.post(0, &[2048]);
        rig.networks[0].wire.inject(frame(1000, 1));
        let mut used = Vec::new();
        while used.len() < 3 {
            used.extend(rig.wait_used(0, 1));
        }
        let lens: Vec<_> = used.iter().map(|used| used.len).collect();
        assert_eq!(lens, [0, 0, 1012]);
        rig.queue(1).post(&[Piece::readable(across(3), 200)]);
        rig.wait_used(1, 1);
        // What may only be read may be sent.
        rig.memory.write(place + PAGE - 100, &frame(188, 3));
        rig.queue(1).post(&[Piece::readable(across(1), 200)]);
        let sent = rig.networks[0].wait_sent(1);
        assert_eq!(body(&sent[0]), body(&frame(188, 3)));
        pause(&mut rig);
        assert_eq!(rig.counter("rx_drop_bad_address"), 2);
        assert_eq!(rig.counter("tx_drop_bad_address"), 1);
        assert!(!rig.device.needs_reset());
    }
}

/// Chains wait for translations without a kick or a sleepless worker, and go on when told.
#[test]
fn queues_wait_for_translations_that_are_on_their_way_net_feat_11() {
    for threads in [true, false] {
        let config = NetConfig {
            iommu: true,
            ..Rig::config(1)
        };
        let mut rig = Rig::built(config, |builder| {
            if threads {
                builder
            } else {
                builder.event_loop()
            }
        });
        let platform = Arc::new(Iommu::default());
        rig.device.set_access_platform(platform.clone());
        rig.start(Features::empty());
        let driven = (!threads).then(|| EventLoop::drive(rig.device.event_workers()));
        let page = pages(&rig, 3);
        for number in 0..3 {
            platform.pages().awaited.insert(page / PAGE + number);
        }
        // A command, a frame to send, room for one to receive: a page each.
        rig.memory.write(page, &[0, 0, 1]);
        let answer = rig.memory.room(1);
        let control = rig.control_index();
        rig.queue(control).post(&[Piece::readable(page, 3), answer]);
        rig.memory.write(page + PAGE, &frame(60, 1));
        let sent = Piece::readable(page + PAGE, frame(60, 1).len() as u32);
        rig.queue(1).post(&[sent]);
        rig.queue(0).post(&[Piece::writable(page + 2 * PAGE, 2048)]);
        rig.networks[0].wire.inject(frame(60, 2));
        // All has been looked at, and nothing of it is done.
        pause(&mut rig);
        resume(&mut rig);
        rig.device.mappings_added();
        pause(&mut rig);
        resume(&mut rig);
        assert!(rig.networks[0].wire.take_sent().is_empty());
        assert_eq!(rig.networks[0].wire.waiting(), 1);
        for index in [0, 1, control] {
            assert!(rig.queue(index).ring.poll_all().is_empty());
        }
        platform.pages().awaited.clear();
        rig.device.mappings_added();
        let sent = rig.networks[0].wait_sent(1);
        assert_eq!(body(&sent[0]), body(&frame(60, 1)));
        assert_eq!(body(&rig.receive(0, 1)[0]), body(&frame(60, 2)));
        rig.wait_used(control, 1);
        assert_eq!(rig.memory.read(answer.addr, 1), [0]);
        let dropped = rig.device.counters();
        let mut dropped = dropped.iter().filter(|(name, _)| name.contains("_drop_"));
        assert!(dropped.all(|(_, count)| *count == 0));
        drop(driven);
    }
}
