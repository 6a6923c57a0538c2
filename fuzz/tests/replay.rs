//! Every input there is, through its target, on stable.

use std::fs;
use std::path::{Path, PathBuf};

use fuzz::{TARGETS, Target};

/// Folders of inputs: made by the targets, once failed, found by a fuzzer here.
const FOLDERS: [&str; 3] = ["seeds", "regressions", "corpus"];

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
        for path in FOLDERS.iter().flat_map(|kind| files(&folder(kind, target))) {
            let bytes = fs::read(&path).unwrap();
            let passed = std::panic::catch_unwind(|| (target.run)(&bytes));
            assert!(passed.is_ok(), "{}", path.display());
        }
    }
}

/// What a fuzzer would find first, without a fuzzer.
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
