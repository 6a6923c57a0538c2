//! An event loop of a VMM, which drives the workers of devices without threads.

use std::io::ErrorKind;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use epoll::{ControlOptions, Event, Events};
use net_device::{EventWorker, Source, WorkerEvent, now_ns};

/// A thread of the test, which is not one of the device's. It ends when this is dropped.
#[derive(Debug)]
pub struct EventLoop {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl EventLoop {
    /// Drives `workers`.
    #[must_use]
    pub fn drive(workers: Vec<EventWorker>) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let seen = ends.clone();
        let thread = std::thread::spawn(move || run(&workers, &seen));
        Self {
            ends,
            thread: Some(thread),
        }
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Longest wait in milliseconds, so that the end is seen.
const TICK_MS: i32 = 20;

fn run(workers: &[EventWorker], ends: &AtomicBool) {
    let poll = epoll::create(true).expect("an epoll instance can be made");
    while !ends.load(Ordering::Relaxed) {
        let mut timeout = TICK_MS;
        for (index, worker) in workers.iter().enumerate() {
            let turn = worker.turn();
            if turn.sources_changed {
                register(poll, index as u64, worker);
                timeout = 0;
            }
            if turn.rearm_backend {
                rearm(poll, index as u64, worker);
            }
            let wait = turn.timeout_ms(now_ns);
            timeout = if wait < 0 { timeout } else { timeout.min(wait) };
        }
        let mut events = [Event::new(Events::empty(), 0); 64];
        let count = match epoll::wait(poll, timeout, &mut events) {
            Err(error) if error.kind() == ErrorKind::Interrupted => 0,
            count => count.expect("epoll waits"),
        };
        for event in &events[..count] {
            let (worker, source) = (event.data >> 8, event.data & 0xff);
            let event = WorkerEvent::from_epoll(event.events, source);
            workers[worker as usize].on_event(event.expect("the source is known"));
        }
    }
    epoll::close(poll).expect("it is open");
}

/// Registers all descriptors. Those that were closed have gone by themselves.
fn register(poll: RawFd, index: u64, worker: &EventWorker) {
    worker.for_each_source(|source, fd| {
        let event = Event::new(
            Events::EPOLLIN | Events::EPOLLET,
            index << 8 | source as u64,
        );
        let fd = fd.as_raw_fd();
        match epoll::ctl(poll, ControlOptions::EPOLL_CTL_ADD, fd, event) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                epoll::ctl(poll, ControlOptions::EPOLL_CTL_MOD, fd, event)
            }
            other => other,
        }
        .expect("a source can be waited for");
    });
}

fn rearm(poll: RawFd, index: u64, worker: &EventWorker) {
    worker.for_each_source(|source, fd| {
        if source == Source::Backend {
            let interest = Events::EPOLLIN | Events::EPOLLOUT | Events::EPOLLET;
            let event = Event::new(interest, index << 8 | source as u64);
            epoll::ctl(poll, ControlOptions::EPOLL_CTL_MOD, fd.as_raw_fd(), event)
                .expect("the backend can be waited for");
        }
    });
}
