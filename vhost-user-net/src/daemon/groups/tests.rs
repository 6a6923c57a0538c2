//! Groups as words.

use super::*;

fn membership(text: &str) -> Membership {
    text.parse().unwrap()
}

fn formed(texts: &[&str]) -> Result<Vec<Option<Arc<Shared>>>, GroupError> {
    let memberships: Vec<_> = texts.iter().map(|text| membership(text)).collect();
    form(&memberships.iter().map(Some).collect::<Vec<_>>())
}

#[test]
fn a_place_has_a_name_and_perhaps_limits() {
    assert_eq!(membership("tenant").limits, None);
    let full = membership("tenant:tx=1Gbit,rx=8Mbit,rx-pps=20kpps,burst=1MB");
    assert_eq!(full.name, "tenant");
    let limits = Limits::default().with("tx=1Gbit rx=8Mbit rx-pps=20kpps burst=1MB");
    assert_eq!(full.limits, Some(limits.unwrap()));
}

#[test]
fn nonsense_is_refused() {
    for text in [
        "",
        ":tx=1Gbit",
        "a:tx",
        "a:tx=5pps",
        "a:tx=1Gbit:",
        "a:mtu=5",
    ] {
        assert!(text.parse::<Membership>().is_err(), "{text}");
    }
}

#[test]
fn devices_of_one_name_share_one_budget() {
    let groups = formed(&["a", "b:rx=1MB", "a:tx=1Gbit", "a:tx=1Gbit"]).unwrap();
    let group = |at: usize| groups[at].clone().unwrap();
    assert!(Arc::ptr_eq(&group(0), &group(2)) && Arc::ptr_eq(&group(0), &group(3)));
    assert!(!Arc::ptr_eq(&group(0), &group(1)));
    assert_eq!(
        group(1).to_string(),
        "b rx=1000000B tx=off rx-pps=off tx-pps=off burst=off"
    );
}

#[test]
fn who_is_in_no_group_has_none() {
    let memberships = [None, Some(&membership("a:tx=1MB"))].map(|membership| membership.cloned());
    let groups = form(&memberships.each_ref().map(Option::as_ref)).unwrap();
    assert!(groups[0].is_none() && groups[1].is_some());
}

#[test]
fn limits_are_said_by_somebody_and_not_differently() {
    let refused = |texts: &[&str]| formed(texts).map(drop).unwrap_err();
    assert_eq!(refused(&["a", "a"]), GroupError::MissingLimits("a".into()));
    assert_eq!(
        refused(&["a:tx=1MB", "b:tx=1MB", "a:tx=2MB"]),
        GroupError::ConflictingLimits("a".into())
    );
    // Beyond what a bucket can have.
    assert!(matches!(
        refused(&["a:tx=0.00000001bit"]),
        GroupError::Budget(name, _) if name == "a"
    ));
}
