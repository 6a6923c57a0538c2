//! The guests' kernels and where their modules are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Error, Process, Result};

/// Debian's kernel for virtual machines; depends on the package of the current version.
const CLOUD_KERNEL: &str = "linux-image-cloud-amd64";

/// Debian's package of EDK2's firmware.
const FIRMWARE: &str = "ovmf";

const DOWNLOAD_LIMIT: Duration = Duration::from_secs(300);

/// A kernel with its modules.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// The kernel itself; for user-mode Linux it is a program.
    pub image: PathBuf,
    /// The folder with `modules.builtin`.
    pub modules: PathBuf,
}

impl Kernel {
    /// User-mode Linux, as Debian's package installs it.
    ///
    /// # Errors
    /// [`Error::Missing`] when it is not installed.
    pub fn user_mode() -> Result<Self> {
        let image = super::packages::program("linux.uml")?.into();
        Ok(Self {
            image,
            modules: only_entry(Path::new("/usr/lib/uml/modules"), "")?,
        })
    }

    /// Debian's cloud kernel, unpacked below `cache`; downloaded there on first use. It is not
    /// installed on this machine: that would rebuild the machine's own boot files.
    ///
    /// # Errors
    /// [`Error::Missing`] when it cannot be had.
    pub fn cloud(cache: &Path) -> Result<Self> {
        let folder = cache.join("cloud-kernel");
        if !folder.join("boot").is_dir() {
            download(&versioned_package()?, &folder)?;
        }
        Ok(Self {
            image: only_entry(&folder.join("boot"), "vmlinuz-")?,
            modules: only_entry(&folder.join("lib/modules"), "")?,
        })
    }

    /// The file of a module, or nothing when it is part of the kernel image.
    ///
    /// # Errors
    /// [`Error::Missing`] when the kernel does not have it in either form.
    pub fn module(&self, name: &str) -> Result<Option<PathBuf>> {
        if let Some(path) = find_module(&self.modules, name) {
            return Ok(Some(path));
        }
        let builtin = self.modules.join("modules.builtin");
        let list = fs::read_to_string(&builtin)
            .map_err(Error::io(format!("reading {}", builtin.display())))?;
        if list.lines().any(|line| is_module(Path::new(line), name)) {
            return Ok(None);
        }
        Err(Error::Missing(format!(
            "{} has no module {name}",
            self.modules.display()
        )))
    }
}

/// EDK2's firmware, unpacked below `cache` as Debian packages it; downloaded there on first use.
///
/// # Errors
/// [`Error::Missing`] when it cannot be had.
pub fn firmware(cache: &Path) -> Result<PathBuf> {
    let folder = cache.join("firmware");
    if !folder.is_dir() {
        download(FIRMWARE, &folder)?;
    }
    Ok(folder.join("usr/share/qemu/OVMF.fd"))
}

/// Unpacks beside the goal and renames, so that an interrupted download leaves nothing that looks
/// complete.
fn download(package: &str, folder: &Path) -> Result<()> {
    let partial = folder.with_extension("partial");
    let _absent = fs::remove_dir_all(&partial);
    fs::create_dir_all(&partial).map_err(Error::io(format!("creating {}", partial.display())))?;
    step(
        Command::new("apt-get").args(["-q", "-o", "APT::Sandbox::User=root", "download", package]),
        &partial,
    )?;
    let archive = only_entry(&partial, package)?;
    step(
        Command::new("dpkg-deb").arg("-x").arg(&archive).arg("."),
        &partial,
    )?;
    let _absent = fs::remove_dir_all(folder);
    fs::rename(&partial, folder).map_err(Error::io(format!("renaming {}", partial.display())))
}

/// The package that [`CLOUD_KERNEL`] stands for today.
fn versioned_package() -> Result<String> {
    let output = step(
        Command::new("apt-cache").args(["depends", CLOUD_KERNEL]),
        Path::new("/"),
    )?;
    output
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|package| package.starts_with("linux-image-"))
        .map(str::to_owned)
        .ok_or_else(|| {
            Error::Missing(format!(
                "{CLOUD_KERNEL} is not in the package lists: apt-get update"
            ))
        })
}

fn step(command: &mut Command, folder: &Path) -> Result<String> {
    let mut process = Process::spawn(command.current_dir(folder))?;
    let status = process.wait_exit(DOWNLOAD_LIMIT)?;
    let output = process.take_output();
    if status.success() {
        return Ok(output);
    }
    Err(Error::Missing(format!(
        "a package cannot be had (apt-get update?): {}",
        output.trim()
    )))
}

/// The entry of a folder whose name begins with `prefix`, the last one in order.
fn only_entry(folder: &Path, prefix: &str) -> Result<PathBuf> {
    entries(folder)
        .into_iter()
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(prefix))
        })
        .max()
        .ok_or_else(|| Error::Missing(format!("nothing like {}/{prefix}*", folder.display())))
}

fn find_module(folder: &Path, name: &str) -> Option<PathBuf> {
    let (folders, files): (Vec<_>, Vec<_>) =
        entries(folder).into_iter().partition(|path| path.is_dir());
    files
        .into_iter()
        .find(|path| is_module(path, name))
        .or_else(|| folders.iter().find_map(|folder| find_module(folder, name)))
}

/// File names use `-` and `_` alike.
fn is_module(path: &Path, name: &str) -> bool {
    let file = path
        .file_name()
        .map(|file| file.to_string_lossy().replace('-', "_"))
        .unwrap_or_default();
    file == format!("{name}.ko") || file == format!("{name}.ko.xz")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .map(|entries| {
            entries
                .filter_map(|entry| entry.ok().map(|entry| entry.path()))
                .collect()
        })
        .unwrap_or_default()
}
