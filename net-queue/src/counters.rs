//! Counters of one queue: written by its worker alone, read by anyone.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::drop_cause::DropCause;
use crate::header::{NetHdr, flags, gso};
use crate::refusal::Refusal;

/// Cause for which a group of coalesced frames took no more of them.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupEnd {
    /// Nothing more lay in the ring, or the engine's turn was over.
    Run,
    /// The frame is the last of its kind: with PSH or FIN, or shorter than those before it.
    Last,
    /// It is as large as a group can be, or as many chains are held as can be.
    Full,
    /// The next frame of its flow could not join it, or one whose flow cannot be told came.
    Order,
    /// Another flow needed the place.
    Evicted,
}

impl GroupEnd {
    /// Every cause, in the order of its number.
    pub const ALL: [Self; 5] = [
        Self::Run,
        Self::Last,
        Self::Full,
        Self::Order,
        Self::Evicted,
    ];

    /// Name in counters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Run => "group_end_run",
            Self::Last => "group_end_last",
            Self::Full => "group_end_full",
            Self::Order => "group_end_order",
            Self::Evicted => "group_end_evicted",
        }
    }
}

/// Frames, bytes, drops and refusals by cause, since the device was made.
#[derive(Debug, Default)]
pub struct QueueCounters {
    frames: AtomicU64,
    bytes: AtomicU64,
    batches: AtomicU64,
    kicks: AtomicU64,
    interrupts: AtomicU64,
    interrupts_suppressed: AtomicU64,
    limited: AtomicU64,
    segmented: AtomicU64,
    steered: AtomicU64,
    needs_csum: AtomicU64,
    data_valid: AtomicU64,
    gso_frames: AtomicU64,
    gso_bytes: AtomicU64,
    drops: [AtomicU64; DropCause::COUNT],
    refusals: [AtomicU64; Refusal::COUNT],
    groups: AtomicU64,
    grouped: AtomicU64,
    groups_refused: AtomicU64,
    group_ends: [AtomicU64; GroupEnd::ALL.len()],
}

/// Adds without a locked instruction: there is one writer.
#[inline]
fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(count), Relaxed);
}

impl QueueCounters {
    /// Values of all counters. Each is exact; a batch that ends meanwhile may be in some of them
    /// and not in others.
    #[must_use]
    pub fn stats(&self) -> QueueStats {
        QueueStats {
            frames: self.frames(),
            bytes: self.bytes(),
            batches: self.batches(),
            kicks: self.kicks(),
            interrupts: self.interrupts(),
            interrupts_suppressed: self.interrupts_suppressed(),
            limited: self.limited(),
            segmented: self.segmented(),
            steered: self.steered.load(Relaxed),
            needs_csum: self.needs_csum.load(Relaxed),
            data_valid: self.data_valid.load(Relaxed),
            gso_frames: self.gso_frames.load(Relaxed),
            gso_bytes: self.gso_bytes.load(Relaxed),
            drops: self.drops.each_ref().map(|drops| drops.load(Relaxed)),
            refusals: self.refusals.each_ref().map(|count| count.load(Relaxed)),
            groups: self.groups.load(Relaxed),
            grouped: self.grouped.load(Relaxed),
            groups_refused: self.groups_refused.load(Relaxed),
            group_ends: self.group_ends.each_ref().map(|count| count.load(Relaxed)),
        }
    }

    /// Frames that passed, or commands that were answered.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames.load(Relaxed)
    }

    /// Bytes of these frames, headers not counted, or of these commands.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Batches in which a frame passed or a command was answered.
    #[must_use]
    pub fn batches(&self) -> u64 {
        self.batches.load(Relaxed)
    }

    /// Notifications of the driver that were seen; several that come before the worker looks are
    /// one.
    #[must_use]
    pub fn kicks(&self) -> u64 {
        self.kicks.load(Relaxed)
    }

    /// Batches after which the driver asked for an interrupt.
    #[must_use]
    pub fn interrupts(&self) -> u64 {
        self.interrupts.load(Relaxed)
    }

    /// Batches in which something passed, and after which the driver asked for no interrupt, or has
    /// to wait for one as it wished (notification coalescing).
    #[must_use]
    pub fn interrupts_suppressed(&self) -> u64 {
        self.interrupts_suppressed.load(Relaxed)
    }

    /// Number of times that the rate limiter stopped the queue.
    #[must_use]
    pub fn limited(&self) -> u64 {
        self.limited.load(Relaxed)
    }

    /// Large frames that were cut into segments here; each segment is a frame of its own in all
    /// other counters.
    #[must_use]
    pub fn segmented(&self) -> u64 {
        self.segmented.load(Relaxed)
    }

    /// Frames or chains dropped for `cause`.
    #[must_use]
    pub fn drops(&self, cause: DropCause) -> u64 {
        self.drops[cause.index()].load(Relaxed)
    }

    /// Frames or chains dropped for any cause.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.drops.iter().map(|counter| counter.load(Relaxed)).sum()
    }

    /// Commands refused for `cause`.
    #[must_use]
    pub fn refusals(&self, cause: Refusal) -> u64 {
        self.refusals[cause.index()].load(Relaxed)
    }

    /// Counts a group of several frames that left as one.
    pub(crate) fn add_group(&self, frames: u64) {
        add(&self.groups, 1);
        add(&self.grouped, frames);
    }

    pub(crate) fn add_group_refused(&self) {
        add(&self.groups_refused, 1);
    }

    pub(crate) fn add_group_end(&self, end: GroupEnd) {
        add(&self.group_ends[end as usize], 1);
    }

    #[inline]
    pub(crate) fn add_batch(&self, frames: u64, bytes: u64) {
        if frames > 0 {
            add(&self.frames, frames);
            add(&self.bytes, bytes);
        }
    }

    /// Counts that a batch of `frames` was shown to the driver. `interrupt` says whether it asks
    /// for one, as it may for chains that were given back unused as well.
    #[inline]
    pub(crate) fn add_published(&self, frames: u64, interrupt: bool) {
        let passed = u64::from(frames > 0);
        add(&self.batches, passed);
        if interrupt {
            add(&self.interrupts, 1);
        } else {
            add(&self.interrupts_suppressed, passed);
        }
    }

    /// Adds what frames that passed asked for, and begins to count anew.
    #[inline]
    pub(crate) fn add_offloads(&self, offloads: &mut OffloadCounts) {
        if offloads.any {
            self.add_some_offloads(&std::mem::take(offloads));
        }
    }

    #[cold]
    #[inline(never)]
    fn add_some_offloads(&self, offloads: &OffloadCounts) {
        add(&self.needs_csum, offloads.needs_csum);
        add(&self.data_valid, offloads.data_valid);
        add(&self.gso_frames, offloads.gso_frames);
        add(&self.gso_bytes, offloads.gso_bytes);
    }

    /// Counts an interrupt for batches that were shown to the driver before.
    pub(crate) fn add_interrupt(&self) {
        add(&self.interrupts, 1);
    }

    pub(crate) fn add_kick(&self) {
        add(&self.kicks, 1);
    }

    pub(crate) fn add_limited(&self) {
        add(&self.limited, 1);
    }

    pub(crate) fn add_drop(&self, cause: DropCause) {
        self.add_drops(cause, 1);
    }

    pub(crate) fn add_drops(&self, cause: DropCause, count: u64) {
        add(&self.drops[cause.index()], count);
    }

    pub(crate) fn add_segmented(&self) {
        add(&self.segmented, 1);
    }

    pub(crate) fn add_steered(&self) {
        add(&self.steered, 1);
    }

    pub(crate) fn add_refusal(&self, cause: Refusal) {
        add(&self.refusals[cause.index()], 1);
    }
}

/// Requests in the header of a frame. As small as it is, it is kept at no cost until the frame has
/// passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offload(u8);

impl Offload {
    const GSO: u8 = 1 << 7;

    /// Of a frame no larger than a segment whose checksum is partial or not.
    #[inline]
    pub(crate) const fn checksum(partial: bool) -> Self {
        Self(if partial { flags::NEEDS_CSUM } else { 0 })
    }

    /// Those of `header`.
    #[inline]
    pub(crate) const fn of(header: NetHdr) -> Self {
        let checksum = header.flags() & flags::CSUM;
        let segments = (header.gso_type() != gso::NONE) as u8 * Self::GSO;
        Self(checksum | segments)
    }
}

/// Requests of the frames of one batch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OffloadCounts {
    any: bool,
    needs_csum: u64,
    data_valid: u64,
    gso_frames: u64,
    gso_bytes: u64,
}

impl OffloadCounts {
    /// Counts a frame of `bytes` that passed.
    #[inline]
    pub(crate) fn add(&mut self, offload: Offload, bytes: u64) {
        self.add_frames(offload, 1, bytes);
    }

    /// Counts frames of `bytes` together that passed.
    #[inline]
    pub(crate) fn add_frames(&mut self, offload: Offload, frames: u64, bytes: u64) {
        if offload != Offload::default() {
            let Offload(bits) = offload;
            let is_set = |flag: u8| u64::from(bits & flag != 0);
            self.any = true;
            self.needs_csum += is_set(flags::NEEDS_CSUM) * frames;
            self.data_valid += is_set(flags::DATA_VALID) * frames;
            self.gso_frames += is_set(Offload::GSO) * frames;
            self.gso_bytes += is_set(Offload::GSO) * bytes;
        }
    }
}

/// Values of a queue's counters at one time, or their sums over several queues.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueStats {
    /// Frames that passed, or commands that were answered.
    pub frames: u64,
    /// Bytes of these frames, headers not counted, or of these commands.
    pub bytes: u64,
    /// Batches in which a frame passed or a command was answered.
    pub batches: u64,
    /// Notifications of the driver that were seen.
    pub kicks: u64,
    /// Batches after which the driver asked for an interrupt.
    pub interrupts: u64,
    /// Batches in which something passed, and after which the driver asked for no interrupt, or has
    /// to wait for one as it wished (notification coalescing).
    pub interrupts_suppressed: u64,
    /// Number of times that the rate limiter stopped the queue.
    pub limited: u64,
    /// Large frames that were cut into segments here.
    pub segmented: u64,
    /// Received frames that were passed on to the queue that the driver's table names.
    pub steered: u64,
    /// Groups of several frames that left as one.
    pub groups: u64,
    /// Frames in these groups; they are among `frames`.
    pub grouped: u64,
    /// Groups that the backend refused, so that their frames were sent one by one.
    pub groups_refused: u64,
    group_ends: [u64; GroupEnd::ALL.len()],
    /// Frames of these with a partial checksum (`NEEDS_CSUM`).
    pub needs_csum: u64,
    /// Frames of these whose checksum was said to be right (`DATA_VALID`).
    pub data_valid: u64,
    /// Frames of these that were larger than a segment.
    pub gso_frames: u64,
    /// Bytes of those, headers not counted.
    pub gso_bytes: u64,
    drops: [u64; DropCause::COUNT],
    refusals: [u64; Refusal::COUNT],
}

impl QueueStats {
    /// Frames or chains dropped for `cause`.
    #[must_use]
    pub fn drops(&self, cause: DropCause) -> u64 {
        self.drops[cause.index()]
    }

    /// Frames or chains dropped for any cause.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.drops.iter().sum()
    }

    /// Commands refused for `cause`.
    #[must_use]
    pub fn refusals(&self, cause: Refusal) -> u64 {
        self.refusals[cause.index()]
    }

    /// Commands refused for any cause.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refusals.iter().sum()
    }

    /// Groups that ended for this cause, those of a single frame among them.
    #[must_use]
    pub fn group_ends(&self, end: GroupEnd) -> u64 {
        self.group_ends[end as usize]
    }

    /// Adds frames that were dropped for `cause` elsewhere, before they came to the queue.
    pub fn add_drops(&mut self, cause: DropCause, count: u64) {
        self.drops[cause.index()] += count;
    }

    /// Every value under its name; drops begin with `drop_`, refusals with `refused_`.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let whole = [
            ("frames", self.frames),
            ("bytes", self.bytes),
            ("batches", self.batches),
            ("kicks", self.kicks),
            ("interrupts", self.interrupts),
            ("interrupts_suppressed", self.interrupts_suppressed),
            ("limited", self.limited),
            ("segmented", self.segmented),
            ("steered", self.steered),
            ("groups", self.groups),
            ("grouped", self.grouped),
            ("groups_refused", self.groups_refused),
            ("needs_csum", self.needs_csum),
            ("data_valid", self.data_valid),
            ("gso_frames", self.gso_frames),
            ("gso_bytes", self.gso_bytes),
        ];
        let ends = GroupEnd::ALL.iter();
        let ends = ends.map(|end| (end.name(), self.group_ends(*end)));
        let drops = DropCause::all().map(|cause| (cause.name(), self.drops(cause)));
        let refusals = Refusal::ALL.iter();
        let refusals = refusals.map(|cause| (cause.name(), self.refusals(*cause)));
        whole.into_iter().chain(ends).chain(drops).chain(refusals)
    }
}

impl Default for QueueStats {
    fn default() -> Self {
        Self {
            frames: 0,
            bytes: 0,
            batches: 0,
            kicks: 0,
            interrupts: 0,
            interrupts_suppressed: 0,
            limited: 0,
            segmented: 0,
            steered: 0,
            groups: 0,
            grouped: 0,
            groups_refused: 0,
            group_ends: [0; GroupEnd::ALL.len()],
            needs_csum: 0,
            data_valid: 0,
            gso_frames: 0,
            gso_bytes: 0,
            drops: [0; DropCause::COUNT],
            refusals: [0; Refusal::COUNT],
        }
    }
}

impl std::ops::AddAssign<&Self> for QueueStats {
    fn add_assign(&mut self, other: &Self) {
        self.frames += other.frames;
        self.bytes += other.bytes;
        self.batches += other.batches;
        self.kicks += other.kicks;
        self.interrupts += other.interrupts;
        self.interrupts_suppressed += other.interrupts_suppressed;
        self.limited += other.limited;
        self.segmented += other.segmented;
        self.steered += other.steered;
        self.groups += other.groups;
        self.grouped += other.grouped;
        self.groups_refused += other.groups_refused;
        for (sum, count) in self.group_ends.iter_mut().zip(other.group_ends) {
            *sum += count;
        }
        self.needs_csum += other.needs_csum;
        self.data_valid += other.data_valid;
        self.gso_frames += other.gso_frames;
        self.gso_bytes += other.gso_bytes;
        for (sum, count) in self.drops.iter_mut().zip(other.drops) {
            *sum += count;
        }
        for (sum, count) in self.refusals.iter_mut().zip(other.refusals) {
            *sum += count;
        }
    }
}

impl<'a> std::iter::Sum<&'a QueueCounters> for QueueStats {
    fn sum<I: Iterator<Item = &'a QueueCounters>>(queues: I) -> Self {
        queues.fold(Self::default(), |mut sum, queue| {
            sum += &queue.stats();
            sum
        })
    }
}

#[cfg(test)]
mod tests;
