//! Real, unmodified Linux guests under test.
//!
//! From the outside in:
//!
//! - [`namespace`] runs the whole test again inside private network, mount and process namespaces:
//!   nothing of the host's network is touched, and whatever happens no process outlives the test.
//! - [`packages`] says which Debian packages are missing; [`kernel`] finds the guests' kernels and
//!   modules, [`image`] packs an initramfs (a [`cpio`] archive) of busybox, tools, modules and
//!   `tests/guest/init`.
//! - [`processors`] gives guests a processor of their own.
//! - [`Process`] is any program that was started here: its output is collected, each wait has an
//!   end, and it is killed with its children when dropped.
//! - [`Guest`] is a booted kernel with a shell on its serial console: `guest.run("ip link")`. It is
//!   started by [`uml`] (user-mode Linux) or by [`qemu`] (without hardware virtualisation), which
//!   can move it by [`qmp`] while it runs.
//! - [`testpmd`] is a driver without a guest: a program of the host that sends every frame back,
//!   looked at through [`probe`]; [`netboot`] is what firmware loads a file from, [`boot_program`]
//!   one that says what of it has arrived.
//! - [`Daemon`] is the device under test, [`host`] the programs at the other end of its tap, one of
//!   them [`datagrams`], which is at both ends. Its counters are in [`metrics`].
//! - [`Testbed`] is one daemon with one guest and an address at each end, and [`scenarios`] is what
//!   is checked with it.
//!
//! A real kernel is not deterministic, so there is no virtual time here: every wait ends at an
//! event (output, exit), and a deadline turns a hang into a failure that shows the end of the
//! program's output.

pub mod boot_program;
pub mod cpio;
pub mod daemon;
pub mod datagrams;
mod error;
pub mod host;
pub mod image;
pub mod kernel;
pub mod metrics;
pub mod namespace;
pub mod netboot;
pub mod packages;
pub mod probe;
mod process;
pub mod processors;
pub mod qemu;
pub mod qmp;
pub mod scenarios;
mod shell;
pub mod testbed;
pub mod testpmd;
pub mod uml;

pub use daemon::Daemon;
pub use error::{Error, Result};
pub use process::Process;
pub use shell::{Guest, Reply};
pub use testbed::{Assets, Machine, Setup, Testbed};
