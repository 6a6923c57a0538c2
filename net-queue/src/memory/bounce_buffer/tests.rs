use super::{BounceBuffer, PAGE, START_OFFSET};

#[test]
fn a_bounce_buffer_begins_at_its_place_and_is_as_long_as_asked_for() {
    for len in [0, 1, 12, 4096, 65_566] {
        let mut buffer = BounceBuffer::new(len);
        assert_eq!(buffer.len(), len);
        assert_eq!(buffer.as_ptr().addr() % PAGE, START_OFFSET);
        buffer.fill(1);
        let moved = buffer;
        assert_eq!(moved.as_ptr().addr() % PAGE, START_OFFSET);
        assert!(moved.iter().all(|byte| *byte == 1));
    }
}

#[test]
fn a_chunk_is_a_piece_of_the_buffer_that_ends_with_it() {
    let mut buffer = BounceBuffer::new(16);
    for (byte, value) in buffer.iter_mut().zip(0..) {
        *byte = value;
    }
    assert_eq!(buffer.chunk_at::<4>(12), Some(&[12, 13, 14, 15]));
    assert_eq!(buffer.chunk_at::<4>(13), None);
    assert_eq!(buffer.chunk_at::<4>(17), None);
}
