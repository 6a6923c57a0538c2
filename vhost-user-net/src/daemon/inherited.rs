//! Descriptors that whoever starts the daemon hands over: by number, or by the name that a service
//! manager gives them (`LISTEN_FDS`, `LISTEN_FDNAMES`).

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::str::FromStr;

#[cfg(test)]
mod tests;

/// A descriptor as an option names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inherited {
    /// Its number.
    Number(i32),
    /// Its name, which several may share.
    Name(String),
}

/// Reasons why a descriptor is not there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InheritError {
    /// The service manager passed none of this name.
    #[error("the service manager passed no descriptor {name:?}; {}", list(others))]
    Missing {
        /// The name.
        name: String,
        /// The names that it did pass.
        others: Vec<String>,
    },
    /// It passed several where there is use for one.
    #[error("the service manager passed {count} descriptors {name:?}, of which one is of use")]
    Several {
        /// The name.
        name: String,
        /// Number of them.
        count: usize,
    },
    /// Its list cannot be read.
    #[error("cannot read LISTEN_FDS")]
    List(#[source] io::Error),
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "it passed none (LISTEN_FDS, LISTEN_PID)".into();
    }
    format!("it passed {}", names.join(", "))
}

impl Inherited {
    /// Numbers of all descriptors of this name, in the order in which they were passed.
    ///
    /// # Errors
    /// There is none.
    pub fn all(&self) -> Result<Vec<i32>, InheritError> {
        match self {
            Self::Number(number) => Ok(vec![*number]),
            Self::Name(name) => {
                let passed = sd_notify::listen_fds_with_names().map_err(InheritError::List)?;
                named(name, &passed.collect::<Vec<_>>())
            }
        }
    }

    /// Number of the one descriptor of this name.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub fn one(&self) -> Result<i32, InheritError> {
        match self.all()?[..] {
            [number] => Ok(number),
            ref several => Err(InheritError::Several {
                name: self.to_string(),
                count: several.len(),
            }),
        }
    }
}

/// Numbers of those of `passed` that have `name`.
fn named(name: &str, passed: &[(i32, String)]) -> Result<Vec<i32>, InheritError> {
    let found = passed.iter().filter(|(_, other)| other == name);
    let numbers: Vec<_> = found.map(|(number, _)| *number).collect();
    if numbers.is_empty() {
        return Err(InheritError::Missing {
            name: name.to_owned(),
            others: passed.iter().map(|(_, name)| name.clone()).collect(),
        });
    }
    Ok(numbers)
}

impl FromStr for Inherited {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text
            .parse()
            .map_or_else(|_| Self::Name(text.to_owned()), Self::Number))
    }
}

impl fmt::Display for Inherited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}
