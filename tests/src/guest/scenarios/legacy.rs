//! Drivers that do not accept VIRTIO_F_VERSION_1, behind devices of QEMU that have the legacy
//! interface.

use std::fs;
use std::time::Duration;

use super::transfer;
use crate::guest::error::require;
use crate::guest::netboot::NetBoot;
use crate::guest::testbed::{GUEST, HOST, MAC, TAP};
use crate::guest::{Assets, Daemon, Error, Result, Testbed};

/// Time for firmware to start and to load a file; half a minute on an idle machine.
const LIMIT: Duration = Duration::from_secs(400);

/// Linux's driver behind a device without the modern interface.
pub(super) fn linux(bed: &mut Testbed) -> Result<String> {
    let features = bed
        .guest
        .expect("cat /sys/bus/virtio/devices/virtio0/features")?;
    let accepted = |bit: usize| features.trim().as_bytes().get(bit) == Some(&b'1');
    require!(!accepted(32), "VERSION_1 is among {features}");
    let header = if accepted(15) { 12 } else { 10 };
    let seen = transfer::ping_and_tcp(bed)?;
    Ok(format!("headers of {header} bytes, {seen}"))
}

/// EDK2's driver, which takes a transitional device for a legacy one: the firmware gets an address
/// by DHCP and loads Linux by TFTP.
pub(super) fn firmware(assets: &Assets) -> Result<String> {
    let folder = tempfile::tempdir().map_err(Error::io("creating a temporary folder"))?;
    let socket = folder.path().join("net.sock");
    let address = format!("{HOST}/24");
    let options = ["--tap", TAP, "--tap-addr", &address, "--mac", MAC].map(str::to_owned);
    let mut daemon = Daemon::serve(&socket, &options)?;
    let (firmware, program) = assets.firmware()?;
    let file = fs::read(&program).map_err(Error::io(format!("reading {}", program.display())))?;
    let bytes = file.len();
    let parse = |address: &str| address.parse().expect("an address of these tests");
    let server = NetBoot::serve(TAP, parse(HOST), parse(GUEST), file)?;
    let mut machine = crate::guest::qemu::start_firmware(&firmware, &socket, MAC)?;
    machine
        .read_until("program loaded over the network", LIMIT, |output| {
            let text = String::from_utf8_lossy(output);
            let loaded = text.contains("NBP file downloaded successfully");
            loaded.then_some((output.len(), ()))
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
