//! Options from a file in TOML, under the names that they have on the command line.
//!
//! A file becomes words of the command line, so that both are checked by the same rules and say
//! the same of what is wrong. Keys outside of a `[[device]]` are those of the one device, or of
//! every device that does not have them itself.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::{fs, io};

use toml::{Table, Value};

#[cfg(test)]
mod tests;

/// Key of the tables that stand for one device each.
const DEVICE: &str = "device";

/// Options of the process, which one device gives for all.
const PROCESS: [&str; 3] = ["metrics", "log-format", "verbose"];

/// Reasons why a file is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigFileError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// It is not TOML.
    #[error("{} is not TOML", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Place and kind of the mistake.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// `device` is something else than tables.
    #[error("device has to be tables, each below a line [[device]]")]
    Devices,
    /// A value is of a type that no option has.
    #[error("{0} has to be a text, a number, true or false, or a list of them")]
    Value(String),
    /// A file that names another one.
    #[error("a file cannot name another one as config")]
    Nested,
}

/// Reads a file: the words of each device, but for options of the first that are among `given`.
///
/// # Errors
/// It cannot be read, or makes no sense as a list of options.
pub fn read(path: &Path, given: &[OsString]) -> Result<Vec<Vec<OsString>>, ConfigFileError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigFileError::Read {
        path: path.to_owned(),
        source,
    })?;
    let table = text.parse().map_err(|source| ConfigFileError::Syntax {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    words(table, given)
}

fn words(mut common: Table, given: &[OsString]) -> Result<Vec<Vec<OsString>>, ConfigFileError> {
    let devices = match common.remove(DEVICE) {
        None => vec![Table::new()],
        Some(Value::Array(tables)) => tables
            .into_iter()
            .map(|table| match table {
                Value::Table(table) => Ok(table),
                _ => Err(ConfigFileError::Devices),
            })
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(ConfigFileError::Devices),
    };
    let mut all = Vec::new();
    for (number, device) in devices.into_iter().enumerate() {
        let mut options = common.clone();
        if number > 0 {
            options.retain(|name, _| !PROCESS.contains(&name));
        }
        options.extend(device);
        let mut words = Vec::new();
        for (name, value) in &options {
            if number > 0 || !given.iter().any(|word| names(word, name)) {
                option(name, value, &mut words)?;
            }
        }
        all.push(words);
    }
    Ok(all)
}

/// Returns whether `word` is the option `name`, with or without its value.
pub(crate) fn names(word: &OsStr, name: &str) -> bool {
    let word = word.as_encoded_bytes();
    let rest = word
        .strip_prefix(b"--")
        .and_then(|word| word.strip_prefix(name.as_bytes()));
    rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'=')
}

/// Appends the words of one option.
fn option(name: &str, value: &Value, words: &mut Vec<OsString>) -> Result<(), ConfigFileError> {
    let mut with = |value: &dyn std::fmt::Display| words.push(format!("--{name}={value}").into());
    match value {
        _ if name == "config" => return Err(ConfigFileError::Nested),
        Value::Integer(times) if name == "verbose" => {
            // Twice is all that there is.
            (0..(*times).min(2)).for_each(|_| words.push("--verbose".into()));
        }
        Value::String(text) => with(text),
        Value::Integer(number) => with(number),
        Value::Boolean(true) => words.push(format!("--{name}").into()),
        Value::Boolean(false) => {}
        Value::Array(values) => {
            for value in values {
                if value.is_array() {
                    return Err(ConfigFileError::Value(name.to_owned()));
                }
                option(name, value, words)?;
            }
        }
        Value::Float(_) | Value::Datetime(_) | Value::Table(_) => {
            return Err(ConfigFileError::Value(name.to_owned()));
        }
    }
    Ok(())
}
