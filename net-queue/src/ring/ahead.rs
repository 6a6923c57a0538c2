//! Translations that are asked for before their turn: an answer takes a while, and the chain that
//! waits for one is likely to need others, as are those behind it.

use crate::memory::guest_ram::{Access, GuestRam};
use crate::ring::position::Position;
use crate::ring::ring_memory::{Area, DESC_SIZE, Desc, DescTable};

/// Most descriptors that are looked at, entries of tables included.
const MOST: u16 = 64;

/// Asks for what the chains with these heads need, in a split ring.
#[cold]
pub(super) fn split(
    ram: &GuestRam,
    desc: &Area,
    heads: impl Iterator<Item = u16>,
    indirect: bool,
) -> Option<()> {
    let mut ahead = Ahead::new(ram, indirect);
    for mut index in heads {
        loop {
            let desc = desc.desc(index).ok()?;
            ahead.look(desc, |entry| entry)?;
            if !desc.has(Desc::NEXT) {
                break;
            }
            index = desc.next();
        }
    }
    Some(())
}

/// Asks for what the lists need that are available from `next` on, in a packed ring of `size`.
#[cold]
pub(super) fn packed(
    ram: &GuestRam,
    desc: &Area,
    mut next: Position,
    size: u16,
    indirect: bool,
) -> Option<()> {
    let mut ahead = Ahead::new(ram, indirect);
    for _ in 0..size {
        let desc = desc.desc_by_flags(next.slot).ok()?.packed();
        next.is_available(desc.flags()).then_some(())?;
        ahead.look(desc, Desc::packed)?;
        next = next.forward(1, size);
    }
    Some(())
}

struct Ahead<'a> {
    ram: &'a GuestRam,
    /// `VIRTIO_F_INDIRECT_DESC` was negotiated.
    indirect: bool,
    /// Descriptors that may still be looked at.
    left: u16,
}

impl<'a> Ahead<'a> {
    fn new(ram: &'a GuestRam, indirect: bool) -> Self {
        Self {
            ram,
            indirect,
            left: MOST,
        }
    }

    /// Asks for what `desc` refers to, and for what the entries of its table do; `None` when it is
    /// enough. What is wrong with a descriptor is found out when its turn comes.
    fn look(&mut self, desc: Desc, entry: fn(Desc) -> Desc) -> Option<()> {
        if !(self.indirect && desc.has(Desc::INDIRECT)) {
            return self.buffer(desc);
        }
        self.left = self.left.checked_sub(1)?;
        let entries = (desc.len() as usize / DESC_SIZE).min(self.left.into());
        let len = entries * DESC_SIZE;
        if self.ram.ask_ahead(desc.addr, len as u64, Access::Read)
            && let Ok(host) = self.ram.contiguous(desc.addr, len, Access::Read)
        {
            let table = DescTable::new(host.host);
            for index in 0..table.entries() {
                self.buffer(entry(table.desc(index).ok()?))?;
            }
        }
        Some(())
    }

    fn buffer(&mut self, desc: Desc) -> Option<()> {
        self.left = self.left.checked_sub(1)?;
        let access = match desc.has(Desc::WRITE) {
            true => Access::Write,
            false => Access::Read,
        };
        self.ram.ask_ahead(desc.addr, desc.len().into(), access);
        Some(())
    }
}
