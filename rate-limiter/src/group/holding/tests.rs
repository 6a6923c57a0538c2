use super::*;
use crate::config::Limit;
use crate::rate::{Quantity, Rate};

fn takes_on_credit() {
    // One byte a nanosecond.
    let meter = Meter::new(&Limit {
        rate: Rate::new(1, 1, Quantity::Bytes).unwrap(),
        size: 8000,
        one_time_burst: None,
    });
    let mut holding = Holding::new(Some(&meter));
    assert_eq!(holding.funds(), Some(0));
    assert!(holding.reserve(&meter, 0, 100, 1).unwrap().is_none());
    assert_eq!(holding.funds(), Some(1000), "with the advance");
    holding.spend(0, 300);
    assert_eq!(holding.funds(), Some(700));
    assert_eq!(Holding::new(None).funds(), None, "there is no limit");
}

/// Under `shuttle`, as unit tests have its atomics.
#[test]
fn what_is_in_hand_can_be_taken_on_credit() {
    shuttle::check_random(takes_on_credit, 1);
}
