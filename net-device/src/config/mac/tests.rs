use super::*;
use proptest::prelude::*;

#[test]
fn only_six_pairs_of_hex_digits_are_an_address() {
    for text in [
        "",
        ":",
        "52:54:00:12:34",
        "52:54:00:12:34:56:78",
        "52-54-00-12-34-56",
        "5:4:0:1:3:5",
        "52:54:00:12:34:5g",
        "+2:54:00:12:34:56",
        "525400123456",
        "52:54:00:12:34:56 ",
        "é:é:é:é:é:é",
    ] {
        assert_eq!(text.parse::<MacAddr>(), Err(MacParseError(text.to_owned())));
    }
}

#[test]
fn stations_are_neither_groups_nor_zero() {
    assert!(MacAddr::new([2, 0, 0, 0, 0, 1]).is_station());
    assert!(!MacAddr::default().is_station());
    assert!(!MacAddr::BROADCAST.is_station());
    assert!(!MacAddr::new([1, 0, 0x5e, 0, 0, 1]).is_station());
}

proptest! {
    #[test]
    fn text_and_bytes_agree(bytes: [u8; 6]) {
        let mac = MacAddr::new(bytes);
        prop_assert_eq!(mac.to_string().parse(), Ok(mac));
        prop_assert_eq!(mac.to_string().to_uppercase().parse(), Ok(mac));
        let json = serde_json::to_string(&mac).unwrap();
        prop_assert_eq!(serde_json::from_str::<MacAddr>(&json).unwrap(), mac);
    }

    #[test]
    fn no_text_panics(text: String) {
        let _ = text.parse::<MacAddr>();
    }
}
