use super::*;

fn parse(words: &str) -> Result<Command, String> {
    let words: Vec<_> = words.split_whitespace().map(str::to_owned).collect();
    Command::parse(&words)
}

#[test]
fn options_are_taken() {
    let sent = parse("send 192.0.2.1:7000 --flows 4 --size 16-1472 --seconds 2");
    assert_eq!(
        sent,
        Ok(Command::Send {
            to: "192.0.2.1:7000".parse().unwrap(),
            flows: 4,
            sizes: 16..=1472,
            until: Until::Time(Duration::from_secs(2)),
        })
    );
    let received = parse("receive 7000");
    assert_eq!(
        received,
        Ok(Command::Receive {
            port: 7000,
            flows: 1
        })
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    for words in [
        "",
        "send",
        "send 7000",
        "listen 7000",
        "receive 7000 --flows",
        "receive 7000 --flows 0",
        "receive 7000 --colour red",
        "send 192.0.2.1:7000 --size 15",
        "send 192.0.2.1:7000 --size 200-100",
        "send 192.0.2.1:7000 --size 9001",
    ] {
        assert!(parse(words).is_err(), "{words}");
    }
}
