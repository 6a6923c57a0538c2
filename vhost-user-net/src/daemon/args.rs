//! The command line. Its options are stable.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};
use net_device::config::ConfigError;
use net_device::rate_limiter::{RateError, TokenBucketConfig};
use net_device::{Carrier, Coalesce, GsoTrust, LimitScope, MacAddr, NetConfig, TapConfig};

use crate::daemon::config_file;
use crate::daemon::frame_backend::{BackendError, BackendSpec};
use crate::daemon::groups::Membership;
use crate::daemon::inherited::Inherited;
use crate::daemon::listener::Access;
use crate::daemon::log_format::LogFormat;
use crate::daemon::log_text::chain;
use crate::daemon::metrics_socket::MetricsAddress;
use crate::daemon::programs::ProgramArgs;
use crate::daemon::rate_limits::Limits;
use crate::daemon::sandbox::{Sandbox, User};
use crate::daemon::serve::LostPort;
use crate::inspect::InspectArgs;
use crate::protocol::wire::MAX_RINGS;

#[cfg(test)]
mod tests;
mod values;
mod without;

pub use self::values::TapAddress;
use self::values::{carrier, gso, mode, scope};
pub use self::without::Without;

/// The word that begins the options of another device in the same process.
const AND: &str = "--and";

/// The task whose options may stand without it.
const SERVE: &str = "serve";

const HELP: &str = "\
Options of serve may stand without the word, as for any vhost-user back-end:
  vhost-user-net --socket-path PATH --tap NAME";

const SERVE_HELP: &str = "\
Several devices in one process:
  serve OPTIONS... --and OPTIONS...
The word --and begins the options of another device, and so on. Each has its own socket, tap and limits; devices of the
same --group also share a budget. A signal ends all of them, and so does a lost worker of any: supervise the process.";

const INSPECT_HELP: &str = "\
The tap is not in a snapshot, nor is anything else of the host: a device that is restored goes on over whatever it was
made with.";

/// A virtio network device for virtual machines.
#[derive(Debug, Parser)]
#[command(version, about, disable_help_subcommand = true, arg_required_else_help = true, after_help = HELP)]
pub struct CommandLine {
    /// Log more: informational messages; twice: debug messages
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,

    /// The task.
    #[command(subcommand)]
    pub task: Task,

    /// Further devices to serve, after the one of the task.
    #[arg(skip)]
    pub others: Vec<ServeArgs>,
}

impl CommandLine {
    /// Parses `words`, the first of which names the program.
    ///
    /// # Errors
    /// They make no sense, or ask for help.
    pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let words: Vec<_> = words.into_iter().collect();
        let line = Self::read_plain(&words)?;
        let Task::Serve(first) = &line.task else {
            return match line.others.is_empty() {
                true => Ok(line),
                false => Err(refusal("only serve knows --and")),
            };
        };
        if line.others.iter().any(|other| other.config.is_some()) {
            return Err(refusal("--config has to stand before the first --and"));
        }
        match &first.config {
            Some(path) => Self::read_plain(&with_file(&words, path)?),
            None => Ok(line),
        }
    }

    /// Parses `words` as they are.
    fn read_plain(words: &[OsString]) -> Result<Self, clap::Error> {
        let mut devices = words.split(|word| word == AND);
        let first = devices.next().unwrap_or_default();
        let (program, options) = first.split_at(first.len().min(1));
        let serve = [OsString::from(SERVE)];
        let task: &[_] = if serves_without_saying(options) {
            &serve
        } else {
            &[]
        };
        let mut line = Self::try_parse_from([program, task, options].concat())?;
        for options in devices {
            let next = Self::try_parse_from([program, &serve, options].concat())?;
            line.verbose = line.verbose.max(next.verbose);
            if let Task::Serve(args) = next.task {
                line.others.push(*args);
            }
        }
        Ok(line)
    }
}

/// A refusal of the command line as a whole.
fn refusal(text: impl fmt::Display) -> clap::Error {
    CommandLine::command().error(ErrorKind::ValueValidation, text)
}

/// The command line `words`, with the options of the file at `path` instead of its name.
fn with_file(words: &[OsString], path: &Path) -> Result<Vec<OsString>, clap::Error> {
    let (first, others) = match words.iter().position(|word| word == AND) {
        Some(at) => words.split_at(at),
        None => (words, &[][..]),
    };
    let mut rest = first.iter().skip(1).cloned();
    let mut given: Vec<OsString> = Vec::new();
    while let Some(word) = rest.next() {
        if word == "--config" {
            rest.next();
        } else if !config_file::names(&word, "config") {
            given.push(word);
        }
    }
    // The word for the task comes before all options but for those of the log's level.
    let is_option = |word: &&OsString| word.to_str().is_some_and(is_verbosity);
    let task = given.iter().take_while(is_option).count();
    if given.get(task).is_some_and(|word| word == SERVE) {
        given.remove(task);
    }
    let devices = config_file::read(path, &given).map_err(|error| refusal(chain(&error)))?;
    let mut all = Vec::from([first[0].clone(), SERVE.into()]);
    for (number, device) in devices.into_iter().enumerate() {
        if number > 0 {
            all.push(AND.into());
        }
        all.extend(device);
        if number == 0 {
            all.append(&mut given);
        }
    }
    all.extend_from_slice(others);
    Ok(all)
}

/// Returns whether `options` begin with one of the task that serves, and not with the name of a
/// task.
fn serves_without_saying(options: &[OsString]) -> bool {
    let general = ["-h", "--help", "-V", "--version"];
    let mut options = options.iter().filter_map(|option| option.to_str());
    let first = options.find(|option| !is_verbosity(option));
    first.is_some_and(|first| first.starts_with('-') && !general.contains(&first))
}

fn is_verbosity(option: &str) -> bool {
    let short = option.strip_prefix('-').unwrap_or_default();
    option == "--verbose" || (!short.is_empty() && short.bytes().all(|letter| letter == b'v'))
}

/// Tasks of the program.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Give the device to virtual machines over vhost-user
    #[command(after_help = SERVE_HELP)]
    Serve(Box<ServeArgs>),

    /// Print a snapshot of a device, check it, or make another one of it
    #[command(after_help = INSPECT_HELP)]
    Inspect(InspectArgs),
}

/// Reasons to refuse the options of a device.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Its configuration is unusable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its frames cannot go where they are to.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A limit is beyond what a bucket can have.
    #[error("unusable limit")]
    Limit(#[from] RateError),
    /// It has no rings, or more than messages can number.
    #[error(
        "{0} queue pairs; vhost-user can serve 1 to {MAX_QUEUE_PAIRS}, since its messages number \
         the rings, two for each pair, with 8 bits"
    )]
    QueuePairs(u16),
}

/// Most queue pairs of a device: descriptors for a ring come in a message that has eight bits for
/// the ring's number. With all of them in use the control queue has no number, which matters only
/// to front-ends that do not serve it.
const MAX_QUEUE_PAIRS: u16 = MAX_RINGS / 2;

const LIMITS: &str = "Limits";

/// Options of one device.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Take options from a file in TOML, under the same names without dashes; those of the command
    /// line go before. Each table "device" in it is a device of its own
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Socket to listen at
    #[arg(long, value_name = "PATH", required_unless_present_any = ["fd", "config", "print_capabilities"], conflicts_with = "fd")]
    pub socket_path: Option<PathBuf>,

    /// Permissions of the socket, such as 0660; without them those that the umask leaves
    #[arg(long, value_name = "MODE", value_parser = mode, conflicts_with_all = ["fd", "client"])]
    pub socket_mode: Option<u32>,

    /// Group of users that may connect to the socket, by name or number; without --socket-mode the
    /// mode is 0660
    #[arg(long, value_name = "GROUP", conflicts_with_all = ["fd", "client"])]
    pub socket_group: Option<String>,

    /// Inherited socket, listening or connected: its number, or the name that the service manager
    /// gives it (FileDescriptorName= of a unit)
    #[arg(long, value_name = "N|NAME")]
    pub fd: Option<Inherited>,

    /// Print what this back-end is, as JSON, and exit
    #[arg(long)]
    pub print_capabilities: bool,

    /// Connect to --socket-path instead of listening, again when the front-end is gone
    #[arg(long, conflicts_with = "fd")]
    pub client: bool,

    /// Tap to open, or to create; a name, or a template such as vmtap%d
    #[arg(long, value_name = "NAME", required_unless_present_any = ["tap_fd", "backend", "config", "print_capabilities"])]
    pub tap: Option<String>,

    /// Place for frames instead of a tap: passt:PATH, gvproxy:PATH, datagrams:PATH for programs
    /// behind a Unix socket, or macvtap:NAME
    #[arg(long, value_name = "KIND:PLACE", conflicts_with_all = ["tap", "tap_fd", "tap_addr", "host_mac"])]
    pub backend: Option<BackendSpec>,

    /// Inherited taps, one for each queue pair: numbers, or a name that the service manager gives
    /// them
    #[arg(long, value_name = "N|NAME", value_delimiter = ',', conflicts_with_all = ["tap", "tap_addr", "host_mac"])]
    pub tap_fd: Vec<Inherited>,

    /// Address of the host's end, for a tap that is created
    #[arg(long, value_name = "CIDR")]
    pub tap_addr: Vec<TapAddress>,

    /// MAC address of the host's end, for a tap that is created
    #[arg(long, value_name = "MAC")]
    pub host_mac: Option<MacAddr>,

    /// MAC address of the guest; without it the driver makes one up
    #[arg(long, value_name = "MAC")]
    pub mac: Option<MacAddr>,

    /// Largest packet, in bytes
    #[arg(long, value_name = "N")]
    pub mtu: Option<u16>,

    /// Queue pairs, up to 128
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub queue_pairs: u16,

    /// Largest ring that a front-end may choose
    #[arg(long, value_name = "N", default_value_t = 32768)]
    pub queue_size: u16,

    /// When the tap was deleted, or the program of --backend ended: open it again by its name, or
    /// connect again, as the guest resets its device, and for the next front-end; or end with
    /// status 4, as always with macvtap
    #[arg(long, value_name = "WHAT", value_enum, default_value_t)]
    pub lost_port: LostPort,

    /// Link status for the guest: that of the tap, or always up
    #[arg(long, value_name = "STATUS", default_value = "follow", value_parser = carrier())]
    pub carrier: Carrier,

    /// Refuse guest memory that its owner could shrink while it is used (without F_SEAL_SHRINK)
    #[arg(long)]
    pub require_sealed: bool,

    /// Offer to work behind an IOMMU of the front-end's (VIRTIO_F_ACCESS_PLATFORM), which says by
    /// messages where the driver's addresses lead
    #[arg(long)]
    pub iommu: bool,

    /// Microseconds to look for more frames before sleeping, up to 1000: spends a CPU's time on a
    /// shorter latency
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub poll_us: u16,

    /// Trust in the kernel to cut large frames of a tap as it should: "probe" tries it at the
    /// start, where namespaces may be made, and does itself what the kernel does wrongly; "assume"
    /// and "trust" leave it all that it takes, and "assume" merges frames of TCP only
    #[arg(long, value_name = "TRUST", default_value = "probe", value_parser = gso())]
    pub gso: GsoTrust,

    /// Protocols whose frames leave several at once where the tap takes that: tcp, udp, both, or
    /// off
    #[arg(long, value_name = "PROTOCOLS", default_value_t)]
    pub coalesce: Coalesce,

    /// Offer RSS: the driver says by a table which queue receives a frame
    #[arg(long)]
    pub rss: bool,

    /// Move frames to the queues of the driver's table here, instead of letting the kernel put them
    /// there
    #[arg(long)]
    pub no_kernel_steering: bool,

    /// Drop frames that the guest does not want here, instead of letting the kernel do it; a --pcap
    /// file has them then
    #[arg(long)]
    pub no_kernel_filter: bool,

    /// Offer hash reports: received frames carry a hash of their flow
    #[arg(long)]
    pub hash_report: bool,

    /// Refuse legacy drivers, those without VIRTIO_F_VERSION_1
    #[arg(long, help_heading = "Features")]
    pub no_legacy: bool,

    /// Write every frame to a file for packet analysers
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<PathBuf>,

    /// Socket for commands to the running daemon: line by line, "help" lists them
    #[arg(long, value_name = "PATH")]
    pub control_path: Option<PathBuf>,

    /// Serve the counters of all devices for Prometheus at a socket, or at an address such as
    /// 127.0.0.1:9101, which whoever reaches it can read; for one device of the process
    #[arg(long, value_name = "unix:PATH|ADDRESS")]
    pub metrics: Option<MetricsAddress>,

    /// Write the log as text, or as JSON; for one device of the process
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,

    /// Give up what is not needed once everything is open: all that can be given up here, or all
    /// or do not start, or only system calls of workers; for one device of the process
    #[arg(long, value_name = "EXTENT", value_enum)]
    pub sandbox: Option<Sandbox>,

    /// User that the process becomes then, where it is root: a name, or the numbers of user and
    /// group; for one device of the process
    #[arg(long, value_name = "NAME|UID:GID")]
    pub user: Option<User>,

    /// Rate limits.
    #[command(flatten)]
    pub limits: Limits,

    /// Apply the limits to the device as a whole, or to each queue
    #[arg(long, value_name = "SCOPE", default_value = "device", value_parser = scope(), help_heading = LIMITS)]
    pub limit_scope: LimitScope,

    /// Tap requests a second that the guest's control commands may cause (twice as many at once);
    /// 0: no limit
    #[arg(long, value_name = "N", default_value_t = 100, help_heading = LIMITS)]
    pub control_rate: u32,

    /// Count frames against a budget that devices of this process share; one gives it, as in
    /// a:tx=1Gbit,rx-pps=20kpps
    #[arg(long, value_name = "NAME[:LIMITS]", help_heading = LIMITS)]
    pub group: Option<Membership>,

    /// Programs in the kernel.
    #[command(flatten)]
    pub programs: ProgramArgs,

    /// Features not to offer.
    #[command(flatten)]
    pub without: Without,
}

impl ServeArgs {
    /// The device that is asked for.
    ///
    /// # Errors
    /// The options describe a device that cannot be.
    pub fn device(&self) -> Result<NetConfig, DeviceError> {
        if !(1..=MAX_QUEUE_PAIRS).contains(&self.queue_pairs) {
            return Err(DeviceError::QueuePairs(self.queue_pairs));
        }
        if let Some(backend) = &self.backend {
            backend.check(self.queue_pairs)?;
        }
        let mut config = NetConfig::builder().id("vhost-net").disable(self.without.0);
        config = config
            .queue_pairs(self.queue_pairs)
            .queue_size(self.queue_size);
        if let Some(mac) = self
            .mac
            .or(self.backend.as_ref().and_then(BackendSpec::mac))
        {
            config = config.mac(mac);
        }
        if let Some(mtu) = self.mtu {
            config = config.mtu(mtu);
        }
        let control_limit = TokenBucketConfig {
            size: 2 * u64::from(self.control_rate),
            one_time_burst: None,
            refill_time: 2000,
        };
        let config = NetConfig {
            control_limit: Some(control_limit),
            rx_limit: self.limits.rx()?,
            tx_limit: self.limits.tx()?,
            limit_scope: self.limit_scope,
            poll_us: self.poll_us,
            carrier: self.carrier,
            gso: self.gso,
            coalesce: self.coalesce,
            rss: self.rss,
            kernel_steering: !self.no_kernel_steering,
            kernel_filter: !self.no_kernel_filter && self.pcap.is_none(),
            hash_report: self.hash_report,
            transitional: !self.no_legacy,
            ..config.build()?
        };
        config.validate()?;
        Ok(config)
    }

    /// Users that may connect to the socket.
    #[must_use]
    pub fn access(&self) -> Access {
        Access {
            mode: self.socket_mode,
            group: self.socket_group.clone(),
        }
    }

    /// The tap that is asked for by name.
    #[must_use]
    pub fn tap(&self) -> TapConfig {
        let mut config = TapConfig {
            name: self.tap.clone(),
            host_mac: self.host_mac,
            ..TapConfig::default()
        };
        for address in &self.tap_addr {
            match address {
                TapAddress::V4(cidr) => config.ipv4 = Some(*cidr),
                TapAddress::V6(cidr) => config.ipv6 = Some(*cidr),
            }
        }
        config
    }
}

/// Socket and tap, for the line that the daemon starts with.
impl fmt::Display for ServeArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "queue pairs: {}, ", self.queue_pairs)?;
        match (&self.socket_path, &self.fd) {
            (Some(path), _) if self.client => write!(f, "for the front-end at {}", path.display()),
            (Some(path), _) => write!(f, "at {}", path.display()),
            (None, Some(fd)) => write!(f, "on descriptor {fd}"),
            (None, None) => f.write_str("to nobody"),
        }
    }
}
