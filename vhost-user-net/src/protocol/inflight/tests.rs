use std::fs::File;
use std::os::unix::fs::FileExt;

use super::*;

/// A region for `queues` rings of 256 descriptors, and its file.
fn region(layout: Layout, queues: u16) -> (InflightArea, File) {
    let (area, fd) = InflightRegion::create(layout, queues, 256).unwrap();
    (area, File::from(fd))
}

#[test]
fn parts_are_as_long_as_those_of_other_back_ends() {
    // Header and entries, up to a multiple of 64, as in libvhost-user and DPDK.
    for (layout, len) in [
        (Layout::Split, 16 + 256 * 16 + 48),
        (Layout::Packed, 32 + 256 * 32 + 32),
    ] {
        let (area, file) = region(layout, 3);
        assert_eq!((area.size, area.offset), (3 * len, 0));
        assert_eq!((area.queues, area.queue_size), (3, 256));
        assert_eq!(file.metadata().unwrap().len(), area.size);
    }
}

#[test]
fn a_region_keeps_its_length() {
    let (area, file) = region(Layout::Split, 2);
    assert!(file.set_len(0).is_err());
    assert!(file.set_len(2 * area.size).is_err());
}

#[test]
fn each_ring_has_a_part_of_its_own() {
    for layout in [Layout::Split, Layout::Packed] {
        let (area, file) = region(layout, 2);
        let mapped = InflightRegion::map(&area, file.try_clone().unwrap().into()).unwrap();
        // The versions of both parts.
        let version = |index: u64| index * area.size / 2 + 8;
        for index in 0..2 {
            file.write_all_at(&[1], version(index)).unwrap();
        }
        mapped.journal(1, layout, 128).unwrap().close();
        let mut versions = [[9; 2]; 2];
        for (index, bytes) in versions.iter_mut().enumerate() {
            file.read_exact_at(bytes, version(index as u64)).unwrap();
        }
        assert_eq!(versions, [[1, 0], [0, 0]]);
        assert!(mapped.journal(2, layout, 128).is_none());
        assert!(mapped.journal(0, layout, 257).is_none());
    }
}

#[test]
fn a_region_is_wholly_inside_its_file() {
    let (area, file) = region(Layout::Packed, 2);
    let map = |size, queues| {
        let area = InflightArea {
            size,
            queues,
            ..area
        };
        InflightRegion::map(&area, file.try_clone().unwrap().into())
    };
    assert!(matches!(
        map(area.size + 1, 2),
        Err(MapError::PastEnd { .. })
    ));
    assert!(matches!(
        map(MAX_REGION + 1, 2),
        Err(MapError::TooMuch { .. })
    ));
    // One that is too short for its rings has the parts that fit.
    let short = map(area.size, 4).unwrap();
    assert!(short.journal(1, Layout::Packed, 256).is_some());
    assert!(short.journal(2, Layout::Packed, 256).is_none());
    let (null, size) = (File::open("/dev/null").unwrap(), area.size);
    let null = InflightRegion::map(&InflightArea { size, ..area }, null.into());
    assert!(matches!(null, Err(MapError::NotAFile)));
}
