//! Control: whatever the descriptors, a command is one string of bytes and its answer one byte.

use std::sync::Arc;

use net_queue::ctrl::{Command, CommandHandler, MAX_COMMAND, MAX_MACS, Reply};
use net_queue::ring::{AnyRing, RingConfig};
use net_queue::testing::{DirtyRanges, GuestRing, Shape, TestMemory, command_bytes};
use net_queue::{CtrlEngine, Engine, QueueCounters, Refusal, Stop};

use crate::rig::{every_layout, every_ring, restores, ring};

/// Notes the bytes of each command and answers as told.
#[derive(Default)]
pub(crate) struct Executor {
    pub(crate) commands: Vec<Vec<u8>>,
    /// Every command, for this cause.
    pub(crate) refuses: Option<Refusal>,
    /// Commands that may still be executed, if not any number.
    pub(crate) allowed: Option<usize>,
    /// Result of every command.
    pub(crate) result: Vec<u8>,
}

impl CommandHandler for Executor {
    fn admit(&mut self, _: &Command<'_>) -> Result<(), u64> {
        match &mut self.allowed {
            Some(0) => Err(77),
            Some(allowed) => {
                *allowed -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn execute(&mut self, command: Command<'_>, reply: &mut Reply<'_>) -> Result<(), Refusal> {
        reply.push(&self.result);
        self.commands.push(command_bytes(&command));
        self.refuses.map_or(Ok(()), Err)
    }
}

/// A control queue.
pub(crate) struct CtrlRig {
    pub(crate) guest: GuestRing,
    pub(crate) engine: CtrlEngine<AnyRing>,
    pub(crate) executor: Executor,
    pub(crate) counters: Arc<QueueCounters>,
    pub(crate) marks: Arc<DirtyRanges>,
}

impl CtrlRig {
    pub(crate) fn new(config: RingConfig) -> Self {
        Self::on(&TestMemory::new(), config)
    }

    /// In memory that is there already.
    pub(crate) fn on(memory: &TestMemory, config: RingConfig) -> Self {
        let guest = GuestRing::new(memory, config);
        let marks = Arc::new(DirtyRanges::default());
        let ram = guest.memory().ram().with_dirty_log(Some(marks.clone()));
        let device = AnyRing::new(&ram, &guest.config()).expect("the ring was laid out for it");
        let counters = Arc::<QueueCounters>::default();
        let engine = CtrlEngine::new(device, counters.clone());
        Self {
            guest,
            engine,
            executor: Executor::default(),
            counters,
            marks,
        }
    }

    /// Adds a command cut after each offset in `cuts`, with writable buffers of the lengths in
    /// `answers`.
    pub(crate) fn command(
        &mut self,
        shape: Shape,
        bytes: &[u8],
        cuts: &[usize],
        answers: &[usize],
    ) -> u16 {
        let memory = self.guest.memory();
        let mut pieces = memory.cut(bytes, cuts);
        pieces.extend(answers.iter().map(|len| memory.room(*len)));
        let id = self.guest.add_as(shape, &pieces);
        self.guest.publish();
        id
    }

    pub(crate) fn run(&mut self) -> Stop {
        let stop = self.engine.run(&mut self.executor, 1000).stop;
        restores(
            self.guest.memory(),
            self.guest.config(),
            self.engine.cursor(),
        );
        stop
    }

    /// Runs a plain command and tells its answer.
    pub(crate) fn works(&mut self) -> bool {
        self.command(Shape::Direct, &vlan(77), &[2], &[1]);
        self.run();
        let used = self.guest.poll_all().pop().expect("the command comes back");
        self.executor
            .commands
            .last()
            .is_some_and(|bytes| bytes == &vlan(77))
            && self.guest.bytes(&used) == [0]
    }
}

/// NET-CVQ-02: one string of bytes, however it is cut.
#[test]
fn command_may_be_cut_anywhere() {
    every_layout(|layout| {
        let bytes = mac_table([2, 1]);
        let all: Vec<usize> = (1..bytes.len()).collect();
        for shape in [Shape::Direct, Shape::Indirect] {
            for cuts in [vec![], vec![2], vec![1, 2], vec![0, 0, 5, 5], all.clone()] {
                let mut rig = CtrlRig::new(ring(layout, 64));
                let id = rig.command(shape, &bytes, &cuts, &[1]);
                assert!(matches!(rig.run(), Stop::Driver));
                assert_eq!(rig.executor.commands, [&bytes[..]], "{cuts:?}");
                let used = rig.guest.poll().expect("the command comes back");
                assert_eq!((used.id, used.len), (id, 1));
                assert_eq!(rig.guest.bytes(&used), [0]);
            }
        }
    });
}

/// The answer is the first writable byte; what follows it stays as it is. Its used length is 1 for
/// any driver.
#[test]
fn answer_goes_to_the_first_writable_byte() {
    every_layout(|layout| {
        for refuses in [None, Some(Refusal::Host)] {
            for answers in [&[1][..], &[100], &[0, 1], &[0, 0, 7, 7], &[1, 1]] {
                let mut rig = CtrlRig::new(ring(layout, 64));
                rig.executor.refuses = refuses;
                rig.command(Shape::Direct, &[3, 0], &[1], answers);
                rig.run();
                let used = rig.guest.poll().expect("the command comes back");
                assert_eq!(used.len, 1);
                let room: usize = answers.iter().sum();
                let mut expected = vec![0xaa; room];
                expected[0] = u8::from(refuses.is_some());
                let written = used.pieces.iter().filter(|piece| piece.writable);
                let written: Vec<_> = written.copied().collect();
                assert_eq!(rig.guest.memory().gather(&written, room), expected);
                let first = written
                    .iter()
                    .find(|piece| piece.len > 0)
                    .expect("an answer");
                let (buffers, _) = rig.guest.memory().regions()[2];
                let mut marks = rig.marks.take();
                marks.retain(|(addr, _)| *addr >= buffers);
                assert_eq!(marks, [(first.addr, 1)]);
            }
        }
    });
}

/// NET-CVQ-29: the result stands behind the answer, as much of it as there is room for.
#[test]
fn a_result_is_cut_to_the_room_behind_the_answer() {
    every_layout(|layout| {
        let result: Vec<u8> = (1..=40).collect();
        for answers in [&[1][..], &[41], &[100], &[1, 40], &[1, 0, 7, 9], &[3, 3]] {
            for refuses in [None, Some(Refusal::Value)] {
                let mut rig = CtrlRig::new(ring(layout, 64));
                rig.executor.refuses = refuses;
                rig.executor.result = result.clone();
                rig.command(Shape::Direct, &[8, 0], &[1], answers);
                rig.run();
                let used = rig.guest.poll().expect("the command comes back");
                let room: usize = answers.iter().sum();
                let mut expected = vec![u8::from(refuses.is_some())];
                if refuses.is_none() {
                    expected.extend(&result[..result.len().min(room - 1)]);
                }
                assert_eq!(used.len as usize, expected.len(), "{answers:?}");
                let (buffers, _) = rig.guest.memory().regions()[2];
                let mut marks = rig.marks.take();
                marks.retain(|(addr, _)| *addr >= buffers);
                let marked: u64 = marks.iter().map(|(_, len)| *len).sum();
                assert_eq!(marked, expected.len() as u64);
                expected.resize(room, 0xaa);
                let written = used.pieces.iter().filter(|piece| piece.writable);
                let written: Vec<_> = written.copied().collect();
                assert_eq!(rig.guest.memory().gather(&written, room), expected);
            }
        }
    });
}

/// Such a command, and those behind it, stay in the ring as if they had not been looked at.
#[test]
fn command_that_has_to_wait_stays_in_the_ring() {
    every_ring(64, |config| {
        let mut rig = CtrlRig::new(config);
        for n in 0..6 {
            rig.command(Shape::Direct, &vlan(n), &[], &[1]);
        }
        for round in 0..2 {
            rig.executor.allowed = Some(2);
            assert!(matches!(rig.run(), Stop::Limited(77)));
            assert_eq!(rig.guest.poll_all().len(), 2, "round {round}");
            let cursor = rig.engine.cursor();
            assert!(matches!(rig.run(), Stop::Limited(77)));
            assert_eq!(rig.engine.cursor(), cursor);
        }
        // Elsewhere, it goes on with the same command.
        let next = RingConfig {
            cursor: rig.engine.cursor(),
            ..rig.guest.config()
        };
        let ram = rig.guest.memory().ram();
        let ring = AnyRing::new(&ram, &next).expect("it is where it was");
        rig.engine = CtrlEngine::new(ring, rig.counters.clone());
        rig.executor.allowed = None;
        assert!(matches!(rig.run(), Stop::Driver));
        assert_eq!(rig.guest.poll_all().len(), 2);
        let order: Vec<u8> = rig.executor.commands.iter().map(|it| it[2]).collect();
        assert_eq!(order, [0, 1, 2, 3, 4, 5]);
        assert_eq!((rig.counters.frames(), rig.counters.limited()), (6, 4));
    });
}

#[test]
fn interrupt_and_budget() {
    every_ring(64, |config| {
        let mut rig = CtrlRig::new(config);
        for n in 0..10 {
            rig.command(Shape::Direct, &vlan(n), &[], &[1]);
        }
        let done = rig.engine.run(&mut rig.executor, 4);
        assert!(matches!(done.stop, Stop::Budget) && done.interrupt);
        assert_eq!(rig.guest.poll_all().len(), 4);
        assert!(matches!(rig.run(), Stop::Driver));
        assert_eq!(rig.executor.commands.len(), 10);
        assert!(!rig.engine.enable_notification());
        rig.command(Shape::Direct, &vlan(0), &[], &[1]);
        assert!(rig.engine.enable_notification());
        assert_eq!(rig.counters.frames(), 10);
    });
}

/// Their chains come back, and that is all.
#[test]
fn what_is_not_answered_counts_as_no_command() {
    every_ring(64, |config| {
        let mut rig = CtrlRig::new(config);
        rig.command(Shape::Direct, &vlan(1), &[], &[]);
        let done = rig.engine.run(&mut rig.executor, 10);
        assert_eq!((done.frames, rig.guest.poll_all().len()), (0, 1));
        let stats = rig.counters.stats();
        assert_eq!((stats.frames, stats.batches, stats.bytes), (0, 0, 0));
        assert_eq!(stats.dropped(), 1);

        for n in 0..3 {
            rig.command(Shape::Direct, &vlan(n), &[], &[1]);
            rig.command(Shape::Direct, &vlan(n), &[], &[]);
        }
        let done = rig.engine.run(&mut rig.executor, 10);
        assert_eq!(done.frames, 3);
        let stats = rig.counters.stats();
        assert_eq!((stats.frames, stats.batches, stats.bytes), (3, 1, 12));
        assert_eq!(stats.dropped(), 4);
    });
}

#[test]
fn a_command_longer_than_what_is_read_is_cut_behind_what_it_needs() {
    every_layout(|layout| {
        let mut rig = CtrlRig::new(ring(layout, 64));
        for len in [MAX_COMMAND, MAX_COMMAND + 1] {
            let mut bytes = vlan(5);
            bytes.resize(len, 5);
            rig.command(Shape::Direct, &bytes, &[2, 6000], &[1]);
        }
        rig.run();
        assert_eq!(rig.executor.commands, [vlan(5), vlan(5)]);
        let answers: Vec<_> = rig
            .guest
            .poll_all()
            .iter()
            .map(|used| rig.guest.bytes(used))
            .collect();
        assert_eq!(answers, [[0], [0]]);
        assert!(rig.works());
    });
}

/// A command that adds a VLAN.
fn vlan(id: u8) -> Vec<u8> {
    vec![2, 0, id, 0]
}

/// NET-CVQ-04, NET-CVQ-05: what is not a command reaches no executor; what an executor refuses has
/// its cause, too.
#[test]
fn refusals_are_counted_by_cause() {
    every_layout(|layout| {
        let mut rig = CtrlRig::new(ring(layout, 64));
        for (bytes, cause) in [
            (&[2, 0, 5][..], Refusal::Short),
            (&[], Refusal::Short),
            (&[0, 6, 1], Refusal::Unknown),
            (&[9, 0], Refusal::Unknown),
            (&[0, 0, 2], Refusal::Value),
            (&[2, 0, 0, 16], Refusal::Value),
            (&[4, 0, 0, 0], Refusal::Value),
        ] {
            // None of it is asked about, either.
            rig.executor.allowed = Some(0);
            let before = rig.counters.stats();
            rig.command(Shape::Direct, bytes, &[], &[1]);
            assert!(matches!(rig.run(), Stop::Driver));
            assert_eq!(rig.executor.commands.len(), 0, "{bytes:?}");
            let after = rig.counters.stats();
            assert_eq!(after.refusals(cause), before.refusals(cause) + 1);
            assert_eq!(after.refused(), before.refused() + 1);
            let used = rig.guest.poll().expect("the command comes back");
            assert_eq!(rig.guest.bytes(&used), [1]);
        }
        rig.executor.allowed = None;
        for cause in [Refusal::NotNegotiated, Refusal::Value, Refusal::Host] {
            rig.executor.refuses = Some(cause);
            let before = rig.counters.refusals(cause);
            rig.command(Shape::Direct, &vlan(1), &[], &[1]);
            rig.run();
            assert_eq!(rig.counters.refusals(cause), before + 1);
            let used = rig.guest.poll().expect("the command comes back");
            assert_eq!(rig.guest.bytes(&used), [1]);
        }
        rig.executor.refuses = None;
        let refused = rig.counters.stats().refused();
        assert!(rig.works());
        assert_eq!(rig.counters.stats().refused(), refused);
    });
}

fn mac_table(counts: [u32; 2]) -> Vec<u8> {
    let mut bytes = vec![1, 0];
    for count in counts {
        bytes.extend(count.to_le_bytes());
        bytes.extend((0..count).flat_map(|n| [2, 0, 0, 0, (n >> 8) as u8, n as u8]));
    }
    bytes
}

#[test]
fn long_lists_of_addresses_keep_their_first_ones_net_cvq_14() {
    every_layout(|layout| {
        for counts in [[5000, 0], [3, 20_000], [3000, 3000], [1024, 3000]] {
            let mut rig = CtrlRig::new(ring(layout, 64));
            let bytes = mac_table(counts);
            assert!(bytes.len() > MAX_COMMAND);
            rig.command(Shape::Direct, &bytes, &[1, 3, 4000, 9000], &[1]);
            assert!(matches!(rig.run(), Stop::Driver));
            let kept = counts.map(|count| count.min(MAX_MACS as u32));
            assert_eq!(rig.executor.commands, [mac_table(kept)], "{counts:?}");
            let used = rig.guest.poll().expect("the command comes back");
            assert_eq!(rig.guest.bytes(&used), [0]);
        }
    });
}

#[test]
fn long_lists_that_end_before_their_count_are_no_command_net_cvq_14() {
    every_layout(|layout| {
        for (counts, cut) in [
            ([5000, 0], 1),
            ([5000, 0], 5),
            ([3, 4000], 1),
            ([3000, 9], 60),
        ] {
            let mut rig = CtrlRig::new(ring(layout, 64));
            let mut bytes = mac_table(counts);
            bytes.truncate(bytes.len() - cut);
            rig.command(Shape::Direct, &bytes, &[9000], &[1]);
            assert!(matches!(rig.run(), Stop::Driver));
            assert_eq!(rig.executor.commands.len(), 0, "not executed");
            assert_eq!(rig.counters.refusals(Refusal::Short), 1);
            let used = rig.guest.poll().expect("the command comes back");
            assert_eq!(rig.guest.bytes(&used), [1]);
        }
        // More than any driver has memory for.
        let mut rig = CtrlRig::new(ring(layout, 64));
        let mut bytes = vec![0xff; 2 * MAX_COMMAND];
        bytes[..2].copy_from_slice(&[1, 0]);
        rig.command(Shape::Direct, &bytes, &[], &[1]);
        rig.run();
        assert_eq!(rig.counters.refusals(Refusal::Short), 1);
    });
}
