//! Lists and texts one beyond their bound: the parser refuses them by name, and reads no further.

mod common;

use common::{reseal, sample};
use snapshot::format::{HEADER_LEN, MAX_PAYLOAD_LEN};
use snapshot::state::{LimiterState, QueueState, StoppedQueueState, bounds};
use snapshot::{NetState, Snapshot, SnapshotError};

/// Sets a list to as many elements.
type Fill = fn(&mut NetState, usize);

/// Every list by the path of its field.
const LISTS: [(&str, Fill); 11] = [
    ("id", |s, len| s.id = "x".repeat(len).into()),
    ("queue_sizes", |s, len| {
        s.queue_sizes = vec![1; len].into();
    }),
    ("queues", |s, len| {
        s.queues = vec![QueueState::default(); len].into();
    }),
    ("queues.in_flight", |s, len| {
        s.queues[1].in_flight = vec![1; len].into();
    }),
    ("control.unicast", |s, len| {
        s.control.unicast = vec![[1; 6]; len].into();
    }),
    ("control.multicast", |s, len| {
        s.control.multicast = vec![[1; 6]; len].into();
    }),
    ("control.vlans", |s, len| {
        s.control.vlans = vec![1; len].into();
    }),
    ("control.rss.indirection_table", |s, len| {
        s.control.rss.as_mut().unwrap().indirection_table = vec![1; len].into();
    }),
    ("control.rss.key", |s, len| {
        s.control.rss.as_mut().unwrap().key = vec![1; len].into();
    }),
    ("limiters", |s, len| {
        s.limiters = vec![LimiterState::default(); len].into();
    }),
    ("stopped_queues", |s, len| {
        s.stopped_queues = vec![StoppedQueueState::default(); len].into();
    }),
];

fn state(fill: Fill, len: usize) -> NetState {
    let mut state = sample();
    fill(&mut state, len);
    state
}

fn sealed(fill: Fill, len: usize) -> Vec<u8> {
    Snapshot::seal(&state(fill, len)).unwrap().into_bytes()
}

#[track_caller]
fn assert_too_many(error: SnapshotError, name: &str, len: usize, most: usize) {
    match error {
        SnapshotError::TooMany { field, found, max } => {
            assert_eq!((field, found, max), (name, len, most));
        }
        other => panic!("{name}: {other}"),
    }
}

#[test]
fn the_lists_here_are_all_that_there_are() {
    let mut ours = LISTS.map(|(field, _)| field);
    let mut all: Vec<_> = bounds::ALL.iter().map(|(field, _)| *field).collect();
    ours.sort_unstable();
    all.sort_unstable();
    assert_eq!(ours[..], all);
}

#[test]
fn no_field_holds_what_has_no_bound() {
    let sources = [
        include_str!("../src/state/control.rs"),
        include_str!("../src/state/limiter.rs"),
        include_str!("../src/state/net.rs"),
        include_str!("../src/state/queue.rs"),
    ];
    for line in sources.iter().flat_map(|source| source.lines()) {
        let unbounded = ["Vec<", ": String", "<String", "Box<"];
        let found = unbounded.iter().any(|name| line.contains(name));
        assert!(!found || line.trim_start().starts_with("//"), "{line}");
    }
}

/// Each list, with its bound.
fn lists() -> impl Iterator<Item = (&'static str, usize, Fill)> {
    LISTS.into_iter().map(|(name, fill)| {
        let mut all = bounds::ALL.iter();
        let (_, max) = all.find(|(field, _)| *field == name).unwrap();
        (name, *max, fill)
    })
}

#[test]
fn every_list_is_written_and_read_up_to_its_bound() {
    for (name, max, fill) in lists() {
        let full = state(fill, max);
        let sealed = Snapshot::seal(&full).unwrap();
        assert_eq!(sealed.open().unwrap(), full, "{name}");
        let error = Snapshot::seal(&state(fill, max + 1)).expect_err(name);
        assert_too_many(error, name, max + 1, max);
    }
}

/// The refusal is the same if the payload ends behind the length, or goes on up to the longest one:
/// no byte behind the length has a part in it.
#[test]
fn nothing_is_read_behind_a_length_that_is_out_of_bounds() {
    for (name, max, fill) in lists() {
        let (full, shorter) = (sealed(fill, max), sealed(fill, max - 1));
        let differs = |at: &usize| full[*at] != shorter[*at];
        let start = (HEADER_LEN..shorter.len()).find(differs).unwrap();
        for found in [max + 1, 1 << 20, usize::MAX] {
            let mut bytes = full[..start].to_vec();
            bytes.extend((found as u64).to_le_bytes());
            for len in [bytes.len(), HEADER_LEN + MAX_PAYLOAD_LEN] {
                let mut bytes = bytes.clone();
                bytes.resize(len, 0);
                let error = Snapshot::from_bytes(reseal(bytes)).expect_err(name);
                assert_too_many(error, name, found, max);
            }
        }
    }
}

/// As JSON, or in another form that `serde` knows, a list has the same bound. What follows the
/// first element beyond it is not looked at.
#[test]
fn every_list_has_its_bound_in_other_forms_too() {
    for (name, max, fill) in lists() {
        let text = serde_json::to_string(&state(fill, max)).unwrap();
        let full: NetState = serde_json::from_str(&text).unwrap();
        assert_eq!(full, state(fill, max), "{name}");
        let text = serde_json::to_string(&state(fill, max + 1)).unwrap();
        let error = serde_json::from_str::<NetState>(&text).expect_err(name);
        let expected = format!("{name}: more than {max} entries");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
    // The text ends in the middle of a list, which is found out by whoever reads on.
    let text = serde_json::to_string(&sample()).unwrap();
    let (before, _) = text.split_once("\"queue_sizes\":").unwrap();
    let text = format!(
        "{before}\"queue_sizes\":[{}?",
        "0,".repeat(bounds::MAX_QUEUES + 1)
    );
    let error = serde_json::from_str::<NetState>(&text).unwrap_err();
    let expected = "queue_sizes: more than 513 entries";
    assert!(error.to_string().starts_with(expected), "{error}");
}

#[test]
fn a_sealed_state_has_its_bound_in_other_forms_too() {
    let json = |len: usize| {
        let bytes = "0,".repeat(len);
        let text = format!(
            "{{\"id\":\"a\",\"bytes\":[{}]}}",
            bytes.trim_end_matches(',')
        );
        serde_json::from_str::<Snapshot>(&text)
    };
    let longest = HEADER_LEN + MAX_PAYLOAD_LEN;
    assert!(json(longest).is_ok(), "it is looked at when it is opened");
    let error = json(longest + 1).unwrap_err();
    let expected = format!("bytes: more than {longest} entries");
    assert!(error.to_string().starts_with(&expected), "{error}");
}
