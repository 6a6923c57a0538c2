use super::{PAGE, PLACE, Private};

#[test]
fn private_memory_begins_at_its_place_and_is_as_long_as_asked_for() {
    for len in [0, 1, 12, 4096, 65_566] {
        let mut private = Private::new(len);
        assert_eq!(private.len(), len);
        assert_eq!(private.as_ptr().addr() % PAGE, PLACE);
        private.fill(1);
        let moved = private;
        assert_eq!(moved.as_ptr().addr() % PAGE, PLACE);
        assert!(moved.iter().all(|byte| *byte == 1));
    }
}
