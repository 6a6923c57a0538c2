//! User, capabilities, and that no program gives any.

use std::io;

use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

/// Returns whether this thread may do what needs `capability`.
pub(super) fn has(capability: CapabilitySet) -> io::Result<bool> {
    Ok(capabilities(None)?.effective.contains(capability))
}

/// Becomes another user, for good, with one group. Of the capabilities stays what the caller has
/// and [`drop_capabilities`] is to take.
///
/// # Errors
/// The kernel's error, where this is not root.
pub(super) fn become_user(user: u32, group: u32) -> io::Result<()> {
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
    set_keep_capabilities(true)?;
    set_thread_groups(&[group])?;
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(user, user, user)?;
    let permitted = capabilities(None)?.permitted;
    set_sets(permitted)
}

/// Drops all capabilities but those in `kept` that are there, and lets no program bring any.
///
/// # Errors
/// The kernel's error.
pub(super) fn drop_capabilities(kept: CapabilitySet) -> io::Result<()> {
    set_no_new_privs(true)?;
    // What a program could get at most; without the right to drop it, that it gets none is enough.
    if has(CapabilitySet::SETPCAP)? {
        for capability in CapabilitySet::all().iter() {
            let _ = remove_capability_from_bounding_set(capability);
        }
    }
    // Kernels without ambient capabilities have none.
    let _ = clear_ambient_capability_set();
    set_keep_capabilities(false)?;
    let permitted = capabilities(None)?.permitted;
    set_sets(permitted & kept)
}

/// Makes `set` all that the thread has, and has use of.
fn set_sets(set: CapabilitySet) -> io::Result<()> {
    let sets = CapabilitySets {
        effective: set,
        permitted: set,
        inheritable: CapabilitySet::empty(),
    };
    Ok(set_capabilities(None, sets)?)
}
