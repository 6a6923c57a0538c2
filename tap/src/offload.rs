//! Which work the two sides of a tap may leave to the other: the bits that TUNSETOFFLOAD takes, see
//! [`Tap::set_offloads`](crate::Tap::set_offloads).

bitflags::bitflags! {
    /// Work that frames **read** from a tap may still need: a checksum, or cutting into segments.
    ///
    /// Frames written may need any of it without asking. The bits are the kernel's `TUN_F_*`;
    /// this is the one place that names them.
    ///
    /// The kernel takes a set only when it is closed: everything needs [`CSUM`](Self::CSUM),
    /// [`ECN`](Self::ECN) needs [`TSO4`](Self::TSO4) or [`TSO6`](Self::TSO6), and
    /// [`USO4`](Self::USO4) and [`USO6`](Self::USO6) go together (from Linux 6.2 on). Frames in
    /// tunnels (from Linux 6.17 on) need a header of 24 bytes.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Offloads: u32 {
        /// The checksum of the transport header may be partial.
        const CSUM = libc::TUN_F_CSUM;
        /// TCP over IPv4 may be larger than a segment.
        const TSO4 = libc::TUN_F_TSO4;
        /// TCP over IPv6 may be larger than a segment.
        const TSO6 = libc::TUN_F_TSO6;
        /// Large TCP may carry a congestion mark.
        const ECN = libc::TUN_F_TSO_ECN;
        /// UDP may be larger than a fragment. Accepted for old guests; new kernels never use it.
        const UFO = libc::TUN_F_UFO;
        /// UDP over IPv4 may be several datagrams in one frame.
        const USO4 = libc::TUN_F_USO4;
        /// UDP over IPv6 may be several datagrams in one frame.
        const USO6 = libc::TUN_F_USO6;
        /// Packets for which the others stand may be inside a tunnel over UDP.
        const UDP_TUNNEL = 0x80;
        /// The checksum of the tunnel's own UDP header may be partial.
        const UDP_TUNNEL_CSUM = 0x100;
    }
}
