//! One ring: the parameters that the front-end has set, and the state that follows from them.
//!
//! Messages only record. What the ring should do is computed from all that was recorded, in one
//! place ([`Vring::target`]), so the order in which a front-end says things does not matter:
//!
//! | kick descriptor, size and addresses | enabled; features and memory known | target |
//! |---|---|---|
//! | one is missing | any | [`State::Stopped`] |
//! | all there | no | [`State::Held`] |
//! | all there | yes | [`State::Running`] |
//!
//! GET_VRING_BASE takes the kick descriptor away, and so stops the ring whatever else was said.

use std::io;
use std::os::fd::OwnedFd;

use net_device::log_limit::LogLimit;
use net_device::{Cursor, JournalError, Layout, QueueSetup, RingAddrs, log_limited};
use vhost::vhost_user::message::{VhostUserVringAddr, VhostUserVringAddrFlags};

use crate::protocol::dirty_log::UsedRing;
use crate::protocol::interrupts::event_file;
use crate::protocol::memory_table::MemoryTable;

mod packed;
#[cfg(test)]
mod tests;

use packed::{Place, Verdict};

/// Reason for refusing what a front-end says about a ring.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The ring is at work, and this cannot change under it.
    #[error("its {0} cannot change while it runs")]
    Running(&'static str),
    /// No such size.
    #[error("size {size} is not within 1 to {max}")]
    Size {
        /// The size that was asked for.
        size: u32,
        /// The largest that the device takes.
        max: u16,
    },
    /// Without a kick descriptor the daemon would have to poll.
    #[error("a ring without a kick descriptor is not supported")]
    Polling,
    /// Something was never said.
    #[error("its {0} is not known")]
    Unknown(&'static str),
    /// The front-end's address of a part of the ring.
    #[error("front-end address {0:#x} is in no memory region")]
    Address(u64),
    /// A position that this layout does not have.
    #[error("base {0:#x} is not a position in a split ring")]
    Base(u32),
    /// A crashed back-end took its position with it.
    #[error(
        "the front-end calls it fresh, but it was used, and where it stands cannot be told; the driver has to reset \
         the device"
    )]
    Lost,
    /// A crashed back-end left a position that is none.
    #[error(
        "its position cannot be told from the in-flight region; the driver has to reset the device"
    )]
    Journal(#[source] JournalError),
    /// A descriptor cannot be made ready.
    #[error("its descriptor cannot be used")]
    Descriptor(#[source] io::Error),
}

/// State of a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Not started: nothing of it is touched.
    #[default]
    Stopped,
    /// Started, but not allowed to run: disabled, or features or memory are not known. Nothing is
    /// touched: a front-end may give a ring's memory to somebody else once it is disabled, as
    /// user-mode Linux does. The one exception are transmit rings that were disabled while they
    /// ran: what they have then, and at each later kick, is discarded.
    Held,
    /// The device works on it.
    Running,
}

/// Conditions of a ring's target outside the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Features are accepted and there is memory to find the ring in.
    pub open: bool,
    /// True if a ring runs about which no SET_VRING_ENABLE came: with
    /// VHOST_USER_F_PROTOCOL_FEATURES it does not.
    pub enabled_by_default: bool,
}

/// Addresses of the parts of a ring, in the front-end's address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct UserAddrs {
    desc: u64,
    driver: u64,
    device: u64,
}

/// One ring.
#[derive(Debug)]
pub struct Vring {
    state: State,
    max_size: u16,
    size: Option<u16>,
    addrs: Option<UserAddrs>,
    /// Address under which writes to the used ring are marked as well.
    used_log: Option<u64>,
    base: u32,
    /// The base is where the device stopped the ring, in this session.
    is_base_known: bool,
    kick: Option<OwnedFd>,
    enabled: Option<bool>,
    /// It has run since the front-end came, or since the device was reset.
    has_run: bool,
}

impl Vring {
    /// Rings of which nothing is known, but how many descriptors the device takes at most.
    #[must_use]
    pub fn all(max_sizes: &[u16]) -> Vec<Self> {
        max_sizes.iter().copied().map(Self::new).collect()
    }

    /// A ring of which nothing is known, but that the device takes up to `max_size` descriptors.
    #[must_use]
    pub fn new(max_size: u16) -> Self {
        Self {
            state: State::Stopped,
            max_size,
            size: None,
            addrs: None,
            used_log: None,
            base: 0,
            is_base_known: false,
            kick: None,
            enabled: None,
            has_run: false,
        }
    }

    /// Present state.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// State that the ring should be in. A ring that was never enabled is held: the front-end is
    /// still setting it up, and what waits in it is to be sent.
    #[must_use]
    pub fn target(&self, gate: Gate) -> State {
        let known = self.kick.is_some() && self.size.is_some() && self.addrs.is_some();
        match (
            known,
            gate.open && self.enabled.unwrap_or(gate.enabled_by_default),
        ) {
            (false, _) => State::Stopped,
            (true, false) => State::Held,
            (true, true) => State::Running,
        }
    }

    /// The device did what was needed to get here.
    pub fn entered(&mut self, state: State) {
        self.state = state;
    }

    /// The device works on it now. Returns whether it did before, as far as this front-end is
    /// concerned.
    pub fn entered_running(&mut self) -> bool {
        self.state = State::Running;
        std::mem::replace(&mut self.has_run, true)
    }

    fn not_running(&self, what: &'static str) -> Result<(), RingError> {
        if self.state == State::Running {
            Err(RingError::Running(what))
        } else {
            Ok(())
        }
    }

    /// SET_VRING_NUM.
    ///
    /// # Errors
    /// The device has no ring of this size, or the ring runs.
    pub fn set_size(&mut self, size: u32) -> Result<(), RingError> {
        self.not_running("size")?;
        let max = self.max_size;
        let valid = u16::try_from(size)
            .ok()
            .filter(|size| (1..=max).contains(size));
        self.size = Some(valid.ok_or(RingError::Size { size, max })?);
        Ok(())
    }

    /// SET_VRING_ADDR. Returns whether the ring has moved, and whether logging of its used part has
    /// changed.
    pub fn set_addrs(&mut self, said: &VhostUserVringAddr) -> (bool, bool) {
        let addrs = UserAddrs {
            desc: said.descriptor,
            driver: said.available,
            device: said.used,
        };
        let logs = said.flags & VhostUserVringAddrFlags::VHOST_VRING_F_LOG.bits() != 0;
        let used_log = logs.then_some(said.log);
        let moved = self.addrs.replace(addrs) != Some(addrs);
        let log_changed = std::mem::replace(&mut self.used_log, used_log) != used_log;
        (moved, log_changed)
    }

    /// SET_VRING_BASE.
    ///
    /// # Errors
    /// The ring runs.
    pub fn set_base(&mut self, base: u32) -> Result<(), RingError> {
        self.not_running("base")?;
        self.is_base_known &= self.base == base;
        self.base = base;
        Ok(())
    }

    /// SET_VRING_KICK. A running ring has to start again with it.
    ///
    /// # Errors
    /// The descriptor is missing, or not for events: a worker must never wait in it.
    pub fn set_kick(&mut self, fd: Option<OwnedFd>) -> Result<(), RingError> {
        let fd = fd.ok_or(RingError::Polling)?;
        self.kick = Some(event_file(fd).map_err(RingError::Descriptor)?.into());
        Ok(())
    }

    /// SET_VRING_ENABLE. May come before anything else is known: QEMU never repeats it.
    pub fn set_enabled(&mut self, enabled: bool) {
        self.enabled = Some(enabled);
    }

    /// Returns whether the front-end has disabled it; it begins neither enabled nor disabled.
    #[must_use]
    pub fn is_disabled(&self) -> bool {
        self.enabled == Some(false)
    }

    /// A descriptor of its own for the driver's kicks.
    ///
    /// # Errors
    /// There is none, or no more may be open.
    pub fn copy_of_kick(&self) -> io::Result<OwnedFd> {
        let kick = self.kick.as_ref().ok_or(io::ErrorKind::NotFound)?;
        kick.try_clone()
    }

    /// GET_VRING_BASE: the ring needs a new kick descriptor to start again.
    pub fn forget_kick(&mut self) {
        self.kick = None;
    }

    /// The device could not run it: it stays stopped until it is set up anew.
    pub fn failed(&mut self) {
        self.state = State::Stopped;
        self.kick = None;
    }

    /// Number of its descriptors, once that is known.
    #[must_use]
    pub fn size(&self) -> Option<u16> {
        self.size
    }

    /// Position at which the ring starts, or did stop.
    #[must_use]
    pub fn base(&self) -> u32 {
        self.base
    }

    /// Keeps where the device stopped.
    pub fn stopped_at(&mut self, layout: Layout, cursor: &Cursor) {
        self.base = encode_base(layout, cursor);
        self.is_base_known = true;
    }

    /// Addresses of the ring for the device.
    ///
    /// # Errors
    /// An address is unknown, or in no region of `memory`.
    pub fn guest_addrs(&self, memory: &MemoryTable) -> Result<RingAddrs, RingError> {
        let UserAddrs {
            desc,
            driver,
            device,
        } = self.addrs.ok_or(RingError::Unknown("address"))?;
        let guest = |user| memory.translate(user).ok_or(RingError::Address(user));
        Ok(RingAddrs {
            desc: guest(desc)?,
            driver: guest(driver)?,
            device: guest(device)?,
        })
    }

    /// Returns whether it has run since the front-end came, or since the device was reset.
    #[must_use]
    pub fn has_run(&self) -> bool {
        self.has_run
    }

    /// All that the device needs to run the ring as number `index`; `in_order` says that the driver
    /// gets its buffers back in their order, and `recovered` is where a lost device is known to
    /// have stood.
    ///
    /// # Errors
    /// Something is missing or out of place.
    pub fn setup(
        &self,
        index: u16,
        layout: Layout,
        in_order: bool,
        memory: &MemoryTable,
        recovered: Option<Cursor>,
        log: &LogLimit,
    ) -> Result<QueueSetup, RingError> {
        let kick = self
            .kick
            .as_ref()
            .ok_or(RingError::Unknown("kick descriptor"))?;
        let addrs = self.guest_addrs(memory)?;
        let cursor = match (recovered, layout) {
            (Some(cursor), _) => cursor,
            (_, Layout::Split) => self.resume_split(index, addrs.device, memory, log)?,
            (_, Layout::Packed) => match decode_base(layout, self.base)? {
                base if self.base != 0 && base != Cursor::default() => base,
                base => {
                    let ring = self.read_packed(addrs.desc, memory)?;
                    self.resume_packed(index, base, &ring, in_order, log)?
                }
            },
        };
        Ok(QueueSetup {
            index,
            size: self.size.ok_or(RingError::Unknown("size"))?,
            addrs,
            cursor,
            kick: kick.try_clone().map_err(RingError::Descriptor)?,
        })
    }

    /// Position at which a split ring goes on: the used index in the ring, whatever the base.
    ///
    /// A device that has stopped holds no chain, so used is where available is. A front-end that
    /// lost the device, or that restores a guest without the device's state, has no number to tell:
    /// some take the driver's available index. Chains from the used index to there would be the
    /// device's for ever; with all receive buffers among them nothing was received any more. A
    /// chain that had been sent, but not returned, before a crash is sent twice instead, which
    /// networks do as well.
    fn resume_split(
        &self,
        index: u16,
        used_ring: u64,
        memory: &MemoryTable,
        log: &LogLimit,
    ) -> Result<Cursor, RingError> {
        const IDX: u64 = 2;
        let base = decode_base(Layout::Split, self.base)?;
        let mut used = [0; 2];
        memory
            .read(used_ring.saturating_add(IDX), &mut used)
            .ok_or(RingError::Address(used_ring))?;
        let used = u16::from_le_bytes(used);
        if base.avail != used {
            log_limited!(
                log,
                Warn,
                "ring {index}: base {} is not its used index; it goes on at that, {used}",
                base.avail
            );
        }
        Ok(Cursor {
            avail: used,
            used: Some(used),
            ..base
        })
    }

    /// Descriptors of a packed ring.
    fn read_packed(&self, desc: u64, memory: &MemoryTable) -> Result<Vec<u8>, RingError> {
        let size = self.size.ok_or(RingError::Unknown("size"))?;
        let mut ring = vec![0; usize::from(size) * packed::DESCRIPTOR_LEN];
        let read = memory.read(desc, &mut ring);
        read.map(|()| ring).ok_or(RingError::Address(desc))
    }

    /// Position at which a packed ring goes on whose `base` is the start of a lap. A front-end that
    /// has lost the device says that of the first lap, too; and user-mode Linux says that a fresh
    /// ring starts at 0, which for every other front-end is the start of the second lap.
    fn resume_packed(
        &self,
        index: u16,
        base: Cursor,
        ring: &[u8],
        in_order: bool,
        log: &LogLimit,
    ) -> Result<Cursor, RingError> {
        if self.base == 0 {
            let fresh = packed::is_unused(ring);
            return Ok(if fresh { Cursor::default() } else { base });
        }
        if self.is_base_known {
            return Ok(base);
        }
        match packed::judge(ring, in_order) {
            Verdict::Start => Ok(base),
            Verdict::Unknown => Err(RingError::Lost),
            Verdict::At(Place { slot, wrap }) => {
                log_limited!(
                    log,
                    Warn,
                    "ring {index}: it is called fresh, but was used; it goes on at slot {slot}"
                );
                Ok(Cursor {
                    avail: slot,
                    used: Some(slot),
                    avail_wrap: wrap,
                    used_wrap: wrap,
                })
            }
        }
    }

    /// The used ring, if its writes are to be marked at another address than its own. Where
    /// addresses are translated, the address that is said for it is the driver's, too, and its own
    /// place in guest memory the one to be marked.
    #[must_use]
    pub fn used_ring(&self, layout: Layout, memory: &MemoryTable) -> Option<UsedRing> {
        let log_addr = self.used_log.filter(|_| !memory.is_behind_iotlb())?;
        let gpa = memory.translate(self.addrs?.device)?;
        let len = match layout {
            Layout::Split => 6 + 8 * u64::from(self.size?),
            Layout::Packed => 4,
        };
        (log_addr != gpa).then_some(UsedRing { gpa, len, log_addr })
    }
}

/// Bit of a packed position that holds the wrap counter.
const WRAP: u32 = 1 << 15;

/// A ring's position from the number that vhost-user calls its base.
///
/// Split: the next available index, in 16 bits. Packed: available position with its
/// wrap counter in bit 15, and the same for used in the upper half. A front-end that knows only the
/// lower half leaves the upper one 0: nothing is in flight in a stopped ring, so used then stands
/// where available does.
fn decode_base(layout: Layout, base: u32) -> Result<Cursor, RingError> {
    let lower = base as u16;
    match layout {
        Layout::Split if base > u32::from(u16::MAX) => Err(RingError::Base(base)),
        Layout::Split => Ok(Cursor {
            avail: lower,
            used: None,
            ..Cursor::default()
        }),
        Layout::Packed => {
            let upper = if base >> 16 == 0 { base } else { base >> 16 };
            Ok(Cursor {
                avail: lower & !(WRAP as u16),
                used: Some(upper as u16 & !(WRAP as u16)),
                avail_wrap: base & WRAP != 0,
                used_wrap: upper & WRAP != 0,
            })
        }
    }
}

/// The reverse of [`decode_base`].
fn encode_base(layout: Layout, cursor: &Cursor) -> u32 {
    let position = |index: u16, wrap| u32::from(index) | if wrap { WRAP } else { 0 };
    match layout {
        Layout::Split => u32::from(cursor.avail),
        Layout::Packed => {
            let used = position(cursor.used.unwrap_or(cursor.avail), cursor.used_wrap);
            position(cursor.avail, cursor.avail_wrap) | used << 16
        }
    }
}
