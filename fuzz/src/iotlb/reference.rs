//! Translations by their definition: the last message about an address decides.

/// Bytes of the front-end's memory, which lies at this address there, and from 0 for the guest.
pub const MEMORY: u64 = 0x8000;
pub const USER: u64 = 0x7f00_0000_0000;

/// Kinds of access, as bits of the protocol.
pub const READ: u8 = 1;
pub const WRITE: u8 = 2;

/// A message that was accepted: addresses, and where they lead if they lead anywhere.
#[derive(Clone, Copy, Debug)]
struct Told {
    first: u64,
    last: u64,
    there: Option<(u64, u8)>,
}

impl Told {
    fn covers(&self, iova: u64) -> bool {
        (self.first..=self.last).contains(&iova)
    }

    fn touches(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Every message that was accepted, in order.
#[derive(Debug, Default)]
pub struct Reference(Vec<Told>);

impl Reference {
    /// Takes an update; returns whether it is one that a back-end accepts.
    pub fn update(&mut self, iova: u64, size: u64, user: u64, permissions: u8) -> bool {
        let last = size.checked_sub(1).and_then(|rest| iova.checked_add(rest));
        let gpa = user.checked_sub(USER).filter(|gpa| *gpa < MEMORY);
        let (Some(last), Some(gpa)) = (last, gpa) else {
            return false;
        };
        if size > MEMORY - gpa || permissions > (READ | WRITE) {
            return false;
        }
        self.0.push(Told {
            first: iova,
            last,
            there: Some((gpa, permissions)),
        });
        true
    }

    /// Takes an invalidation; of no bytes, it is one of all.
    pub fn invalidate(&mut self, iova: u64, size: u64) {
        let (first, last) = match size {
            0 => (0, u64::MAX),
            _ => (iova, iova.saturating_add(size - 1)),
        };
        self.0.push(Told {
            first,
            last,
            there: None,
        });
    }

    /// The message that decides about `iova`, with those behind it.
    fn deciding(&self, iova: u64) -> Option<(&Told, &[Told])> {
        let at = self.0.iter().rposition(|told| told.covers(iova))?;
        let (before, behind) = self.0.split_at(at + 1);
        Some((before.last()?, behind))
    }

    /// The guest's address of `iova`, for such access.
    pub fn find(&self, iova: u64, access: u8) -> Option<u64> {
        let (told, _) = self.deciding(iova)?;
        let (gpa, permissions) = told.there?;
        (permissions & access != 0).then(|| gpa + (iova - told.first))
    }

    /// Number of bytes from `iova` on that a back-end has to know: those of an update of which
    /// nothing was replaced or taken back. It may have forgotten the rest of any other.
    pub fn known(&self, iova: u64, access: u8) -> u64 {
        let Some((told, behind)) = self.deciding(iova) else {
            return 0;
        };
        let whole = !behind.iter().any(|later| later.touches(told));
        let known = whole && self.find(iova, access).is_some();
        if known { told.last - iova + 1 } else { 0 }
    }

    /// Places in a range at which what decides may change, with its ends. The range does not wrap.
    pub fn places(&self, first: u64, last: u64) -> impl Iterator<Item = u64> {
        let ends = |told: &Told| {
            let (before, behind) = (told.first.checked_sub(1), told.last.checked_add(1));
            [before, Some(told.first), Some(told.last), behind]
        };
        let changes = self.0.iter().flat_map(ends).flatten();
        let inside = changes.filter(move |place| (first..=last).contains(place));
        inside.chain([first, last])
    }
}
