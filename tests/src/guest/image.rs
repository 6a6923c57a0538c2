//! The initramfs: all the user space a guest has.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::cpio::Archive;
use super::kernel::Kernel;
use super::{Error, Result, packages};

/// Process 1 of the guest.
const INIT: &str = include_str!("../../guest/init");

/// Programs that busybox does not have in full.
const TOOLS: &[&str] = &["ethtool", "iperf3"];
/// Programs of this package.
const OWN_TOOLS: &[&str] = &["datagrams", "xdp"];

/// Modules in the order in which they can be loaded: IPv6 and VLAN first, then the bus, the driver
/// last.
const MODULES: &[&str] = &["crc_ccitt", "ipv6", "llc", "stp", "garp", "mrp", "8021q"];
const PCI_MODULES: &[&str] = &[
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
];
const DRIVER_MODULES: &[&str] = &["failover", "net_failover", "virtio_net"];

/// The bus by which a guest finds its network device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// Part of the user-mode kernel.
    VhostUser,
    /// virtio-pci.
    Pci,
}

/// Packs the initramfs for a kernel.
///
/// # Errors
/// When a program, a library or a module is missing.
pub fn build(kernel: &Kernel, bus: Bus) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.character_device("/dev/console", 5, 1);
    archive.character_device("/dev/null", 1, 3);
    archive.file("/init", INIT.as_bytes());
    copy(&mut archive, &packages::program("busybox")?, "/bin/busybox")?;
    archive.symlink("/bin/sh", "busybox");
    for tool in TOOLS {
        install(&mut archive, &packages::program(tool)?, tool)?;
    }
    for tool in OWN_TOOLS {
        install(&mut archive, &packages::own(tool)?.to_string_lossy(), tool)?;
    }
    add_modules(&mut archive, kernel, bus)?;
    Ok(archive.finish())
}

/// Copies a program with its libraries.
fn install(archive: &mut Archive, program: &str, name: &str) -> Result<()> {
    copy(archive, program, &format!("/usr/bin/{name}"))?;
    for library in libraries(program)? {
        copy(archive, &library, &library)?;
    }
    Ok(())
}

/// The numbers in front of the names keep the order for `init`.
fn add_modules(archive: &mut Archive, kernel: &Kernel, bus: Bus) -> Result<()> {
    let bus_modules = match bus {
        Bus::VhostUser => &[],
        Bus::Pci => PCI_MODULES,
    };
    for (number, name) in MODULES
        .iter()
        .chain(bus_modules)
        .chain(DRIVER_MODULES)
        .enumerate()
    {
        if let Some(path) = kernel.module(name)? {
            copy(archive, &path, &format!("/modules/{number:02}-{name}.ko"))?;
        }
    }
    Ok(())
}

fn copy(archive: &mut Archive, from: impl AsRef<Path>, to: &str) -> Result<()> {
    let from = from.as_ref();
    let data = fs::read(from).map_err(Error::io(format!("reading {}", from.display())))?;
    archive.file(to, &data);
    Ok(())
}

/// The shared libraries of a program, the loader included: the absolute paths in what `ldd` prints.
fn libraries(program: &str) -> Result<Vec<String>> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .map_err(Error::io("starting ldd"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(str::to_owned)
        .collect())
}
