//! Cases to measure, and the words that choose them.

use std::fmt;

/// Queue pairs of the device.
pub(crate) const PAIRS: [u16; 2] = [1, 2];

/// Protocol that carries the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proto {
    Tcp,
    Udp,
}

/// Which way they go, as the driver sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// To the guest.
    Rx,
    /// From the guest.
    Tx,
}

/// A limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Mega,
    HundredMega,
    Giga,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) proto: Proto,
    pub(crate) direction: Direction,
    pub(crate) pairs: u16,
    pub(crate) limit: Limit,
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// As limits name it too.
impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Rx => "rx",
            Self::Tx => "tx",
        })
    }
}

/// As the daemon reads it, but for its unit of bits.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Mega => "1M",
            Self::HundredMega => "100M",
            Self::Giga => "1G",
        })
    }
}

impl Limit {
    /// Bits in a second.
    pub(crate) fn bits(self) -> u32 {
        match self {
            Self::Mega => 1_000_000,
            Self::HundredMega => 100_000_000,
            Self::Giga => 1_000_000_000,
        }
    }
}

/// Rows and paired measurements that were chosen.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    protos: Vec<Proto>,
    directions: Vec<Direction>,
    pairs: Vec<u16>,
    limits: Vec<Limit>,
    cost: bool,
}

/// Takes the value that `word` names out of `all`.
fn pick<T: Copy + fmt::Display>(all: &[T], word: &str, chosen: &mut Vec<T>) -> bool {
    let found = all.iter().find(|one| one.to_string() == word);
    chosen.extend(found);
    found.is_some()
}

const PROTOS: [Proto; 2] = [Proto::Tcp, Proto::Udp];
const DIRECTIONS: [Direction; 2] = [Direction::Rx, Direction::Tx];
const LIMITS: [Limit; 3] = [Limit::Mega, Limit::HundredMega, Limit::Giga];

impl Selection {
    /// Cases that `words` choose, or the one that chooses nothing.
    pub(crate) fn of(words: &[String]) -> Result<Self, &str> {
        let mut chosen = Self::default();
        for word in words {
            let known = pick(&PROTOS, word, &mut chosen.protos)
                || pick(&DIRECTIONS, word, &mut chosen.directions)
                || pick(&PAIRS, word, &mut chosen.pairs)
                || pick(&LIMITS, word, &mut chosen.limits);
            match word.as_str() {
                _ if known => {}
                "cost" => chosen.cost = true,
                other => return Err(other),
            }
        }
        Ok(chosen)
    }

    /// Returns whether the paired measurements of cost are chosen.
    pub(crate) fn cost(&self) -> bool {
        self.cost || !self.narrows()
    }

    /// Returns whether rows of rates are chosen.
    pub(crate) fn is_rate(&self) -> bool {
        !self.cost || self.narrows()
    }

    fn narrows(&self) -> bool {
        let kinds = [
            self.protos.is_empty(),
            self.directions.is_empty(),
            self.pairs.is_empty(),
            self.limits.is_empty(),
        ];
        kinds.contains(&false)
    }

    /// The rows with `pairs` queue pairs.
    pub(crate) fn cases(&self, pairs: u16) -> impl Iterator<Item = Case> {
        let rows = PROTOS.into_iter().flat_map(|proto| {
            DIRECTIONS
                .into_iter()
                .flat_map(move |direction| LIMITS.map(|limit| (proto, direction, limit)))
        });
        rows.map(move |(proto, direction, limit)| Case {
            proto,
            direction,
            pairs,
            limit,
        })
        .filter(|case| self.has(case))
    }

    fn has(&self, case: &Case) -> bool {
        fn among<T: PartialEq>(chosen: &[T], one: &T) -> bool {
            chosen.is_empty() || chosen.contains(one)
        }
        among(&self.protos, &case.proto)
            && among(&self.directions, &case.direction)
            && among(&self.pairs, &case.pairs)
            && among(&self.limits, &case.limit)
    }
}
