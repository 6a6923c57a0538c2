//! The program around the library: arguments, the log, the exit code.

use std::error::Error;
use std::io::{self, Write};
use std::iter;
use std::process::ExitCode;

use clap::CommandFactory;
use clap::error::ErrorKind;
use log::Level;
use vhost_user_net::daemon::args::{CommandLine, ServeArgs, Task};
use vhost_user_net::daemon::log_format::{self, announce};
use vhost_user_net::daemon::log_text::chain;
use vhost_user_net::daemon::{device_plan, exit_status, served_devices};
use vhost_user_net::inspect::InspectArgs;

fn main() -> ExitCode {
    let line = CommandLine::read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let first = match &line.task {
        Task::Serve(first) => first,
        Task::Inspect(args) => return inspect(args),
    };
    let all: Vec<_> = iter::once(&**first).chain(&line.others).collect();
    let format = all.iter().find_map(|args| args.log_format);
    log_format::begin(format.unwrap_or_default(), line.verbose);
    match serve(&all) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            announce(Level::Error, format_args!("{}", chain(error.as_ref())));
            ExitCode::from(exit_status::of(error.as_ref()))
        }
    }
}

/// Inspects a snapshot; what is wrong with it is on standard error, like a wrong option.
fn inspect(args: &InspectArgs) -> ExitCode {
    match args.run(&mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "vhost-user-net: {}", chain(&error));
            ExitCode::from(exit_status::UNAVAILABLE)
        }
    }
}

fn serve(all: &[&ServeArgs]) -> Result<(), Box<dyn Error>> {
    if all.iter().any(|args| args.print_capabilities) {
        // The format of QEMU's vhost-user.json; this type of back-end has no optional features
        // there.
        return Ok(writeln!(io::stdout(), "{{\n  \"type\": \"net\"\n}}")?);
    }
    let plans = device_plan::plan(all).unwrap_or_else(|error| {
        let mut command = CommandLine::command();
        command
            .error(ErrorKind::ValueValidation, chain(&error))
            .exit()
    });
    served_devices::run(&plans)
}
