//! The frames that travel.

use net_device::net_queue::header::HDR_LEN;

/// One that is nobody's, for local experiments.
pub(crate) const ETHERTYPE: u16 = 0x88b5;

/// A kind of frame: how long it is, and what is left undone of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A complete frame of so many bytes.
    Plain(usize),
    /// The longest frame that TCP hands down, to be cut into segments of 1448 bytes.
    Gso,
    /// The same, received into buffers of 1536 bytes.
    GsoMerged,
    /// The same for a driver without segmentation, which gets segments with partial checksums.
    GsoCut,
    /// The same for a driver without any offload, which gets segments with complete checksums.
    GsoCutWhole,
}

/// Bytes of a segment of the longest frame.
pub(crate) const SEGMENT: usize = 54 + 1448;

impl Kind {
    /// Those of the paired measurements.
    pub(crate) const ALL: [Self; 4] = [
        Self::Plain(64),
        Self::Plain(512),
        Self::Plain(1514),
        Self::Gso,
    ];

    /// Its name in tables.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Plain(len) => len.to_string(),
            Self::Gso => "64K-gso".to_owned(),
            Self::GsoMerged => "64K-gso-merged".to_owned(),
            Self::GsoCut => "64K-gso-cut".to_owned(),
            Self::GsoCutWhole => "64K-gso-whole".to_owned(),
        }
    }

    /// Bytes of the frame, header not counted.
    pub(crate) const fn len(self) -> usize {
        match self {
            Self::Plain(len) => len,
            _ => 14 + 65_160,
        }
    }

    /// Bytes of each buffer that the driver posts to receive it.
    pub(crate) fn room(self) -> usize {
        match self {
            Self::Plain(_) | Self::GsoMerged | Self::GsoCut | Self::GsoCutWhole => 1536,
            Self::Gso => HDR_LEN + 65_553,
        }
    }

    /// Rounds of a paired: as many as make the median stand still.
    pub(crate) fn rounds(self) -> usize {
        match self {
            Self::Plain(_) => 301,
            _ => 61,
        }
    }

    /// Header and frame. Nobody on the host wants it: the kernel takes it off the device and drops
    /// it.
    pub(crate) fn bytes(self) -> Vec<u8> {
        let mut bytes = vec![0; HDR_LEN + self.len()];
        let (header, frame) = bytes.split_at_mut(HDR_LEN);
        frame[..6].copy_from_slice(&[0x02, 0, 0, 0, 0xbe, 0xef]);
        frame[6..12].copy_from_slice(&[0x02, 0, 0, 0, 0, 0x02]);
        frame[12..14].copy_from_slice(&ETHERTYPE.to_be_bytes());
        if !matches!(self, Self::Plain(_)) {
            // NEEDS_CSUM, TCPV4, hdr_len, gso_size, csum_start, csum_offset.
            header[..2].copy_from_slice(&[1, 1]);
            for (at, value) in [(2, 54u16), (4, 1448), (6, 34), (8, 16)] {
                header[at..at + 2].copy_from_slice(&value.to_le_bytes());
            }
            ipv4_tcp(&mut frame[12..]);
        }
        bytes
    }
}

/// Ethertype, an IPv4 header and a TCP header, as far as a GSO frame needs them.
fn ipv4_tcp(from: &mut [u8]) {
    let total = (from.len() - 2) as u16;
    from[..2].copy_from_slice(&[0x08, 0x00]);
    let (ip, tcp) = from[2..].split_at_mut(20);
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    ip[6] = 0x40;
    ip[8] = 64;
    ip[9] = 6;
    ip[12..16].copy_from_slice(&[10, 0, 0, 2]);
    ip[16..20].copy_from_slice(&[10, 0, 0, 3]);
    let sum: u32 = ip
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let folded = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&folded.to_be_bytes());
    tcp[12] = 0x50;
    tcp[13] = 0x10;
}
