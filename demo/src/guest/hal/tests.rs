use std::ptr::NonNull;

use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE};
use vm_memory::{Bytes, GuestAddress};

use super::{ArenaHal, DmaBuf};
use crate::guest::arena::{Arena, BASE, SIZE};

#[test]
fn pages_are_zeroed_every_time() {
    for _ in 0..2 {
        let mut buf = DmaBuf::new(PAGE_SIZE).unwrap();
        assert!(buf.iter().all(|&byte| byte == 0));
        buf.fill(0xa5);
    }
}

#[test]
fn a_length_is_rounded_up_to_pages() {
    assert_eq!(DmaBuf::new(PAGE_SIZE + 1).unwrap().len(), 2 * PAGE_SIZE);
}

#[test]
fn more_than_the_arena_is_refused() {
    assert!(DmaBuf::new(SIZE + 1).is_none());
    let (paddr, _) = ArenaHal::dma_alloc(SIZE / PAGE_SIZE + 1, BufferDirection::Both);
    assert_eq!(paddr, 0);
}

#[test]
fn a_buffer_of_the_arena_is_shared_in_place() {
    let mut buf = DmaBuf::new(64).unwrap();
    let bytes = NonNull::from(&mut buf[..64]);
    // SAFETY: the buffer is valid and only this test uses it.
    let paddr = unsafe { ArenaHal::share(bytes, BufferDirection::Both) };
    assert!((BASE..BASE + SIZE as u64).contains(&paddr));
    Arena::global()
        .unwrap()
        .memory()
        .write_obj(0x5a_u8, GuestAddress(paddr + 63))
        .unwrap();
    // SAFETY: as above, with the address that `share` gave.
    unsafe { ArenaHal::unshare(paddr, bytes, BufferDirection::Both) };
    assert_eq!(buf[63], 0x5a);
}

#[test]
fn a_foreign_buffer_is_copied_there_and_back() {
    let mut foreign = vec![7_u8; 100];
    let bytes = NonNull::from(foreign.as_mut_slice());
    let memory = Arena::global().unwrap().memory();
    // SAFETY: the buffer is valid and only this test uses it.
    let paddr = unsafe { ArenaHal::share(bytes, BufferDirection::Both) };
    let mut seen = [0; 100];
    memory.read_slice(&mut seen, GuestAddress(paddr)).unwrap();
    assert_eq!(seen, [7; 100]);
    memory.write_slice(&[9; 100], GuestAddress(paddr)).unwrap();
    // SAFETY: as above, with the address that `share` gave.
    unsafe { ArenaHal::unshare(paddr, bytes, BufferDirection::Both) };
    assert_eq!(foreign, [9; 100]);
}
