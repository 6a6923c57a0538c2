//! One daemon, one guest, and an address at each end.

use std::fs;
use std::path::{Path, PathBuf};

use super::image::{self, Bus};
use super::kernel::{self, Kernel};
use super::{Daemon, Error, Guest, Result, host, qemu, uml};

/// The tap that the daemon makes.
pub const TAP: &str = "vt0";
/// The host's address on the tap.
pub const HOST: &str = "192.0.2.1";
/// The guest's address.
pub const GUEST: &str = "192.0.2.2";
/// The guest's hardware address, as the daemon is told it.
pub const MAC: &str = "02:00:00:00:00:02";
/// The guest's interface.
pub const NIC: &str = "eth0";

/// Names and addresses of a daemon and its guest.
#[derive(Debug, Clone, Copy)]
pub struct Addressing {
    /// The tap.
    pub tap: &'static str,
    /// The host's address on the tap.
    pub host: &'static str,
    /// The guest's address.
    pub guest: &'static str,
    /// The guest's hardware address.
    pub mac: &'static str,
}

/// Addresses of a scenario with one guest.
const FIRST: Addressing = Addressing {
    tap: TAP,
    host: HOST,
    guest: GUEST,
    mac: MAC,
};

/// Addresses of a second guest: in the first one's subnet, for when a bridge joins the taps.
pub const SECOND: Addressing = Addressing {
    tap: "vt1",
    host: "198.51.100.1",
    guest: "192.0.2.3",
    mac: "02:00:00:00:00:03",
};

/// Machine of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// User-mode Linux.
    UserMode,
    /// QEMU without hardware virtualisation.
    Qemu,
    /// The same with a device that has the legacy interface alone.
    LegacyQemu,
    /// The same with a device behind an IOMMU.
    IommuQemu,
}

impl Machine {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::UserMode,
        Self::Qemu,
        Self::LegacyQemu,
        Self::IommuQemu,
    ];

    const fn bus(self) -> Bus {
        match self {
            Self::UserMode => Bus::VhostUser,
            Self::Qemu | Self::LegacyQemu | Self::IommuQemu => Bus::Pci,
        }
    }

    const fn image_name(self) -> &'static str {
        match self {
            Self::UserMode => "user-mode.cpio",
            Self::Qemu | Self::LegacyQemu | Self::IommuQemu => "qemu.cpio",
        }
    }
}

/// Kernels and images, in a folder that outlives the test.
#[derive(Debug, Clone)]
pub struct Assets {
    cache: PathBuf,
}

impl Assets {
    /// Assets below a folder, which are made by [`Assets::prepare`].
    #[must_use]
    pub const fn new(cache: PathBuf) -> Self {
        Self { cache }
    }

    /// Downloads the kernel if need be and packs the image of a machine. Not inside a namespace
    /// without network.
    ///
    /// # Errors
    /// When something is missing on this machine.
    pub fn prepare(&self, machine: Machine) -> Result<()> {
        fs::create_dir_all(&self.cache)
            .map_err(Error::io(format!("creating {}", self.cache.display())))?;
        if machine == Machine::LegacyQemu {
            kernel::firmware(&self.cache)?;
        }
        let image = image::build(&self.kernel(machine)?, machine.bus())?;
        let path = self.image(machine);
        fs::write(&path, image).map_err(Error::io(format!("writing {}", path.display())))
    }

    /// Boots a guest with a network device behind each socket.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn boot(&self, machine: Machine, sockets: &[&Path], folder: &Path) -> Result<Guest> {
        let kernel = self.kernel(machine)?;
        let image = self.image(machine);
        match machine {
            Machine::UserMode => uml::boot(&kernel, &image, sockets, folder),
            Machine::Qemu => qemu::boot(&kernel, &image, sockets),
            Machine::LegacyQemu => qemu::boot_legacy(&kernel, &image, sockets),
            Machine::IommuQemu => qemu::boot_behind_iommu(&kernel, &image, sockets),
        }
    }

    /// Boots a guest in a QEMU that can be moved to another one.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn boot_movable(&self, machine: &qemu::Movable) -> Result<Guest> {
        machine.boot(&self.kernel(Machine::Qemu)?, &self.image(Machine::Qemu))
    }

    /// Boots a QEMU guest behind a daemon that may go and come back.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn boot_behind(&self, front_end: qemu::FrontEnd, socket: &Path) -> Result<Guest> {
        let (kernel, image) = (self.kernel(Machine::Qemu)?, self.image(Machine::Qemu));
        front_end.boot(&kernel, &image, socket)
    }

    /// Starts another such QEMU, which waits for `guest`.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn receive(&self, machine: &qemu::Movable, guest: &Guest) -> Result<Guest> {
        let kernel = self.kernel(Machine::Qemu)?;
        machine.receive(&kernel, &self.image(Machine::Qemu), guest)
    }

    /// EDK2's firmware, and a program that it can start: Linux, which has the form of one.
    ///
    /// # Errors
    /// [`Error::Missing`] when either was not prepared.
    pub fn firmware(&self) -> Result<(PathBuf, PathBuf)> {
        let firmware = kernel::firmware(&self.cache)?;
        Ok((firmware, self.kernel(Machine::LegacyQemu)?.image))
    }

    fn kernel(&self, machine: Machine) -> Result<Kernel> {
        match machine {
            Machine::UserMode => Kernel::user_mode(),
            Machine::Qemu | Machine::LegacyQemu | Machine::IommuQemu => Kernel::cloud(&self.cache),
        }
    }

    fn image(&self, machine: Machine) -> PathBuf {
        self.cache.join(machine.image_name())
    }
}

/// Parts of a test bed.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Machine of the guest.
    pub machine: Machine,
    /// Options of the daemon beyond the socket, the tap, its address and the MAC.
    pub options: &'static [&'static str],
}

/// A daemon and its guest. The guest is dropped first.
#[derive(Debug)]
pub struct Testbed {
    /// The guest.
    pub guest: Guest,
    /// The device under test.
    pub daemon: Daemon,
    setup: Setup,
    addresses: Addressing,
    assets: Assets,
    folder: tempfile::TempDir,
}

impl Testbed {
    /// Starts the daemon, boots the guest and gives it its address.
    ///
    /// # Errors
    /// When either does not come up.
    pub fn open(assets: &Assets, setup: Setup) -> Result<Self> {
        Self::open_at(FIRST, assets, setup)
    }

    /// Another daemon with another guest, set up like this one.
    ///
    /// # Errors
    /// When either does not come up.
    pub fn neighbour(&self) -> Result<Self> {
        Self::open_at(SECOND, &self.assets, self.setup)
    }

    fn open_at(addresses: Addressing, assets: &Assets, setup: Setup) -> Result<Self> {
        let folder = tempfile::tempdir().map_err(Error::io("creating a temporary folder"))?;
        let daemon = serve(folder.path(), addresses, setup)?;
        let guest = boot(assets, setup.machine, addresses, folder.path())?;
        Ok(Self {
            guest,
            daemon,
            setup,
            addresses,
            assets: assets.clone(),
            folder,
        })
    }

    /// A folder for the files of a scenario.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Gives the guest its address again, after its interface was new.
    ///
    /// # Errors
    /// When the guest refuses.
    pub fn rejoin(&mut self) -> Result<()> {
        join_network(&mut self.guest, self.addresses)
    }

    fn start(&mut self) -> Result<()> {
        self.daemon = serve(self.folder.path(), self.addresses, self.setup)?;
        self.boot()
    }

    fn boot(&mut self) -> Result<()> {
        let Setup { machine, .. } = self.setup;
        self.guest = boot(&self.assets, machine, self.addresses, self.folder.path())?;
        Ok(())
    }

    /// Powers the guest off and boots another one on the same daemon.
    ///
    /// # Errors
    /// When either fails.
    pub fn next_guest(&mut self) -> Result<()> {
        self.guest.power_off()?;
        self.boot()
    }

    /// Kills the daemon without warning, then the guest that lost its device; starts both again.
    ///
    /// # Errors
    /// When the new ones do not come up.
    pub fn crash(&mut self) -> Result<()> {
        self.daemon.kill()?;
        self.guest.kill()?;
        self.start()
    }

    /// Ends both in an orderly way and begins again with other options.
    ///
    /// # Errors
    /// When either end is not orderly, or the new ones do not come up.
    pub fn reopen(&mut self, options: &'static [&'static str]) -> Result<()> {
        self.close()?;
        self.setup.options = options;
        self.start()
    }

    /// The error with what the daemon had to say.
    #[must_use]
    pub fn explain(&mut self, error: &Error) -> Error {
        let state = if self.daemon.is_running() {
            "runs"
        } else {
            "has ended"
        };
        Error::Unexpected(format!(
            "{}\nthe daemon {state}, its log ends:\n{}",
            error.describe(),
            self.daemon.log()
        ))
    }

    /// Powers the guest off; the daemon has to survive that and to end with status 0 when it is
    /// asked to.
    ///
    /// # Errors
    /// When either end is not orderly.
    pub fn close(&mut self) -> Result<()> {
        self.guest.power_off()?;
        self.daemon.expect_alive()?;
        self.daemon.stop()
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("net.sock")
}

fn serve(folder: &Path, addresses: Addressing, setup: Setup) -> Result<Daemon> {
    let address = format!("{}/24", addresses.host);
    let fixed = [
        "--tap",
        addresses.tap,
        "--tap-addr",
        &address,
        "--mac",
        addresses.mac,
    ];
    // A scenario that names a file means one in its own folder.
    let options = fixed
        .iter()
        .chain(setup.options)
        .map(|word| word.replace("FOLDER", &folder.to_string_lossy()))
        .collect::<Vec<_>>();
    Daemon::serve(&socket(folder), &options)
}

fn boot(assets: &Assets, machine: Machine, addresses: Addressing, folder: &Path) -> Result<Guest> {
    let mut guest = assets.boot(machine, &[&socket(folder)], folder)?;
    join_network(&mut guest, addresses)?;
    Ok(guest)
}

/// Gives the guest its address; the host forgets what it knew of an earlier guest.
fn join_network(guest: &mut Guest, addresses: Addressing) -> Result<()> {
    guest.expect(&format!(
        "ip link set {NIC} up && ip addr add {}/24 dev {NIC}",
        addresses.guest
    ))?;
    host::run(&format!("ip neigh flush dev {}", addresses.tap)).map(drop)
}
