//! Form of the log, and of the few lines that are written whatever its level is.

use std::fmt;
use std::io::{self, Write};
use std::sync::OnceLock;

use clap::ValueEnum;
use env_logger::fmt::Formatter;
use log::{Level, LevelFilter, Record};

/// Forms that a line can have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    #[default]
    Text,
    /// An object of JSON each: time, level, target, message
    Json,
}

static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// Source of the lines that are always written; a name that no module has.
const ANNOUNCEMENT: &str = "vhost-user-net";

/// Begins to log on standard error: warnings, with `verbosity` 1 what happens, with 2 everything;
/// the variable `RUST_LOG` goes before.
pub fn begin(format: LogFormat, verbosity: u8) {
    let _ = FORMAT.set(format);
    let level = ["warn", "info", "debug"][usize::from(verbosity.min(2))];
    let level = env_logger::Env::default().default_filter_or(level);
    let mut log = env_logger::Builder::from_env(level);
    if format == LogFormat::Json {
        log.format(json)
            .filter_module(ANNOUNCEMENT, LevelFilter::Info);
    }
    log.init();
}

fn json(to: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let object = serde_json::json!({
        "time": to.timestamp_micros().to_string(),
        "level": record.level().as_str().to_lowercase(),
        "target": record.target(),
        "message": record.args().to_string(),
    });
    writeln!(to, "{object}")
}

/// Writes a line whatever the level of the log is.
pub fn announce(level: Level, message: fmt::Arguments<'_>) {
    match FORMAT.get() {
        Some(LogFormat::Json) => {
            let mut record = Record::builder();
            record.level(level).target(ANNOUNCEMENT).args(message);
            log::logger().log(&record.build());
        }
        _ => {
            // Nobody is left to tell that nobody listens.
            let _ = writeln!(io::stderr(), "{ANNOUNCEMENT}: {message}");
        }
    }
}
