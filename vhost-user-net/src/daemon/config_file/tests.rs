//! Files as words of a command line.

use super::*;

fn parsed(text: &str, given: &str) -> Result<Vec<String>, ConfigFileError> {
    let given: Vec<_> = given.split_whitespace().map(OsString::from).collect();
    let devices = words(text.parse().unwrap(), &given)?;
    let line = |words: Vec<OsString>| {
        let mut words: Vec<_> = words
            .into_iter()
            .map(|it| it.into_string().unwrap())
            .collect();
        words.sort();
        words.join(" ")
    };
    Ok(devices.into_iter().map(line).collect())
}

#[test]
fn every_type_of_value_becomes_words() {
    let text =
        "tap = 't'\nmtu = 9000\nno-mq = true\nno-ecn = false\ntap-fd = [3, 'x']\nverbose = 2";
    let expected = "--mtu=9000 --no-mq --tap-fd=3 --tap-fd=x --tap=t --verbose --verbose";
    assert_eq!(parsed(text, "").unwrap(), [expected]);
}

#[test]
fn the_command_line_goes_before_the_file() {
    let text = "tap = 't'\ntap-addr = '10.0.0.1/24'\nmtu = 9000";
    let expected = "--tap-addr=10.0.0.1/24";
    assert_eq!(parsed(text, "--tap u --mtu=1500").unwrap(), [expected]);
}

#[test]
fn devices_have_what_they_do_not_say_themselves_from_the_top() {
    let text = "queue-pairs = 4\nmetrics = 'unix:m'\n[[device]]\ntap = 'a'\n\
                [[device]]\ntap = 'b'\nqueue-pairs = 1";
    let expected = [
        "--metrics=unix:m --queue-pairs=2 --tap=a",
        "--queue-pairs=1 --tap=b",
    ];
    let found = parsed(text, "").unwrap();
    assert_eq!(
        found,
        expected.map(|line| line.replace("pairs=2", "pairs=4"))
    );
}

#[test]
fn what_is_no_option_is_refused() {
    for text in [
        "mtu = 1.5",
        "mtu = 2026-01-01",
        "[mtu]\nx = 1",
        "mtu = [[1]]",
        "device = 1",
        "device = [1]",
        "config = 'other'",
    ] {
        assert!(parsed(text, "").is_err(), "{text}");
    }
    let missing = read(Path::new("/nonexistent"), &[]);
    assert!(matches!(missing, Err(ConfigFileError::Read { .. })));
}
