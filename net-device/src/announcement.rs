//! Frames that tell switches where a station is (RFC 903).

use net_queue::header::HDR_MAX;

use crate::config::MacAddr;

#[cfg(test)]
mod tests;

const ETH_P_8021Q: u16 = 0x8100;
const ETH_P_RARP: u16 = 0x8035;
/// Length of the shortest Ethernet frame, without its checksum.
const MIN_LEN: usize = 60;
/// Hardware type Ethernet, protocol type IPv4, lengths of their addresses, "request reverse".
const REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 3];

/// A frame behind the longest virtio-net header there is, which asks for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Announcement(Vec<u8>);

impl Announcement {
    /// A RARP request by `mac` for its own address, to everybody in `vlan`, or untagged.
    ///
    /// Nobody answers it but a RARP server. Every switch on the way learns on which of its ports
    /// the source address is now.
    pub(crate) fn rarp(mac: MacAddr, vlan: Option<u16>) -> Self {
        let mut bytes = vec![0; HDR_MAX];
        bytes.extend(MacAddr::BROADCAST.bytes());
        bytes.extend(mac.bytes());
        if let Some(vlan) = vlan {
            bytes.extend(ETH_P_8021Q.to_be_bytes());
            bytes.extend(vlan.to_be_bytes());
        }
        bytes.extend(ETH_P_RARP.to_be_bytes());
        bytes.extend(REQUEST);
        // Sender and target are the station; neither has an IPv4 address that is known here.
        for _ in 0..2 {
            bytes.extend(mac.bytes());
            bytes.extend([0; 4]);
        }
        let tag = if vlan.is_some() { 4 } else { 0 };
        bytes.resize(HDR_MAX + MIN_LEN + tag, 0);
        Self(bytes)
    }

    /// A header of `hdr_len` bytes, and the frame.
    pub(crate) fn behind_header(&self, hdr_len: usize) -> &[u8] {
        &self.0[HDR_MAX.saturating_sub(hdr_len)..]
    }
}
