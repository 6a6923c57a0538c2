//! A tap as another program might open it.
#![allow(unsafe_code)]

use std::ffi::c_char;
use std::fs::OpenOptions;
use std::os::fd::{AsRawFd, OwnedFd};

/// Opens a new tap without the virtio-net header before each frame.
#[must_use]
pub fn plain_tap(name: &str) -> OwnedFd {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .expect("the driver can be opened");
    // SAFETY: zero is a value of every field.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as i16;
    // SAFETY: TUNSETIFF reads and writes the one `ifreq`, which lives through the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &mut request) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    file.into()
}
