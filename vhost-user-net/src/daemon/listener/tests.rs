//! Sockets that are left over, taken, taken over, or for some users only.

use std::os::unix::net::UnixStream;

use super::*;

/// A folder and a path in it.
fn socket_path() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("net.sock");
    (directory, path)
}

fn bind(path: &Path) -> Result<BoundListener, ListenError> {
    BoundListener::bind(path, &Access::default())
}

fn mode_and_group(path: &Path) -> (u32, u32) {
    let found = std::fs::symlink_metadata(path).unwrap();
    (found.mode() & 0o777, found.gid())
}

#[test]
fn a_socket_that_was_left_over_is_replaced_and_removed_at_the_end() {
    let (_directory, path) = socket_path();
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let bound = bind(&path).unwrap();
    assert!(UnixStream::connect(&path).is_ok());
    drop(bound);
    assert!(!path.exists());
}

#[test]
fn a_socket_that_serves_is_left_alone() {
    let (_directory, path) = socket_path();
    let _running = UnixListener::bind(&path).unwrap();
    assert!(matches!(bind(&path), Err(ListenError::InUse(_))));
    assert!(UnixStream::connect(&path).is_ok());
}

#[test]
fn a_socket_whose_backlog_is_full_serves() {
    let (_directory, path) = socket_path();
    let _running = bind(&path).unwrap();
    let mut waiting = Vec::new();
    while let Ok(socket) = sys::connect(&path) {
        waiting.push(socket);
    }
    assert!(matches!(bind(&path), Err(ListenError::InUse(_))));
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(bind(file.path()), Err(ListenError::NotASocket(_))));
    assert!(file.path().exists());
    for path in ["/nowhere/net.sock", &"x".repeat(200)] {
        let result = bind(Path::new(path));
        assert!(matches!(result, Err(ListenError::Listen { .. })));
    }
}

#[test]
fn a_path_that_was_taken_over_is_left_to_the_other_daemon() {
    let (_directory, path) = socket_path();
    let first = bind(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let second = bind(&path).unwrap();
    drop(first);
    assert!(UnixStream::connect(&path).is_ok());
    drop(second);
    assert!(!path.exists());
}

#[test]
fn a_path_that_is_no_socket_any_more_is_left_alone() {
    let (_directory, path) = socket_path();
    let bound = bind(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "mine").unwrap();
    drop(bound);
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
}

#[test]
fn a_socket_has_the_mode_and_the_group_that_are_asked_for() {
    let (_directory, path) = socket_path();
    // A group that anybody may give to a file of their own.
    let (_, own) = mode_and_group(path.parent().unwrap());
    let group = Some(own.to_string());
    let of = |access: Access| {
        let _bound = BoundListener::bind(&path, &access).unwrap();
        mode_and_group(&path)
    };
    let mode = Some(0o606);
    assert_eq!(of(Access { mode, group: None }).0, 0o606);
    assert_eq!(
        of(Access {
            mode: None,
            group: group.clone()
        }),
        (0o660, own)
    );
    assert_eq!(of(Access { mode, group }), (0o606, own));
    assert_eq!(of(Access::private()).0, 0o600);
}

#[test]
fn a_group_that_does_not_exist_leaves_no_socket_behind() {
    let (_directory, path) = socket_path();
    let access = Access {
        mode: None,
        group: Some("no-such-group".into()),
    };
    let error = BoundListener::bind(&path, &access).unwrap_err();
    assert!(matches!(error, ListenError::Group { .. }), "{error:?}");
    assert!(!path.exists());
}

#[test]
fn groups_have_names() {
    assert_eq!(sys::group_id("root").unwrap(), 0);
    assert_eq!(sys::group_id("4711").unwrap(), 4711);
    let error = sys::group_id("no-such-group").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[test]
fn an_inherited_socket_keeps_its_path() {
    let (_directory, path) = socket_path();
    drop(BoundListener::inherited(UnixListener::bind(&path).unwrap()).unwrap());
    assert!(path.exists());
}

#[test]
fn nobody_is_accepted_during_a_pause() {
    let (_directory, path) = socket_path();
    let mut bound = bind(&path).unwrap();
    let _client = UnixStream::connect(&path).unwrap();
    bound.paused_until = Some(Instant::now() + Duration::from_secs(50));
    assert!(bound.wanted().is_none() && bound.pause_ms().is_some());
    assert!(bound.accept("").unwrap().is_none());
    bound.paused_until = Some(Instant::now());
    assert!(bound.wanted().is_some() && bound.pause_ms().is_none());
    assert!(bound.accept("").unwrap().is_some());
    assert!(bound.accept("").unwrap().is_none());
}
