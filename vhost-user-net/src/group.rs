//! Budgets that several devices of this process share: `--group NAME[:LIMITS]`.
//!
//! A device's own limits stay inside the group's, so a frame takes from both, all or nothing. Each direction has its
//! own budget.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use net_device::rate_limiter::{ConfigError, Group, RateError};
use net_device::{LimitError, NetDevice};

use crate::limits::{Limits, LimitsError};

#[cfg(test)]
mod tests;

/// A device's place in a group, as its option gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The group's name.
    pub name: String,
    /// The group's limits: one of its devices says them.
    pub limits: Option<Limits>,
}

/// Why there is no such group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// It has no name.
    #[error("a group has a name, as in NAME or NAME:tx=1Gbit,rx=1Gbit")]
    Name,
    /// What follows the name is no limit.
    #[error(transparent)]
    Limits(#[from] LimitsError),
    /// None of its devices gives its limits.
    #[error(
        "nobody gives the limits of group {0}; one of its devices needs --group {0}:LIMITS, as in {0}:tx=1Gbit"
    )]
    Unsaid(String),
    /// Its devices give different limits.
    #[error("group {0} has different limits at two devices; give them at one")]
    Contradiction(String),
    /// A limit is beyond what a bucket can have.
    #[error("unusable limit of group {0}")]
    Rate(String, #[source] RateError),
    /// No budget can be made of the limits.
    #[error("unusable limit of group {0}")]
    Budget(String, #[source] ConfigError),
}

impl FromStr for Membership {
    type Err = GroupError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, limits) = match text.split_once(':') {
            Some((name, limits)) => (name, Some(limits.replace(',', " "))),
            None => (text, None),
        };
        if name.is_empty() {
            return Err(GroupError::Name);
        }
        let limits = limits.map(|limits| Limits::default().with(&limits));
        Ok(Self {
            name: name.to_owned(),
            limits: limits.transpose()?,
        })
    }
}

/// What the devices of one group share.
#[derive(Debug)]
pub struct Shared {
    name: String,
    limits: Limits,
    rx: Group,
    tx: Group,
}

impl Shared {
    fn new(name: &str, limits: Limits) -> Result<Self, GroupError> {
        // A direction without a limit has its group all the same.
        let group = |limit: Result<Option<_>, RateError>| {
            let config = limit.map_err(|error| GroupError::Rate(name.to_owned(), error))?;
            Group::new(&config.unwrap_or_default())
                .map_err(|error| GroupError::Budget(name.to_owned(), error))
        };
        Ok(Self {
            name: name.to_owned(),
            limits,
            rx: group(limits.rx())?,
            tx: group(limits.tx())?,
        })
    }

    /// `device`, whose frames also count here.
    ///
    /// # Errors
    /// A timer was not to be had.
    pub fn with(&self, device: NetDevice) -> Result<NetDevice, LimitError> {
        device.with_limit_group(Some(self.rx.clone()), Some(self.tx.clone()))
    }
}

/// Its name, and its limits as [`Limits`] writes them.
impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.limits)
    }
}

/// The groups of `places`, in their order.
///
/// # Errors
/// Exactly one of a group's devices has to give its limits (others may repeat them), and these have to be usable.
pub fn form(places: &[Option<&Membership>]) -> Result<Vec<Option<Arc<Shared>>>, GroupError> {
    let mut said: BTreeMap<&str, Option<Limits>> = BTreeMap::new();
    for place in places.iter().flatten() {
        let limits = said.entry(&place.name).or_default();
        match (*limits, place.limits) {
            (Some(one), Some(other)) if one != other => {
                return Err(GroupError::Contradiction(place.name.clone()));
            }
            (one, other) => *limits = one.or(other),
        }
    }
    let mut groups = BTreeMap::new();
    for (name, limits) in said {
        let limits = limits.ok_or_else(|| GroupError::Unsaid(name.to_owned()))?;
        groups.insert(name, Arc::new(Shared::new(name, limits)?));
    }
    let of = |place: &Option<&Membership>| groups.get((*place)?.name.as_str()).cloned();
    Ok(places.iter().map(of).collect())
}
