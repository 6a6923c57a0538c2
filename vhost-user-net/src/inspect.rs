//! Snapshots in files, for who wants to know what is in one, or needs one that differs.
//!
//! A snapshot is untrusted here as everywhere: it is opened by the same checks as when a device is
//! restored, and what is printed of it cannot control a terminal.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use net_device::error::RestoreError;
use net_device::snapshot::{LATEST, NetState, SnapshotError};
use net_device::{MacAddr, Snapshot, check_state};

mod report;
#[cfg(test)]
mod tests;

/// Options of the task.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Snapshot to read; - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Print it as JSON
    #[arg(long)]
    pub json: bool,

    /// Write the snapshot to a file that does not exist yet, changed as the next options say
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Name of the device in the new file
    #[arg(long, value_name = "ID", requires = "output")]
    pub id: Option<String>,

    /// MAC address of the guest in the new file; a driver that runs keeps the one that it has read
    #[arg(long, value_name = "MAC", requires = "output")]
    pub mac: Option<MacAddr>,

    /// Release of the format of the new file, for a program that is older; without it the latest
    #[arg(long, value_name = "N", requires = "output")]
    pub release: Option<u16>,
}

/// Reasons why a snapshot cannot be shown, or is none that a device takes.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The file cannot be read.
    #[error("cannot open {}", path.display())]
    Open {
        /// Its path.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The file is not a snapshot that this program can use.
    #[error("{} is not a snapshot", path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// Cause.
        #[source]
        source: SnapshotError,
    },
    /// It is a snapshot, of which no device can be restored.
    #[error("no device takes this snapshot")]
    Refused(#[source] RestoreError),
    /// The new state cannot be in a snapshot of the release.
    #[error("the new snapshot cannot be made")]
    Seal(#[source] SnapshotError),
    /// The new file cannot be made.
    #[error("cannot create {}", path.display())]
    Create {
        /// Its path.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The new file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Its path.
        path: PathBuf,
        /// Cause.
        #[source]
        source: SnapshotError,
    },
    /// The report cannot be printed.
    #[error("cannot print")]
    Print(#[source] io::Error),
}

impl InspectArgs {
    /// Prints the snapshot to `out`, checks it, and writes the new one.
    ///
    /// # Errors
    /// It cannot be read, it is not one, or no device takes it. In the last case it was printed. No
    /// file is left that is not whole.
    pub fn run(&self, out: &mut dyn Write) -> Result<(), InspectError> {
        let snapshot = self.read()?;
        let read = |source| self.unreadable(source);
        let state = snapshot.open().map_err(read)?;
        let print = match self.json {
            true => report::json,
            false => report::text,
        };
        print(&snapshot, &state, out).map_err(InspectError::Print)?;
        check_state(&state).map_err(InspectError::Refused)?;
        match &self.output {
            Some(path) => self.write(state, path),
            None => Ok(()),
        }
    }

    /// Reads all of the input, of which a snapshot has to be the whole.
    fn read(&self) -> Result<Snapshot, InspectError> {
        let parse = |input: &mut dyn Read| {
            let snapshot = Snapshot::read_from(input)?;
            match input.take(1).read_to_end(&mut Vec::new()) {
                Ok(0) => Ok(snapshot),
                Ok(count) => Err(SnapshotError::TrailingBytes { count }),
                Err(error) => Err(SnapshotError::Read(error)),
            }
        };
        let parsed = if self.file == Path::new("-") {
            parse(&mut io::stdin().lock())
        } else {
            let path = self.file.clone();
            let opened = File::open(&path);
            parse(&mut opened.map_err(|source| InspectError::Open { path, source })?)
        };
        parsed.map_err(|source| self.unreadable(source))
    }

    fn unreadable(&self, source: SnapshotError) -> InspectError {
        let path = self.file.clone();
        InspectError::Read { path, source }
    }

    /// Writes the state with what is to be different.
    fn write(&self, mut state: NetState, path: &Path) -> Result<(), InspectError> {
        if let Some(id) = &self.id {
            state.id = id.as_str().into();
        }
        if let Some(mac) = self.mac {
            state.config.mac = mac.bytes();
        }
        check_state(&state).map_err(InspectError::Refused)?;
        let release = self.release.unwrap_or(LATEST);
        let snapshot = Snapshot::seal_for(&state, release).map_err(InspectError::Seal)?;
        let mut options = OpenOptions::new();
        let created = options.write(true).create_new(true).open(path);
        let path = path.to_owned();
        let mut file = match created {
            Ok(file) => file,
            Err(source) => return Err(InspectError::Create { path, source }),
        };
        let written = snapshot.write_to(&mut file);
        let written = written.and_then(|()| file.sync_all().map_err(SnapshotError::Write));
        written.map_err(|source| {
            // Part of a snapshot is none.
            let _ = fs::remove_file(&path);
            InspectError::Write { path, source }
        })
    }
}
