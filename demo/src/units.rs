//! Numbers as people read them.

use std::time::Duration;

/// `12_345_678` as `12 345 678`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Bytes with three digits and a decimal unit.
pub(super) fn bytes(count: u64) -> String {
    scaled(count as f64, &["B", "kB", "MB", "GB", "TB"])
}

/// A rate of bytes as bits in a second.
pub(super) fn bit_rate(bytes: u64, time: Duration) -> String {
    scaled(
        rate(bytes, time) * 8.0,
        &["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"],
    )
}

/// A rate of events in a second.
pub(super) fn event_rate(count: u64, time: Duration) -> String {
    grouped(rate(count, time) as u64)
}

/// A time in microseconds.
pub(super) fn micros(time: Duration) -> String {
    format!("{:.1} us", time.as_secs_f64() * 1e6)
}

fn rate(count: u64, time: Duration) -> f64 {
    if time.is_zero() {
        0.0
    } else {
        count as f64 / time.as_secs_f64()
    }
}

fn scaled(number: f64, units: &[&str]) -> String {
    let (mut number, mut units) = (number, units.iter());
    let mut unit = units.next().copied().unwrap_or_default();
    for next in units {
        if number < 999.5 {
            break;
        }
        (number, unit) = (number / 1000.0, next);
    }
    let decimals = match number {
        0.0 => 0,
        n if n < 9.995 => 2,
        n if n < 99.95 => 1,
        _ => 0,
    };
    format!("{number:.decimals$} {unit}")
}

#[cfg(test)]
mod tests;
