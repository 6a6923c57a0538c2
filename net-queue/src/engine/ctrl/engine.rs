//! The control queue: bytes in, commands executed, answers out. VirtIO 1.4 §5.1.9.5.

use std::sync::Arc;

use super::command::{Ack, Command, cut_mac_table};
use crate::counters::QueueCounters;
use crate::drop_cause::{DropCause, QueueFault};
use crate::engine::{Engine, Outcome, Stop};
use crate::memory::guard::MemoryFault;
use crate::memory::guest_ram::GuestRam;
use crate::memory::segment::{HostSlice, IoVec, MAX_SEGMENTS, copy_from, copy_into};
use crate::refusal::Refusal;
use crate::ring::walk::Resolver;
use crate::ring::{BufferSink, Cursor, PoppedChain, Ring};

/// The longest command that is read, in bytes.
///
/// A longer one is cut: what stands behind the data that a command needs means nothing anyway
/// (NET-CVQ-05). Only the lists of MAC_TABLE_SET can need more, and those are cut to
/// [`MAX_MACS`](super::MAX_MACS) addresses each.
pub const MAX_COMMAND: usize = 16 * 1024;

/// Executor of control commands.
pub trait CommandHandler {
    /// Says whether `command` may be executed now. One that may not goes back to the ring, and
    /// those behind it wait with it; it is asked for again, as it is then, at the next run.
    ///
    /// # Errors
    /// The time at which to ask again; see [`Stop::Limited`].
    fn admit(&mut self, command: &Command<'_>) -> Result<(), u64> {
        let _ = command;
        Ok(())
    }

    /// Executes `command`, which is in force when this returns (NET-CVQ-03).
    ///
    /// # Errors
    /// The cause for which it had no effect; the driver is answered [`Ack::Err`].
    fn execute(&mut self, command: Command<'_>) -> Result<(), Refusal>;
}

/// One chain: what the driver wrote, then where the answer goes.
#[derive(Debug, Default)]
struct CtrlBuffers {
    resolver: Resolver,
    readable: Vec<IoVec>,
    writable: Vec<IoVec>,
    /// Address of the byte that the ack goes to.
    ack_at: Option<u64>,
    len: u64,
}

impl CtrlBuffers {
    fn clear(&mut self) {
        self.readable.clear();
        self.writable.clear();
        self.ack_at = None;
        self.len = 0;
    }
}

impl BufferSink for CtrlBuffers {
    fn buffer(
        &mut self,
        ram: &GuestRam,
        addr: u64,
        len: u32,
        writable: bool,
    ) -> Result<(), DropCause> {
        if !writable && !self.writable.is_empty() {
            return Err(DropCause::Direction);
        }
        if !writable {
            self.len += u64::from(len);
        }
        let Self {
            resolver,
            readable,
            writable: answers,
            ack_at,
            ..
        } = self;
        let segments = if writable { answers } else { readable };
        resolver.resolve(ram, addr, len, writable, &mut |host: HostSlice, gpa| {
            if segments.len() == MAX_SEGMENTS {
                return Err(DropCause::Segments);
            }
            if writable {
                ack_at.get_or_insert(gpa);
            }
            segments.push(host.io());
            Ok(())
        })
    }
}

/// Takes commands from the control queue and gives the driver its answers.
#[derive(Debug)]
pub struct CtrlEngine<R> {
    ring: R,
    ram: GuestRam,
    buffers: CtrlBuffers,
    command: Vec<u8>,
    counters: Arc<QueueCounters>,
    fault: Option<QueueFault>,
}

impl<R: Ring> CtrlEngine<R> {
    /// An engine on `ring`, whose buffers lie in `ram`.
    pub fn new(ring: R, ram: GuestRam, counters: Arc<QueueCounters>) -> Self {
        Self {
            ring,
            ram,
            buffers: CtrlBuffers::default(),
            command: Vec::new(),
            counters,
            fault: None,
        }
    }

    /// Executes up to `budget` commands. Returns why it stopped and whether the driver asks for an
    /// interrupt.
    pub fn run<H: CommandHandler + ?Sized>(&mut self, handler: &mut H, budget: u32) -> Outcome {
        let mut stop = Stop::Budget;
        let mut frames = 0;
        for _ in 0..budget {
            if let Some(fault) = self.fault {
                stop = Stop::Fault(fault);
                break;
            }
            self.buffers.clear();
            let PoppedChain { chain, content } = match self.ring.pop(&mut self.buffers) {
                Ok(Some(popped)) => popped,
                Ok(None) => {
                    stop = Stop::Driver;
                    break;
                }
                Err(fault) => {
                    self.fault = Some(fault);
                    continue;
                }
            };
            let written = match content {
                Ok(()) => match self.execute(handler) {
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
    fn fetch(&mut self) -> Result<(), MemoryFault> {
        let len = self.buffers.len.min(MAX_COMMAND as u64) as usize;
        self.command.resize(len, 0);
        copy_from(&self.buffers.readable, 0, &mut self.command)?;
        if self.buffers.len > MAX_COMMAND as u64 {
            let readable = &self.buffers.readable;
            cut_mac_table(&mut self.command, self.buffers.len, |at, bytes| {
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
    fn execute<H: CommandHandler + ?Sized>(&mut self, handler: &mut H) -> Result<u32, u64> {
        let Some(ack_at) = self.buffers.ack_at else {
            self.counters.add_drop(DropCause::TooShort);
            return Ok(0);
        };
        let ack = match self.fetch() {
            Ok(()) => {
                let done = match Command::parse(&self.command) {
                    Ok(command) => {
                        handler.admit(&command)?;
                        handler.execute(command)
                    }
                    Err(error) => Err(error.into()),
                };
                self.counters.add_batch(1, self.buffers.len);
                done.map_or_else(|refusal| self.refuse(refusal), |()| Ack::Ok)
            }
            Err(fault) => {
                self.counters.add_drop(fault.into());
                Ack::Err
            }
        };
        if let Err(fault) = copy_into(&self.buffers.writable, 0, &[ack.byte()]) {
            self.counters.add_drop(fault.into());
            return Ok(0);
        }
        self.ram.mark(ack_at, 1);
        Ok(1)
    }
}

impl<R: Ring> Engine for CtrlEngine<R> {
    fn enable_notification(&mut self) -> bool {
        self.fault.is_none() && self.ring.enable_notification()
    }

    fn disable_notification(&mut self) {
        if self.fault.is_none() {
            self.ring.disable_notification();
        }
    }

    fn cursor(&self) -> Cursor {
        self.ring.cursor()
    }

    fn fault(&self) -> Option<QueueFault> {
        self.fault
    }

    fn count_kick(&self) {
        self.counters.add_kick();
    }
}
