//! Descriptors that are not what they claim, and what is left of those that are.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::*;

/// Descriptors of files that the kernel alone does not answer for.
fn foreign_files() -> Vec<(&'static str, OwnedFd)> {
    vec![
        (
            "a file of procfs",
            File::open("/proc/self/status").unwrap().into(),
        ),
        ("a device", File::open("/dev/zero").unwrap().into()),
        ("a directory", File::open("/dev/shm").unwrap().into()),
        ("a socket that has connected", connection().0.into()),
        ("a socket that was accepted", connection().1.into()),
        ("an eventfd", crate::sys::event().unwrap().into()),
        ("a pipe", io::pipe().unwrap().1.into()),
    ]
}

/// Both ends of a connection by a path.
fn connection() -> (UnixStream, UnixStream) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let connected = UnixStream::connect(&path).unwrap();
    (connected, listener.accept().unwrap().0)
}

#[test]
fn calls_may_go_to_a_pair_of_sockets_and_kicks_may_not() {
    let (mut device, _wires) = device(1);
    let front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    let (near, mut far) = UnixStream::pair().unwrap();
    let end = |fd: UnixStream| RingFd {
        ring: TX,
        fd: Some(fd.into()),
    };
    all(&mut session, [Request::SetVringCall(end(near))]);
    far.read_exact(&mut [0; 8]).unwrap();
    for request in [Request::SetVringKick, Request::SetVringErr] {
        let (near, _far) = UnixStream::pair().unwrap();
        assert!(session.handle(request(end(near))).is_err());
    }
}

#[test]
fn memory_and_logs_are_files_in_memory_only() {
    let (mut device, _wires) = device(1);
    let mut session = Session::new(&mut device).unwrap();
    let region = || VhostUserMemoryRegion::new(0, 0x1000, USER, 0);
    type Make = fn(VhostUserMemoryRegion, OwnedFd) -> Request;
    let requests: [Make; 3] = [
        |region, fd| Request::SetMemTable(vec![(region, fd)]),
        Request::AddMemReg,
        |_, fd| Request::SetLogBase(VhostUserLog::new(0x1000, 0), fd),
    ];
    for request in requests {
        for (what, fd) in foreign_files() {
            let refused = session.handle(request(region(), fd));
            assert!(
                matches!(
                    refused,
                    Err(SessionError::Memory(MemoryError::Region {
                        source: MapError::NotAFile,
                        ..
                    }) | SessionError::Log(MapError::NotAFile))
                ),
                "{what}: {refused:?}"
            );
        }
    }
}

#[test]
fn events_are_eventfds_and_pipes_only() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let file = || File::create(directory.path().join("pipe:[1]")).unwrap();
    let strangers = || -> Vec<(&str, OwnedFd)> {
        let mut all = foreign_files();
        all.retain(|(what, _)| !matches!(*what, "an eventfd" | "a pipe"));
        all.push(("a file in memory", file().into()));
        all
    };
    let (mut device, _wires) = device(1);
    let front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    let requests: [fn(RingFd) -> Request; 3] = [
        Request::SetVringKick,
        Request::SetVringCall,
        Request::SetVringErr,
    ];
    for request in requests {
        for (what, fd) in strangers() {
            let fd = Some(fd);
            let refused = session.handle(request(RingFd { ring: TX, fd }));
            assert!(refused.is_err(), "{what}");
        }
        for fd in [
            OwnedFd::from(crate::sys::event().unwrap()),
            io::pipe().unwrap().1.into(),
        ] {
            let fd = Some(fd);
            all(&mut session, [request(RingFd { ring: TX, fd })]);
        }
    }
}

#[test]
fn an_event_that_can_block_is_made_one_that_cannot() {
    let (mut device, _wires) = device(1);
    let mut session = Session::new(&mut device).unwrap();
    for request in [
        Request::SetVringKick as fn(RingFd) -> Request,
        Request::SetVringCall,
        Request::SetVringErr,
    ] {
        let (_reader, writer) = io::pipe().unwrap();
        let fd = Some(writer.try_clone().unwrap().into());
        all(&mut session, [request(RingFd { ring: 0, fd })]);
        let info = format!(
            "/proc/self/fdinfo/{}",
            std::os::fd::AsRawFd::as_raw_fd(&writer)
        );
        let info = std::fs::read_to_string(info).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = u32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
        assert_ne!(flags & 0o4000, 0, "{info}");
    }
}

/// Descriptors of this process that refer to the file at `path`.
fn descriptors_of(path: &Path) -> usize {
    let all = std::fs::read_dir("/proc/self/fd").unwrap();
    let links = all.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    links.filter(|link| link == path).count()
}

#[test]
fn a_mapped_region_needs_no_descriptor_and_leaves_no_mapping() {
    let file = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
    file.as_file().set_len(MEMORY).unwrap();
    let mapped = || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines()
            .filter(|line| line.ends_with(file.path().to_str().unwrap()))
            .count()
    };
    let (mut device, _wires) = device(1);
    let mut session = Session::new(&mut device).unwrap();
    let table = |count: u64| {
        let regions = (0..count).map(|at| {
            let region = VhostUserMemoryRegion::new(at << 32, 0x1000, USER + (at << 32), at << 12);
            (region, own(file.as_file()))
        });
        Request::SetMemTable(regions.collect())
    };
    all(&mut session, [Request::SetFeatures(VERSION_1), table(32)]);
    assert_eq!((mapped(), descriptors_of(file.path())), (32, 1));
    all(&mut session, [table(8), table(1)]);
    assert_eq!(mapped(), 1);
    drop(session);
    assert_eq!((mapped(), descriptors_of(file.path())), (0, 1));
}

#[test]
fn one_front_end_cannot_have_all_of_the_address_space() {
    let sparse = tempfile::tempfile_in("/dev/shm").unwrap();
    sparse.set_len(1 << 46).unwrap();
    let (mut device, _wires) = device(1);
    let mut session = Session::new(&mut device).unwrap();
    let half = 1u64 << 42;
    let region = |at: u64, len| VhostUserMemoryRegion::new(at << 44, len, USER + (at << 44), 0);
    let whole = session.handle(Request::AddMemReg(region(0, 1 << 45), own(&sparse)));
    assert!(matches!(whole, Err(SessionError::Memory(_))), "{whole:?}");
    all(
        &mut session,
        [
            Request::AddMemReg(region(0, half), own(&sparse)),
            Request::AddMemReg(region(1, half), own(&sparse)),
        ],
    );
    let third = Request::AddMemReg(region(2, 0x1000), own(&sparse));
    assert!(session.handle(third).is_err());
    all(
        &mut session,
        [
            Request::RemMemReg(region(1, half)),
            Request::AddMemReg(region(2, 0x1000), own(&sparse)),
        ],
    );
    let table = (0..3).map(|at| (region(at, half), own(&sparse)));
    assert!(
        session
            .handle(Request::SetMemTable(table.collect()))
            .is_err()
    );
}

#[test]
fn the_channel_of_the_back_end_hides_no_descriptor_in_its_queue() {
    use std::os::fd::AsRawFd;
    use vmm_sys_util::sock_ctrl_msg::ScmSocket;
    let (mut device, _wires) = device(1);
    let mut session = Session::new(&mut device).unwrap();
    let (theirs, ours) = UnixStream::pair().unwrap();
    let (mut reader, writer) = io::pipe().unwrap();
    theirs.send_with_fd(&[0u8][..], writer.as_raw_fd()).unwrap();
    all(&mut session, [Request::SetBackendReqFd(ours.into())]);
    assert!(theirs.send_with_fd(&[0u8][..], writer.as_raw_fd()).is_err());
    drop(writer);
    // Ends when the last writer is closed, or never.
    reader.read_to_end(&mut Vec::new()).unwrap();
}
