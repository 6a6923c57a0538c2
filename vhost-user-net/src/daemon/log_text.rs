//! Errors and devices in the words of the log.

use std::error::Error;
use std::{io, iter};

use net_device::NetDevice;

use crate::sys;

/// The name that messages about `device` begin with: that of its tap, where it has one.
pub(crate) fn name_of(device: &NetDevice) -> String {
    let host = device.host_interface().map(|host| host.name.clone());
    host.unwrap_or_else(|| device.config().id.clone())
}

/// An error and its causes, on one line, with advice where a limit of the process or the host is
/// the cause.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let causes: Vec<_> = iter::successors(Some(error), |&error| error.source()).collect();
    let texts: Vec<_> = causes.iter().map(ToString::to_string).collect();
    let advice = causes
        .iter()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .find_map(sys::shortage_advice);
    let advice = advice.map_or_else(String::new, |advice| format!("; {advice}"));
    texts.join(": ") + &advice
}
