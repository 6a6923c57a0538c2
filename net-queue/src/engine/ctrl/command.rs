//! Control bytes to a typed command.

use thiserror::Error;

use super::notf_coal::NotificationCoalescing;
use super::rss::{HashConfig, RssConfig};
use super::stats::{REQUEST_LEN, StatsRequests};
use crate::refusal::Refusal;

#[cfg(test)]
mod tests;

/// Most queue pairs a driver may ask for (VirtIO 1.4 §5.1.9.5.6).
pub const MAX_PAIRS: u16 = 0x8000;

/// Most addresses of one list of a MAC_TABLE_SET that is longer than
/// [`MAX_COMMAND`](super::MAX_COMMAND). Whoever executes it has to take a list of this length for
/// one that goes on without end.
pub const MAX_MACS: usize = 1024;

/// Classes of commands (VirtIO 1.4 §5.1.9.5).
mod class {
    pub(super) const RX: u8 = 0;
    pub(super) const MAC: u8 = 1;
    pub(super) const VLAN: u8 = 2;
    pub(super) const ANNOUNCE: u8 = 3;
    pub(super) const MQ: u8 = 4;
    pub(super) const GUEST_OFFLOADS: u8 = 5;
    pub(super) const NOTF_COAL: u8 = 6;
    pub(super) const STATS: u8 = 8;
}

/// A receive mode that a driver switches; class 0, numbered as its command (VirtIO 1.4
/// §5.1.9.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RxMode {
    /// Every frame passes.
    Promisc = 0,
    /// Every multicast passes.
    AllMulti = 1,
    /// Every unicast passes.
    AllUni = 2,
    /// No multicast passes.
    NoMulti = 3,
    /// No unicast passes.
    NoUni = 4,
    /// No broadcast passes.
    NoBcast = 5,
}

impl RxMode {
    const ALL: [Self; 6] = [
        Self::Promisc,
        Self::AllMulti,
        Self::AllUni,
        Self::NoMulti,
        Self::NoUni,
        Self::NoBcast,
    ];
}

/// A VLAN identifier, at most 4095 (NET-CVQ-17).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VlanId(u16);

impl VlanId {
    /// Takes `id` if it is one.
    pub const fn new(id: u16) -> Option<Self> {
        if id < 4096 { Some(Self(id)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// Request of a driver; lists borrow from the private copy of its bytes.
///
/// Exhaustive on purpose: whoever executes commands decides about each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Switches one receive mode (NET-CVQ-07, NET-CVQ-08).
    SetRxMode {
        /// Which.
        mode: RxMode,
        /// On or off.
        on: bool,
    },
    /// Replaces both lists of MAC addresses (NET-CVQ-11).
    SetMacTable {
        /// The first list.
        unicast: &'a [[u8; 6]],
        /// The second list.
        multicast: &'a [[u8; 6]],
    },
    /// Sets the MAC address of the device (NET-CVQ-13).
    SetMacAddr([u8; 6]),
    /// Lets a VLAN pass (NET-CVQ-16).
    AddVlan(VlanId),
    /// Stops a VLAN from passing (NET-CVQ-16).
    DelVlan(VlanId),
    /// The driver has sent its gratuitous packets (NET-CVQ-18).
    AckAnnounce,
    /// Uses so many queue pairs, 1 to [`MAX_PAIRS`] (NET-MQ-02).
    SetPairs(u16),
    /// Steers by a table, and sets the hash that it is looked up by (NET-MQ-08).
    SetRss(RssConfig<'a>),
    /// Sets the hash that is reported, and lets the device steer (NET-MQ-17).
    SetHash(HashConfig<'a>),
    /// Replaces the mask of receive offloads, as on the wire (NET-CVQ-19).
    SetGuestOffloads(u64),
    /// Sets notification coalescing of all transmit queues (NET-CVQ-24).
    SetTxNotfCoal(NotificationCoalescing),
    /// The same for all receive queues.
    SetRxNotfCoal(NotificationCoalescing),
    /// Sets notification coalescing of one queue (NET-CVQ-22).
    SetQueueNotfCoal {
        /// Index of the queue.
        queue: u16,
        /// Its parameters.
        notf_coal: NotificationCoalescing,
    },
    /// Asks for the parameters of the queue with this index (NET-CVQ-22).
    GetQueueNotfCoal(u16),
    /// Asks which statistics the device supports (NET-CVQ-27).
    QueryStats,
    /// Asks for statistics (NET-CVQ-28).
    GetStats(StatsRequests<'a>),
}

/// Cause for which bytes are not a command: they are answered with [`Ack::Err`](super::Ack::Err)
/// and have no effect (NET-CVQ-05).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CommandError {
    /// Fewer bytes than the command needs (NET-CVQ-05, NET-CVQ-14).
    #[error("command cut short")]
    Short,
    /// No such command here (NET-CVQ-04).
    #[error("unknown command {class}/{command}")]
    Unknown {
        /// First byte.
        class: u8,
        /// Second byte.
        command: u8,
    },
    /// A mode that is neither on nor off (NET-CVQ-31).
    #[error("receive mode set to {0}")]
    Mode(u8),
    /// A VLAN id above 4095 (NET-CVQ-17).
    #[error("vlan id {0}")]
    Vlan(u16),
    /// A number of queue pairs that no device has (NET-MQ-04).
    #[error("{0} queue pairs")]
    Pairs(u16),
    /// A mask of the hash that does not belong to a table of a power of two (NET-MQ-11).
    #[error("indirection table mask {0:#x}")]
    TableMask(u16),
    /// Types of statistics that no device has (NET-CVQ-28).
    #[error("statistics of types {0:#x}")]
    StatsTypes(u64),
}

impl From<CommandError> for Refusal {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Short => Self::Short,
            CommandError::Unknown { .. } => Self::Unknown,
            CommandError::Mode(_)
            | CommandError::Vlan(_)
            | CommandError::Pairs(_)
            | CommandError::TableMask(_)
            | CommandError::StatsTypes(_) => Self::Value,
        }
    }
}

impl<'a> Command<'a> {
    /// Reads one command: class, command, data.
    ///
    /// Data behind what a command needs is ignored: drivers exist that send more (NET-CVQ-05). A
    /// STATS_GET needs all that there is.
    ///
    /// # Errors
    /// Whatever is not a whole, known command with values in range.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, CommandError> {
        let (&[class, command], data) = bytes.split_first_chunk().ok_or(CommandError::Short)?;
        let mut data = Data(data);
        match (class, command) {
            (class::RX, _) => Self::parse_rx_mode(command, data),
            (class::MAC, 0) => Ok(Self::SetMacTable {
                unicast: data.macs()?,
                multicast: data.macs()?,
            }),
            (class::MAC, 1) => Ok(Self::SetMacAddr(data.array()?)),
            (class::VLAN, 0) => Ok(Self::AddVlan(data.vlan()?)),
            (class::VLAN, 1) => Ok(Self::DelVlan(data.vlan()?)),
            (class::ANNOUNCE, 0) => Ok(Self::AckAnnounce),
            (class::MQ, 0) => match u16::from_le_bytes(data.array()?) {
                pairs @ 1..=MAX_PAIRS => Ok(Self::SetPairs(pairs)),
                pairs => Err(CommandError::Pairs(pairs)),
            },
            (class::MQ, 1) => Ok(Self::SetRss(data.rss()?)),
            (class::MQ, 2) => Ok(Self::SetHash(data.hash()?)),
            (class::GUEST_OFFLOADS, 0) => {
                Ok(Self::SetGuestOffloads(u64::from_le_bytes(data.array()?)))
            }
            (class::NOTF_COAL, 0) => Ok(Self::SetTxNotfCoal(data.notf_coal()?)),
            (class::NOTF_COAL, 1) => Ok(Self::SetRxNotfCoal(data.notf_coal()?)),
            (class::NOTF_COAL, 2) => Ok(Self::SetQueueNotfCoal {
                queue: data.queue()?,
                notf_coal: data.notf_coal()?,
            }),
            (class::NOTF_COAL, 3) => Ok(Self::GetQueueNotfCoal(data.queue()?)),
            (class::STATS, 0) => Ok(Self::QueryStats),
            (class::STATS, 1) => Ok(Self::GetStats(data.stats_requests()?)),
            _ => Err(CommandError::Unknown { class, command }),
        }
    }

    fn parse_rx_mode(command: u8, mut data: Data<'_>) -> Result<Self, CommandError> {
        let Some(&mode) = RxMode::ALL.get(usize::from(command)) else {
            let class = class::RX;
            return Err(CommandError::Unknown { class, command });
        };
        match data.array()? {
            [on @ (0 | 1)] => Ok(Self::SetRxMode { mode, on: on == 1 }),
            [other] => Err(CommandError::Mode(other)),
        }
    }
}

/// Rest of a command's data.
struct Data<'a>(&'a [u8]);

impl<'a> Data<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], CommandError> {
        let (array, rest) = self.0.split_first_chunk().ok_or(CommandError::Short)?;
        self.0 = rest;
        Ok(*array)
    }

    fn word(&mut self) -> Result<u16, CommandError> {
        self.array().map(u16::from_le_bytes)
    }

    /// So many entries of `N` bytes.
    fn entries<const N: usize>(&mut self, count: usize) -> Result<&'a [[u8; N]], CommandError> {
        let (whole, _) = self.0.as_chunks::<N>();
        let entries = whole.get(..count).ok_or(CommandError::Short)?;
        self.0 = &self.0[count * N..];
        Ok(entries)
    }

    /// A length in one byte, and as many bytes.
    fn key(&mut self) -> Result<&'a [u8], CommandError> {
        let [len] = self.array()?;
        Ok(self.entries::<1>(len.into())?.as_flattened())
    }

    /// `struct virtio_net_rss_config`: what stands behind the table moves with its length.
    fn rss(&mut self) -> Result<RssConfig<'a>, CommandError> {
        let types = u32::from_le_bytes(self.array()?);
        let mask = self.word()?;
        if mask & mask.wrapping_add(1) != 0 {
            return Err(CommandError::TableMask(mask));
        }
        Ok(RssConfig {
            unclassified_queue: self.word()?,
            table: self.entries(usize::from(mask) + 1)?,
            max_tx_vq: self.word()?,
            hash: HashConfig {
                types,
                key: self.key()?,
            },
        })
    }

    /// `struct virtio_net_hash_config`. The words that are reserved in it mean nothing; drivers
    /// exist that send what an MQ_RSS_CONFIG has there.
    fn hash(&mut self) -> Result<HashConfig<'a>, CommandError> {
        let types = u32::from_le_bytes(self.array()?);
        self.array::<8>()?;
        Ok(HashConfig {
            types,
            key: self.key()?,
        })
    }

    fn vlan(&mut self) -> Result<VlanId, CommandError> {
        let id = u16::from_le_bytes(self.array()?);
        VlanId::new(id).ok_or(CommandError::Vlan(id))
    }

    /// A count and as many addresses; the count is believed only up to what is there.
    fn macs(&mut self) -> Result<&'a [[u8; 6]], CommandError> {
        let count = u32::from_le_bytes(self.array()?) as usize;
        self.entries(count)
    }

    fn notf_coal(&mut self) -> Result<NotificationCoalescing, CommandError> {
        self.array().map(NotificationCoalescing::from_wire)
    }

    /// The index of a queue, and two bytes that are reserved (NET-CVQ-21).
    fn queue(&mut self) -> Result<u16, CommandError> {
        let [low, high, _, _] = self.array()?;
        Ok(u16::from_le_bytes([low, high]))
    }

    /// All that is left, which is whole entries: a part of one may be the end of a longer command
    /// that was cut.
    fn stats_requests(&mut self) -> Result<StatsRequests<'a>, CommandError> {
        match self.0.as_chunks::<REQUEST_LEN>() {
            (entries @ [_, ..], []) => {
                StatsRequests::new(entries).map_err(CommandError::StatsTypes)
            }
            _ => Err(CommandError::Short),
        }
    }
}

/// Makes a MAC_TABLE_SET of `len` bytes, of which `command` holds the first, one with short lists
/// that says the same: each list keeps its first [`MAX_MACS`] addresses. `read` fetches bytes of
/// the whole command. Any other command, and one that ends too early, stays as it is, cut short.
#[cold]
pub(super) fn cut_mac_table(
    command: &mut Vec<u8>,
    len: u64,
    read: impl Fn(usize, &mut [u8]) -> bool,
) {
    const HEAD: usize = 2;
    const COUNT: usize = 4;
    const MAC: u64 = 6;
    if !command.starts_with(&[class::MAC, 0]) {
        return;
    }
    let mut short = vec![class::MAC, 0];
    let mut at = HEAD as u64;
    for _ in 0..2 {
        let mut count = [0; COUNT];
        let Some(start) = usize::try_from(at).ok().filter(|at| read(*at, &mut count)) else {
            return;
        };
        let macs = u64::from(u32::from_le_bytes(count));
        let kept = macs.min(MAX_MACS as u64);
        at += COUNT as u64 + macs * MAC;
        let from = short.len() + COUNT;
        short.extend((kept as u32).to_le_bytes());
        short.resize(from + (kept * MAC) as usize, 0);
        if at > len || !read(start + COUNT, &mut short[from..]) {
            return;
        }
    }
    *command = short;
}
