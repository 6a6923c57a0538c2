//! Steps of a script, and scripts to start from.

use super::reference::USER;
use crate::Seed;

/// Codes of the steps.
pub(super) const TELL: u8 = 0;
pub(super) const TAKE_BACK: u8 = 1;
pub(super) const RAW: u8 = 2;
pub(super) const LOOK: u8 = 3;
pub(super) const READ_BYTES: u8 = 4;
pub(super) const SEND: u8 = 5;
pub(super) const ANSWER: u8 = 6;
pub(super) const WAIT: u8 = 7;
pub(super) const STEPS: u8 = 8;

/// Numbers for the helpers above: page `page` at the bottom, and near the ring.
const fn low(page: u16) -> u16 {
    page
}

const fn ring(page: u16) -> u16 {
    1 << 14 | (page + 2)
}

/// The first byte of the page before the last one, and the last byte.
const TOP: u16 = 3 << 14 | 1;

fn step(code: u8, numbers: &[u16], bytes: &[u8]) -> Vec<u8> {
    let numbers: Vec<u8> = numbers.iter().flat_map(|it| it.to_le_bytes()).collect();
    [&[code], &numbers[..], bytes].concat()
}

/// Scripts that are well-formed, but for some messages.
pub(super) fn seeds() -> Vec<Seed> {
    let tell = |at: u16, len: u16, half_page: u8| step(TELL, &[at, len], &[half_page, 3]);
    let all = [
        step(LOOK, &[low(2), 1], &[0]),
        step(LOOK, &[low(4), 1], &[2]),
        step(LOOK, &[low(1), 5], &[7]),
        step(READ_BYTES, &[low(2), 0x2000], &[]),
        step(READ_BYTES, &[TOP, 60], &[]),
    ]
    .concat();
    let raw = |kind: u8, size: u64| {
        let words = [0x2000, size, USER + 0x4000].map(u64::to_ne_bytes);
        let mut bytes = [words.as_flattened(), &[3, kind]].concat();
        bytes.resize(34, 0);
        step(RAW, &[], &[&[26][..], &bytes].concat())
    };
    let sent = step(SEND, &[low(2)], &[1]);
    vec![
        (
            "overlaps",
            [tell(2, 2, 8), all.clone(), tell(3, 2, 10), all.clone()].concat(),
        ),
        (
            "taken_back",
            [tell(2, 4, 8), step(TAKE_BACK, &[3, 1], &[]), all.clone()].concat(),
        ),
        (
            "all_taken_back",
            [tell(2, 4, 8), step(TAKE_BACK, &[3, 0], &[]), all.clone()].concat(),
        ),
        (
            "at_the_top",
            [tell(TOP, 3 << 13 | 100, 8), all.clone()].concat(),
        ),
        ("wraps", tell(TOP, 4 << 13, 8)),
        ("no_bytes", tell(2, 0, 8)),
        ("sent", [tell(2, 1, 8), sent.clone(), sent.clone()].concat()),
        (
            "asked_and_sent",
            [sent.clone(), step(ANSWER, &[], &[0xff]), sent.clone()].concat(),
        ),
        (
            "taken_back_from_the_ring",
            [
                tell(2, 1, 8),
                sent.clone(),
                step(TAKE_BACK, &[ring(1), 1], &[]),
                sent.clone(),
                step(ANSWER, &[], &[0xff]),
                step(WAIT, &[], &[0]),
            ]
            .concat(),
        ),
        (
            "given_up",
            [
                sent.clone(),
                step(ANSWER, &[], &[0]),
                step(WAIT, &[], &[0xff]),
                all,
            ]
            .concat(),
        ),
        ("raw_update", [raw(2, 0x1000), sent].concat()),
        ("raw_miss", raw(1, 0x1000)),
        ("raw_access_fail", raw(4, 0x1000)),
        ("raw_wrapping", raw(3, u64::MAX)),
    ]
}
