//! Firmware that gets an address by DHCP and loads a file by TFTP.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::guest::error::require;
use crate::guest::netboot::NetBoot;
use crate::guest::testbed::{GUEST, HOST, MAC, TAP};
use crate::guest::{Assets, Daemon, Error, Process, Result, boot_program, qemu};

/// Time for firmware to start and to load a file; half a minute on an idle machine.
const LIMIT: Duration = Duration::from_secs(400);

/// EDK2's driver, which takes a transitional device for a legacy one. It loads Linux.
pub(super) fn edk2(assets: &Assets) -> Result<String> {
    let (firmware, program) = assets.firmware()?;
    let file = fs::read(&program).map_err(Error::io(format!("reading {}", program.display())))?;
    load(file, "NBP file downloaded successfully", |socket| {
        qemu::start_firmware(&firmware, socket, MAC)
    })
}

/// iPXE's driver, which takes a transitional device for a modern one.
pub(super) fn ipxe(_assets: &Assets) -> Result<String> {
    ipxe_with("")
}

/// iPXE's driver behind a device without the modern interface.
pub(super) fn legacy_ipxe(_assets: &Assets) -> Result<String> {
    ipxe_with(",disable-modern=on")
}

/// Blocks of the file for iPXE: as many bytes as need some 250 frames.
const BLOCKS: usize = 700;

fn ipxe_with(options: &str) -> Result<String> {
    let (file, digest) = boot_program::with_noise(BLOCKS);
    load(file, &digest, |socket| {
        qemu::start_ipxe(socket, MAC, options)
    })
}

/// Starts a machine that loads a file, and ends when it says `word`.
fn load(file: Vec<u8>, word: &str, start: impl FnOnce(&Path) -> Result<Process>) -> Result<String> {
    let folder = tempfile::tempdir().map_err(Error::io("creating a temporary folder"))?;
    let socket = folder.path().join("net.sock");
    let address = format!("{HOST}/24");
    let options = ["--tap", TAP, "--tap-addr", &address, "--mac", MAC].map(str::to_owned);
    let mut daemon = Daemon::serve(&socket, &options)?;
    // It says so once the tap is up.
    daemon.expect_log(TAP)?;
    let bytes = file.len();
    let parse = |address: &str| address.parse().expect("an address of these tests");
    let server = NetBoot::serve(TAP, parse(HOST), parse(GUEST), file)?;
    let mut machine = start(&socket)?;
    machine
        .read_until("program loaded over the network", LIMIT, |output| {
            let text = String::from_utf8_lossy(output);
            text.contains(word).then_some((output.len(), ()))
        })
        .map_err(|error| {
            let log = daemon.log();
            Error::Unexpected(format!(
                "{}\nthe daemon's log ends:\n{log}",
                error.describe()
            ))
        })?;
    require!(server.served() == 1, "{} files were taken", server.served());
    machine.kill()?;
    daemon.expect_alive()?;
    daemon.stop()?;
    Ok(format!("{bytes} bytes"))
}
