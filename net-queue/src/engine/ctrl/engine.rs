//! The control queue: bytes in, commands executed, answers out. VirtIO 1.4 §5.1.9.5.

use std::sync::Arc;

use super::command::{Command, cut_mac_table};
use super::reply::{Ack, Reply};
use crate::counters::QueueCounters;
use crate::drop_cause::{DropCause, QueueFault};
use crate::engine::{Engine, Outcome, Stop};
use crate::memory::guard::MemoryFault;
use crate::memory::iovec::{IoVec, MAX_SEGMENTS, copy_from, copy_into};
use crate::refusal::Refusal;
use crate::ring::{BufferRules, Buffers, Cursor, Direction, PoppedChain, Ring};

/// The longest command that is read, in bytes.
///
/// A longer one is cut: what stands behind the data that a command needs means nothing anyway
/// (NET-CVQ-05). Only the lists of MAC_TABLE_SET can need more, and those are cut to
/// [`MAX_MACS`](super::MAX_MACS) addresses each.
pub const MAX_COMMAND: usize = 16 * 1024;

/// Executor of control commands.
pub trait CommandHandler {
    /// Says whether a command may be executed now. One that may not goes back to the ring, and
    /// those behind it wait with it; it is asked for again, as it is then, at the next run.
    ///
    /// # Errors
    /// The time at which to ask again; see [`Stop::Limited`].
    fn admit(&mut self, _command: &Command<'_>) -> Result<(), u64> {
        Ok(())
    }

    /// Executes `command`, which is in force when this returns (NET-CVQ-03). The driver gets
    /// `reply` if it succeeds.
    ///
    /// # Errors
    /// The cause for which it had no effect; the driver is answered [`Ack::Err`].
    fn execute(&mut self, command: Command<'_>, reply: &mut Reply<'_>) -> Result<(), Refusal>;
}

/// Buffers of a command: what the driver wrote, then where the answer goes.
const RULES: BufferRules = BufferRules {
    direction: Direction::ReadableThenWritable,
    most_segments: MAX_SEGMENTS,
};

/// Takes commands from the control queue and gives the driver its answers.
#[derive(Debug)]
pub struct CtrlEngine<R> {
    ring: R,
    /// Segments of one command, the readable ones first.
    segments: Vec<IoVec>,
    command: Vec<u8>,
    /// The byte that answers it, and its result.
    answer: Vec<u8>,
    counters: Arc<QueueCounters>,
}

impl<R: Ring> CtrlEngine<R> {
    /// An engine on `ring`.
    pub fn new(ring: R, counters: Arc<QueueCounters>) -> Self {
        Self {
            ring,
            segments: Vec::new(),
            command: Vec::new(),
            answer: Vec::new(),
            counters,
        }
    }

    /// Executes up to `budget` commands. Returns why it stopped and whether the driver asks for an
    /// interrupt.
    pub fn run<H: CommandHandler + ?Sized>(&mut self, handler: &mut H, budget: u32) -> Outcome {
        let mut stop = Stop::Budget;
        let mut frames = 0;
        for _ in 0..budget {
            self.segments.clear();
            let Some(PoppedChain { chain, content }) = self.ring.pop(&mut self.segments, RULES)
            else {
                stop = Stop::no_chain(&self.ring);
                break;
            };
            let written = match content {
                Ok(buffers) => match self.execute(handler, buffers) {
                    Ok(written) => written,
                    Err(deadline) => {
                        self.ring.undo_pop(chain);
                        self.counters.add_limited();
                        stop = Stop::Limited(deadline);
                        break;
                    }
                },
                Err(cause) => {
                    self.counters.add_drop(cause);
                    0
                }
            };
            self.ring.push_used(chain, written);
            frames += u64::from(written > 0);
        }
        let interrupt = self.ring.publish();
        self.counters.add_published(frames, interrupt);
        Outcome {
            stop,
            frames,
            interrupt,
        }
    }

    /// Copies the command out of guest memory once, as far as it is read.
    fn fetch(&mut self, buffers: Buffers) -> Result<(), MemoryFault> {
        let readable = &self.segments[..buffers.readable()];
        let len = buffers.readable_len();
        self.command.resize(len.min(MAX_COMMAND), 0);
        copy_from(readable, 0, &mut self.command)?;
        if len > MAX_COMMAND {
            cut_mac_table(&mut self.command, len as u64, |at, bytes| {
                copy_from(readable, at, bytes) == Ok(bytes.len())
            });
        }
        Ok(())
    }

    #[cold]
    fn refuse(&self, refusal: Refusal) -> Ack {
        self.counters.add_refusal(refusal);
        Ack::Err
    }

    /// One command; returns how many bytes of answer were written. A chain without room for an
    /// answer is not executed, since its driver could not know how it ended (NET-CVQ-06).
    ///
    /// # Errors
    /// The time before which it may not be executed; nothing has happened.
    fn execute<H: CommandHandler + ?Sized>(
        &mut self,
        handler: &mut H,
        buffers: Buffers,
    ) -> Result<u32, u64> {
        if buffers.writable() == 0 {
            self.counters.add_drop(DropCause::TooShort);
            return Ok(0);
        }
        let mut answer = std::mem::take(&mut self.answer);
        let answered = self.answer(handler, buffers, &mut answer);
        let written = answered.map(|()| self.write(buffers, &answer));
        self.answer = answer;
        written
    }

    /// Executes a command, and puts into `answer` the byte that says how it ended, and its result.
    ///
    /// # Errors
    /// As those of [`CtrlEngine::execute`].
    fn answer<H: CommandHandler + ?Sized>(
        &mut self,
        handler: &mut H,
        buffers: Buffers,
        answer: &mut Vec<u8>,
    ) -> Result<(), u64> {
        let writable = &self.segments[buffers.readable()..];
        let mut reply = Reply::new(answer, writable.iter().map(|segment| segment.len()).sum());
        let ack = match self.fetch(buffers) {
            Ok(()) => {
                let done = match Command::parse(&self.command) {
                    Ok(command) => {
                        handler.admit(&command)?;
                        handler.execute(command, &mut reply)
                    }
                    Err(error) => Err(error.into()),
                };
                self.counters.add_batch(1, buffers.readable_len() as u64);
                done.map_or_else(|refusal| self.refuse(refusal), |()| Ack::Ok)
            }
            Err(fault) => {
                self.counters.add_drop(fault.into());
                Ack::Err
            }
        };
        reply.finish(ack);
        Ok(())
    }

    /// Writes `answer`, for which there is room; returns how many bytes were written.
    fn write(&self, buffers: Buffers, answer: &[u8]) -> u32 {
        let writable = &self.segments[buffers.readable()..];
        if let Err(fault) = copy_into(writable, 0, answer) {
            self.counters.add_drop(fault.into());
            return 0;
        }
        let ram = self.ring.memory();
        if ram.tracks_writes() {
            let mut left = answer.len();
            for segment in writable {
                let len = segment.len().min(left);
                ram.mark_segment(segment, len);
                left -= len;
            }
        }
        answer.len() as u32
    }
}

impl<R: Ring> Engine for CtrlEngine<R> {
    fn enable_notification(&mut self) -> bool {
        self.ring.enable_notification()
    }

    fn disable_notification(&mut self) {
        self.ring.disable_notification();
    }

    fn defer_interrupts(&mut self, on: bool) {
        self.ring.defer_interrupts(on);
    }

    fn is_undecided(&self) -> bool {
        self.ring.is_undecided()
    }

    fn decide_interrupt(&mut self) -> bool {
        let interrupt = self.ring.decide_interrupt();
        if interrupt {
            self.counters.add_interrupt();
        }
        interrupt
    }

    fn cursor(&self) -> Cursor {
        self.ring.cursor()
    }

    fn fault(&self) -> Option<QueueFault> {
        self.ring.fault()
    }

    fn count_kick(&self) {
        self.counters.add_kick();
    }
}
