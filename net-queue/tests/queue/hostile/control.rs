//! Control queues that are not what they should be.

use net_queue::ctrl::MAX_COMMAND;
use net_queue::testing::{Piece, Shape};
use net_queue::{DropCause, Engine, Stop};

use crate::ctrl::CtrlRig;
use crate::rig::{every_layout, ring};

/// NET-CVQ-06: no byte for the answer, or no command: given back, and the next command works.
#[test]
fn ctrl_without_ack() {
    every_layout(|layout| {
        for answers in [&[][..], &[0], &[0, 0]] {
            let mut rig = CtrlRig::new(ring(layout, 64));
            rig.command(Shape::Direct, &[0, 0, 1], &[2], answers);
            assert!(matches!(rig.run(), Stop::Driver));
            assert_eq!(rig.executor.commands.len(), 0, "not executed");
            assert_eq!(
                rig.guest
                    .poll_all()
                    .iter()
                    .map(|used| used.len)
                    .collect::<Vec<_>>(),
                [0]
            );
            assert!(rig.works());
        }
        for len in 0..2 {
            let mut rig = CtrlRig::new(ring(layout, 64));
            rig.command(Shape::Direct, &[7][..len], &[], &[1]);
            rig.run();
            assert_eq!(rig.guest.poll_all().len(), 1);
            assert!(rig.works());
        }
    });
}

/// Attacks on rings, made on the control queue.
#[test]
fn ctrl_queue_abuse() {
    every_layout(|layout| {
        let mut rig = CtrlRig::new(ring(layout, 64));
        let memory = rig.guest.memory().clone();
        let ack = memory.room(1);
        let hole = Piece::readable(0x8000_0000, 10);
        let command = memory.filled(&[1, 2]);
        let bad: [(&[Piece], DropCause); 4] = [
            (&[ack, command], DropCause::Direction),
            (&[hole, ack], DropCause::BadAddress),
            (
                &[
                    command,
                    Piece {
                        writable: true,
                        ..hole
                    },
                ],
                DropCause::BadAddress,
            ),
            (
                &[Piece::readable(command.addr, u32::MAX), ack],
                DropCause::BadAddress,
            ),
        ];
        for (pieces, cause) in bad {
            let before = rig.counters.drops(cause);
            for shape in [Shape::Direct, Shape::Indirect] {
                rig.guest.add_as(shape, pieces);
            }
            rig.guest.publish();
            rig.run();
            assert_eq!(rig.counters.drops(cause), before + 2);
            let lens: Vec<_> = rig.guest.poll_all().iter().map(|used| used.len).collect();
            assert_eq!(lens, [0, 0]);
            assert!(rig.works());
        }
        assert!(
            memory.gather(&[ack], 1) == [0xaa],
            "a refused chain is not written"
        );
    });
}

/// More commands than any index counts, and one of the greatest length among them.
#[test]
fn very_many_commands() {
    every_layout(|layout| {
        let mut rig = CtrlRig::new(ring(layout, 64));
        let memory = rig.guest.memory().clone();
        let pieces = [memory.filled(&[4, 0, 1, 0]), memory.room(1)];
        for _ in 0..1100 {
            for _ in 0..30 {
                rig.guest.add(&pieces);
                rig.guest.add_as(Shape::Indirect, &pieces);
                if rig.guest.free() < 2 {
                    break;
                }
            }
            rig.guest.publish();
            rig.run();
            rig.guest.poll_all();
            rig.executor.commands.clear();
            rig.marks.take();
        }
        rig.command(Shape::Direct, &vec![1; 4 * MAX_COMMAND], &[], &[1]);
        rig.run();
        rig.guest.poll_all();
        assert!(rig.works());
    });
}

/// A table of empty buffers costs steps, not memory; a loop ends the queue.
#[test]
fn endless_control_chain() {
    every_layout(|layout| {
        let mut rig = CtrlRig::new(ring(layout, 64));
        let nothing = Piece::readable(0, 0);
        rig.guest
            .add_with(Shape::Direct, &[nothing; 64], |_, desc| desc.flags |= 1);
        rig.guest.publish();
        let stop = rig.run();
        let Stop::Fault(fault) = stop else {
            panic!("{stop:?}");
        };
        assert!(matches!(rig.run(), Stop::Fault(again) if again == fault));
        assert!(!rig.engine.enable_notification());
    });
}
