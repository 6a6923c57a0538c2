//! QEMU without hardware virtualisation: slow, but another driver binding (virtio-pci) and another
//! front-end.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::kernel::Kernel;
use super::{Guest, Process, Result, packages, processors};

/// Longest time that a boot may take; five to seven seconds are usual on an idle machine.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// A network device has no program of its own for the firmware of the machine.
const NO_ROM: &str = ",romfile=";

/// Boots a guest with a network device behind each socket.
///
/// # Errors
/// When the guest does not come up.
pub fn boot(kernel: &Kernel, image: &Path, sockets: &[&Path]) -> Result<Guest> {
    Guest::boot(&mut command(kernel, image, sockets, "", "")?, BOOT_LIMIT)
}

/// Manner in which QEMU finds a daemon again that was gone.
#[derive(Debug, Clone, Copy)]
pub enum FrontEnd {
    /// It listens, and the daemon connects.
    Listens,
    /// It connects, a tenth of a second after the connection or the last attempt has failed.
    Connects,
}

impl FrontEnd {
    /// Boots a guest.
    ///
    /// # Errors
    /// When it does not come up.
    pub(super) fn boot(self, kernel: &Kernel, image: &Path, socket: &Path) -> Result<Guest> {
        let link = match self {
            Self::Listens => ",server=on",
            Self::Connects => ",reconnect-ms=100",
        };
        Guest::boot(
            &mut command(kernel, image, &[socket], link, "")?,
            BOOT_LIMIT,
        )
    }
}

/// The same with devices that have the legacy interface alone.
///
/// # Errors
/// When the guest does not come up.
pub fn boot_legacy(kernel: &Kernel, image: &Path, sockets: &[&Path]) -> Result<Guest> {
    let mut command = command(kernel, image, sockets, "", ",disable-modern=on")?;
    Guest::boot(&mut command, BOOT_LIMIT)
}

/// The same with devices whose addresses an IOMMU translates, one that forgets a mapping as soon as
/// the guest does.
///
/// # Errors
/// When the guest does not come up.
pub fn boot_behind_iommu(kernel: &Kernel, image: &Path, sockets: &[&Path]) -> Result<Guest> {
    // It has to be there before the devices that it serves.
    let mut machine = machine()?;
    machine.args(["-device", "intel-iommu,device-iotlb=on"]);
    add_devices(
        &mut machine,
        sockets,
        "",
        &format!("{NO_ROM},disable-legacy=on,iommu_platform=on,ats=on"),
    );
    load(&mut machine, kernel, image, "intel_iommu=on iommu.strict=1");
    Guest::boot(&mut machine, BOOT_LIMIT)
}

/// Starts a machine without a system, whose `firmware` finds a transitional device with the address
/// `mac` behind the socket, and nothing else to start from.
///
/// # Errors
/// When it cannot be started.
pub fn start_firmware(firmware: &Path, socket: &Path, mac: &str) -> Result<Process> {
    let mut command = bare(&[socket], "", &format!("{NO_ROM},mac={mac}"))?;
    Process::spawn(command.arg("-bios").arg(firmware))
}

/// Starts a machine without a system, whose network device with the address `mac` and further
/// `options` brings a program of its own with it: iPXE, if not told otherwise.
///
/// # Errors
/// When it cannot be started.
pub fn start_ipxe(socket: &Path, mac: &str, options: &str) -> Result<Process> {
    let options = format!(",mac={mac},bootindex=0{options}");
    Process::spawn(&mut bare(&[socket], "", &options)?)
}

/// A machine that can be moved to another one, and its sockets.
#[derive(Debug, Clone)]
pub struct Movable {
    /// Its driver is offered packed rings.
    pub packed: bool,
    /// Its device.
    pub device: PathBuf,
    /// Its [monitor](super::qmp).
    pub monitor: PathBuf,
    /// The state of the machine that it goes on as.
    pub incoming: PathBuf,
}

impl Movable {
    fn command(&self, kernel: &Kernel, image: &Path) -> Result<Command> {
        let options = if self.packed { ",packed=on" } else { "" };
        let mut command = command(kernel, image, &[&self.device], "", options)?;
        let monitor = format!("unix:{},server=on,wait=off", self.monitor.display());
        command.args(["-qmp", &monitor]);
        Ok(command)
    }

    /// Boots a guest that can be moved.
    ///
    /// # Errors
    /// When the guest does not come up.
    pub fn boot(&self, kernel: &Kernel, image: &Path) -> Result<Guest> {
        Guest::boot(&mut self.command(kernel, image)?, BOOT_LIMIT)
    }

    /// Starts a machine that waits for the state of the one in which `guest` runs.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn receive(&self, kernel: &Kernel, image: &Path, guest: &Guest) -> Result<Guest> {
        let mut command = self.command(kernel, image)?;
        let incoming = format!("unix:{}", self.incoming.display());
        command.args(["-incoming", &incoming]);
        guest.moved_to(&mut command, BOOT_LIMIT, || {
            self.monitor.exists() && self.incoming.exists()
        })
    }
}

/// QEMU with a network device behind each socket; `link` are options of the sockets, `options` of
/// the devices.
fn command(
    kernel: &Kernel,
    image: &Path,
    sockets: &[&Path],
    link: &str,
    options: &str,
) -> Result<Command> {
    let mut command = bare(sockets, link, &format!("{NO_ROM}{options}"))?;
    load(&mut command, kernel, image, "");
    Ok(command)
}

/// Gives the machine a kernel to run, with further words for it.
fn load(machine: &mut Command, kernel: &Kernel, image: &Path, words: &str) {
    machine
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(image)
        .arg("-append")
        .arg(format!("console=ttyS0 quiet panic=-1 {words}"));
}

/// A machine with its devices and nothing to run.
fn bare(sockets: &[&Path], link: &str, options: &str) -> Result<Command> {
    let mut machine = machine()?;
    add_devices(&mut machine, sockets, link, options);
    Ok(machine)
}

/// A machine without devices.
fn machine() -> Result<Command> {
    let mut command = processors::guest_command(packages::program("qemu-system-x86_64")?);
    command
        .args([
            "-accel",
            "tcg",
            "-nodefaults",
            "-nographic",
            "-no-reboot",
            "-serial",
            "stdio",
        ])
        // The back-end maps the guest's memory.
        .args(["-machine", "q35,memory-backend=memory", "-m", "256M"])
        .args([
            "-object",
            "memory-backend-memfd,id=memory,size=256M,share=on",
        ]);
    Ok(command)
}

/// Adds a network device behind each socket.
fn add_devices(command: &mut Command, sockets: &[&Path], link: &str, options: &str) {
    if sockets.is_empty() {
        command.args(["-nic", "none"]);
    }
    for (number, socket) in sockets.iter().enumerate() {
        command
            .arg("-chardev")
            .arg(format!(
                "socket,id=link{number},path={}{link}",
                socket.display()
            ))
            .arg("-netdev")
            .arg(format!("vhost-user,id=net{number},chardev=link{number}"))
            .arg("-device")
            .arg(format!("virtio-net-pci,netdev=net{number}{options}"));
    }
}
