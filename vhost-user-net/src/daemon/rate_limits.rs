//! Rate limits as an operator writes them: on the command line, and changed at the control socket.

use std::fmt;

use clap::Args;
use net_device::rate_limiter::{Quantity, Rate, RateError, RateLimiterConfig};

#[cfg(test)]
mod tests;

/// Bytes that a bucket holds at least unless told otherwise: the largest frame that a guest may
/// send with segmentation offload, so that none has to go into debt.
const GSO_FRAME: u64 = 65_536 + 14;

/// Limits in both directions, in bytes and in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Bytes to the guest, such as 1Gbit or 100MB (each second)
    #[arg(long, value_name = "RATE", value_parser = bytes)]
    rx_rate: Option<Rate>,

    /// Bytes from the guest
    #[arg(long, value_name = "RATE", value_parser = bytes)]
    tx_rate: Option<Rate>,

    /// Frames to the guest, such as 20kpps
    #[arg(long, value_name = "RATE", value_parser = frames)]
    rx_pps: Option<Rate>,

    /// Frames from the guest
    #[arg(long, value_name = "RATE", value_parser = frames)]
    tx_pps: Option<Rate>,

    /// Bytes that may pass at once, such as 256KiB; never below what 10 ms bring [default: a frame
    /// of 64 KiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    burst: Option<u64>,
}

/// Reasons to refuse a limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// The text is not a rate.
    #[error(transparent)]
    Rate(#[from] RateError),
    /// It counts frames where bytes are limited.
    #[error("{0} is not a rate of bytes, such as 1Gbit or 100MB")]
    NotBytes(Rate),
    /// It counts bytes where frames are limited.
    #[error("{0} is not a rate of frames, such as 20kpps")]
    NotFrames(Rate),
    /// The text is not a number of bytes.
    #[error("{0:?} is not a number of bytes, such as 256KiB")]
    Size(String),
    /// There is no limit of this name.
    #[error("{0:?} is none of rx=, tx=, rx-pps=, tx-pps= and burst=")]
    Name(String),
}

fn bytes(text: &str) -> Result<Rate, LimitsError> {
    let rate: Rate = text.parse()?;
    match rate.quantity() {
        Quantity::Bytes => Ok(rate),
        Quantity::Operations => Err(LimitsError::NotBytes(rate)),
    }
}

fn frames(text: &str) -> Result<Rate, LimitsError> {
    let rate: Rate = text.parse()?;
    match rate.quantity() {
        Quantity::Operations => Ok(rate),
        Quantity::Bytes => Err(LimitsError::NotFrames(rate)),
    }
}

/// Sizes have the units of rates: a size is what a rate brings in one second. A bare number counts
/// bytes.
fn size(text: &str) -> Result<u64, LimitsError> {
    const SECOND_NS: u64 = 1_000_000_000;
    let refused = || LimitsError::Size(text.to_owned());
    let unit = if text.ends_with(|last: char| last.is_ascii_digit()) {
        "B"
    } else {
        ""
    };
    let rate = bytes(&format!("{text}{unit}")).map_err(|_| refused())?;
    if text.contains('/') || !SECOND_NS.is_multiple_of(rate.period_ns()) {
        return Err(refused());
    }
    let size = rate.tokens().checked_mul(SECOND_NS / rate.period_ns());
    size.ok_or_else(refused)
}

impl Limits {
    /// The limit for frames to the guest.
    ///
    /// # Errors
    /// The rate is beyond what a bucket can have.
    pub fn rx(&self) -> Result<Option<RateLimiterConfig>, RateError> {
        self.limit(self.rx_rate, self.rx_pps)
    }

    /// The limit for frames from the guest.
    ///
    /// # Errors
    /// The rate is beyond what a bucket can have.
    pub fn tx(&self) -> Result<Option<RateLimiterConfig>, RateError> {
        self.limit(self.tx_rate, self.tx_pps)
    }

    fn limit(
        &self,
        rate: Option<Rate>,
        pps: Option<Rate>,
    ) -> Result<Option<RateLimiterConfig>, RateError> {
        let burst = self.burst.unwrap_or(GSO_FRAME);
        let config = RateLimiterConfig {
            bandwidth: rate.map(|rate| rate.bucket(burst)).transpose()?,
            ops: pps.map(|pps| pps.bucket(0)).transpose()?,
            ..RateLimiterConfig::default()
        };
        Ok((rate.is_some() || pps.is_some()).then_some(config))
    }

    /// These limits with changes such as `rx=1Gbit tx=off rx-pps=20kpps`; what is not named stays.
    ///
    /// # Errors
    /// One of the changes is refused.
    pub fn with(mut self, changes: &str) -> Result<Self, LimitsError> {
        for word in changes.split_whitespace() {
            let unknown = || LimitsError::Name(word.to_owned());
            let (name, value) = word.split_once('=').ok_or_else(unknown)?;
            let value = (value != "off").then_some(value);
            match name {
                "rx" => self.rx_rate = value.map(bytes).transpose()?,
                "tx" => self.tx_rate = value.map(bytes).transpose()?,
                "rx-pps" => self.rx_pps = value.map(frames).transpose()?,
                "tx-pps" => self.tx_pps = value.map(frames).transpose()?,
                "burst" => self.burst = value.map(size).transpose()?,
                _ => return Err(unknown()),
            }
        }
        Ok(self)
    }
}

/// As [`Limits::with`] reads it.
impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rates = [
            ("rx", self.rx_rate),
            ("tx", self.tx_rate),
            ("rx-pps", self.rx_pps),
            ("tx-pps", self.tx_pps),
        ];
        for (name, rate) in rates {
            match rate {
                Some(rate) => write!(f, "{name}={rate} ")?,
                None => write!(f, "{name}=off ")?,
            }
        }
        match self.burst {
            Some(burst) => write!(f, "burst={burst}"),
            None => write!(f, "burst=off"),
        }
    }
}
