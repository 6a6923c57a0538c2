//! The program around the library: arguments, the log, the exit code.

use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use net_device::net_queue::decorate::Capture;
use net_device::{NetConfig, NetDevice};
use vhost_user_net::args::{CommandLine, ServeArgs, Task};
use vhost_user_net::control::Control;
use vhost_user_net::pcap::PcapFile;
use vhost_user_net::serve::{Server, Source, chain};
use vhost_user_net::{demo, sys};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

fn main() -> ExitCode {
    let line = CommandLine::parse();
    let level = ["warn", "info", "debug"][usize::from(line.verbose.min(2))];
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level)).init();
    let result = match &line.task {
        None => demo::run(&demo::Options::default()).map_err(Into::into),
        Some(Task::Demo(options)) => demo::run(options).map_err(Into::into),
        Some(Task::Serve(args)) => serve(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "vhost-user-net: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn serve(args: &ServeArgs) -> Result<(), Box<dyn Error>> {
    if args.print_capabilities {
        // The format of QEMU's vhost-user.json; this type of back-end has no optional features there.
        return Ok(writeln!(io::stdout(), "{{\n  \"type\": \"net\"\n}}")?);
    }
    let config = args.device().unwrap_or_else(|error| {
        let kind = clap::error::ErrorKind::ValueValidation;
        CommandLine::command().error(kind, chain(&error)).exit()
    });
    // Before there is any other thread: each inherits that these signals wait for the main one.
    let termination = sys::Termination::new()?;
    let exit = EventFd::new(EFD_NONBLOCK)?;
    let worker_lost = File::from(sys::duplicate(exit.as_raw_fd())?);
    // First what has no effect on the network if it fails. A front-end that comes early waits.
    let source = match (&args.socket_path, args.fd) {
        (Some(path), _) if args.client => Source::Client(path.clone()),
        (Some(path), _) => Source::listen(path)?,
        (None, Some(fd)) => Source::inherit(fd)?,
        (None, None) => return Ok(()),
    };
    let control = args.control_path.as_ref();
    let control = control.map(|path| Control::listen(path, args.limits));
    let control = control.transpose()?;
    let mut device = open_device(args, config)?.with_exit_event(exit);
    if let Some(path) = &args.pcap {
        let pcap = PcapFile::create(path)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        device = device.map_backends(|_, backend| Box::new(Capture::new(backend, pcap.clone())));
    }
    // The kernel completes a template, and an inherited tap has a name that nobody gave here.
    let tap = device.host_interface().map_or_else(
        || "an unnamed tap".into(),
        |host| format!("tap {}", host.name),
    );
    let _ = writeln!(io::stderr(), "vhost-user-net: {tap}, {args}");
    let mut server = Server::new(&mut device, &termination, &worker_lost).with_control(control);
    Ok(server.run(source)?)
}

fn open_device(args: &ServeArgs, config: NetConfig) -> Result<NetDevice, Box<dyn Error>> {
    if args.tap_fd.is_empty() {
        return Ok(NetDevice::from_tap_name(config, &args.tap())?);
    }
    let own: Result<Vec<_>, _> = args.tap_fd.iter().map(|fd| sys::duplicate(*fd)).collect();
    let own =
        own.map_err(|error| format!("--tap-fd names a descriptor that is not open: {error}"))?;
    let borrowed: Vec<_> = own.iter().map(AsFd::as_fd).collect();
    Ok(NetDevice::from_tap_fds(config, &borrowed)?)
}
