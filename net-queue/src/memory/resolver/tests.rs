use super::*;
use crate::testing::TestMemory;

/// Each buffer but the first of a region is found without a search.
#[test]
fn the_region_of_the_last_buffer_is_at_hand() {
    let memory = TestMemory::new();
    let addr = memory.alloc(64, 64);
    let mut resolver = Resolver::new(memory.ram());
    assert!(resolver.last.part(addr, 64).is_none());
    let found = resolver.resolve(addr, 64, Access::Read, |_| Ok::<_, BadAddress>(()));
    assert_eq!(found, Ok(()));
    assert!(resolver.last.part(addr, 64).is_some());
}
