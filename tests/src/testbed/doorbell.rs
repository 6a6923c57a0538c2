//! Waiting for events, never for time.

use std::os::fd::AsRawFd;
use std::sync::mpsc::channel;
use std::time::Duration;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Longest wait of a test for what should happen at once. It only ends a test that would hang.
const LIMIT: Duration = Duration::from_secs(60);

/// Rung when something happened that a test may be waiting for. One thread waits at a time.
#[derive(Debug)]
pub struct Doorbell {
    event: EventFd,
    epoll: Epoll,
}

impl Default for Doorbell {
    fn default() -> Self {
        Self::on(EventFd::new(EFD_NONBLOCK).expect("an eventfd can be made"))
    }
}

impl Doorbell {
    /// A bell that rings when `event` is written.
    #[must_use]
    pub fn on(event: EventFd) -> Self {
        let epoll = interest_in(&event);
        Self { event, epoll }
    }

    /// Something happened.
    pub fn ring(&self) {
        self.event.write(1).expect("a bell does not overflow");
    }

    /// Returns when `done` does true, which is asked now and each time the bell rings.
    ///
    /// # Panics
    /// It did not within the limit; the message says `what` was waited for.
    pub fn wait_until(&self, what: &str, mut done: impl FnMut() -> bool) {
        while !done() {
            wait(&self.epoll, what);
            // It may have been read by an earlier wait.
            let _ = self.event.read();
        }
    }
}

fn interest_in(fd: &impl AsRawFd) -> Epoll {
    let epoll = Epoll::new().expect("an epoll can be made");
    let interest = EpollEvent::new(EventSet::IN, 0);
    epoll
        .ctl(ControlOperation::Add, fd.as_raw_fd(), interest)
        .expect("the descriptor can be polled");
    epoll
}

fn wait(epoll: &Epoll, what: &str) {
    let mut events = [EpollEvent::default()];
    let ready = loop {
        match epoll.wait(LIMIT.as_millis() as i32, &mut events) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            result => break result.expect("an epoll can be waited for"),
        }
    };
    assert!(ready > 0, "still waiting for: {what}");
}

/// Waits until `fd` can be read.
///
/// # Panics
/// It cannot within the limit; the message says `what` was waited for.
pub fn wait_readable(fd: &impl AsRawFd, what: &str) {
    wait(&interest_in(fd), what);
}

/// Runs `call` in a thread of its own and returns its result.
///
/// # Panics
/// It did not return within the limit, or panicked.
pub fn bounded<T: Send + 'static>(what: &str, call: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = channel();
    let thread = std::thread::spawn(move || {
        let _ = done.send(call());
    });
    match result.recv_timeout(LIMIT) {
        Ok(value) => {
            thread.join().expect("it has returned");
            value
        }
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("{what} did not return"),
        Err(_) => panic!("{what} panicked"),
    }
}
