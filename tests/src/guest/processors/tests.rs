use super::{allowed_in, split};

#[test]
fn the_last_processor_is_split_off() {
    let shares = |list| split(list).map(|shares| (shares.rest, shares.guest));
    let both = |rest: &str, guest: &str| Some((rest.to_owned(), guest.to_owned()));
    assert_eq!(shares("0-1"), both("0-0", "1"));
    assert_eq!(shares("0-7"), both("0-6", "7"));
    assert_eq!(shares("0,2"), both("0", "2"));
    assert_eq!(shares("0-3,8"), both("0-3", "8"));
    assert_eq!(shares("1,4-5"), both("1,4-4", "5"));
    assert_eq!(shares("3"), None);
    assert_eq!(shares("many"), None);
}

#[test]
fn the_list_is_found_in_a_status() {
    let status = "Name:\tcat\nCpus_allowed:\t3\nCpus_allowed_list:\t0-1\nMems_allowed:\t1\n";
    assert_eq!(allowed_in(status), Some("0-1"));
    assert_eq!(allowed_in("Name:\tcat\n"), None);
}
