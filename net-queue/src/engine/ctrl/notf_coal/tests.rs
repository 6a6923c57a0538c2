use super::*;

#[test]
fn notifications_wait_only_where_both_a_number_and_a_time_are_set() {
    assert!(!NotificationCoalescing::OFF.is_on());
    for (max_packets, max_usecs, on) in [
        (0, 0, false),
        (0, 1, false),
        (1, 0, false),
        (1, 1, true),
        (0, u32::MAX, false),
        (u32::MAX, 0, false),
        (u32::MAX, u32::MAX, true),
    ] {
        let notf_coal = NotificationCoalescing {
            max_packets,
            max_usecs,
        };
        assert_eq!(notf_coal.is_on(), on, "{notf_coal:?}");
    }
}

#[test]
fn the_parameters_are_two_little_endian_words() {
    let notf_coal = NotificationCoalescing {
        max_packets: 0x0403_0201,
        max_usecs: 0x0807_0605,
    };
    let wire = [1, 2, 3, 4, 5, 6, 7, 8];
    assert_eq!(notf_coal.to_wire(), wire);
    assert_eq!(NotificationCoalescing::from_wire(wire), notf_coal);
    let mut bytes = Vec::new();
    let mut reply = Reply::new(&mut bytes, 100);
    reply.push_notf_coal(notf_coal);
    assert_eq!(bytes[bytes.len() - 8..], wire);
}
