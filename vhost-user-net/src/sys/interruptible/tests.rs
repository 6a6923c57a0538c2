//! Calls that wait for ever, unless somebody ends that.

use std::io::{ErrorKind, Write};

use super::*;

#[test]
fn a_call_that_waits_is_interrupted_and_one_that_does_not_is_left_alone() {
    prepare_thread().unwrap();
    let (_reader, mut writer) = io::pipe().unwrap();
    let page = [0; 4096];
    let mut full = || {
        let mut written = 0;
        loop {
            in_time(|| writer.write(&page).map(|count| written += count))
                .map_err(|error| (written, error.kind()))?;
        }
    };
    let end: Result<(), _> = full();
    assert_eq!(end, Err((1 << 16, ErrorKind::Interrupted)));
    assert!(in_time(|| Ok(())).is_ok());
}

#[test]
fn a_signal_that_is_in_use_is_not_taken() {
    let (one, other) = (claim(), claim());
    assert!(one.is_some() && one != other, "{one:?} {other:?}");
}
