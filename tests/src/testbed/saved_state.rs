//! Bytes of a saved state that somebody has changed.

use snapshot::Snapshot;
use snapshot::format::{HEADER_LEN, MAX_PAYLOAD_LEN};
use snapshot::state::{LimiterState, NetState, QueueState, RssState, StoppedQueueState, bounds};

/// The checksum of one byte, CRC-32 of IEEE 802.3.
const fn of_byte(byte: u32) -> u32 {
    let (mut crc, mut bit) = (byte, 0);
    while bit < 8 {
        crc = crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        bit += 1;
    }
    crc
}

/// The same of each byte.
static TABLE: [u32; 256] = {
    let (mut table, mut byte) = ([0; 256], 0);
    while byte < 256 {
        table[byte] = of_byte(byte as u32);
        byte += 1;
    }
    table
};

fn crc32(parts: &[&[u8]]) -> u32 {
    let mut crc = !0;
    for byte in parts.iter().copied().flatten() {
        crc = crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)];
    }
    !crc
}

/// Makes length and checksum of a saved state good again.
///
/// # Panics
/// It has no whole header.
#[must_use]
pub fn reseal(mut file: Vec<u8>) -> Vec<u8> {
    let len = (file.len() - HEADER_LEN) as u32;
    file[12..16].copy_from_slice(&len.to_le_bytes());
    let crc = crc32(&[&file[..16], &file[HEADER_LEN..]]);
    file[16..20].copy_from_slice(&crc.to_le_bytes());
    file
}

/// Fills one list of a state with as many elements.
pub type Fill = fn(&mut NetState, usize);

/// Path, bound and filler of each list of a state.
///
/// # Panics
/// One of them has no filler.
#[must_use]
pub fn lists() -> Vec<(&'static str, usize, Fill)> {
    let fill = |field| -> Fill {
        match field {
            "id" => |s, n| s.id = "x".repeat(n).into(),
            "queue_sizes" => |s, n| s.queue_sizes = vec![0; n].into(),
            "queues" => |s, n| s.queues = vec![QueueState::default(); n].into(),
            "queues.in_flight" => |s, n| {
                s.queues = vec![QueueState {
                    in_flight: vec![0; n].into(),
                    ..QueueState::default()
                }]
                .into();
            },
            "control.unicast" => |s, n| s.control.unicast = vec![[0; 6]; n].into(),
            "control.multicast" => |s, n| s.control.multicast = vec![[0; 6]; n].into(),
            "control.vlans" => |s, n| s.control.vlans = vec![0; n].into(),
            "control.rss.indirection_table" => |s, n| rss(s).indirection_table = vec![0; n].into(),
            "control.rss.key" => |s, n| rss(s).key = vec![0; n].into(),
            "limiters" => |s, n| s.limiters = vec![LimiterState::default(); n].into(),
            "stopped_queues" => |s, n| {
                s.stopped_queues = vec![StoppedQueueState::default(); n].into();
            },
            other => panic!("nothing fills {other}"),
        }
    };
    let all = bounds::ALL.iter();
    all.map(|(field, max)| (*field, *max, fill(field)))
        .collect()
}

fn rss(state: &mut NetState) -> &mut RssState {
    state.control.rss.get_or_insert_default()
}

/// A state whose list, of which `fill` makes as many as its bound `max` allows, says that it has
/// `count` elements, and has `present` of them before the state goes on.
///
/// # Panics
/// `fill` fills no list, or more than one.
#[must_use]
pub fn overlong(fill: Fill, max: usize, count: u64, present: usize) -> Vec<u8> {
    let seal = |len| {
        let mut state = NetState::default();
        fill(&mut state, len);
        Snapshot::seal(&state).expect("within bounds").into_bytes()
    };
    let (full, shorter) = (seal(max), seal(max - 1));
    // The first byte of the length is the first that differs; the elements are behind the eighth.
    let differs = (HEADER_LEN..shorter.len()).find(|at| shorter[*at] != full[*at]);
    let start = differs.expect("a length differs");
    let element = full.len() - shorter.len();
    let (before, rest) = full.split_at(start + 8);
    let (elements, after) = rest.split_at(max * element);
    let room = (MAX_PAYLOAD_LEN + HEADER_LEN - before.len() - after.len()) / element;
    let elements = elements.iter().copied().cycle();
    let mut file = before.to_vec();
    file.extend(elements.take(present.min(room) * element));
    file.extend(after);
    file[start..start + 8].copy_from_slice(&count.to_le_bytes());
    reseal(file)
}
