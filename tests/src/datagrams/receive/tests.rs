use super::*;
use crate::datagrams::content::Name;

fn taken(datagrams: &[(u16, u64)]) -> Received {
    let pattern = Pattern::default();
    let mut flow = Flow::new(1);
    for (of, number) in datagrams {
        let mut bytes = [0; 100];
        let name = Name {
            flow: *of,
            number: *number,
        };
        pattern.write(name, &mut bytes);
        flow.take(&pattern, &bytes);
    }
    let mut sum = Received::default();
    flow.add_to(&mut sum);
    sum
}

#[test]
fn lost_reordered_and_strange_datagrams_are_counted() {
    let all = taken(&[(1, 0), (1, 1), (1, 2)]);
    assert_eq!((all.datagrams, all.bytes), (3, 300));
    assert_eq!((all.lost, all.reordered, all.wrong), (0, 0, 0));
    assert_eq!(taken(&[(1, 0), (1, 3)]).lost, 2);
    let swapped = taken(&[(1, 1), (1, 0), (1, 2)]);
    assert_eq!((swapped.lost, swapped.reordered), (0, 1));
    assert_eq!(taken(&[(1, 0), (2, 1)]).wrong, 1);
    // A datagram that came twice does not make up for one that is lost.
    assert_eq!(taken(&[(1, 0), (1, 0)]).reordered, 1);
}

#[test]
fn a_mark_ends_a_flow_and_is_no_datagram() {
    assert_eq!(taken(&[(1, 0), (1, END)]).datagrams, 1);
}

#[test]
fn a_changed_byte_is_wrong() {
    let pattern = Pattern::default();
    let mut bytes = [0; 100];
    pattern.write(Name { flow: 1, number: 0 }, &mut bytes);
    bytes[99] ^= 0x80;
    let mut flow = Flow::new(1);
    flow.take(&pattern, &bytes);
    assert_eq!((flow.wrong, flow.received), (1, 0));
}
