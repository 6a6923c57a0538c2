//! Budgets that several devices of this process share: `--group NAME[:LIMITS]`.
//!
//! A device's own limits stay inside the group's, so a frame takes from both, all or nothing. Each
//! direction has its own budget.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use net_device::rate_limiter::{ConfigError, Group, RateError, RateLimiterConfig};
use net_device::{NetDeviceBuilder, now_ns};

use crate::daemon::rate_limits::{Limits, LimitsError};

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

/// Reasons to refuse a group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// It has no name.
    #[error("a group has a name, as in NAME or NAME:tx=1Gbit,rx=1Gbit")]
    Name,
    /// The text after the name is not a limit.
    #[error(transparent)]
    Limits(#[from] LimitsError),
    /// None of its devices gives its limits.
    #[error(
        "nobody gives the limits of group {0}; one of its devices needs --group {0}:LIMITS, as in {0}:tx=1Gbit"
    )]
    MissingLimits(String),
    /// Its devices give different limits.
    #[error("group {0} has different limits at two devices; give them at one")]
    ConflictingLimits(String),
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

/// Budgets that the devices of one group share.
#[derive(Debug)]
pub struct Shared {
    name: String,
    limits: Mutex<Limits>,
    rx: Group,
    tx: Group,
}

impl Shared {
    fn new(name: &str, limits: Limits) -> Result<Self, GroupError> {
        let [rx, tx] = budgets(name, &limits)?;
        let group =
            |config| Group::new(config).map_err(|error| GroupError::Budget(name.to_owned(), error));
        Ok(Self {
            name: name.to_owned(),
            limits: Mutex::new(limits),
            rx: group(&rx)?,
            tx: group(&tx)?,
        })
    }

    /// Changes the limits that [`Limits::with`] reads, at once and for all devices; tokens and debt
    /// stay.
    ///
    /// # Errors
    /// One of the changes is refused, and none is made.
    pub fn change(&self, changes: &str) -> Result<(), GroupError> {
        let mut limits = self.limits();
        let next = limits.with(changes)?;
        let [rx, tx] = budgets(&self.name, &next)?;
        let now = now_ns();
        let failed = |error| GroupError::Budget(self.name.clone(), error);
        self.rx.update(now, &rx).map_err(failed)?;
        self.tx.update(now, &tx).map_err(failed)?;
        *limits = next;
        Ok(())
    }

    fn limits(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `device`, whose frames also count here.
    pub fn with<'a>(&self, device: NetDeviceBuilder<'a>) -> NetDeviceBuilder<'a> {
        device.limit_groups(Some(self.rx.clone()), Some(self.tx.clone()))
    }
}

/// To the guests and from them. A direction without a limit has its group all the same, for one
/// that comes later.
fn budgets(name: &str, limits: &Limits) -> Result<[RateLimiterConfig; 2], GroupError> {
    let usable = |limit: Result<Option<RateLimiterConfig>, RateError>| {
        let limit = limit.map_err(|error| GroupError::Rate(name.to_owned(), error))?;
        let config = limit.unwrap_or_default();
        config
            .validate()
            .map_err(|error| GroupError::Budget(name.to_owned(), error))?;
        Ok::<_, GroupError>(config)
    };
    Ok([usable(limits.rx())?, usable(limits.tx())?])
}

/// Its name, and its limits as [`Limits`] writes them.
impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.limits())
    }
}

/// The groups of `places`, in their order.
///
/// # Errors
/// Exactly one of a group's devices has to give its limits (others may repeat them), and these have
/// to be usable.
pub fn form(places: &[Option<&Membership>]) -> Result<Vec<Option<Arc<Shared>>>, GroupError> {
    let mut said: BTreeMap<&str, Option<Limits>> = BTreeMap::new();
    for place in places.iter().flatten() {
        let limits = said.entry(&place.name).or_default();
        match (*limits, place.limits) {
            (Some(one), Some(other)) if one != other => {
                return Err(GroupError::ConflictingLimits(place.name.clone()));
            }
            (one, other) => *limits = one.or(other),
        }
    }
    let mut groups = BTreeMap::new();
    for (name, limits) in said {
        let limits = limits.ok_or_else(|| GroupError::MissingLimits(name.to_owned()))?;
        groups.insert(name, Arc::new(Shared::new(name, limits)?));
    }
    let of = |place: &Option<&Membership>| groups.get((*place)?.name.as_str()).cloned();
    Ok(places.iter().map(of).collect())
}
