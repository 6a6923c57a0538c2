//! Features that are not to be offered.

use std::sync::LazyLock;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use net_device::Features;
use net_device::features::OPTIONAL;

/// Features that `--no-NAME` switches off: one flag for each name that the device knows, as far as
/// vhost-user has bits for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Without(pub Features);

/// The flags, each with its feature and the name of its argument.
static FLAGS: LazyLock<Vec<(String, Features)>> = LazyLock::new(|| {
    OPTIONAL
        .iter()
        .filter(|(_, feature)| feature.bits() <= u64::MAX.into())
        .map(|(name, feature)| (format!("no-{name}"), *feature))
        .collect()
});

impl Args for Without {
    fn augment_args(command: Command) -> Command {
        FLAGS.iter().fold(command, |command, (flag, feature)| {
            let arg = Arg::new(flag.as_str())
                .long(flag.as_str())
                .action(ArgAction::SetTrue);
            command.arg(
                arg.help(format!("Do not offer {feature}"))
                    .help_heading("Features"),
            )
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Without {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let set = FLAGS.iter().filter(|(flag, _)| matches.get_flag(flag));
        Ok(Self(set.map(|(_, feature)| *feature).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
