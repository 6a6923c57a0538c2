//! Rates: tokens per time as an exact fraction, and their spelling on a command line.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

const NS_PER_SECOND: u64 = 1_000_000_000;

/// Meaning of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Quantity {
    /// One byte of a frame.
    Bytes,
    /// One frame.
    Operations,
}

/// Tokens per time, kept as a reduced fraction so that no rate is rounded.
///
/// ```
/// use rate_limiter::{Quantity, Rate};
///
/// let rate: Rate = "2.5Gbit".parse()?;
/// assert_eq!(rate, Rate::new(312_500_000, 1_000_000_000, Quantity::Bytes)?);
/// # Ok::<(), rate_limiter::RateError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    tokens: u64,
    period_ns: NonZeroU64,
    quantity: Quantity,
}

/// Reason why a rate was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RateError {
    /// The text does not start with a decimal number.
    #[error("{0:?} does not start with a decimal number")]
    Number(String),
    /// The unit is none of those in [`Rate::from_str`].
    #[error(
        "{0:?} is not a unit of rate (bit, B or pps, with k, M, G, T, Ki, Mi, Gi or Ti in front)"
    )]
    Unit(String),
    /// The number stands alone.
    #[error("rate {0:?} lacks a unit (bit, B or pps)")]
    NoUnit(String),
    /// The rate is zero, or too large or too fine for 64 bits.
    #[error("rate is zero or outside the range of 64 bits")]
    Range,
}

impl Rate {
    /// `tokens` in every `period_ns` nanoseconds.
    ///
    /// # Errors
    /// [`RateError::Range`] when either is zero or the period is longer than 2^63 ns (292 years).
    pub fn new(tokens: u64, period_ns: u64, quantity: Quantity) -> Result<Self, RateError> {
        if tokens == 0 || period_ns > i64::MAX as u64 {
            return Err(RateError::Range);
        }
        let divisor = gcd(tokens, period_ns);
        let period_ns = NonZeroU64::new(period_ns / divisor).ok_or(RateError::Range)?;
        Ok(Self {
            tokens: tokens / divisor,
            period_ns,
            quantity,
        })
    }

    /// Tokens in one [`period_ns`](Self::period_ns); never zero.
    #[must_use]
    pub const fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Nanoseconds in which [`tokens`](Self::tokens) arrive; never zero, at most 2^63 - 1.
    #[must_use]
    pub const fn period_ns(&self) -> u64 {
        self.period_ns.get()
    }

    /// Meaning of the tokens.
    #[must_use]
    pub const fn quantity(&self) -> Quantity {
        self.quantity
    }
}

/// Writes the rate per second where it is whole, else as `tokens/period`.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.quantity {
            Quantity::Bytes => "B",
            Quantity::Operations => "pps",
        };
        if NS_PER_SECOND.is_multiple_of(self.period_ns()) {
            let per_second = u128::from(self.tokens) * u128::from(NS_PER_SECOND / self.period_ns());
            write!(f, "{per_second}{unit}")
        } else {
            write!(f, "{}{unit} per {} ns", self.tokens, self.period_ns)
        }
    }
}

/// Reads a rate per second: a decimal number, then a unit, then perhaps `/s`.
///
/// Units are `bit`, `B` (bytes) and `pps` (also `ops`), after nothing, `k`, `M`, `G`, `T` (powers
/// of
/// 1000) or `Ki`, `Mi`, `Gi`, `Ti` (powers of 1024): `64kbit`, `2.5Gbit`, `10MB`, `1.5MiB/s`,
///       `20kpps`.
impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let text = text.trim();
        let split = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let (digits, scale) = decimal(number).ok_or_else(|| RateError::Number(text.to_owned()))?;
        let unit = unit.trim_start();
        let (factor, per_token, quantity) = parse_unit(unit).ok_or_else(|| match unit {
            "" => RateError::NoUnit(text.to_owned()),
            unit => RateError::Unit(unit.to_owned()),
        })?;

        let tokens = digits
            .checked_mul(u128::from(factor))
            .ok_or(RateError::Range)?;
        let period = u128::from(NS_PER_SECOND * per_token)
            .checked_mul(scale)
            .ok_or(RateError::Range)?;
        let divisor = gcd_wide(tokens, period);
        let narrow = |wide: u128| u64::try_from(wide).map_err(|_| RateError::Range);
        Self::new(
            narrow(tokens / divisor)?,
            narrow(period / divisor)?,
            quantity,
        )
    }
}

/// `"2.50"` as `(250, 100)`: digits without the point, and the power of ten to divide by.
fn decimal(number: &str) -> Option<(u128, u128)> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || (number.contains('.') && fraction.is_empty()) {
        return None;
    }
    let digits = whole
        .chars()
        .chain(fraction.chars())
        .try_fold(0u128, |sum, c| {
            sum.checked_mul(10)?
                .checked_add(u128::from(c.to_digit(10)?))
        })?;
    Some((
        digits,
        10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?,
    ))
}

/// The unit's factor, how many of the unit make a token, and what the token is.
fn parse_unit(unit: &str) -> Option<(u64, u64, Quantity)> {
    let unit = unit.strip_suffix("/s").unwrap_or(unit);
    let (prefix, per_token, quantity) = if let Some(prefix) = unit.strip_suffix("bit") {
        (prefix, 8, Quantity::Bytes)
    } else if let Some(prefix) = unit.strip_suffix('B') {
        (prefix, 1, Quantity::Bytes)
    } else {
        (
            unit.strip_suffix("pps")
                .or_else(|| unit.strip_suffix("ops"))?,
            1,
            Quantity::Operations,
        )
    };
    let factor = match prefix {
        "" => 1,
        "k" | "K" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    Some((factor, per_token, quantity))
}

/// Greatest common divisor; that of `(0, 0)` counts as 1.
pub(crate) fn gcd(a: u64, b: u64) -> u64 {
    gcd_wide(u128::from(a), u128::from(b)) as u64
}

pub(crate) fn gcd_wide(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}
