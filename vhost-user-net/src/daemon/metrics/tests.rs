//! The page against the rules of the format and those that `promtool check metrics` adds.

use std::collections::{BTreeMap, BTreeSet};

use net_device::{NetConfig, NetDevice, Port, PortControl};
use net_queue::testing::Wire;

use super::*;

struct NoControl;

impl PortControl for NoControl {
    fn attach(&self, _on: bool) -> std::io::Result<()> {
        Ok(())
    }

    fn set_offloads(&self, _rx: net_device::net_queue::Offloads) -> std::io::Result<()> {
        Ok(())
    }
}

fn reported(name: &str, pairs: u16) -> Reported {
    let port = || Port::new(Box::new(Wire::new().0), Box::new(NoControl));
    let config = NetConfig::builder().queue_pairs(pairs).build().unwrap();
    let ports = (0..pairs).map(|_| port()).collect();
    let device = NetDevice::from_ports(config, ports).unwrap();
    Reported {
        name: name.into(),
        device: device.handle(),
        front_ends: Arc::default(),
    }
}

fn is_name(text: &str) -> bool {
    let first = text.starts_with(|letter: char| letter.is_ascii_lowercase());
    let rest = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    first && text.chars().all(|letter| rest(letter) || letter == '_')
}

/// Labels as they stand between braces, each with its value unescaped.
fn labels(mut text: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").unwrap();
        assert!(is_name(name), "{name}");
        let (mut value, mut letters) = (String::new(), rest.char_indices());
        let end = loop {
            match letters.next().unwrap() {
                (at, '"') => break at,
                (_, '\\') => value.push(match letters.next().unwrap().1 {
                    'n' => '\n',
                    other @ ('"' | '\\') => other,
                    other => panic!("\\{other}"),
                }),
                (_, other) => value.push(other),
            }
        };
        assert!(all.insert(name.into(), value).is_none(), "{name} twice");
        text = &rest[end + 1..];
        if !text.is_empty() {
            text = text.strip_prefix(',').unwrap();
            assert!(!text.is_empty(), "a comma at the end");
        }
    }
    all
}

/// Words that a name is not to have: units that are not the base ones, abbreviated units, kinds.
const NOT_IN_NAMES: &str = "milliseconds microseconds nanoseconds minutes hours days weeks kilobytes megabytes gigabytes \
    kibibytes mebibytes gibibytes bits kilobits megabits percent fahrenheit \
    s ms us ns sec b kb mb gb tb pb m h d \
    counter gauge histogram summary";

/// Complains as `promtool check metrics` does of names that the format itself allows.
fn lint(family: &str, labels: &BTreeMap<String, String>) {
    for word in NOT_IN_NAMES.split_whitespace() {
        assert!(family.split('_').all(|it| it != word), "{family}: {word}");
    }
    for ending in ["_count", "_sum", "_bucket"] {
        assert!(
            !family.ends_with(ending),
            "{family} has a name of histograms"
        );
    }
    for label in ["le", "quantile"] {
        assert!(
            !labels.contains_key(label),
            "{family} has a name of histograms"
        );
    }
}

type Samples = BTreeMap<(String, BTreeMap<String, String>), u64>;

/// Reads a page, and panics at whatever is not as it should be.
fn read(page: &str) -> Samples {
    assert!(page.ends_with('\n'));
    let (mut samples, mut families) = (Samples::new(), BTreeSet::new());
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        let help = line.strip_prefix("# HELP ").expect(line);
        let (family, help) = help.split_once(' ').unwrap();
        assert!(is_name(family) && family.starts_with("vhost_user_net_"));
        assert!(help.ends_with('.') && !help.contains('\\'), "{help}");
        assert!(families.insert(family), "{family} twice");
        let kind = lines.next().unwrap().strip_prefix("# TYPE ").unwrap();
        let kind = kind.strip_prefix(family).unwrap();
        match kind {
            " counter" => assert!(family.ends_with("_total"), "{family}"),
            " gauge" => assert!(!family.ends_with("_total"), "{family}"),
            other => panic!("{other}"),
        }
        let before = samples.len();
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let (name, rest) = name.split_once('{').unwrap();
            assert_eq!(name, family);
            let labels = labels(rest.strip_suffix('}').unwrap());
            lint(family, &labels);
            let key = (name.into(), labels);
            assert!(samples.insert(key, value.parse().unwrap()).is_none());
        }
        assert!(samples.len() > before, "{family} has no sample");
    }
    samples
}

fn sample(samples: &Samples, name: &str, labels: &[(&str, &str)]) -> u64 {
    let labels = labels
        .iter()
        .map(|&(name, text)| (name.into(), text.into()));
    samples[&(format!("vhost_user_net_{name}"), labels.collect())]
}

#[test]
fn a_page_keeps_the_rules_of_the_format() {
    let odd = "t\"a\\p\n, x=\"{1} 2";
    let devices = [reported("vmtap0", 2), reported(odd, 1)];
    let samples = read(&page(&devices));
    let queues = samples
        .keys()
        .filter(|(name, _)| name == "vhost_user_net_frames_total");
    assert_eq!(queues.count(), 6);
    let queue = [("device", odd), ("direction", "tx"), ("queue", "0")];
    assert_eq!(sample(&samples, "frames_total", &queue), 0);
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(sample(&samples, "info", &version), 1);
}

#[test]
fn front_ends_are_counted() {
    let devices = [reported("a", 1), reported("b", 1)];
    let front_ends = |device: &str| {
        let samples = read(&page(&devices));
        ["front_end_connected", "front_ends_total"]
            .map(|name| sample(&samples, name, &[("device", device)]))
    };
    devices[1].front_ends.begin();
    assert_eq!((front_ends("a"), front_ends("b")), ([0, 0], [1, 1]));
    devices[1].front_ends.end();
    devices[1].front_ends.begin();
    devices[1].front_ends.end();
    assert_eq!(front_ends("b"), [0, 2]);
}

#[test]
fn every_cause_and_every_counter_of_a_queue_is_on_the_page() {
    let samples = read(&page(&[reported("a", 1)]));
    let count = |name: &str| {
        let name = format!("vhost_user_net_{name}");
        samples.keys().filter(|(other, _)| *other == name).count()
    };
    assert_eq!(count("drops_total"), 2 * DropCause::COUNT);
    assert_eq!(count("control_drops_total"), DropCause::COUNT);
    assert_eq!(count("control_refused_total"), Refusal::COUNT);
    assert_eq!(count("group_ends_total"), 2 * GroupEnd::ALL.len());
    let plain = QueueStats::default();
    let by_cause = ["drop_", "refused_", "group_end_"];
    let others = plain
        .iter()
        .filter(|(name, _)| !by_cause.iter().any(|prefix| name.starts_with(prefix)));
    assert_eq!(others.count(), QUEUE.len());
}
