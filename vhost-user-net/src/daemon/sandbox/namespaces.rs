//! Namespaces of the process' own, with a root folder that is empty.
//!
//! The network namespace stays: the MTU of a tap is asked for in it. Process numbers stay: one who
//! has a namespace for those of its children can start no thread. No list of system calls has any
//! that takes the number of another process.

use std::io;

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, mount_remount, unmount,
};
use rustix::process::{chdir, pivot_root};
use rustix::thread::UnshareFlags;

use crate::sys::fork::unshare;

/// A folder that is everywhere where this program runs, to mount something on.
const MOUNT_POINT: &str = "/proc";

/// Enters them. One who may not is made a user namespace where he may.
///
/// # Errors
/// The kernel's error; some of it may have been done.
pub(super) fn enter(privileged: bool) -> io::Result<()> {
    let mut flags =
        UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS | UnshareFlags::NEWCGROUP;
    if !privileged {
        flags |= UnshareFlags::NEWUSER;
    }
    unshare(flags)?;
    // Nothing that is mounted from here on reaches others, nor does what others mount come here.
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private)?;
    let restricted = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(
        "tmpfs",
        MOUNT_POINT,
        "tmpfs",
        restricted,
        c"size=4k,nr_inodes=2,mode=0555",
    )?;
    chdir(MOUNT_POINT)?;
    // The old root lies on the new one then, and goes.
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    chdir("/")?;
    Ok(mount_remount("/", restricted | MountFlags::RDONLY, c"")?)
}
