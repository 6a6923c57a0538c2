//! Every input there is, through its target, on stable.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use fuzz::{TARGETS, Target};
use tar::Archive;

/// Folders of named inputs: made by the targets, once failed.
const FOLDERS: [&str; 2] = ["seeds", "regressions"];

fn folder(kind: &str, target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(kind)
        .join(target.name)
}

/// Files of a folder by name; a folder that is missing has none.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Inputs that a fuzzer has found, by name: the archive of a target, unpacked in memory. A target
/// that no fuzzer has run for has none.
fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let path = folder("corpus", target).with_extension("tar.gz");
    let Ok(file) = File::open(&path) else {
        return Vec::new();
    };
    let mut archive = Archive::new(GzDecoder::new(file));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (name, bytes)
    });
    let inputs: Vec<_> = entries.collect();
    assert!(!inputs.is_empty(), "{} is empty", path.display());
    inputs
}

fn write_seeds_if_asked(target: &Target) {
    if std::env::var_os("SEEDS").is_none_or(|word| word != "write") {
        return;
    }
    let folder = folder("seeds", target);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    for (name, bytes) in (target.seeds)() {
        fs::write(folder.join(name), bytes).unwrap();
    }
}

#[test]
fn seeds_are_what_the_targets_write() {
    for target in TARGETS {
        write_seeds_if_asked(target);
        let mut made: Vec<_> = (target.seeds)()
            .into_iter()
            .map(|(name, bytes)| (folder("seeds", target).join(name), bytes))
            .collect();
        made.sort();
        let kept: Vec<_> = files(&folder("seeds", target))
            .into_iter()
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        assert!(made == kept, "{}: run again with SEEDS=write", target.name);
    }
}

#[test]
fn every_input_passes() {
    for target in TARGETS {
        for (_, bytes) in (target.seeds)() {
            (target.run)(&bytes);
        }
        let named = FOLDERS.iter().flat_map(|kind| files(&folder(kind, target)));
        let named = named.map(|path| (path.display().to_string(), fs::read(&path).unwrap()));
        for (name, bytes) in named.chain(corpus(target)) {
            let passed = std::panic::catch_unwind(|| (target.run)(&bytes));
            assert!(passed.is_ok(), "{}: {name}", target.name);
        }
    }
}

/// Inputs that a fuzzer would find first, without a fuzzer.
#[test]
fn every_seed_survives_cuts_and_changed_bytes() {
    for target in TARGETS {
        for (_, seed) in (target.seeds)() {
            for at in 0..seed.len() {
                (target.run)(&seed[..at]);
                for value in [0, 1, 0x7f, 0x80, 0xff] {
                    let mut changed = seed.clone();
                    changed[at] = value;
                    (target.run)(&changed);
                }
            }
        }
    }
}

#[test]
fn every_target_has_a_binary_and_every_binary_a_target() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
    let binaries: Vec<_> = files(&sources)
        .iter()
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(binaries, names);
}

#[test]
fn every_archive_is_a_targets() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for path in files(&folder) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let known = TARGETS
            .iter()
            .any(|target| name == format!("{}.tar.gz", target.name));
        assert!(known, "{name} belongs to no target");
    }
}
