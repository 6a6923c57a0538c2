//! Errors of a tap: which cost a frame, and which the tap.

use super::*;

#[test]
fn a_deleted_interface_is_told_from_a_frame_that_is_refused() {
    let gone = |code| is_gone(&io::Error::from_raw_os_error(code));
    for code in [libc::EBADFD, libc::EBADF, libc::ENODEV] {
        assert!(gone(code), "{code}");
    }
    for code in [libc::EINVAL, libc::EIO, libc::ENOMEM, libc::ENOBUFS] {
        assert!(!gone(code), "{code}: the next frame may pass");
    }
    assert!(!is_gone(&io::Error::other("no system call's")));
}

#[test]
fn only_a_frame_that_was_consumed_or_lacks_memory_lets_the_next_read_be_tried() {
    let transient = |code| is_transient(&io::Error::from_raw_os_error(code));
    for code in [libc::EINVAL, libc::ENOMEM, libc::ENOBUFS] {
        assert!(transient(code), "{code}");
    }
    for code in [libc::EBADFD, libc::EBADF, libc::EIO, libc::ENODEV] {
        assert!(!transient(code), "{code} would come again at once");
    }
    assert!(!is_transient(&io::Error::other("no system call's")));
}
