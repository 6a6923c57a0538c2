use super::PageMap;

#[test]
fn runs_do_not_overlap_and_fill_the_map() {
    let mut map = PageMap::new(10);
    assert_eq!(map.take(4), Some(0));
    assert_eq!(map.take(6), Some(4));
    assert_eq!(map.take(1), None);
}

#[test]
fn nothing_is_not_an_allocation() {
    let mut map = PageMap::new(10);
    assert_eq!(map.take(0), None);
    assert!(!map.give(3, 0));
    assert_eq!(map.free_pages(), 10);
}

#[test]
fn a_gap_is_reused_when_it_is_long_enough() {
    let mut map = PageMap::new(10);
    let runs: Vec<_> = (0..5).map(|_| map.take(2).unwrap()).collect();
    assert!(map.give(runs[1], 2));
    assert_eq!(map.take(3), None);
    assert_eq!(map.take(2), Some(runs[1]));
}

#[test]
fn neighbours_merge_whatever_the_order_of_return() {
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ] {
        let mut map = PageMap::new(9);
        let runs: Vec<_> = (0..3).map(|_| map.take(3).unwrap()).collect();
        for i in order {
            assert!(map.give(runs[i], 3));
        }
        assert_eq!(map.take(9), Some(0), "returned in the order {order:?}");
    }
}

#[test]
fn a_page_comes_back_once() {
    let mut map = PageMap::new(8);
    let first = map.take(4).unwrap();
    assert!(map.give(first, 4));
    assert!(!map.give(first, 4));
    assert!(!map.give(first + 3, 1));
    assert!(!map.give(first + 3, 2));
    assert_eq!(map.free_pages(), 8);
}

#[test]
fn foreign_pages_are_refused() {
    let mut map = PageMap::new(8);
    map.take(8).unwrap();
    assert!(!map.give(8, 1));
    assert!(!map.give(7, 2));
    assert!(!map.give(usize::MAX, 2));
    assert_eq!(map.free_pages(), 0);
}
