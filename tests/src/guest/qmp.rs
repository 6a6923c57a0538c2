//! QEMU's monitor: commands as JSON, one a line.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Error, Result};

/// Longest time that an answer may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A connection to the monitor of one machine.
#[derive(Debug)]
pub struct Monitor {
    answers: BufReader<UnixStream>,
}

impl Monitor {
    /// Connects to the monitor at `socket`, which listens.
    ///
    /// # Errors
    /// When nobody listens there, or it does not greet as a monitor.
    pub fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .map_err(Error::io(format!("connecting to {}", socket.display())))?;
        stream
            .set_read_timeout(Some(LIMIT))
            .map_err(Error::io("setting a timeout"))?;
        let mut monitor = Self {
            answers: BufReader::new(stream),
        };
        let greeting = monitor.read()?;
        if greeting.get("QMP").is_none() {
            return Err(Error::Unexpected(format!(
                "the monitor greets with {greeting}"
            )));
        }
        monitor.execute("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// Gives a command and returns its result.
    ///
    /// # Errors
    /// When it is refused or not answered in time.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let line = json!({ "execute": command, "arguments": arguments });
        writeln!(self.answers.get_mut(), "{line}")
            .map_err(Error::io(format!("sending {command}")))?;
        loop {
            let mut answer = self.read()?;
            if let Some(result) = answer.get_mut("return") {
                return Ok(result.take());
            }
            // Events come in between.
            if answer.get("error").is_some() {
                return Err(Error::Unexpected(format!("QEMU on {line}: {answer}")));
            }
        }
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line);
        read.map_err(Error::io("reading from QEMU's monitor"))?;
        serde_json::from_str(&line)
            .map_err(|error| Error::Unexpected(format!("QEMU's monitor says {line:?}: {error}")))
    }
}
