//! The trial of this kernel's segmentation.
#![allow(unsafe_code)] // To look for children.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use tap::{GsoReport, NotTried, Offloads, TapOptions, ThisKernel};

mod common;

use common::{isolated, open};

/// Longest wait for a thread; it only ends a test that hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// Names in a folder.
fn names(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("proc is there");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    names
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

/// Interfaces of this network namespace, which the process has to itself.
fn interfaces() -> BTreeSet<String> {
    let text = fs::read_to_string("/proc/thread-self/net/dev").expect("proc is there");
    let lines = text.lines().skip(2);
    lines
        .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
        .collect()
}

#[test]
fn this_kernel_is_tried_as_an_ordinary_user_may() {
    isolated(|| {
        let start = Instant::now();
        let report = GsoReport::of(&mut ThisKernel::default());
        println!("{report:?} in {:?}", start.elapsed());
        if report.not_tried() == Some(NotTried::NoBridge) {
            return;
        }
        assert_eq!(report.not_tried(), None);
        assert_eq!(report.verified() | report.failed(), GsoReport::tried());
        // A kernel that does not cut TCP right would have been noticed, of UDP that is not certain.
        let tcp = Offloads::TSO4 | Offloads::TSO6 | Offloads::ECN;
        assert!(report.verified().contains(tcp), "{report:?}");
        // One that has no such frames refuses them in words and in deed.
        let uso = Offloads::USO4 | Offloads::USO6;
        let offered = open(TapOptions::new("told0")).probe_offloads().unwrap();
        assert!(
            offered.contains(uso) || report.failed().contains(uso),
            "{report:?}"
        );
    });
}

#[test]
fn a_trial_leaves_no_descriptor_interface_child_or_thread() {
    isolated(|| {
        let before = (names("/proc/self/fd"), interfaces());
        let report = GsoReport::of(&mut ThisKernel::default());
        assert_eq!((names("/proc/self/fd"), interfaces()), before, "{report:?}");
        // SAFETY: no status is asked for.
        let child =
            unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::__WALL | libc::WNOHANG) };
        let error = io::Error::last_os_error().raw_os_error();
        assert_eq!((child, error), (-1, Some(libc::ECHILD)));
        // The kernel lists a thread a moment longer than it takes to join it.
        let is_there = || {
            names("/proc/self/task").iter().any(|task| {
                let name = fs::read_to_string(format!("/proc/self/task/{task}/comm"));
                name.is_ok_and(|name| name.trim() == "gso-probe")
            })
        };
        let deadline = Instant::now() + LIMIT;
        while is_there() {
            assert!(Instant::now() < deadline, "the trial's thread does not end");
            thread::sleep(Duration::from_millis(1));
        }
    });
}

#[test]
fn a_trial_leaves_the_process_as_it_was() {
    isolated(|| {
        let status = || {
            let text = fs::read_to_string("/proc/thread-self/status").expect("proc is there");
            let fixed = ["Uid:", "Gid:", "CapEff:", "SigBlk:", "NoNewPrivs:"];
            let lines = text
                .lines()
                .filter(|line| fixed.iter().any(|name| line.starts_with(name)));
            // SAFETY: takes no memory.
            let dumpable = unsafe { libc::prctl(libc::PR_GET_DUMPABLE) };
            let network = fs::read_link("/proc/thread-self/ns/net").expect("a namespace");
            let user = fs::read_link("/proc/thread-self/ns/user").expect("a namespace");
            (
                lines.map(str::to_owned).collect::<Vec<_>>(),
                dumpable,
                network,
                user,
            )
        };
        let before = status();
        // Beside threads, too.
        let result = thread::scope(|scope| {
            let other = scope.spawn(|| {
                (0..1_000_000u64)
                    .map(|number| vec![number; 3])
                    .map(|it| it[2])
                    .sum::<u64>()
            });
            GsoReport::of(&mut ThisKernel::default());
            other.join()
        });
        assert_eq!(result.expect("it goes on"), 499_999_500_000);
        assert_eq!(status(), before);
    });
}
