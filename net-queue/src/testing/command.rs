//! Control commands as a driver writes them.

use crate::ctrl::{Command, HashConfig, RssConfig};

/// The shortest bytes that mean `command`. VirtIO 1.4 §5.1.9.5.
#[must_use]
pub fn command_bytes(command: &Command<'_>) -> Vec<u8> {
    let (class, number, data) = match *command {
        Command::SetRxMode { mode, on } => (0, mode as u8, vec![on.into()]),
        Command::SetMacTable { unicast, multicast } => {
            (1, 0, [list(unicast), list(multicast)].concat())
        }
        Command::SetMacAddr(mac) => (1, 1, mac.to_vec()),
        Command::AddVlan(id) => (2, 0, id.get().to_le_bytes().to_vec()),
        Command::DelVlan(id) => (2, 1, id.get().to_le_bytes().to_vec()),
        Command::AckAnnounce => (3, 0, vec![]),
        Command::SetPairs(pairs) => (4, 0, pairs.to_le_bytes().to_vec()),
        Command::SetRss(rss) => (4, 1, rss_config(&rss)),
        Command::SetHash(hash) => {
            let types = hash.types.to_le_bytes();
            (4, 2, [&types[..], &[0; 8], &key(&hash)].concat())
        }
        Command::SetGuestOffloads(mask) => (5, 0, mask.to_le_bytes().to_vec()),
        Command::SetTxNotfCoal(notf_coal) => (6, 0, notf_coal.to_wire().to_vec()),
        Command::SetRxNotfCoal(notf_coal) => (6, 1, notf_coal.to_wire().to_vec()),
        Command::SetQueueNotfCoal { queue, notf_coal } => {
            (6, 2, [&index(queue)[..], &notf_coal.to_wire()].concat())
        }
        Command::GetQueueNotfCoal(queue) => (6, 3, index(queue).to_vec()),
        Command::QueryStats => (8, 0, vec![]),
        Command::GetStats(requests) => (8, 1, requests.as_bytes().to_vec()),
    };
    [vec![class, number], data].concat()
}

fn rss_config(rss: &RssConfig<'_>) -> Vec<u8> {
    let mask = (rss.table_len() - 1) as u16;
    let mut bytes = rss.hash.types.to_le_bytes().to_vec();
    let words = [mask, rss.unclassified_queue].into_iter();
    let words = words.chain(rss.table()).chain([rss.max_tx_vq]);
    bytes.extend(words.flat_map(u16::to_le_bytes));
    bytes.extend(key(&rss.hash));
    bytes
}

/// The key's length, at most 255, and the key.
fn key(hash: &HashConfig<'_>) -> Vec<u8> {
    [&[hash.key.len() as u8], hash.key].concat()
}

/// The index of a queue, and two reserved bytes.
fn index(queue: u16) -> [u8; 4] {
    let [low, high] = queue.to_le_bytes();
    [low, high, 0, 0]
}

fn list(macs: &[[u8; 6]]) -> Vec<u8> {
    let count = (macs.len() as u32).to_le_bytes();
    [count.as_slice(), macs.as_flattened()].concat()
}
