//! DPDK's `testpmd` with its user-space virtio driver: a driver that shares no code with Linux',
//! and a front-end of its own (`virtio-user`). It sends every frame back as it came.

use std::path::Path;
use std::time::Duration;

use super::error::require;
use super::{Process, Result, processors};

/// Longest frame that the driver is set up for, in bytes without the check sequence.
pub const LONGEST: usize = 9014;

/// Longest time that it may take to negotiate or to end; a second is usual.
const LIMIT: Duration = Duration::from_secs(30);

const NEGOTIATED: &str = "features after negotiate = ";
const MRG_RXBUF: u64 = 1 << 15;
const INDIRECT_DESC: u64 = 1 << 28;
const RING_PACKED: u64 = 1 << 34;
const IN_ORDER: u64 = 1 << 35;

/// Ring features that driver and device use. Buffers are mergeable always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rings {
    /// Packed rings instead of split ones.
    pub packed: bool,
    /// Buffers are used in the order in which they were made available.
    pub in_order: bool,
    /// Long chains are in tables of their own. The driver has no switch for this: the device must
    /// not offer it.
    pub indirect: bool,
}

impl Rings {
    /// Every combination.
    #[must_use]
    pub fn all() -> Vec<Self> {
        (0..8)
            .map(|bits| Self {
                packed: bits & 2 != 0,
                in_order: bits & 1 != 0,
                indirect: bits & 4 == 0,
            })
            .collect()
    }

    const fn features(self) -> u64 {
        let mut features = MRG_RXBUF;
        if self.packed {
            features |= RING_PACKED;
        }
        if self.in_order {
            features |= IN_ORDER;
        }
        if self.indirect {
            features |= INDIRECT_DESC;
        }
        features
    }
}

/// Connects to a daemon's socket and waits until the features are negotiated.
///
/// # Errors
/// When it ends early, or when the features are not those of `rings`.
pub fn start(socket: &Path, rings: Rings) -> Result<Process> {
    let processor = processors::of_guests();
    let device = format!(
        "--vdev=net_virtio_user0,path={},queues=1,queue_size=256,mrg_rxbuf=1,vectorized=0,packed_vq={},in_order={}",
        socket.display(),
        u8::from(rings.packed),
        u8::from(rings.in_order)
    );
    let mut command = processors::guest_command("dpdk-testpmd");
    command
        // One thread waits for input, the other one polls.
        .arg(format!("--lcores=0@{processor},1@{processor}"))
        .args(["--no-pci", "--no-huge", "--no-shconf", "--no-telemetry"])
        .args(["-m", "256", "--log-level=pmd.net.virtio.init:debug"])
        .arg(device)
        // The first frame may be there before the driver is: it is not to be thrown away.
        .args([
            "--",
            "--forward-mode=io",
            "--port-topology=loop",
            "--no-flush-rx",
        ])
        // Frames above the 2 KiB of a buffer arrive in several, and go back in several.
        .args(["--enable-scatter", "--tx-offloads=0x8000"])
        .arg(format!("--max-pkt-len={}", LONGEST + 4))
        .args(["--total-num-mbufs=4096", "--rxd=256", "--txd=256"]);
    let mut process = Process::spawn(&mut command)?;
    let features = process.read_until("negotiated features", LIMIT, negotiated)?;
    let ours = features & (MRG_RXBUF | INDIRECT_DESC | RING_PACKED | IN_ORDER);
    require!(
        ours == rings.features(),
        "{rings:?} was asked for, features {features:#x} were negotiated"
    );
    Ok(process)
}

/// Asks for an orderly end.
///
/// # Errors
/// When it does not end, or with a failure.
pub fn stop(process: &mut Process) -> Result<()> {
    process.write("\n")?;
    let status = process.wait_exit(LIMIT)?;
    require!(
        status.success(),
        "testpmd ended with {status}; its output ends:\n{}",
        process.tail()
    );
    Ok(())
}

/// Finds the complete line with the features in the output.
fn negotiated(output: &[u8]) -> Option<(usize, u64)> {
    let text = std::str::from_utf8(output).ok()?;
    let start = text.find(NEGOTIATED)? + NEGOTIATED.len();
    let end = start + text[start..].find('\n')?;
    let features = u64::from_str_radix(text[start..end].trim(), 16).ok()?;
    Some((end, features))
}
