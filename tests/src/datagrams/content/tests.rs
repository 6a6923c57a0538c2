use super::*;

const NAME: Name = Name {
    flow: 3,
    number: 70_000,
};

#[test]
fn a_datagram_of_every_length_is_read_as_it_was_written() {
    let pattern = Pattern::default();
    for length in [HEADER, HEADER + 1, 200, 1472, LONGEST] {
        let mut bytes = vec![0; length];
        pattern.write(NAME, &mut bytes);
        assert_eq!(pattern.read(&bytes), Some(NAME), "{length}");
    }
}

#[test]
fn every_changed_byte_and_every_other_length_is_noticed() {
    let pattern = Pattern::default();
    let mut bytes = vec![0; 200];
    pattern.write(NAME, &mut bytes);
    for at in 0..bytes.len() {
        bytes[at] ^= 1;
        assert_eq!(
            pattern.read(&bytes).filter(|name| *name == NAME),
            None,
            "{at}"
        );
        bytes[at] ^= 1;
    }
    for length in 0..bytes.len() {
        assert_eq!(pattern.read(&bytes[..length]), None, "{length}");
    }
    bytes.push(0);
    assert_eq!(pattern.read(&bytes), None);
}
