//! Frames of a few flows, as an input says, and bytes of them that it changes.

use net_queue::header::HdrSize;
use net_queue::testing::packets::{Packet, Sums};
use net_queue::testing::{LargeFrame, Random};

use crate::bytes::Bytes;

/// Steps after which a script ends.
pub const MAX_STEPS: usize = 48;

/// Flows that there are.
const FLOWS: usize = 8;

/// Bits of a step that adds frames of a flow.
pub mod bits {
    /// Complete checksums.
    pub const COMPLETE: u8 = 1;
    /// The identification stands still.
    pub const SAME_ID: u8 = 2;
    /// A gap in sequence and identification behind each.
    pub const GAP: u8 = 4;
    /// TCP flags follow; otherwise ACK is set alone.
    pub const FLAGS: u8 = 8;
    /// A byte of each is changed: place and value follow.
    pub const CHANGE: u8 = 16;
    /// Another change.
    pub const CHANGE_TOO: u8 = 32;
    /// Each lies in two buffers, cut at an offset that follows.
    pub const CUT: u8 = 64;
}

/// The flows, each at its next frame.
pub struct Flows(Vec<Packet>);

impl Default for Flows {
    /// Each family and protocol, tags, options, with and without "don't fragment".
    fn default() -> Self {
        let flow = |flow: usize| Packet {
            tcp: flow & 1 != 0,
            v6: flow & 2 != 0,
            tags: flow % 3,
            ports: (7, 1000 + flow as u16),
            fragment: if flow & 4 != 0 { 0x4000 } else { 0 },
            options: vec![1; 4 * (flow % 3)],
            id: 0xfffc,
            seq: 0xffff_f000,
            ..Packet::udp(&[])
        };
        Self((0..FLOWS).map(flow).collect())
    }
}

impl Flows {
    /// Frames of one flow behind base headers: flow and number (1), length (1), bits (1), and what
    /// those ask for.
    pub fn next(&mut self, input: &mut Bytes<'_>) -> (Vec<Vec<u8>>, Option<usize>) {
        let (which, len, bits) = (input.u8(), usize::from(input.u8()), input.u8());
        let flags = if bits & bits::FLAGS != 0 {
            input.u8()
        } else {
            0x10
        };
        let mut changes = Vec::new();
        for bit in [bits::CHANGE, bits::CHANGE_TOO] {
            if bits & bit != 0 {
                changes.push((usize::from(input.u8()), input.u8()));
            }
        }
        let cut = (bits & bits::CUT != 0).then(|| usize::from(input.u8()));
        let len = if len < 224 { len } else { (len - 223) * 150 };
        let state = &mut self.0[usize::from(which) % FLOWS];
        let mut frames = Vec::new();
        for _ in 0..=which >> 3 {
            let packet = Packet {
                payload: Random::new(u64::from(state.seq)).bytes(len),
                flags,
                sums: if bits & bits::COMPLETE != 0 {
                    Sums::Complete
                } else {
                    Sums::Partial
                },
                ..state.clone()
            };
            let gap = u16::from(bits & bits::GAP != 0);
            let step = u16::from(bits & bits::SAME_ID == 0);
            state.id = state.id.wrapping_add(step + gap);
            state.seq = state.seq.wrapping_add(len as u32 + u32::from(gap));
            frames.push(changed(packet.bytes(), &changes));
        }
        (frames, cut)
    }
}

/// A large frame behind a base header: kind (1), words of options (1), TCP's flags (1), payload
/// (2), size of a segment (2), number of changes (1), and these.
pub fn large(input: &mut Bytes<'_>) -> Vec<u8> {
    let (kind, options, tcp_flags) = (input.u8(), input.u8(), input.u8());
    let (payload, size) = (usize::from(input.u16()), input.u16());
    let count = usize::from(input.u8() % 8);
    let changes: Vec<_> = (0..count)
        .map(|_| (usize::from(input.u8()), input.u8()))
        .collect();
    let frame = LargeFrame {
        tags: usize::from(kind >> 4 & 3),
        v6: kind & 1 != 0,
        tcp: kind & 2 != 0,
        ip_options: usize::from(options & 15).min(10),
        tcp_options: usize::from(options >> 4).min(10),
        tcp_flags,
        dont_fragment: kind & 4 != 0,
        ecn: kind & 8 != 0,
        payload: payload % 60_000,
        size: size.max(1),
        seed: payload as u64,
        ..LargeFrame::default()
    };
    let mut bytes = frame.bytes();
    if kind & 0x80 != 0 {
        bytes.truncate(bytes.len().min(12 + usize::from(size)));
    }
    changed(bytes, &changes)
}

fn changed(mut bytes: Vec<u8>, changes: &[(usize, u8)]) -> Vec<u8> {
    for (at, value) in changes {
        if let Some(byte) = bytes.get_mut(*at) {
            *byte ^= value;
        }
    }
    bytes
}

/// A frame behind a base header behind a header of `size`, which has more fields or one less.
pub fn behind(size: HdrSize, mut bytes: Vec<u8>) -> Vec<u8> {
    let (base, len) = (HdrSize::Base.bytes(), size.bytes());
    if bytes.len() >= base {
        bytes.splice(len.min(base)..base, vec![0; len.saturating_sub(base)]);
    }
    bytes
}
