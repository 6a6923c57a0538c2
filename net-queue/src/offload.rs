//! Work that one direction of a port may leave to the other side.

use bitflags::bitflags;

bitflags! {
    /// Checksum and segmentation work that a frame may carry undone.
    ///
    /// The same set serves both directions: for transmit it says what the driver may ask of the
    /// device (`CSUM`, `HOST_*`), for receive what the device may hand to the driver
    /// (`GUEST_CSUM`, `GUEST_*`). VirtIO 1.4 §5.1.3.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Offloads: u32 {
        /// A checksum may be left partial.
        const CSUM = 1 << 0;
        /// TCP over IPv4 may arrive unsegmented.
        const TSO4 = 1 << 1;
        /// TCP over IPv6 may arrive unsegmented.
        const TSO6 = 1 << 2;
        /// Unsegmented TCP may carry congestion marks.
        const ECN = 1 << 3;
        /// UDP may arrive unfragmented.
        const UFO = 1 << 4;
        /// UDP over IPv4 may arrive unsegmented.
        const USO4 = 1 << 5;
        /// UDP over IPv6 may arrive unsegmented.
        const USO6 = 1 << 6;
        /// Packets that the others let arrive unsegmented may do so inside a tunnel over UDP.
        const UDP_TUNNEL = 1 << 7;
        /// The checksum of the tunnel's own UDP header may then be left partial as well.
        const UDP_TUNNEL_CSUM = 1 << 8;
    }
}

impl Offloads {
    /// Work that the engines do where the other side does not: all but fragmentation of IP, and
    /// tunnels.
    pub const DONE_HERE: Self = Self::all()
        .difference(Self::UFO)
        .difference(Self::UDP_TUNNEL)
        .difference(Self::UDP_TUNNEL_CSUM);
}
