//! Accounts of frames that are numbered on each pair and direction.

use net_queue::header::HDR_LEN;
use net_queue::testing::Random;
use tests::testbed::{GUEST_MAC, PEER_MAC, body};

/// EtherType for experiments, of the frames of a flow.
const FLOW: [u8; 2] = [0x88, 0xb5];

/// Frame number `number` of the flow on `pair`, behind an empty header.
pub(crate) fn numbered(pair: u16, number: u64, random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![0; HDR_LEN];
    bytes.extend(GUEST_MAC);
    bytes.extend(PEER_MAC);
    bytes.extend(FLOW);
    bytes.extend(pair.to_be_bytes());
    bytes.extend(number.to_be_bytes());
    bytes.resize(HDR_LEN + 60 + random.below(1400) as usize, pair as u8);
    bytes
}

/// Pair and number of a frame of a flow; `None` for any other.
fn read(frame: &[u8]) -> Option<(u16, u64)> {
    let frame = body(frame);
    let pair = u16::from_be_bytes(frame.get(14..16)?.try_into().ok()?);
    let number = u64::from_be_bytes(frame.get(16..24)?.try_into().ok()?);
    let whole = frame[24..].iter().all(|byte| *byte == pair as u8);
    assert!(frame[12..14] != FLOW || whole, "a frame was changed");
    (frame[12..14] == FLOW).then_some((pair, number))
}

/// Account of one direction of one pair.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Account {
    /// Frames that were handed in; the number of the next one.
    pub(crate) given: u64,
    /// Frames that came out at the other end.
    pub(crate) taken: u64,
    /// Number that the next one has at least: they keep their order, and none comes twice.
    next: u64,
}

impl Account {
    /// Number of the next frame that is handed in.
    pub(crate) fn give(&mut self) -> u64 {
        self.given += 1;
        self.given - 1
    }

    /// A frame came out on `pair`; returns whether it is one of the flow.
    pub(crate) fn take(&mut self, pair: u16, frame: &[u8]) -> bool {
        let Some((of, number)) = read(frame) else {
            return false;
        };
        assert_eq!(of, pair, "a frame came out elsewhere");
        assert!(
            (self.next..self.given).contains(&number),
            "pair {pair}: frame {number} where {} or a later one below {} was to come",
            self.next,
            self.given
        );
        self.next = number + 1;
        self.taken += 1;
        true
    }

    /// Frames that did not come out, and will not: later ones have, or nothing is on its way.
    pub(crate) fn missing(&self) -> u64 {
        self.given - self.taken
    }
}
