//! Every release that was ever written can be read, and this one writes what it always wrote.
//!
//! A release that was not published yet gets its file, or a new one, by
//! `GOLDEN=write cargo test -p virtio-net-snapshot --test golden`, on x86_64.
#![cfg(target_arch = "x86_64")]

mod common;

use std::fs;
use std::path::PathBuf;

use common::sample_of;
use snapshot::{LATEST, Snapshot, SnapshotError};

/// CRC32 of the file of each release that was published, from the first on: these never change.
const PUBLISHED: &[u32] = &[0x5877_1f4c];

fn path(release: u16) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("golden/v{release}-x86_64.snapshot"))
}

fn golden(release: u16) -> Vec<u8> {
    let path = path(release);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Writes the files of what was not published, if it is asked to.
fn write_if_asked() {
    if std::env::var_os("GOLDEN").is_some_and(|word| word == "write") {
        for release in PUBLISHED.len() as u16 + 1..=LATEST {
            let snapshot = Snapshot::seal_for(&sample_of(release), release).unwrap();
            fs::write(path(release), snapshot.as_bytes()).unwrap();
        }
    }
}

#[test]
fn every_release_is_read() {
    write_if_asked();
    for release in 1..=LATEST {
        let snapshot = Snapshot::from_bytes(golden(release)).unwrap();
        assert_eq!(snapshot.release(), release);
        assert_eq!(snapshot.open().unwrap(), sample_of(release));
    }
}

/// Fails for a field that was added, removed or moved without a version of its own.
#[test]
fn every_release_is_written_byte_by_byte() {
    write_if_asked();
    for release in 1..=LATEST {
        let written = Snapshot::seal_for(&sample_of(release), release).unwrap();
        assert!(written.as_bytes() == golden(release), "release {release}");
    }
}

#[test]
fn what_was_published_is_what_it_was() {
    for (release, crc) in (1..).zip(PUBLISHED) {
        let found = crc32fast::hash(&golden(release));
        assert_eq!(found, *crc, "release {release}: {found:#x}");
    }
}

/// Fails for a field that came later, and either is not in the sample of its release or has no
/// entry among the fields that a release before it would lose.
#[test]
fn each_release_holds_what_none_before_it_can() {
    for release in 2..=LATEST {
        assert_ne!(sample_of(release), sample_of(release - 1));
        for older in 1..release {
            let refused = Snapshot::seal_for(&sample_of(release), older).expect_err("it is newer");
            assert!(
                matches!(refused, SnapshotError::Downgrade { .. }),
                "{refused}"
            );
            // What the older one has it can have in the form of the newer one, too.
            let older = sample_of(older);
            let newer = Snapshot::seal_for(&older, release).unwrap();
            assert_eq!(newer.open().unwrap(), older);
        }
    }
}
