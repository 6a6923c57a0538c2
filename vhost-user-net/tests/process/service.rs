//! The daemon under a service manager: a socket that is handed over, notifications, packaged files.

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::daemon::{BINARY, Daemon, LIMIT};
use crate::rings;

/// Starts a daemon whose third descriptor is `listener`, passed as a service manager does.
fn command(listener: UnixListener, options: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    let setup = "exec 3<&0 </dev/null\nexport LISTEN_PID=$$\nexec \"$@\"";
    command
        .args(["--user", "--map-root-user", "--net", "--", "sh", "-ec"])
        .args([setup, "sh", BINARY, "serve", "--tap", "vmtap0"])
        .args(options)
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", "front-end")
        .stdin(Stdio::from(OwnedFd::from(listener)));
    command
}

#[test]
fn a_service_manager_hands_over_the_socket_and_hears_of_start_and_end() {
    let directory = tempfile::tempdir().unwrap();
    let [socket, notify] = ["net.sock", "notify"].map(|name| directory.path().join(name));
    let manager = UnixDatagram::bind(&notify).unwrap();
    manager.set_read_timeout(Some(LIMIT)).unwrap();
    let hear = || {
        let mut bytes = [0; 64];
        let count = manager.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    };
    let listener = UnixListener::bind(&socket).unwrap();
    // Who comes before the daemon waits.
    let early = UnixStream::connect(&socket).unwrap();
    early.set_read_timeout(Some(LIMIT)).unwrap();
    let mut daemon = command(listener, &["--fd", "front-end"])
        .env("NOTIFY_SOCKET", &notify)
        .spawn()
        .expect("these tests need `unshare`");
    assert_eq!(hear(), "READY=1\n");
    assert_eq!(rings(&early), 3);
    let kill = Command::new("kill").arg(daemon.id().to_string()).status();
    assert!(kill.unwrap().success());
    assert_eq!(hear(), "STOPPING=1\n");
    assert!(daemon.wait().unwrap().success());
    // It is the manager's.
    assert!(socket.exists());
}

#[test]
fn a_descriptor_that_was_not_passed_is_told_from_those_that_were() {
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(directory.path().join("net.sock")).unwrap();
    let output = command(listener, &["--fd", "other"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    let expected = "passed no descriptor \"other\"; it passed front-end";
    assert!(text.contains(expected), "{text}");
}

/// A file that packages install.
fn packaged(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("contrib")
        .join(name);
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn the_units_ask_for_what_the_daemon_has() {
    let service = packaged("systemd/vhost-user-net@.service");
    let start = service
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    let words: Vec<_> = start.unwrap().split(' ').collect();
    assert_eq!(
        words,
        [
            "/usr/bin/vhost-user-net",
            "serve",
            "--fd",
            "front-end",
            "$OPTIONS"
        ]
    );
    assert!(
        packaged("systemd/vhost-user-net@.socket").contains("\nFileDescriptorName=front-end\n")
    );
    assert!(service.contains("\nRestartPreventExitStatus=2\n"));
}

#[test]
fn the_file_for_management_software_says_what_the_program_says() {
    let json = packaged("qemu/50-vhost-user-net.json");
    let output = Command::new(BINARY).arg("--print-capabilities").output();
    let printed = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(printed.contains("\"type\": \"net\"") && json.contains("\"type\": \"net\","));
    assert!(json.contains("\"binary\": \"/usr/bin/vhost-user-net\""));
}

#[test]
fn options_come_from_a_file_and_every_line_of_the_log_is_an_object() {
    let mut daemon = Daemon::prepare();
    let text = "tap = 'vmtap0'\nqueue-pairs = 2\nlog-format = 'json'\nverbose = 1\n";
    std::fs::write(daemon.path("net.toml"), text).unwrap();
    daemon.start("", &["--tap", "vmtap7", "--config", "net.toml"]);
    let object = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    let line = object(&daemon.log_with("tap vmtap7"));
    assert_eq!(line["message"], "tap vmtap7, queue pairs: 2, at net.sock");
    assert_eq!(
        (&line["level"], &line["target"]),
        (&"info".into(), &"vhost-user-net".into())
    );
    assert!(line["time"].as_str().unwrap().ends_with('Z'));
    let front_end = UnixStream::connect(daemon.socket()).unwrap();
    front_end.set_read_timeout(Some(LIMIT)).unwrap();
    assert_eq!(rings(&front_end), 5);
    drop(front_end);
    let line = object(&daemon.log_with("the front-end left"));
    assert_eq!(line["message"], "vmtap7: the front-end left");
    daemon.signal("TERM");
    assert!(daemon.wait().success());
}
