use super::*;

#[test]
fn names_and_templates_of_the_kernel_pass() {
    for name in ["tap0", "vmtap%d", "a", "fifteen-bytes-x", "ümlaut", "%d"] {
        assert_eq!(fault(name), None, "{name}");
        assert_eq!(
            IfName::parse(name).map(|n| n.to_string()).ok().as_deref(),
            Some(name)
        );
    }
}

#[test]
fn each_broken_rule_is_named() {
    let cases = [
        ("", NameFault::Empty),
        ("sixteen-bytes-xx", NameFault::TooLong),
        (".", NameFault::Dots),
        ("..", NameFault::Dots),
        ("a/b", NameFault::Character),
        ("a:1", NameFault::Character),
        ("a b", NameFault::Character),
        ("a\0b", NameFault::Character),
        ("a%s", NameFault::Template),
        ("a%d%d", NameFault::Template),
        ("a%", NameFault::Template),
    ];
    for (name, expected) in cases {
        assert_eq!(fault(name), Some(expected), "{name:?}");
    }
}

#[test]
fn a_name_that_is_not_utf8_keeps_its_bytes() {
    let mut bytes = [0; NAME_SIZE];
    bytes[..3].copy_from_slice(b"a\xffb");
    let name = IfName::from_kernel(bytes);
    assert_eq!(name.bytes(), &bytes);
    assert_eq!(name.to_string(), "a\u{fffd}b");
}
