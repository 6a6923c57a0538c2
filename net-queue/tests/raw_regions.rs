//! Guest memory from bare host ranges, as a VMM with mappings of its own hands it in.
#![allow(unsafe_code)]

use std::ptr;
use std::sync::Arc;

use net_queue::ring::{AnyRing, Layout, RingAddrs, RingConfig, RingError};
use net_queue::testing::DirtyRanges;
use net_queue::{BadAddress, GuestRam, RamError, RawRegion, ReadError};
use vm_memory::MmapRegion;

const LEN: usize = 8192;

fn region(mapping: &MmapRegion, gpa: u64, at: usize, len: usize) -> RawRegion {
    RawRegion {
        gpa,
        host: mapping.as_ptr().wrapping_add(at),
        len,
    }
}

#[test]
fn ranges_are_guest_memory_and_keep_their_owner() {
    let owner = Arc::new(MmapRegion::<()>::new(LEN).expect("it can be mapped"));
    // SAFETY: the byte is within the mapping, which nobody else accesses.
    unsafe { owner.as_ptr().add(4096).write(7) };
    let regions = [
        region(&owner, 0x9000, 4096, 4096),
        region(&owner, 0x1000, 0, 4096),
    ];
    // SAFETY: both ranges are within the mapping, which `owner` keeps.
    let ram = unsafe { GuestRam::from_raw_regions(&regions, owner.clone()) };
    let ram = ram
        .expect("the ranges are apart")
        .with_dirty_log(Some(Arc::<DirtyRanges>::default()));
    let weak = Arc::downgrade(&owner);
    drop(owner);
    let mut byte = [0];
    ram.read(0x9000, &mut byte).expect("it is there");
    assert_eq!(byte, [7]);
    let beyond = BadAddress {
        addr: 0x2000,
        len: 1,
        awaited: None,
    };
    assert_eq!(ram.read(0x2000, &mut byte), Err(ReadError::Address(beyond)));
    assert!(weak.upgrade().is_some());
    drop(ram);
    assert!(weak.upgrade().is_none());
}

#[test]
fn what_lies_in_several_ranges_is_read_as_one() {
    let owner = Arc::new(MmapRegion::<()>::new(LEN).expect("it can be mapped"));
    // In the other order for the host.
    let regions = [
        region(&owner, 0x1000, 4096, 4096),
        region(&owner, 0x2000, 0, 4096),
    ];
    // SAFETY: both ranges are within the mapping, which `owner` keeps.
    let ram = unsafe { GuestRam::from_raw_regions(&regions, owner.clone()) };
    let ram = ram.expect("the ranges are apart");
    for (at, byte) in [(LEN - 2, 1), (LEN - 1, 2), (0, 3), (1, 4)] {
        // SAFETY: the byte is within the mapping, which nobody else accesses.
        unsafe { owner.as_ptr().add(at).write(byte) };
    }
    let mut bytes = [0; 4];
    ram.read(0x1ffe, &mut bytes).expect("it is there");
    assert_eq!(bytes, [1, 2, 3, 4]);
}

#[test]
fn ranges_that_cannot_be_are_refused() {
    let owner = Arc::new(MmapRegion::<()>::new(LEN).expect("it can be mapped"));
    let made = |regions: &[RawRegion]| {
        // SAFETY: a range is within the mapping, or refused.
        unsafe { GuestRam::from_raw_regions(regions, owner.clone()) }
    };
    assert!(matches!(made(&[]), Err(RamError::Empty)));
    let null = RawRegion {
        gpa: 0,
        host: ptr::null_mut(),
        len: 1,
    };
    assert!(matches!(made(&[null]), Err(RamError::NotMapped(0))));
    let empty = region(&owner, 0x1000, 0, 0);
    assert!(matches!(made(&[empty]), Err(RamError::NotMapped(0x1000))));
    let endless = region(&owner, 0x1000, 0, usize::MAX);
    assert!(matches!(made(&[endless]), Err(RamError::NotMapped(0x1000))));
    let overlapping = [region(&owner, 0, 0, 4096), region(&owner, 4095, 4096, 4096)];
    assert!(matches!(made(&overlapping), Err(RamError::Overlap(4095))));
    let last = region(&owner, u64::MAX - 1, 0, 2);
    assert!(made(&[last]).is_ok());
}

/// Places whose lowest bits are the same are none the better for it.
#[test]
fn a_ring_whose_addresses_are_aligned_neither_for_the_guest_nor_for_the_host_is_refused() {
    let owner = Arc::new(MmapRegion::<()>::new(LEN).expect("it can be mapped"));
    let regions = [region(&owner, 0x1000, 0, LEN)];
    // SAFETY: the range is the mapping.
    let ram = unsafe { GuestRam::from_raw_regions(&regions, owner.clone()) };
    let ram = ram.expect("one range");
    for layout in [Layout::Split, Layout::Packed] {
        for at in 1..16 {
            let desc = 0x1000 + at;
            let config = RingConfig {
                layout,
                size: 4,
                addrs: RingAddrs {
                    desc,
                    driver: 0x1100,
                    device: 0x1200,
                },
                ..RingConfig::default()
            };
            let refused = AnyRing::new(&ram, &config);
            let alignment =
                |error| matches!(error, RingError::Alignment { addr, .. } if addr == desc);
            assert!(refused.is_err_and(alignment), "{layout:?} at {at}");
        }
    }
}

/// Words of a ring are accessed where they are mapped.
#[test]
fn a_ring_that_is_mapped_where_its_words_are_not_aligned_is_refused() {
    let owner = Arc::new(MmapRegion::<()>::new(LEN).expect("it can be mapped"));
    for layout in [Layout::Split, Layout::Packed] {
        let config = RingConfig {
            layout,
            size: 4,
            addrs: RingAddrs {
                desc: 0x1000,
                driver: 0x1100,
                device: 0x1200,
            },
            ..RingConfig::default()
        };
        for at in 0..=32 {
            let regions = [region(&owner, 0x1000, at, 4096)];
            // SAFETY: the range is within the mapping.
            let ram = unsafe { GuestRam::from_raw_regions(&regions, owner.clone()) };
            match AnyRing::new(&ram.expect("one range"), &config) {
                Ok(_) => assert!(at.is_multiple_of(16), "{layout:?} at {at}"),
                Err(error) => {
                    let refused = matches!(error, RingError::Alignment { addr: 0x1000, .. });
                    assert!(
                        refused && !at.is_multiple_of(16),
                        "{layout:?} at {at}: {error}"
                    );
                }
            }
        }
    }
}
