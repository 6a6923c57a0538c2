//! Snapshots that are shown, refused and rewritten.

use std::fs;

use net_device::Features;
use net_device::snapshot::NetState;
use net_device::snapshot::state::{
    ConfigState, ControlState, NotfCoalState, QueueState, StoppedQueueState,
};

use super::*;
use crate::daemon::log_text::chain;

/// State of a device that a driver uses, in the words of the format.
fn state() -> NetState {
    let acked = Features::VIRTIO_F_VERSION_1 | Features::VIRTIO_NET_F_MAC;
    let queue = |index| QueueState {
        index,
        max_size: 256,
        size: 64,
        ready: true,
        desc_addr: 0x1000,
        avail: 7,
        used: Some(5),
        ..QueueState::default()
    };
    NetState {
        id: "net\u{1b}[2J".into(),
        features_offered: acked.bits() as u64,
        features_acked: acked.bits() as u64,
        config: ConfigState {
            mac: [2, 0, 0, 0, 0, 1],
            max_virtqueue_pairs: 1,
            ..ConfigState::default()
        },
        queue_sizes: vec![256; 3].into(),
        queues: vec![queue(0), queue(1)].into(),
        control: ControlState {
            vlans: vec![0; 64].into(),
            ..ControlState::default()
        },
        activated: true,
        ..NetState::default()
    }
}

type Change = fn(&mut NetState);

struct Folder(tempfile::TempDir);

impl Folder {
    /// A folder with `state` in a file.
    fn with(state: &NetState) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let snapshot = Snapshot::seal(state).unwrap();
        fs::write(folder.path("old"), snapshot.as_bytes()).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn args(&self) -> InspectArgs {
        InspectArgs {
            file: self.path("old"),
            json: false,
            output: None,
            id: None,
            mac: None,
            release: None,
        }
    }

    /// The same, to be rewritten.
    fn rewriting(&self) -> InspectArgs {
        InspectArgs {
            output: Some(self.path("new")),
            ..self.args()
        }
    }

    fn new_state(&self) -> NetState {
        let bytes = fs::read(self.path("new")).unwrap();
        Snapshot::from_bytes(bytes).unwrap().open().unwrap()
    }
}

/// A state whose name can be that of a device.
fn usable() -> NetState {
    NetState {
        id: "net0".into(),
        ..state()
    }
}

fn run(args: &InspectArgs) -> (String, Result<(), String>) {
    let mut out = Vec::new();
    let done = args.run(&mut out).map_err(|error| chain(&error));
    (String::from_utf8(out).unwrap(), done)
}

#[test]
fn text_tells_of_all_that_a_person_looks_for() {
    let (text, done) = run(&Folder::with(&usable()).args());
    done.unwrap();
    for part in [
        "release 2, ",
        "net0",
        "activated",
        "02:00:00:00:00:01",
        "VIRTIO_F_VERSION_1",
        "split, 64 of 256 descriptors, at 0x1000",
        "avail 7, used 5",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_name_of_a_hostile_file_does_not_reach_the_terminal_as_it_is() {
    let (text, done) = run(&Folder::with(&state()).args());
    assert!(
        !text.contains('\u{1b}') && text.contains("net\\u{1b}[2J"),
        "{text}"
    );
    assert!(
        done.unwrap_err()
            .contains("no device has such a configuration")
    );
    let args = InspectArgs {
        json: true,
        ..Folder::with(&state()).args()
    };
    assert!(!run(&args).0.contains('\u{1b}'));
}

#[test]
fn json_is_the_whole_state() {
    let folder = Folder::with(&usable());
    let args = InspectArgs {
        json: true,
        ..folder.args()
    };
    let (text, done) = run(&args);
    done.unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["release"], LATEST);
    assert_eq!(value["features_acked"][0], "VIRTIO_NET_F_MAC");
    assert_eq!(value["mac"], "02:00:00:00:00:01");
    let state: NetState = serde_json::from_value(value["state"].clone()).unwrap();
    assert_eq!(state, usable());
}

#[test]
fn what_no_device_takes_is_shown_and_refused_by_name() {
    let cases: [(&str, Change); 5] = [
        ("features_offered is out of range", |s| {
            s.features_offered |= 1 << 41
        }),
        ("features_acked", |s| s.features_acked_high = 1),
        ("queues.size is out of range", |s| s.queues[1].size = 0),
        ("queues.index is out of range", |s| s.queues[1].index = 0),
        ("multicast", |s| s.config.mac[0] = 1),
    ];
    for (name, change) in cases {
        let mut state = usable();
        change(&mut state);
        let folder = Folder::with(&state);
        let (text, done) = run(&folder.rewriting());
        let said = done.unwrap_err();
        assert!(text.contains("net0") && said.contains(name), "{said}");
        assert!(!folder.path("new").exists());
    }
}

#[test]
fn what_is_not_one_whole_snapshot_is_refused() {
    let folder = Folder::with(&usable());
    let good = fs::read(folder.path("old")).unwrap();
    let longer = [&good[..], &[0]].concat();
    let mut damaged = good.clone();
    damaged[40] ^= 1;
    for (bytes, name) in [
        (&good[..10], "cut short"),
        (&good[..good.len() - 1], "cut short"),
        (&longer[..], "1 bytes after the payload"),
        (&damaged[..], "checksum"),
    ] {
        fs::write(folder.path("old"), bytes).unwrap();
        let (text, done) = run(&folder.rewriting());
        let said = done.unwrap_err();
        assert!(text.is_empty() && said.contains(name), "{said}");
        assert!(!folder.path("new").exists());
    }
    fs::remove_file(folder.path("old")).unwrap();
    assert!(run(&folder.args()).1.unwrap_err().contains("cannot open"));
}

#[test]
fn a_rewritten_snapshot_differs_in_what_was_asked_for() {
    let folder = Folder::with(&usable());
    let args = InspectArgs {
        id: Some("net1".into()),
        mac: Some("02:00:00:00:00:02".parse().unwrap()),
        ..folder.rewriting()
    };
    run(&args).1.unwrap();
    let mut expected = usable();
    expected.id = "net1".into();
    expected.config.mac[5] = 2;
    assert_eq!(folder.new_state(), expected);
    // What is there stays.
    assert!(run(&args).1.unwrap_err().contains("cannot create"));
    assert_eq!(folder.new_state(), expected);
}

#[test]
fn an_older_release_is_written_unless_something_would_be_lost() {
    let folder = Folder::with(&usable());
    let args = InspectArgs {
        release: Some(1),
        ..folder.rewriting()
    };
    run(&args).1.unwrap();
    let bytes = fs::read(folder.path("new")).unwrap();
    assert_eq!(Snapshot::from_bytes(bytes).unwrap().release(), 1);
    let mut state = usable();
    let more = Features::VIRTIO_NET_F_CTRL_VQ | Features::VIRTIO_NET_F_VQ_NOTF_COAL;
    state.features_offered |= more.bits() as u64;
    state.features_acked |= more.bits() as u64;
    state.queues.pop();
    state.stopped_queues.push(StoppedQueueState {
        index: 1,
        notf_coal: NotfCoalState {
            max_packets: 1,
            max_usecs: 2,
        },
    });
    let folder = Folder::with(&state);
    let args = InspectArgs {
        release: Some(1),
        ..folder.rewriting()
    };
    let (text, done) = run(&args);
    assert!(
        text.contains("stands still, notified after 1 packets or 2 us"),
        "{text}"
    );
    let said = done.unwrap_err();
    assert!(
        said.contains("stopped_queues: release 1 has no place for it"),
        "{said}"
    );
    assert!(!folder.path("new").exists());
}

#[test]
fn an_address_that_no_guest_can_have_is_not_written() {
    let folder = Folder::with(&usable());
    for args in [
        InspectArgs {
            mac: Some("01:00:00:00:00:01".parse().unwrap()),
            ..folder.rewriting()
        },
        InspectArgs {
            id: Some(String::new()),
            ..folder.rewriting()
        },
        InspectArgs {
            release: Some(LATEST + 1),
            ..folder.rewriting()
        },
    ] {
        assert!(run(&args).1.is_err());
        assert!(!folder.path("new").exists());
    }
}
