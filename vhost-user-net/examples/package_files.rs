//! Writes the manual page and the completions of shells, from the options as they are, into a
//! folder: `cargo run -p vhost-user-net --example package_files -- FOLDER`.
//!
//! An example, so that the daemon itself carries nothing of it.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use clap::{Command, CommandFactory};
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;
use vhost_user_net::daemon::args::CommandLine;

const NAME: &str = "vhost-user-net";

/// The program as its manual shows it: the options of its one task are its own.
fn program() -> Command {
    let mut program = CommandLine::command().name(NAME);
    let serve = program.find_subcommand("serve").cloned();
    for arg in serve.iter().flat_map(Command::get_arguments) {
        // Each part of the program has these by itself.
        if !matches!(arg.get_id().as_str(), "verbose" | "help" | "version") {
            program = program.arg(arg.clone().required(false));
        }
    }
    program
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os()
        .nth(1)
        .ok_or("name a folder to write to")?;
    let folder = PathBuf::from(folder);
    fs::create_dir_all(&folder)?;
    let mut page = Vec::new();
    Man::new(program()).render(&mut page)?;
    fs::write(folder.join(format!("{NAME}.1")), page)?;
    let name = "vhost-user-net-inspect";
    if let Some(inspect) = CommandLine::command().find_subcommand("inspect") {
        let mut page = Vec::new();
        Man::new(inspect.clone().name(name).display_name(name)).render(&mut page)?;
        fs::write(folder.join(format!("{name}.1")), page)?;
    }
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        generate_to(shell, &mut CommandLine::command(), NAME, &folder)?;
    }
    Ok(())
}
