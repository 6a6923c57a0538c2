//! One migration: traffic, rounds of copies, the move, and traffic again.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use net_device::net_queue::ctrl::{Command, HashConfig, NotificationCoalescing, RxMode};
use net_device::{
    Activation, DeviceHandle, Features, Interrupt, InterruptSource, Migratable, QueueStats,
    Snapshottable, VirtioDevice,
};
use net_queue::testing::{Piece, Random, command_bytes};
use tests::testbed::{Rig, chain, pause, resume};

use crate::driver::Pair;
use crate::memory::HostMemory;
use crate::profile::Profile;

type F = Features;

/// Steps of the guest between two rounds of copies.
const STEPS_OF_A_ROUND: u64 = 6;

/// Counts of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// Ranges that the device marked and that were copied while it ran.
    pub(crate) rounds: usize,
    /// Ranges that it marked since the round before it was paused.
    pub(crate) last_round: usize,
}

/// A guest on one host, and the other host.
struct Migration {
    profile: Profile,
    random: Random,
    here: HostMemory,
    there: HostMemory,
    rig: Rig,
    pairs: Vec<Pair>,
}

/// Lives the run of `seed`.
pub(crate) fn live(seed: u64) -> Seen {
    let mut migration = Migration::begin(seed);
    migration.run(0, 10);
    migration.start_log();
    let mut seen = Seen {
        rounds: migration.copy_while_it_runs(),
        ..Seen::default()
    };
    let pending = migration.post_command();
    pause(&mut migration.rig);
    seen.last_round = migration.copy_the_rest();
    migration.go_over();
    migration.answer(pending);
    migration.run(8, 8);
    migration.finish();
    for pair in &migration.pairs {
        seen.received += pair.received;
        seen.sent += pair.sent;
    }
    seen
}

impl Migration {
    fn begin(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let profile = Profile::new(&mut random);
        let here = HostMemory::new(profile.page);
        let there = here.another();
        let mut rig = profile.rig();
        rig.memory = here.driver.clone();
        rig.negotiate(profile.without);
        rig.lay_out(profile.size);
        let activation = Activation {
            memory: here.device.tracked_ram(),
            ..rig.activation(rig.setups())
        };
        rig.device.activate(activation).expect("it can be used");
        rig.device.stop_dirty_log().expect("it runs");
        if rig.pairs() > 1 {
            command(&mut rig, &Command::SetPairs(profile.pairs));
        }
        let whole = profile.takes_whole();
        let pairs = 0..rig.pairs();
        let pairs = pairs.map(|number| Pair::new(&rig, number, profile.size, whole));
        Self {
            pairs: pairs.collect(),
            profile,
            random,
            here,
            there,
            rig,
        }
    }

    /// One step of driver or network of some pair, or a command.
    fn step(&mut self) {
        if self.random.below(32) == 0 {
            let (rig, random) = (&mut self.rig, &mut self.random);
            if let Some(bytes) = choose(rig.accepted(), random) {
                assert_eq!(rig.raw_command(&bytes), 0);
            }
            return;
        }
        let pair = self.random.below(self.pairs.len() as u64) as usize;
        let pair = &mut self.pairs[pair];
        pair.step(&mut self.rig, &mut self.random);
        pair.take_sent(&self.rig);
    }

    /// At least `least` steps, and up to `more`.
    fn run(&mut self, least: u64, more: u64) {
        for _ in 0..least + self.random.below(more + 1) {
            self.step();
        }
    }

    fn start_log(&mut self) {
        if self.profile.by_handle {
            let handle = self.rig.device.handle();
            let other = thread::spawn(move || handle.set_dirty_logging(true));
            let started = other.join().expect("it does not panic");
            started.expect("the kernel has this call");
        } else {
            self.rig.device.start_dirty_log().expect("it runs");
        }
    }

    /// Copies memory in a thread of its own, while the guest goes on in this one; returns the
    /// number of ranges that the device marked.
    fn copy_while_it_runs(&mut self) -> usize {
        let steps = Arc::new(AtomicU64::new(0));
        let copying = self.copy_in_a_thread(steps.clone());
        while !copying.is_finished() {
            self.step();
            steps.fetch_add(1, Ordering::SeqCst);
        }
        copying.join().expect("the copy is made")
    }

    fn copy_in_a_thread(&self, steps: Arc<AtomicU64>) -> JoinHandle<usize> {
        let (rounds, read_only) = (self.profile.rounds, self.read_only());
        // The area of a queue begins and ends at a multiple of 64.
        let exact = self.profile.page <= 64;
        let (from, to) = (self.here.clone(), self.there.clone());
        thread::spawn(move || {
            from.copy_all(&to);
            let round = |_| {
                // The guest goes on for a while between two rounds.
                let until = steps.load(Ordering::SeqCst) + STEPS_OF_A_ROUND;
                while steps.load(Ordering::SeqCst) < until {
                    thread::yield_now();
                }
                let marked = from.copy_marked(&to);
                let meets = |area: &Range<u64>| {
                    let mut marked = marked.iter();
                    marked.any(|it| it.start < area.end && area.start < it.end)
                };
                assert!(
                    !exact || !read_only.iter().any(meets),
                    "what is only read is marked"
                );
                marked.len()
            };
            (0..rounds).map(round).sum()
        })
    }

    fn read_only(&self) -> Vec<Range<u64>> {
        self.pairs.iter().map(Pair::read_only).collect()
    }

    /// Posts a command for which nobody waits on this host: the place of its answer.
    fn post_command(&mut self) -> Option<Piece> {
        let bytes = choose(self.rig.accepted(), &mut self.random)?;
        let memory = &self.rig.memory;
        let pieces = [memory.filled(&bytes), memory.room(1)];
        let index = self.rig.control_index();
        self.rig.queue(index).post(&pieces);
        Some(pieces[1])
    }

    /// The last round, after which both memories are the same.
    fn copy_the_rest(&mut self) -> usize {
        let marked = self.here.copy_marked(&self.there).len();
        let differs = self.here.difference(&self.there);
        assert!(
            differs.is_none(),
            "{:#x} is not as it was left",
            differs.unwrap_or_default()
        );
        marked
    }

    /// The guest goes on in the other device, over the copy alone.
    fn go_over(&mut self) {
        let snapshot = self.rig.device.snapshot().expect("it is paused");
        let differs = self.here.difference(&self.there);
        assert!(differs.is_none(), "a device that is paused writes");
        for pair in &mut self.pairs {
            pair.leave(&self.rig);
        }
        let mut next = self.profile.rig();
        if let Err(error) = next.device.restore(snapshot) {
            panic!("{}", chain(&error));
        }
        std::mem::swap(&mut self.rig, &mut next);
        let (mut left, next) = (next, &mut self.rig);
        next.queues = std::mem::take(&mut left.queues);
        for queue in next.queues.values_mut() {
            queue.rewire();
            queue.ring.move_to(&self.there.driver);
        }
        drop(left);
        next.memory = self.there.driver.clone();
        let activation = Activation {
            memory: self.there.device.tracked_ram(),
            ..next.activation(next.setups())
        };
        next.device.activate(activation).expect("it can be used");
        resume(next);
    }

    /// Waits for the answer to a command of the other host, if there is any.
    fn answer(&mut self, pending: Option<Piece>) {
        let Some(place) = pending else {
            return;
        };
        let index = self.rig.control_index();
        assert_eq!(self.rig.wait_used(index, 1).len(), 1);
        assert_eq!(self.rig.memory.read(place.addr, 1), [0]);
    }

    /// Waits until all that is on its way has come, by interrupts alone; but none tells of a frame
    /// that is dropped, so that a change of those counters ends a wait, too.
    fn finish(&mut self) {
        let (rig, random, pairs) = (&mut self.rig, &mut self.random, &mut self.pairs);
        let (irq, handle) = (rig.irq.clone(), rig.device.handle());
        let (mut dropped, over) = (drops(&handle), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    let now = drops(&handle);
                    if now != dropped {
                        dropped = now;
                        irq.trigger(InterruptSource::Config)
                            .expect("it never fails");
                    }
                    thread::sleep(LOOK_AGAIN);
                }
            });
            // A panic ends the other thread as well.
            let _end = SetOnDrop(&over);
            irq.wait_until("what is on its way", || {
                let unfinished = pairs.iter_mut().filter_map(|pair| {
                    let finished = pair.finish(rig, random);
                    (!finished).then_some(())
                });
                unfinished.count() == 0
            });
        });
    }
}

/// Time between two looks at the counters of what was dropped.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Ends the thread that looks for it.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Received frames that the device has dropped.
fn drops(handle: &DeviceHandle) -> u64 {
    let stats = handle.stats();
    stats.rx.iter().map(QueueStats::dropped).sum()
}

/// A command that a driver with `features` can give, as bytes.
fn choose(features: Features, random: &mut Random) -> Option<Vec<u8>> {
    let has = |feature| features.contains(feature);
    let notf_coal = NotificationCoalescing {
        max_packets: random.below(20) as u32,
        max_usecs: random.below(200) as u32,
    };
    let hash = HashConfig {
        types: random.below(0x40) as u32,
        key: &[0x6d; 40],
    };
    let macs = [[2, 0, 0, 0, 0, random.below(256) as u8]; 3];
    let command = match random.below(5) {
        0 if has(F::VIRTIO_NET_F_CTRL_RX) => Command::SetRxMode {
            mode: RxMode::AllMulti,
            on: random.below(2) == 0,
        },
        1 if has(F::VIRTIO_NET_F_NOTF_COAL) => Command::SetRxNotfCoal(notf_coal),
        2 if has(F::VIRTIO_NET_F_NOTF_COAL) => Command::SetTxNotfCoal(notf_coal),
        3 if has(F::VIRTIO_NET_F_HASH_REPORT) => Command::SetHash(hash),
        4 if has(F::VIRTIO_NET_F_CTRL_RX) => Command::SetMacTable {
            unicast: &macs,
            multicast: &[],
        },
        _ => return None,
    };
    Some(command_bytes(&command))
}

fn command(rig: &mut Rig, command: &Command<'_>) {
    assert_eq!(rig.raw_command(&command_bytes(command)), 0);
}
