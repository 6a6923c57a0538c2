use super::*;

/// A message of `len` bytes about interface `index`.
fn message(len: u32, index: u32) -> Vec<u8> {
    let mut bytes = vec![0; 32];
    bytes[..4].copy_from_slice(&len.to_ne_bytes());
    bytes[20..24].copy_from_slice(&index.to_ne_bytes());
    bytes
}

#[test]
fn messages_about_other_interfaces_do_not_count() {
    assert!(!concerns(&[], 7));
    assert!(!concerns(&message(32, 8), 7));
    assert!(concerns(&message(32, 7), 7));
    let several = [message(32, 8), message(32, 9), message(32, 7)].concat();
    assert!(concerns(&several, 7));
    assert!(!concerns(&several, 6));
}

#[test]
fn what_cannot_be_read_counts() {
    for len in [0, 1, 15] {
        assert!(concerns(&message(len, 8), 7), "a length of {len}");
    }
    assert!(concerns(&message(32, 8)[..20], 7));
    // Longer than what is there: nothing is left to be read.
    assert!(!concerns(&message(u32::MAX, 8), 7));
}
