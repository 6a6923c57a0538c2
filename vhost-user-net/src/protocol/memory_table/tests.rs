//! Regions come and go, and nothing outside of them is touched.

use std::os::fd::OwnedFd;

use super::*;

/// A file of `len` bytes.
fn file(len: u64) -> OwnedFd {
    let file = tempfile::tempfile_in("/dev/shm").unwrap();
    file.set_len(len).unwrap();
    file.into()
}

fn region(gpa: u64, size: u64, user: u64) -> VhostUserMemoryRegion {
    VhostUserMemoryRegion::new(gpa, size, user, 0)
}

fn two() -> MemoryTable {
    MemoryTable::new(vec![
        (region(0x10_0000, 0x2000, 0x7000_0000), file(0x2000)),
        (region(0, 0x1000, 0x6000_0000), file(0x1000)),
    ])
    .unwrap()
}

#[test]
fn front_end_addresses_are_translated_within_each_region() {
    let table = two();
    assert_eq!(table.translate(0x6000_0000), Some(0));
    assert_eq!(table.translate(0x6000_0fff), Some(0xfff));
    assert_eq!(table.translate(0x6000_1000), None);
    assert_eq!(table.translate(0x7000_1234), Some(0x10_1234));
    assert_eq!(table.translate(0x7000_2000), None);
    assert_eq!(table.translate(0), None);
    assert_eq!(table.translate(u64::MAX), None);
}

#[test]
fn a_region_longer_than_its_file_is_refused() {
    let error = MemoryTable::new(vec![(region(0, 0x3000, 0), file(0x2fff))]).unwrap_err();
    assert!(matches!(
        error,
        MemoryError::Region {
            source: MapError::PastEnd {
                size: 0x2fff,
                end: 0x3000
            },
            ..
        }
    ));
    let offset = VhostUserMemoryRegion::new(0, 0x1000, 0, 0x2000);
    assert!(MemoryTable::new(vec![(offset, file(0x2000))]).is_err());
    let huge = VhostUserMemoryRegion::new(0, u64::MAX / 2, 0, 0);
    assert!(MemoryTable::new(vec![(huge, file(0x2000))]).is_err());
}

#[test]
fn what_is_no_file_is_refused() {
    let error = MemoryTable::new(vec![(
        region(0, 0x1000, 0),
        File::open("/dev/zero").unwrap().into(),
    )]);
    assert!(matches!(
        error,
        Err(MemoryError::Region {
            source: MapError::NotAFile,
            ..
        })
    ));
}

#[test]
fn a_file_that_may_only_be_read_is_refused() {
    let named = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
    named.as_file().set_len(0x1000).unwrap();
    let read_only = File::open(named.path()).unwrap();
    let error = MemoryTable::new(vec![(region(0, 0x1000, 0), read_only.into())]);
    assert!(matches!(
        error,
        Err(MemoryError::Region {
            source: MapError::Map(_),
            ..
        })
    ));
}

#[test]
fn overlapping_regions_are_refused() {
    let table = two();
    assert!(matches!(
        table.with(&region(0x10_1000, 0x1000, 0), file(0x1000)),
        Err(MemoryError::Overlap(_))
    ));
}

#[test]
fn the_same_region_twice_is_one_region() {
    let table = two();
    let again = table
        .with(&region(0, 0x1000, 0x6000_0000), file(0x1000))
        .unwrap();
    assert_eq!(again.regions.len(), 2);
}

#[test]
fn regions_are_added_and_taken_away() {
    let added = two()
        .with(&region(0x20_0000, 0x1000, 0x5000_0000), file(0x1000))
        .unwrap();
    assert_eq!(added.translate(0x5000_0010), Some(0x20_0010));
    let removed = added
        .without(&region(0x10_0000, 0x2000, 0x7000_0000))
        .unwrap();
    assert_eq!(removed.translate(0x7000_0000), None);
    assert_eq!(removed.translate(0x5000_0010), Some(0x20_0010));
    assert!(matches!(
        removed.without(&region(0, 0x2000, 0x6000_0000)),
        Err(MemoryError::Unknown(0))
    ));
}

#[test]
fn the_table_has_an_end() {
    let mut table = MemoryTable::default();
    for i in 0..MAX_SLOTS as u64 {
        table = table
            .with(&region(i << 12, 0x1000, i << 12), file(0x1000))
            .unwrap();
    }
    let more = table.with(&region(1 << 40, 0x1000, 1 << 40), file(0x1000));
    assert!(matches!(more, Err(MemoryError::Full)));
}

#[test]
fn without_regions_there_is_no_memory() {
    assert!(MemoryTable::default().guest_memory().unwrap().is_none());
    assert!(two().guest_memory().unwrap().is_some());
}

/// The kernel's flags of each mapping of a file, two letters each.
fn flags_of_mappings(inode: u64) -> Vec<String> {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let inode = inode.to_string();
    let mut ours = false;
    let mut flags = Vec::new();
    for line in maps.lines() {
        // Range, permissions, offset, device, inode, and perhaps a name.
        let words: Vec<_> = line.split_whitespace().collect();
        match line.strip_prefix("VmFlags:") {
            Some(text) if ours => flags.push(text.to_owned()),
            None if words[0].contains('-') => ours = words[4] == inode,
            _ => {}
        }
    }
    flags
}

#[test]
fn guest_memory_is_left_out_of_core_dumps() {
    let memory = file(0x2000);
    let inode = File::from(memory.try_clone().unwrap());
    let inode = std::os::unix::fs::MetadataExt::ino(&inode.metadata().unwrap());
    let _table = MemoryTable::new(vec![(region(0, 0x2000, 0), memory)]).unwrap();
    let mappings = flags_of_mappings(inode);
    assert!(!mappings.is_empty());
    for flags in mappings {
        let excluded = flags.split_whitespace().any(|flag| flag == "dd");
        assert!(excluded, "{flags}");
    }
}
