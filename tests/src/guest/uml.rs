//! User-mode Linux: a Linux kernel as an ordinary program, with its own vhost-user front-end.

use std::path::Path;
use std::time::Duration;

use super::kernel::Kernel;
use super::{Guest, Result, processors};

/// Longest time that a boot may take; one second is usual.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// Boots a guest with a network device behind each socket. `folder` takes the guest's memory
/// file and its control socket.
///
/// # Errors
/// When the guest does not come up.
pub fn boot(kernel: &Kernel, image: &Path, sockets: &[&Path], folder: &Path) -> Result<Guest> {
    let mut command = processors::guest_command(&kernel.image);
    // `nohz=off`: an interrupt that comes between this kernel's last look for work and its sleep
    // does not wake it, only its next timer does. Without a steady tick that may be half a second
    // later.
    command
        .args([
            "mem=256M",
            "root=/dev/ram0",
            "rw",
            "con=null",
            "con0=fd:0,fd:1",
            "quiet",
            "nohz=off",
        ])
        .arg(format!("initrd={}", image.display()))
        .arg(format!("uml_dir={}/", folder.display()))
        // Where the kernel makes the file of its memory, which the daemon takes only from a tmpfs.
        .env("TMPDIR", "/dev/shm")
        .env("HOME", folder);
    for socket in sockets {
        // The number is the device's type: 1 is a network device.
        command.arg(format!("virtio_uml.device={}:1", socket.display()));
    }
    Guest::boot(&mut command, BOOT_LIMIT)
}
