//! A ring and its two threads, in all orders that `shuttle` and weakly ordered memory can show.

use std::sync::Arc;

use shuttle::thread;

use super::FrameRing;

const RUNS: usize = 300;

/// Frame `number`: its length and its bytes follow from it.
fn frame(number: u8) -> Vec<u8> {
    vec![number; usize::from(number) * 5 % 23]
}

/// Pushes `count` frames through a ring of 8 words; each arrives whole and in its turn.
fn exchange(count: u8) {
    let ring = Arc::new(FrameRing::new(8));
    let producer = {
        let ring = ring.clone();
        thread::spawn(move || {
            for number in 0..count {
                while !ring.push(&frame(number)) {
                    thread::yield_now();
                }
            }
        })
    };
    for number in 0..count {
        let mut room = [0xff; 32];
        let len = loop {
            match ring.pop(&mut room) {
                Some(len) => break len,
                None => thread::yield_now(),
            }
        };
        assert_eq!(room[..len], frame(number));
        assert!(room[len..].iter().all(|byte| *byte == 0xff));
    }
    assert_eq!(ring.pop(&mut [0; 32]), None);
    producer.join().expect("it pushes all");
}

#[test]
fn frames_arrive_whole_and_in_order() {
    shuttle::check_random(|| exchange(9), RUNS);
}

#[test]
fn what_does_not_fit_is_not_taken() {
    shuttle::check_random(
        || {
            let ring = FrameRing::new(5);
            assert!(!ring.push(&[1; 57]), "longer than the ring of eight words");
            assert!(ring.push(&[2; 56]));
            assert!(!ring.push(&[]));
            let mut room = [0; 4];
            assert_eq!(
                ring.pop(&mut room),
                Some(56),
                "as much as there is room for"
            );
            assert_eq!(room, [2; 4]);
            for len in 0..40 {
                assert!(ring.push(&vec![3; len]));
                let mut room = [0; 40];
                assert_eq!(ring.pop(&mut room), Some(len));
                assert_eq!(room[..len], vec![3; len]);
            }
            assert_eq!(ring.pop(&mut room), None);
        },
        1,
    );
}
