//! The table of translations: what it holds, and what it holds of a front-end that tells too much.

use super::*;

const READ: Access = Access::Read;
const WRITE: Access = Access::Write;

fn only(bits: u8) -> Permissions {
    Permissions::new(bits).unwrap()
}

/// Pages `from` to `to` without that.
fn pages(from: u64, to: u64) -> (u64, u64) {
    (from * PAGE, to * PAGE - 1)
}

fn made(asks: bool) -> Iotlb {
    let iotlb = Iotlb::new().unwrap();
    iotlb.set_asks(asks);
    let _ = iotlb.questions();
    iotlb
}

fn is_mapped(iotlb: &Iotlb, page: u64) -> Option<u64> {
    iotlb.look_up(page * PAGE).map(|(gpa, _)| gpa / PAGE)
}

#[test]
fn addresses_are_found_with_the_access_that_is_allowed() {
    let iotlb = made(false);
    let (first, last) = pages(2, 5);
    assert_eq!(
        iotlb.insert(first, last, 0x10_0000, only(1)),
        Told::default()
    );
    assert_eq!(
        iotlb.translate(first + 5, 9, READ),
        Ok((0x10_0005, 3 * PAGE - 5))
    );
    assert_eq!(iotlb.translate(last, 9, READ), Ok((0x10_2fff, 1)));
    for (iova, access) in [(first, WRITE), (first - 1, READ), (last + 1, READ)] {
        let refused = TranslateError::NotMapped { iova };
        assert_eq!(iotlb.translate(iova, 1, access), Err(refused));
    }
    // To the last address of all.
    iotlb.insert(1 << 63, u64::MAX, 0, Permissions::ALL);
    assert_eq!(
        iotlb.translate(u64::MAX, 1, WRITE),
        Ok((i64::MAX as u64, 1))
    );
}

#[test]
fn what_takes_the_place_of_something_else_says_so() {
    let iotlb = made(false);
    let told = |first: u64, last: u64, gpa: u64, bits| {
        let (first, last) = pages(first, last);
        iotlb.insert(first, last, gpa * PAGE, only(bits)).replaces
    };
    assert!(!told(10, 20, 110, 1));
    assert!(!told(10, 20, 110, 1), "the same");
    assert!(!told(12, 13, 112, 3), "a part, and more of it allowed");
    assert!(told(12, 13, 112, 1), "less of it allowed");
    assert!(told(12, 13, 200, 1), "elsewhere");
    assert!(!told(30, 31, 30, 3));
    assert!(told(29, 32, 30, 3), "moved by a page");
    assert_eq!(is_mapped(&iotlb, 29), Some(30));
}

#[test]
fn a_range_that_is_taken_back_goes_with_all_that_it_touches() {
    let iotlb = made(false);
    assert!(!iotlb.remove(0, u64::MAX), "nothing is there");
    for page in 0..8 {
        let (first, last) = pages(2 * page, 2 * page + 2);
        iotlb.insert(first, last, first, Permissions::ALL);
    }
    assert!(iotlb.remove(5 * PAGE + 1, 5 * PAGE + 1));
    let left: Vec<_> = (0..16)
        .filter(|page| is_mapped(&iotlb, *page).is_some())
        .collect();
    assert_eq!(left, [0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    assert!(!iotlb.remove(5 * PAGE, 5 * PAGE));
    assert!(iotlb.remove(3 * PAGE, 12 * PAGE));
    let left: Vec<_> = (0..16)
        .filter(|page| is_mapped(&iotlb, *page).is_some())
        .collect();
    assert_eq!(left, [0, 1, 14, 15]);
    iotlb.clear();
    assert!(!iotlb.remove(0, u64::MAX));
}

/// A range that is taken back counts as in use after others were forgotten, which may be.
#[test]
fn no_front_end_makes_it_grow() {
    let iotlb = made(true);
    for page in 0..3 * MAX_ENTRIES as u64 {
        let (first, last) = pages(2 * page, 2 * page + 1);
        iotlb.insert(first, last, first, Permissions::ALL);
        assert!(iotlb.table().entries.len() <= MAX_ENTRIES);
        assert_eq!(
            is_mapped(&iotlb, 2 * page),
            Some(2 * page),
            "the newest is there"
        );
    }
    assert!(iotlb.remove(1, 2) && !iotlb.remove(u64::MAX, u64::MAX));
    for page in 0..2 * MAX_MISSES as u64 {
        let iova = (1 << 40) + page * PAGE;
        let awaited = iotlb.translate(iova, 1, READ) == Err(TranslateError::Awaited { iova });
        assert_eq!(awaited, page < MAX_MISSES as u64);
    }
    assert_eq!(iotlb.questions().len(), MAX_MISSES);
}

#[test]
fn a_question_is_asked_once_and_answered_or_given_up() {
    let iotlb = made(true);
    let awaited = |iova| Err(TranslateError::Awaited { iova });
    let refused = |iova| Err(TranslateError::NotMapped { iova });
    let ready = || {
        crate::sys::is_ready(
            std::os::fd::AsFd::as_fd(iotlb.event()),
            Interest::Readable,
            Some(0),
        )
    };
    assert_eq!(iotlb.translate(0x5000, 1, READ), awaited(0x5000));
    assert!(ready().unwrap());
    assert_eq!(iotlb.questions(), [(0x5000, only(1))]);
    assert_eq!(iotlb.questions(), [(0x5000, only(1))], "it was not sent");
    iotlb.asked(0x5000);
    assert_eq!(iotlb.translate(0x5000, 1, READ), awaited(0x5000));
    assert!(iotlb.questions().is_empty() && !ready().unwrap());
    assert_eq!(iotlb.translate(0x5000, 1, WRITE), awaited(0x5000));
    assert_eq!(iotlb.questions(), [(0x5000, only(3))], "more is wanted");
    iotlb.asked(0x5000);
    // To whoever is there to be asked then.
    iotlb.set_asks(true);
    assert_eq!(iotlb.questions(), [(0x5000, only(3))]);
    let told = iotlb.insert(0x4000, 0x4fff, 0, Permissions::ALL);
    assert!(!told.awaited);
    let told = iotlb.insert(0x5000, 0x5fff, 0, Permissions::ALL);
    assert!(told.awaited && iotlb.questions().is_empty());
    assert_eq!(iotlb.deadline(), None);

    assert_eq!(iotlb.translate(0x7000, 1, WRITE), awaited(0x7000));
    assert!(iotlb.insert(0x7000, 0x7fff, 0, only(1)).awaited);
    for _ in 0..2 {
        assert_eq!(iotlb.translate(0x7000, 1, WRITE), refused(0x7000));
    }
    let due = iotlb.deadline().unwrap();
    assert!(!iotlb.give_up(due), "it was refused before");
    assert_eq!(iotlb.translate(0x7000, 1, WRITE), awaited(0x7000), "anew");

    let due = iotlb.deadline().unwrap();
    assert!(!iotlb.give_up(due - Duration::from_millis(1)));
    assert!(iotlb.give_up(due));
    assert!(!iotlb.give_up(due), "once");
    for _ in 0..2 {
        assert_eq!(iotlb.translate(0x7000, 1, WRITE), refused(0x7000));
    }
    assert!(!iotlb.request(0x7000, 1, WRITE));
    assert_eq!(iotlb.translate(0x7000, 1, WRITE), awaited(0x7000), "anew");
    let due = iotlb.deadline().unwrap();
    assert!(iotlb.give_up(due) && !iotlb.give_up(due + 2 * PATIENCE));
    assert_eq!(iotlb.deadline(), None, "nobody came for it");
}

#[test]
fn a_range_is_requested_page_by_page() {
    let iotlb = made(true);
    assert!(!iotlb.request(0x1800, 0x2000, WRITE));
    let asked: Vec<_> = iotlb.questions().iter().map(|(iova, _)| *iova).collect();
    assert_eq!(asked, [0x1800, 0x2000, 0x3000]);
    for page in [2, 3] {
        let (first, last) = pages(page, page + 1);
        iotlb.insert(first, last, first, Permissions::ALL);
    }
    assert!(!iotlb.request(0x1800, 0x2000, WRITE));
    iotlb.insert(0x1000, 0x1fff, 0, Permissions::ALL);
    assert!(iotlb.request(0x1800, 0x2000, WRITE));
    assert!(iotlb.request(u64::MAX, 0, WRITE), "nothing");
}
