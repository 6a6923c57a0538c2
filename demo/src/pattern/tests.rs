use super::{Mismatch, PERIOD, RUN, check, fill};

#[test]
fn a_filled_stream_checks_at_every_kind_of_offset() {
    for offset in [
        0,
        1,
        PERIOD as u64 - 1,
        PERIOD as u64,
        u64::from(u32::MAX) + 7,
    ] {
        let mut bytes = vec![0; 2 * RUN + 3];
        fill(offset, &mut bytes);
        assert_eq!(check(offset, &bytes), Ok(()));
    }
}

#[test]
fn the_stream_does_not_depend_on_how_it_is_cut() {
    let mut whole = vec![0; 5000];
    fill(100, &mut whole);
    let mut parts = vec![0; 5000];
    let (head, tail) = parts.split_at_mut(1460);
    fill(100, head);
    fill(1560, tail);
    assert_eq!(whole, parts);
}

#[test]
fn a_wrong_byte_is_found_where_it_is() {
    let mut bytes = vec![0; RUN + 100];
    fill(9, &mut bytes);
    bytes[RUN + 50] ^= 1;
    assert_eq!(
        check(9, &bytes),
        Err(Mismatch {
            offset: 9 + RUN as u64 + 50
        })
    );
}

#[test]
fn a_lost_segment_is_found() {
    let mut bytes = vec![0; 1460];
    fill(1460, &mut bytes);
    assert!(check(0, &bytes).is_err());
}
