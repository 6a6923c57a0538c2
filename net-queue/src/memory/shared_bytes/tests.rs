//! Bytes that two processes share.

use vm_memory::MmapRegion;

use super::*;

#[test]
fn bits_are_set_and_read_by_every_clone_within_the_mapping() {
    let memory = Arc::new(MmapRegion::<()>::new(4096).unwrap());
    let bytes = SharedBytes::new(memory);
    let other = bytes.clone();
    assert_eq!(bytes.len(), 4096);
    assert!(!bytes.is_empty());
    assert_eq!(format!("{bytes:?}"), "SharedBytes(4096 bytes)");

    bytes.fetch_or(7, 0x81).unwrap();
    other.fetch_or(7, 0x12).unwrap();
    let mut read = [0xff; 3];
    assert_eq!(other.read(6, &mut read), Ok(3));
    assert_eq!(read, [0, 0x93, 0]);
    drop(bytes);
    assert_eq!(other.read(7, &mut read[..1]), Ok(1));
    assert_eq!(read[0], 0x93, "a clone keeps the mapping");
}

#[test]
fn nothing_lies_beyond_the_end() {
    let bytes = SharedBytes::new(Arc::new(MmapRegion::<()>::new(4096).unwrap()));
    for offset in [4096, usize::MAX] {
        bytes.fetch_or(offset, 1).unwrap();
        assert_eq!(bytes.read(offset, &mut [0; 2]), Ok(0));
    }
    assert_eq!(bytes.read(4095, &mut [0; 2]), Ok(1));
}
