//! Which bits a write sets, and that none is set outside.

use std::fs::File;
use std::io::Read;

use net_device::net_queue::guard;

use super::*;
use crate::protocol::interrupts::Interrupts;

/// A bitmap of `len` bytes in a file of twice that, and the file.
fn bitmap(len: u64) -> (DirtyBitmap, File) {
    let file = tempfile::tempfile_in("/dev/shm").unwrap();
    file.set_len(2 * len).unwrap();
    let log =
        DirtyBitmap::new(&VhostUserLog::new(len, 0), file.try_clone().unwrap().into()).unwrap();
    (log, file)
}

fn bits(mut file: &File) -> Vec<u64> {
    use std::io::{Seek, SeekFrom};
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    (0..bytes.len() as u64 * 8)
        .filter(|bit| bytes[(bit / 8) as usize] >> (bit % 8) & 1 == 1)
        .collect()
}

#[test]
fn each_touched_page_has_its_bit() {
    let (log, file) = bitmap(0x1000);
    log.mark(0x1fff, 1);
    log.mark(0x9000, 0x1000);
    log.mark(0x12fff, 2);
    assert_eq!(bits(&file), [1, 9, 0x12, 0x13]);
}

#[test]
fn nothing_and_far_away_mark_nothing() {
    let (log, file) = bitmap(0x1000);
    log.mark(0x1000, 0);
    log.mark(0x1000 * 0x8000, 1);
    log.mark(u64::MAX, 1);
    log.mark(u64::MAX, u64::MAX);
    assert!(bits(&file).is_empty());
}

#[test]
fn a_range_that_leaves_the_bitmap_is_cut() {
    let (log, file) = bitmap(0x1000);
    log.mark(0x1000 * 0x7ffe, u64::MAX);
    assert_eq!(bits(&file), [0x7ffe, 0x7fff]);
}

#[test]
fn a_bitmap_beyond_its_file_is_refused() {
    let file = tempfile::tempfile_in("/dev/shm").unwrap();
    file.set_len(0x1000).unwrap();
    assert!(DirtyBitmap::new(&VhostUserLog::new(0x1000, 0x1000), file.into()).is_err());
}

#[test]
fn a_used_ring_is_marked_where_its_front_end_says() {
    let (log, file) = bitmap(0x1000);
    let ring = UsedRing {
        gpa: 0x5000,
        len: 0x1000,
        log_addr: 0x100_0000,
    };
    let pages = DirtyPages::new(log, vec![ring], Arc::new(Interrupts::new(0, true).unwrap()));
    pages.mark(0x5ffc, 8);
    pages.mark(0x4000, 4);
    assert_eq!(bits(&file), [4, 5, 6, 0x1000]);
}

#[test]
fn a_log_that_was_taken_away_is_told_once() {
    guard::install().unwrap();
    let (log, file) = bitmap(0x1000);
    let session = Arc::new(Interrupts::new(0, true).unwrap());
    let pages = DirtyPages::new(log.clone(), Vec::new(), session.clone());
    pages.mark(0x1000, 1);
    assert!(!log.is_lost());
    file.set_len(0).unwrap();
    pages.mark(0x1000, 1);
    pages.mark(0x2000, 1);
    assert!(log.is_lost());
    let mut told = [0; 8];
    session.config_event().read_exact(&mut told).unwrap();
    assert_eq!(u64::from_ne_bytes(told), 1);
}
