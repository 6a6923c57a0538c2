//! Control: whatever the descriptors, a command is one string of bytes and its answer one byte.

use std::sync::Arc;

use net_queue::ctrl::{Ack, MAX_COMMAND};
use net_queue::ring::{AnyRing, RingConfig};
use net_queue::testing::{DirtyRanges, GuestRing, Shape, TestMemory};
use net_queue::{CtrlEngine, CtrlStop, DropCause, Handler, QueueCounters};

use crate::rig::{every_layout, every_ring, restores, ring};

/// Notes each command and answers as told.
#[derive(Default)]
pub(crate) struct Executor {
    pub(crate) commands: Vec<Vec<u8>>,
    pub(crate) refuses: bool,
}

impl Handler for Executor {
    fn command(&mut self, bytes: &[u8]) -> Ack {
        self.commands.push(bytes.to_vec());
        if self.refuses { Ack::Err } else { Ack::Ok }
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
        let counters = Arc::<QueueCounters>::default();
        let engine = CtrlEngine::new(guest.device(), ram, counters.clone());
        Self {
            guest,
            engine,
            executor: Executor::default(),
            counters,
            marks,
        }
    }

    /// Adds a command cut after each offset in `cuts`, with writable buffers of the lengths in `answers`.
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

    pub(crate) fn run(&mut self) -> CtrlStop {
        let stop = self.engine.run(&mut self.executor, 1000).0;
        restores(
            self.guest.memory(),
            self.guest.config(),
            self.engine.cursor(),
        );
        stop
    }

    /// Runs a plain command and tells its answer.
    pub(crate) fn works(&mut self) -> bool {
        self.command(Shape::Direct, &[1, 2, 3], &[2], &[1]);
        self.run();
        let used = self.guest.poll_all().pop().expect("the command comes back");
        self.executor
            .commands
            .last()
            .is_some_and(|bytes| bytes == &[1, 2, 3])
            && self.guest.bytes(&used) == [0]
    }
}

/// NET-CVQ-02: one string of bytes, however it is cut.
#[test]
fn command_may_be_cut_anywhere() {
    every_layout(|layout| {
        let bytes: Vec<u8> = (0..20).collect();
        let all: Vec<usize> = (1..20).collect();
        for shape in [Shape::Direct, Shape::Indirect] {
            for cuts in [vec![], vec![2], vec![1, 2], vec![0, 0, 5, 5], all.clone()] {
                let mut rig = CtrlRig::new(ring(layout, 64));
                let id = rig.command(shape, &bytes, &cuts, &[1]);
                assert_eq!(rig.run(), CtrlStop::Empty);
                assert_eq!(rig.executor.commands, [&bytes[..]], "{cuts:?}");
                let used = rig.guest.poll().expect("the command comes back");
                assert_eq!((used.id, used.len), (id, 1));
                assert_eq!(rig.guest.bytes(&used), [0]);
            }
        }
    });
}

/// The answer is the first writable byte; what follows it stays as it is. Its used length is 1 for any driver.
#[test]
fn answer_goes_to_the_first_writable_byte() {
    every_layout(|layout| {
        for refuses in [false, true] {
            for answers in [&[1][..], &[100], &[0, 1], &[0, 0, 7, 7], &[1, 1]] {
                let mut rig = CtrlRig::new(ring(layout, 64));
                rig.executor.refuses = refuses;
                rig.command(Shape::Direct, &[3, 0], &[1], answers);
                rig.run();
                let used = rig.guest.poll().expect("the command comes back");
                assert_eq!(used.len, 1);
                let room: usize = answers.iter().sum();
                let mut expected = vec![0xaa; room];
                expected[0] = u8::from(refuses);
                let written = used.pieces.iter().filter(|piece| piece.writable);
                let written: Vec<_> = written.copied().collect();
                assert_eq!(rig.guest.memory().gather(&written, room), expected);
                let first = written
                    .iter()
                    .find(|piece| piece.len > 0)
                    .expect("an answer");
                assert_eq!(rig.marks.take(), [(first.addr, 1)]);
            }
        }
    });
}

#[test]
fn interrupt_and_budget() {
    every_ring(64, |config| {
        let mut rig = CtrlRig::new(config);
        for n in 0..10 {
            rig.command(Shape::Direct, &[n, 1], &[], &[1]);
        }
        let (stop, interrupt) = rig.engine.run(&mut rig.executor, 4);
        assert_eq!((stop, interrupt), (CtrlStop::Budget, true));
        assert_eq!(rig.guest.poll_all().len(), 4);
        assert_eq!(rig.run(), CtrlStop::Empty);
        assert_eq!(rig.executor.commands.len(), 10);
        assert!(!rig.engine.arm());
        rig.command(Shape::Direct, &[0, 1], &[], &[1]);
        assert!(rig.engine.arm());
        assert_eq!(rig.counters.frames(), 10);
    });
}

#[test]
fn longest_command_is_executed_and_a_longer_one_refused() {
    every_layout(|layout| {
        let mut rig = CtrlRig::new(ring(layout, 64));
        rig.command(Shape::Direct, &vec![5; MAX_COMMAND], &[2, 6000], &[1]);
        rig.command(Shape::Direct, &vec![5; MAX_COMMAND + 1], &[2, 6000], &[1]);
        rig.run();
        assert_eq!(rig.executor.commands, [vec![5; MAX_COMMAND]]);
        let answers: Vec<_> = rig
            .guest
            .poll_all()
            .iter()
            .map(|used| rig.guest.bytes(used))
            .collect();
        assert_eq!(answers, [[0], [1]]);
        assert_eq!(rig.counters.drops(DropCause::TooLong), 1);
        assert!(rig.works());
    });
}
