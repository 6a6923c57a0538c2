//! Control commands: what parses is exactly what the bytes say, and nothing behind them matters.

use net_queue::ctrl::Command;
use net_queue::testing::command_bytes;

use crate::{Seed, Target};

/// See the module.
pub const TARGET: Target = Target {
    name: "ctrl",
    run,
    seeds,
};

/// Input: a command as the driver wrote it.
fn run(input: &[u8]) {
    let Ok(command) = Command::parse(input) else {
        return;
    };
    let wire = command_bytes(&command);
    let mut sent = input[..wire.len().min(input.len())].to_vec();
    if matches!(wire[..], [4, 2, ..]) {
        // Reserved.
        sent[6..14].fill(0);
    }
    if matches!(wire[..], [6, 2 | 3, ..]) {
        // Reserved.
        sent[4..6].fill(0);
    }
    assert_eq!(sent, wire, "{command:?} is not what was sent");
    assert_eq!(Command::parse(&wire), Ok(command));
    let cut = &wire[..wire.len() - 1];
    assert!(
        Command::parse(cut).is_err(),
        "{command:?} needs no last byte"
    );
}

fn list(macs: &[[u8; 6]]) -> Vec<u8> {
    let count = (macs.len() as u32).to_le_bytes();
    [count.as_slice(), macs.as_flattened()].concat()
}

fn seeds() -> Vec<Seed> {
    let command = |class, number, data: &[u8]| [&[class, number], data].concat();
    let (own, group) = ([2, 0, 0, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]);
    let notf_coal = [15, 0, 0, 0, 0x10, 0x27, 0, 0];
    let stats_request = [&[1_u8, 0][..], &[0xaa; 6], &(0xf_0000_u64).to_le_bytes()].concat();
    let key = [4, 0x6d, 0x5a, 0x56, 0xda];
    let rss = [&[0xff, 1, 0, 0, 1, 0, 2, 0, 0, 0, 3, 0, 4, 0][..], &key].concat();
    let hash = [&[0xff, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &key].concat();
    let table = [list(&[own, own]), list(&[group])].concat();
    vec![
        ("promisc_on", command(0, 0, &[1])),
        ("nobcast_off", command(0, 5, &[0])),
        ("mac_table", command(1, 0, &table)),
        ("mac_table_empty", command(1, 0, &[0; 8])),
        (
            "mac_table_count_too_high",
            command(1, 0, &u32::MAX.to_le_bytes()),
        ),
        ("mac_addr", command(1, 1, &own)),
        ("vlan_add", command(2, 0, &4095_u16.to_le_bytes())),
        ("vlan_del", command(2, 1, &1_u16.to_le_bytes())),
        ("announce_ack", command(3, 0, &[])),
        ("pairs", command(4, 0, &2_u16.to_le_bytes())),
        ("rss", command(4, 1, &rss)),
        ("hash", command(4, 2, &hash)),
        ("offloads", command(5, 0, &0x0782_u64.to_le_bytes())),
        ("notf_coal_tx", command(6, 0, &notf_coal)),
        ("notf_coal_rx", command(6, 1, &notf_coal)),
        (
            "notf_coal_vq_set",
            command(6, 2, &[&[1, 0, 9, 9], &notf_coal[..]].concat()),
        ),
        ("notf_coal_vq_get", command(6, 3, &[1, 0, 9, 9])),
        ("stats_query", command(8, 0, &[])),
        ("stats_get", command(8, 1, &stats_request)),
        ("stats_get_twice", command(8, 1, &stats_request.repeat(2))),
        ("stats_get_unknown", command(8, 1, &[0xff; 16])),
        ("trailing_data", command(2, 0, &[5, 0, 0xaa, 0xaa])),
    ]
}
