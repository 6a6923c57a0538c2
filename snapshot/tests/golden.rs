//! Every release that was ever written can be read, and this one writes what it always wrote.
//!
//! A new release gets its file by `GOLDEN=write cargo test -p virtio-net-snapshot --test golden`,
//! on x86_64.
#![cfg(target_arch = "x86_64")]

mod common;

use std::fs;
use std::path::PathBuf;

use snapshot::{LATEST, NetState, Snapshot};

/// State that is read today from the golden file of a release.
fn expected(release: u16) -> Option<NetState> {
    match release {
        1 => Some(common::sample()),
        _ => None,
    }
}

fn path(release: u16) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("golden/v{release}-x86_64.snapshot"))
}

fn golden(release: u16) -> Vec<u8> {
    let path = path(release);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Writes the file of the latest release if it is asked to, and never touches an older one.
fn write_if_asked() {
    if std::env::var_os("GOLDEN").is_some_and(|word| word == "write") && !path(LATEST).exists() {
        let state = expected(LATEST).expect("a state for the latest release");
        fs::write(path(LATEST), Snapshot::seal(&state).unwrap().as_bytes()).unwrap();
    }
}

#[test]
fn every_release_is_read() {
    write_if_asked();
    for release in 1..=LATEST {
        let read = Snapshot::from_bytes(golden(release)).unwrap().open();
        assert_eq!(read.ok(), expected(release), "release {release}");
    }
}

#[test]
fn every_release_is_written_byte_by_byte() {
    write_if_asked();
    for release in 1..=LATEST {
        let state = expected(release).expect("a state for each release");
        let written = Snapshot::seal_for(&state, release).unwrap();
        assert!(written.as_bytes() == golden(release), "release {release}");
    }
}
