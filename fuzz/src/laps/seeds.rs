//! Inputs for the rings that are driven lap after lap.

use super::*;
use crate::script::Script;

impl Script {
    /// A script for [`exercise`] on a ring of [`SIZES`]`[size]`.
    fn laps(bits: u8, mode: u8, size: u8) -> Self {
        Self(vec![bits, 0, 0, 0xfe, 0xff, MODE | mode, size])
    }

    fn op(mut self, op: u8, operands: &[u16], last: &[u8]) -> Self {
        self.0.push(op);
        for operand in operands {
            self.0.extend(operand.to_le_bytes());
        }
        self.0.extend(last);
        self
    }
}

const INDIRECT: u8 = 0x08;

const EVENT_IDX: u8 = 0x04;

const ALL: u16 = u16::MAX;

/// The place of a size.
fn size(of: u16) -> u8 {
    let place = SIZES.iter().position(|size| *size == of);
    place.unwrap_or_default() as u8
}

/// Inputs that make sense in either layout.
pub fn seeds() -> Vec<crate::Seed> {
    vec![
        ("laps_longest_chains", longest_chains(1024)),
        ("laps_longest_ring", longest_chains(0x8000)),
        ("laps_before_the_publish", before_the_publish(256)),
        ("laps_before_the_publish_512", before_the_publish(512)),
        ("laps_list_into_what_is_held", list_into_what_is_held()),
        ("laps_many", many_laps()),
        ("laps_long_tables", long_tables()),
        ("laps_index_back", index_back()),
    ]
}

/// A list of the whole ring, and its head again and again; in order, in one batch.
fn longest_chains(of: u16) -> Vec<u8> {
    Script::laps(EVENT_IDX, IN_ORDER | PER_BATCH, size(of))
        .op(LIST, &[of - 1], &[0])
        .op(HEADS, &[63], &[0x0c])
        .op(TAKE, &[63], &[])
        .op(GIVE_BACK, &[63], &[0])
        .op(PUBLISH, &[], &[])
        .op(RESUME, &[], &[])
        .0
}

/// The whole ring is made available again before the device gave it back, and before it published.
fn before_the_publish(of: u16) -> Vec<u8> {
    let script = Script::laps(0, IN_ORDER | PER_BATCH, size(of));
    (0..3)
        .fold(script, |script, _| {
            let script = script.op(LIST, &[of - 1], &[0]).op(TAKE, &[0], &[]);
            let script = script.op(LIST, &[of - 1], &[0]).op(TAKE, &[0], &[]);
            let script = script.op(GIVE_BACK, &[0], &[0]).op(TAKE, &[9], &[]);
            script.op(GIVE_BACK, &[9], &[0])
        })
        .op(PUBLISH, &[], &[])
        .0
}

/// Three slots of seven are held; then a list of seven begins behind them.
fn list_into_what_is_held() -> Vec<u8> {
    Script::laps(0, 0, size(7))
        .op(LIST, &[2], &[0])
        .op(TAKE, &[0], &[])
        .op(LIST, &[6], &[0])
        .op(TAKE, &[0], &[])
        .op(RESUME, &[], &[])
        .0
}

fn many_laps() -> Vec<u8> {
    let script = Script::laps(EVENT_IDX, IN_ORDER, size(7));
    (0..5)
        .fold(script, |script, _| {
            let script = script.op(LIST, &[2], &[1]).op(TAKE, &[0], &[]);
            let script = script.op(GIVE_BACK, &[0], &[1]).op(PUBLISH, &[], &[]);
            let script = script.op(LIST, &[1], &[3]).op(TAKE, &[ALL], &[]);
            let script = script.op(UNDO, &[0], &[]).op(TAKE, &[0], &[]);
            script.op(GIVE_BACK, &[ALL], &[2]).op(PUBLISH, &[], &[])
        })
        .op(RESUME, &[], &[])
        .0
}

/// Tables of 19, 1024 and 1025 entries in a ring of 16.
fn long_tables() -> Vec<u8> {
    let script = Script::laps(INDIRECT, 0, size(16));
    [19, 1024, 1025]
        .into_iter()
        .fold(script, |script, entries| {
            let script = script.op(TABLE, &[entries], &[]).op(TAKE, &[0], &[]);
            script.op(GIVE_BACK, &[0], &[0]).op(PUBLISH, &[], &[])
        })
        .0
}

/// Four chains are taken; then the index (or the driver's place) goes back.
fn index_back() -> Vec<u8> {
    Script::laps(0, 0, size(16))
        .op(HEADS, &[3], &[0])
        .op(TAKE, &[1], &[])
        .op(BACK, &[3], &[])
        .op(TAKE, &[9], &[])
        .op(WORD, &[2, 7], &[])
        .op(GIVE_BACK, &[9], &[0])
        .op(PUBLISH, &[], &[])
        .0
}
