//! Notifications that say more than the number of a queue. VirtIO 1.4 §2.9.

/// Word that a driver writes to notify a queue, if it accepted `VIRTIO_F_NOTIFICATION_DATA`
/// (VQ-NTF-09).
///
/// A transport takes the queue's number from it and signals the kick descriptor of that queue. The
/// rest says how far the driver had made entries available; the device finds that in the ring,
/// which is right where the two disagree (VQ-NTF-10).
///
/// ```
/// # use net_device::NotificationData;
/// let data = NotificationData::from(0x8005_0003);
/// assert_eq!((data.queue, data.next_off, data.next_wrap), (3, 5, true));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotificationData {
    /// Number of the queue.
    pub queue: u16,
    /// In a packed ring the slot of the next entry, in a split ring the low 15 bits of the
    /// available index.
    pub next_off: u16,
    /// In a packed ring the wrap counter at that slot, in a split ring the highest bit of the
    /// available index.
    pub next_wrap: bool,
}

impl From<u32> for NotificationData {
    fn from(word: u32) -> Self {
        Self {
            queue: word as u16,
            next_off: (word >> 16) as u16 & 0x7fff,
            next_wrap: word >> 31 != 0,
        }
    }
}
