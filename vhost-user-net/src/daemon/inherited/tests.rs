//! Names of descriptors: the right ones, unknown ones, and several of one name.

use super::*;

#[test]
fn a_number_is_a_number_and_all_else_a_name() {
    let inherited = |text: &str| text.parse::<Inherited>().unwrap();
    assert_eq!(inherited("7"), Inherited::Number(7));
    assert_eq!(inherited("7a"), Inherited::Name("7a".into()));
    assert_eq!(inherited("7").one().unwrap(), 7);
}

#[test]
fn descriptors_are_found_by_name_and_a_wrong_one_is_told_from_those_that_are_there() {
    let passed = [(3, "net"), (4, "tap"), (5, "tap")];
    let passed = passed.map(|(number, name)| (number, name.to_owned()));
    assert_eq!(named("net", &passed).unwrap(), [3]);
    assert_eq!(named("tap", &passed).unwrap(), [4, 5]);
    let error = named("x", &passed).unwrap_err().to_string();
    assert!(error.ends_with("it passed net, tap, tap"), "{error}");
    let error = named("x", &[]).unwrap_err().to_string();
    assert!(error.contains("it passed none"), "{error}");
}
