use super::*;

#[test]
fn reports_are_read_as_they_were_written() {
    let sent = Sent {
        datagrams: 1,
        bytes: 2,
        time: Duration::from_nanos(3),
    };
    assert_eq!(Sent::parse(&format!("{sent}\n")), Some(sent));
    let received = Received {
        datagrams: 1,
        bytes: 2,
        lost: 3,
        reordered: 4,
        wrong: 5,
        full: 6,
        time: Duration::from_nanos(7),
    };
    let printed = format!("noise\n{received}\n");
    assert_eq!(Received::parse(&printed), Some(received));
    assert_eq!(Sent::parse(&printed), None);
}
