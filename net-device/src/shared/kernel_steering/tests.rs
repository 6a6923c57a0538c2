//! The kernel's order of queues.

use super::AttachedPairs;

fn queues(attached: &AttachedPairs) -> [u16; 4] {
    [0, 1, 2, 3].map(|pair| attached.queue_of(pair))
}

#[test]
fn last_queue_takes_the_place_of_one_that_is_detached() {
    let mut attached = AttachedPairs::all(4);
    assert_eq!(queues(&attached), [0, 1, 2, 3]);
    attached.switch(1, false);
    assert_eq!(queues(&attached)[2..], [2, 1], "3 is in its place");
    attached.switch(1, false);
    assert_eq!(queues(&attached)[2..], [2, 1], "as it was");
    attached.switch(1, true);
    assert_eq!(queues(&attached), [0, 3, 2, 1]);
    attached.switch(1, true);
    assert_eq!(queues(&attached), [0, 3, 2, 1], "as it was");
}

#[test]
fn pairs_without_a_queue_share_those_of_the_others() {
    let mut attached = AttachedPairs::all(4);
    for pair in [2, 3] {
        attached.switch(pair, false);
    }
    assert_eq!(queues(&attached), [0, 1, 0, 1]);
    for pair in [0, 1] {
        attached.switch(pair, false);
    }
    assert_eq!(queues(&attached), [0; 4]);
}
