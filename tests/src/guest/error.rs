//! Errors around a guest.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

/// The outcome of anything done to a guest or around it.
pub type Result<T> = std::result::Result<T, Error>;

/// Reason why a check failed. The messages carry the end of the output of the program concerned.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or a pipe could not be used.
    #[error("{what}")]
    Io {
        /// Action, and its file.
        what: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A program did not do in time what was waited for.
    #[error("{program}: no {what} within {limit:?}; its output ends:\n{tail}")]
    Timeout {
        /// The program.
        program: String,
        /// Event that was waited for.
        what: String,
        /// Limit of the wait.
        limit: Duration,
        /// The end of its output.
        tail: String,
    },
    /// A program ended while something else was expected of it.
    #[error("{program} ended ({status}) before {what}; its output ends:\n{tail}")]
    Ended {
        /// The program.
        program: String,
        /// Event that was waited for.
        what: String,
        /// Status with which it ended.
        status: ExitStatus,
        /// The end of its output.
        tail: String,
    },
    /// A command ran and failed.
    #[error("`{command}` failed ({status}):\n{output}")]
    Failed {
        /// The command, as it was given to the guest or the host.
        command: String,
        /// Exit status in words.
        status: String,
        /// Its output.
        output: String,
    },
    /// Something this needs is not on this machine.
    #[error("{0}")]
    Missing(String),
    /// The guest or the device is not as it has to be.
    #[error("{0}")]
    Unexpected(String),
}

impl Error {
    /// For `map_err`: an I/O error with what was tried.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |source| Self::Io { what, source }
    }

    /// The error with its causes, as one text.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        text
    }
}

/// Fails with [`Error::Unexpected`] and the message unless the condition holds.
macro_rules! require {
    ($condition:expr, $($message:tt)+) => {
        let holds: bool = $condition;
        if !holds {
            return Err($crate::guest::Error::Unexpected(format!($($message)+)));
        }
    };
}
pub(in crate::guest) use require;
