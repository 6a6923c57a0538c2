//! The package for Debian: made as the daemon's manifest says, installed, and started from there.
//!
//! It stays in `target/debian`: this is how `./ci.sh deb` makes it. With `DEBIAN_PACKAGE_SMALL` in
//! the environment it is compressed for ten seconds more.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use cargo_deb::compress::{CompressConfig, Format};
use cargo_deb::config::BuildOptions;
use cargo_deb::listener::Listener;
use cargo_deb::{CargoDeb, CargoLockingFlags, OutputPath};
use tempfile::TempDir;
use tests::guest::{Process, daemon, packages};

const NAME: &str = "vhost-user-net";

/// Ends a test that would hang.
const LIMIT: Duration = Duration::from_secs(60);

/// Path of the package, which is made once.
static PACKAGE: LazyLock<PathBuf> = LazyLock::new(make);

/// Files below `/usr` besides those that every package has.
const FILES: &[&str] = &[
    "bin/vhost-user-net",
    "lib/systemd/system/vhost-user-net@.service",
    "lib/systemd/system/vhost-user-net@.socket",
    "share/qemu/vhost-user/50-vhost-user-net.json",
    "share/man/man1/vhost-user-net.1.gz",
    "share/man/man1/vhost-user-net-inspect.1.gz",
    "share/bash-completion/completions/vhost-user-net",
    "share/fish/vendor_completions.d/vhost-user-net.fish",
    "share/zsh/vendor-completions/_vhost-user-net",
];

/// Keeps what cargo-deb warns of.
#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Listener for Warnings {
    fn warning(&self, text: String) {
        self.0.lock().unwrap().push(text);
    }

    fn info(&self, _text: String) {}

    fn generated_archive(&self, _path: &Path) {}
}

/// Makes the package from a daemon as it is released, which real guests are tested with too.
fn make() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let target = daemon::target_folder();
    daemon::build_release(&target).unwrap();
    write_generated_files(workspace, &target);
    let folder = target.join("debian");
    let _absent = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let warnings = Warnings::default();
    let manifest = workspace.join("Cargo.toml");
    let made = CargoDeb {
        options: BuildOptions {
            manifest_path: Some(&manifest),
            selected_package_name: Some(NAME),
            // All that is asked of cargo was there to build this test.
            cargo_locking_flags: CargoLockingFlags {
                offline: true,
                ..CargoLockingFlags::default()
            },
            ..BuildOptions::default()
        },
        no_build: true,
        compress_config: CompressConfig {
            fast: env::var_os("DEBIAN_PACKAGE_SMALL").is_none(),
            compress_type: Format::Xz,
            compress_system: false,
            rsyncable: false,
        },
        deb_output: Some(OutputPath {
            path: &folder,
            is_dir: true,
        }),
        ..CargoDeb::default()
    }
    .process(&warnings);
    made.unwrap_or_else(|error| panic!("cargo-deb: {error}"));
    assert_eq!(warnings.0.into_inner().unwrap(), [""; 0]);
    let mut files = fs::read_dir(&folder).unwrap();
    let path = files.next().unwrap().unwrap().path();
    assert!(files.next().is_none());
    path
}

/// Manual pages and completions.
fn write_generated_files(workspace: &Path, target: &Path) {
    let folder = target.join("release/package-files");
    let _absent = fs::remove_dir_all(&folder);
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .args(["build", "--quiet", "--example", "package_files"])
        // With the same packages selected as for the tests of the crates, all is built already.
        .args(["--workspace", "--exclude", "tests", "--target-dir"])
        .arg(target)
        .current_dir(workspace);
    run(&mut build);
    run(Command::new(target.join("debug/examples/package_files")).arg(&folder));
    let pages = ["vhost-user-net.1", "vhost-user-net-inspect.1"].map(|it| folder.join(it));
    run(Command::new("gzip")
        .args(["--best", "--no-name"])
        .args(pages));
}

/// Runs a program to its end, which has to be a good one; returns its output.
fn run(command: &mut Command) -> String {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

/// A system that has nothing but the package.
struct Root(TempDir);

impl Root {
    fn install() -> Self {
        let root = Self(tempfile::tempdir().unwrap());
        for folder in ["info", "updates"] {
            fs::create_dir_all(root.path("var/lib/dpkg").join(folder)).unwrap();
        }
        fs::write(root.path("var/lib/dpkg/status"), "").unwrap();
        root.dpkg(["--install".as_ref(), PACKAGE.as_path()]);
        root
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn dpkg<const N: usize>(&self, args: [&Path; N]) {
        let search = env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        let mut dpkg = Command::new("dpkg");
        dpkg.env("PATH", search)
            .arg("--root")
            .arg(self.0.path())
            // The libraries that it needs are not said to be there.
            .args(["--force-not-root,depends", "--log=/dev/null"]);
        run(dpkg.args(args));
    }

    /// Files and folders below a folder, with all that is below them.
    fn count(&self, name: &str) -> usize {
        fn count(path: &Path) -> usize {
            let entries = fs::read_dir(path).into_iter().flatten();
            entries.map(|entry| 1 + count(&entry.unwrap().path())).sum()
        }
        count(&self.path(name))
    }
}

#[test]
fn a_package_says_what_it_is_and_needs() {
    let field = |name| {
        run(Command::new("dpkg-deb")
            .arg("-f")
            .args([&*PACKAGE, Path::new(name)]))
    };
    assert_eq!(field("Package").trim(), NAME);
    assert_eq!(
        field("Version").trim(),
        concat!(env!("CARGO_PKG_VERSION"), "-1")
    );
    let architecture = run(Command::new("dpkg").arg("--print-architecture"));
    assert_eq!(field("Architecture"), architecture);
    // Found in the program.
    let depends = field("Depends");
    assert!(depends.starts_with("libc6 (>= "), "{depends}");
}

#[test]
fn the_daemon_of_an_installed_package_serves() {
    let root = Root::install();
    for file in FILES.iter().map(|file| root.path("usr").join(file)) {
        let len = fs::metadata(&file).map_or(0, |it| it.len());
        assert!(len > 0, "{} is missing or empty", file.display());
    }
    let [socket, metrics, config] = ["net.sock", "metrics", "net.toml"].map(|it| root.path(it));
    let options = format!(
        "socket-path = {socket:?}\ntap = \"vmtap0\"\nmetrics = \"unix:{}\"\n",
        metrics.display()
    );
    fs::write(&config, options).unwrap();
    let mut daemon = Command::new("env");
    daemon
        // The daemon leaves alone what its starter ignores, as a shell does for its background.
        .args(["--default-signal", "unshare"])
        .args(["--user", "--map-root-user", "--net", "--"])
        .arg(root.path("usr/bin/vhost-user-net"))
        .arg("--config")
        .arg(config);
    let mut daemon = Process::spawn(&mut daemon).unwrap();
    let serves = daemon.read_until("word that it serves", LIMIT, |log| {
        let log = String::from_utf8_lossy(log);
        log.contains("vhost-user-net: tap vmtap0")
            .then_some((0, ()))
    });
    serves.unwrap_or_else(|error| panic!("{}", error.describe()));
    assert!(socket.exists() && metrics.exists());
    daemon.signal("TERM");
    let status = daemon.wait_exit(LIMIT).unwrap();
    assert!(status.success(), "{status}: {}", daemon.tail());
    assert!(!socket.exists());
}

/// `systemd-analyze verify` of 252 and later says nothing about units that are right.
#[test]
fn systemd_takes_the_installed_units() {
    let root = Root::install();
    // Each unit needs this one, if not told otherwise.
    let needed = root.path("usr/lib/systemd/system/sysinit.target");
    fs::write(needed, "[Unit]\nDescription=System Initialization\n").unwrap();
    let mut verify = Command::new(packages::program("systemd-analyze").unwrap());
    verify
        .args(["verify", "--man=no", "--root"])
        .arg(root.0.path())
        .args(["service", "socket"].map(|kind| format!("{NAME}@vm1.{kind}")));
    assert_eq!(run(&mut verify), "");
}

#[test]
fn a_package_that_is_removed_leaves_nothing() {
    let root = Root::install();
    assert!(root.count("usr") > FILES.len());
    root.dpkg(["--purge".as_ref(), NAME.as_ref()]);
    assert_eq!(root.count("usr"), 0);
}
