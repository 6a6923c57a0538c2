use super::*;
use proptest::prelude::*;

const MAC_A: [u8; 6] = [2, 0, 0, 0, 0, 1];
const MAC_B: [u8; 6] = [2, 0, 0, 0, 0, 2];
const GROUP: [u8; 6] = [1, 0, 0x5e, 0, 0, 1];

fn table(unicast: &[[u8; 6]], multicast: &[[u8; 6]]) -> Vec<u8> {
    let mut bytes = vec![1, 0];
    for list in [unicast, multicast] {
        bytes.extend((list.len() as u32).to_le_bytes());
        bytes.extend(list.as_flattened());
    }
    bytes
}

const NOTF_COAL: NotificationCoalescing = NotificationCoalescing {
    max_packets: 15,
    max_usecs: 10_000,
};

const HASH: HashConfig<'static> = HashConfig {
    types: 0x123,
    key: &[0xab, 0xcd],
};

/// Two types of queue 3's statistics.
const STATS_REQUEST: [[u8; REQUEST_LEN]; 1] =
    [[3, 0, 0xaa, 0xaa, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]];

/// One of each command with its bytes.
fn commands() -> Vec<(Vec<u8>, Command<'static>)> {
    let mut all: Vec<_> = RxMode::ALL
        .iter()
        .flat_map(|&mode| {
            [false, true].map(|on| {
                (
                    vec![0, mode as u8, on.into()],
                    Command::SetRxMode { mode, on },
                )
            })
        })
        .collect();
    all.extend([
        (
            table(&[MAC_A, MAC_B], &[GROUP]),
            Command::SetMacTable {
                unicast: &[MAC_A, MAC_B],
                multicast: &[GROUP],
            },
        ),
        (
            table(&[], &[]),
            Command::SetMacTable {
                unicast: &[],
                multicast: &[],
            },
        ),
        (vec![1, 1, 2, 0, 0, 0, 0, 1], Command::SetMacAddr(MAC_A)),
        (vec![2, 0, 0xff, 0x0f], Command::AddVlan(VlanId(4095))),
        (vec![2, 1, 0, 0], Command::DelVlan(VlanId(0))),
        (vec![3, 0], Command::AckAnnounce),
        (vec![4, 0, 1, 0], Command::SetPairs(1)),
        (vec![4, 0, 0, 0x80], Command::SetPairs(MAX_PAIRS)),
        (
            [
                &[4, 1, 0x23, 1, 0, 0, 1, 0, 2, 0, 3, 0, 0, 1, 4, 0, 2][..],
                &[0xab, 0xcd],
            ]
            .concat(),
            Command::SetRss(RssConfig {
                hash: HASH,
                unclassified_queue: 2,
                table: &[[3, 0], [0, 1]],
                max_tx_vq: 4,
            }),
        ),
        (
            vec![4, 2, 0x23, 1, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9, 2, 0xab, 0xcd],
            Command::SetHash(HASH),
        ),
        (
            vec![5, 0, 2, 0, 0, 0, 0, 0, 0x40, 0],
            Command::SetGuestOffloads(1 << 1 | 1 << 54),
        ),
    ]);
    all.extend(questions_and_notf_coal());
    all
}

fn questions_and_notf_coal() -> [(Vec<u8>, Command<'static>); 6] {
    [
        (
            vec![6, 0, 15, 0, 0, 0, 0x10, 0x27, 0, 0],
            Command::SetTxNotfCoal(NOTF_COAL),
        ),
        (
            vec![6, 1, 15, 0, 0, 0, 0x10, 0x27, 0, 0],
            Command::SetRxNotfCoal(NOTF_COAL),
        ),
        (
            vec![6, 2, 3, 1, 0xff, 0xff, 15, 0, 0, 0, 0x10, 0x27, 0, 0],
            Command::SetQueueNotfCoal {
                queue: 0x103,
                notf_coal: NOTF_COAL,
            },
        ),
        (
            vec![6, 3, 3, 1, 0xff, 0xff],
            Command::GetQueueNotfCoal(0x103),
        ),
        (vec![8, 0], Command::QueryStats),
        (
            [&[8, 1][..], STATS_REQUEST.as_flattened()].concat(),
            Command::GetStats(StatsRequests::new(&STATS_REQUEST).expect("known types")),
        ),
    ]
}

#[test]
fn every_command_is_read() {
    for (bytes, command) in commands() {
        assert_eq!(Command::parse(&bytes), Ok(command));
    }
}

#[test]
fn net_cvq_05_every_shorter_length_is_refused_and_excess_ignored() {
    for (bytes, command) in commands() {
        for len in 0..bytes.len() {
            assert_eq!(Command::parse(&bytes[..len]), Err(CommandError::Short));
        }
        let longer = [&bytes[..], &[0xaa; 8]].concat();
        // Of statistics it is another request, cut short.
        let expected = match command {
            Command::GetStats(_) => Err(CommandError::Short),
            command => Ok(command),
        };
        assert_eq!(Command::parse(&longer), expected);
    }
}

#[test]
fn net_cvq_28_types_of_statistics_are_known_ones() {
    let bytes = [&[8, 1][..], STATS_REQUEST.as_flattened(), &[0xff; 16]].concat();
    assert_eq!(
        Command::parse(&bytes),
        Err(CommandError::StatsTypes(u64::MAX))
    );
    assert_eq!(Refusal::from(CommandError::StatsTypes(1)), Refusal::Value);
}

#[test]
fn net_cvq_04_everything_else_is_unknown() {
    let known: Vec<_> = commands()
        .iter()
        .map(|(bytes, _)| (bytes[0], bytes[1]))
        .collect();
    for class in 0..=u8::MAX {
        for command in 0..=u8::MAX {
            let bytes = [&[class, command][..], &[0; 64]].concat();
            let unknown = Err(CommandError::Unknown { class, command });
            let expected = !known.contains(&(class, command));
            assert_eq!(
                Command::parse(&bytes) == unknown,
                expected,
                "{class}/{command}"
            );
        }
    }
}

#[test]
fn net_cvq_14_counts_that_disagree_with_the_data_are_refused() {
    let good = table(&[MAC_A], &[GROUP]);
    for count in [2u32, 3, 0x2aaa_aaab, 0xffff_ffff] {
        let mut bytes = good.clone();
        bytes[2..6].copy_from_slice(&count.to_le_bytes());
        assert_eq!(Command::parse(&bytes), Err(CommandError::Short));
        let mut bytes = good.clone();
        bytes[12..16].copy_from_slice(&count.to_le_bytes());
        assert_eq!(Command::parse(&bytes), Err(CommandError::Short));
    }
}

#[test]
fn net_cvq_17_vlan_ids_end_at_4095() {
    for id in 4096..=u16::MAX {
        for command in [0, 1] {
            let [low, high] = id.to_le_bytes();
            assert_eq!(
                Command::parse(&[2, command, low, high]),
                Err(CommandError::Vlan(id))
            );
        }
    }
}

#[test]
fn net_cvq_31_a_mode_is_on_or_off() {
    for value in 2..=u8::MAX {
        assert_eq!(
            Command::parse(&[0, 0, value]),
            Err(CommandError::Mode(value))
        );
    }
}

#[test]
fn net_mq_04_pairs_are_in_the_range_of_the_specification() {
    for pairs in [0, MAX_PAIRS + 1, u16::MAX] {
        let [low, high] = pairs.to_le_bytes();
        assert_eq!(
            Command::parse(&[4, 0, low, high]),
            Err(CommandError::Pairs(pairs))
        );
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(
        class in 0u8..10, command in 0u8..7, data in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let bytes = [&[class, command][..], &data].concat();
        if let Ok(Command::SetMacTable { unicast, multicast }) = Command::parse(&bytes) {
            prop_assert!((unicast.len() + multicast.len()) * 6 + 8 <= data.len());
        }
        let _ = Command::parse(&data);
    }
}

#[test]
fn table_of_an_rss_config_moves_what_follows_it_net_mq_10() {
    let table: Vec<[u8; 2]> = (0..1024_u16).map(u16::to_le_bytes).collect();
    for len in [1, 2, 128, 1024] {
        for key in [0, 1, 40, 255] {
            let key = vec![0x5a; key];
            let hash = HashConfig {
                types: 0x1ff,
                key: &key,
            };
            let rss = Command::SetRss(RssConfig::new(hash, 7, &table[..len], 9));
            let bytes = crate::testing::command_bytes(&rss);
            assert_eq!(bytes.len(), 2 + 11 + 2 * len + key.len());
            assert_eq!(Command::parse(&bytes), Ok(rss));
        }
    }
    for mask in [2, 4, 5, 126, 0xfffe] {
        let mut bytes = vec![4, 1, 0, 0, 0, 0];
        bytes.extend(u16::to_le_bytes(mask));
        bytes.extend([0; 300]);
        assert_eq!(Command::parse(&bytes), Err(CommandError::TableMask(mask)));
    }
    // As long as no command is.
    let bytes = [&[4, 1, 0, 0, 0, 0, 0xff, 0xff][..], &[0; 300]].concat();
    assert_eq!(Command::parse(&bytes), Err(CommandError::Short));
}
