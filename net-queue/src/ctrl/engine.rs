//! The control queue as bytes in, bytes out. VirtIO 1.4 §5.1.9.5.

use std::sync::Arc;

use crate::counters::QueueCounters;
use crate::ctrl::Ack;
use crate::ctrl::command::cut_mac_table;
use crate::fault::{DropCause, QueueFault};
use crate::memory::guard::MemoryFault;
use crate::memory::guest_ram::GuestRam;
use crate::memory::segment::{HostSlice, IoVec, MAX_SEGMENTS, copy_from, copy_into};
use crate::ring::walk::Resolver;
use crate::ring::{Cursor, PieceSink, Ring};

/// The longest command that a handler is given, in bytes.
///
/// A longer one is cut: what stands behind the data that a command needs means nothing anyway
/// (NET-CVQ-05). Only the lists of MAC_TABLE_SET can need more, and those are cut to
/// [`MAX_MACS`](super::MAX_MACS) addresses each.
pub const MAX_COMMAND: usize = 16 * 1024;

/// Why [`CtrlEngine::run`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtrlStop {
    /// The ring is empty: arm it and wait for a kick.
    Empty,
    /// The budget is spent: call again.
    Budget,
    /// The next command may not be executed before this time, in the handler's nanoseconds: it is still in the ring.
    Limited(u64),
    /// The driver broke the ring; nothing more happens here until a reset.
    Fault(QueueFault),
}

/// Executes control commands.
pub trait Handler {
    /// Says whether the command in `bytes` may be executed now. One that may not goes back to the ring, and those
    /// behind it wait with it; it is asked for again, as it is then, at the next run.
    ///
    /// # Errors
    /// The time at which to ask again; see [`CtrlStop::Limited`].
    fn admit(&mut self, bytes: &[u8]) -> Result<(), u64> {
        let _ = bytes;
        Ok(())
    }

    /// Executes the command in `bytes` (class, command, data; a private copy) and returns its ack. The
    /// command is in force when this returns (NET-CVQ-03).
    fn command(&mut self, bytes: &[u8]) -> Ack;
}

/// One chain: what the driver wrote, then where the answer goes.
#[derive(Debug, Default)]
struct CtrlPieces {
    resolver: Resolver,
    readable: Vec<IoVec>,
    writable: Vec<IoVec>,
    /// Address of the byte that the ack goes to.
    ack_at: Option<u64>,
    len: u64,
}

impl CtrlPieces {
    fn clear(&mut self) {
        self.readable.clear();
        self.writable.clear();
        self.ack_at = None;
        self.len = 0;
    }
}

impl PieceSink for CtrlPieces {
    fn piece(
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
        let pieces = if writable { answers } else { readable };
        resolver.resolve(ram, addr, len, writable, &mut |host: HostSlice, gpa| {
            if pieces.len() == MAX_SEGMENTS {
                return Err(DropCause::Pieces);
            }
            if writable {
                ack_at.get_or_insert(gpa);
            }
            pieces.push(host.io());
            Ok(())
        })
    }
}

/// Takes commands from the control queue and gives the driver its answers.
#[derive(Debug)]
pub struct CtrlEngine<R> {
    ring: R,
    ram: GuestRam,
    pieces: CtrlPieces,
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
            pieces: CtrlPieces::default(),
            command: Vec::new(),
            counters,
            fault: None,
        }
    }

    /// Executes up to `budget` commands. Returns why it stopped and whether the driver asks for an interrupt.
    pub fn run<H: Handler + ?Sized>(&mut self, handler: &mut H, budget: u32) -> (CtrlStop, bool) {
        let mut stop = CtrlStop::Budget;
        for _ in 0..budget {
            if let Some(fault) = self.fault {
                stop = CtrlStop::Fault(fault);
                break;
            }
            self.pieces.clear();
            let (chain, content) = match self.ring.pop(&mut self.pieces) {
                Ok(Some(popped)) => popped,
                Ok(None) => {
                    stop = CtrlStop::Empty;
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
                        stop = CtrlStop::Limited(deadline);
                        break;
                    }
                },
                Err(cause) => {
                    self.counters.add_drop(cause);
                    0
                }
            };
            self.ring.push_used(chain, written);
        }
        let interrupt = self.ring.publish();
        if interrupt {
            self.counters.add_interrupt();
        }
        (stop, interrupt)
    }

    /// Copies the command out of guest memory once, as far as a handler may see it.
    fn fetch(&mut self) -> Result<(), MemoryFault> {
        let len = self.pieces.len.min(MAX_COMMAND as u64) as usize;
        self.command.resize(len, 0);
        copy_from(&self.pieces.readable, 0, &mut self.command)?;
        if self.pieces.len > MAX_COMMAND as u64 {
            let readable = &self.pieces.readable;
            cut_mac_table(&mut self.command, self.pieces.len, |at, bytes| {
                copy_from(readable, at, bytes) == Ok(bytes.len())
            });
        }
        Ok(())
    }

    /// One command; returns how many bytes of answer were written. A chain without room for an answer is not
    /// executed, since its driver could not know how it ended (NET-CVQ-06).
    ///
    /// # Errors
    /// The time before which it may not be executed; nothing has happened.
    fn execute<H: Handler + ?Sized>(&mut self, handler: &mut H) -> Result<u32, u64> {
        let Some(ack_at) = self.pieces.ack_at else {
            self.counters.add_drop(DropCause::TooShort);
            return Ok(0);
        };
        let ack = match self.fetch() {
            Ok(()) => {
                handler.admit(&self.command)?;
                self.counters.add_batch(1, self.pieces.len);
                handler.command(&self.command)
            }
            Err(fault) => {
                self.counters.add_drop(fault.into());
                Ack::Err
            }
        };
        if let Err(fault) = copy_into(&self.pieces.writable, 0, &[ack.byte()]) {
            self.counters.add_drop(fault.into());
            return Ok(0);
        }
        self.ram.mark(ack_at, 1);
        Ok(1)
    }

    /// Asks the driver for kicks; true when commands are there already and `run` must be called first.
    pub fn arm(&mut self) -> bool {
        self.fault.is_none() && self.ring.arm()
    }

    /// Where the ring stands.
    pub fn cursor(&self) -> Cursor {
        self.ring.cursor()
    }

    /// The fault that stopped this queue, if any.
    pub fn fault(&self) -> Option<QueueFault> {
        self.fault
    }
}
