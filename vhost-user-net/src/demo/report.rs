//! The result, for a person.

use std::io::{self, Write};
use std::time::Duration;

use net_device::{Features, VirtioDevice};

use super::guest::QUEUE_SIZE;
use super::host::Moved;
use super::latency::Latency;
use super::netns::Namespace;
use super::session::{GUEST, HOST, MTU, PREFIX, TAP};
use super::{ping, units};

/// Columns of a line, and of the label in front of it.
const WIDTH: usize = 88;
const LABEL: usize = 16;

/// What a device counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Counters(Vec<(&'static str, u64)>);

impl Counters {
    /// Now.
    pub(super) fn of(device: &dyn VirtioDevice) -> Self {
        Self(device.counters())
    }

    /// What came after `before`.
    pub(super) fn since(mut self, before: &Self) -> Self {
        for (name, value) in &mut self.0 {
            *value = value.saturating_sub(before.get(name));
        }
        self
    }

    fn get(&self, name: &str) -> u64 {
        self.0
            .iter()
            .find(|(known, _)| *known == name)
            .map_or(0, |&(_, value)| value)
    }

    /// All but the traffic itself, when not zero.
    fn events(&self) -> impl Iterator<Item = &(&'static str, u64)> {
        self.0
            .iter()
            .filter(|(name, value)| *value > 0 && !TRAFFIC.contains(name))
    }
}

const TRAFFIC: [&str; 4] = ["rx_bytes", "rx_frames", "tx_bytes", "tx_frames"];

/// One direction.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    /// What the receiver saw.
    pub(super) moved: Moved,
    /// What the device counted meanwhile.
    pub(super) counters: Counters,
}

/// Everything that was measured.
#[derive(Debug, Clone)]
pub(super) struct Report {
    pub(super) namespace: Namespace,
    pub(super) mac: [u8; 6],
    pub(super) offered: u64,
    pub(super) negotiated: u64,
    pub(super) pings: u32,
    pub(super) latency: Option<Latency>,
    pub(super) up: Flow,
    pub(super) down: Flow,
    pub(super) counters: Counters,
    pub(super) time: Duration,
}

impl Report {
    /// Prints it all.
    pub(super) fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out)?;
        self.print_set_up(out)?;
        writeln!(out)?;
        self.print_features(out)?;
        writeln!(out)?;
        self.print_latency(out)?;
        writeln!(out)?;
        self.print_throughput(out)?;
        writeln!(out)?;
        self.print_counters(out)?;
        writeln!(out)?;
        let seconds = self.time.as_secs_f64();
        line(
            out,
            "Result",
            &format!("traffic flows both ways ({seconds:.1} s)"),
        )
    }

    fn print_set_up(&self, out: &mut dyn Write) -> io::Result<()> {
        let mac = self.mac.map(|byte| format!("{byte:02x}")).join(":");
        let namespace = match self.namespace {
            Namespace::UserAndNetwork => "private user and network namespace",
            Namespace::Network => "private network namespace, as root",
        };
        line(
            out,
            "Device",
            &format!("virtio-net on {TAP}, two rings of {QUEUE_SIZE}, MAC {mac}, MTU {MTU}"),
        )?;
        line(
            out,
            "Guest",
            &format!("{GUEST}, in this process: virtio-drivers under smoltcp"),
        )?;
        line(
            out,
            "Host",
            &format!("{HOST}/{PREFIX}, the kernel's stack, in a {namespace}"),
        )
    }

    fn print_features(&self, out: &mut dyn Write) -> io::Result<()> {
        paragraph(out, "Negotiated", &names(self.negotiated))?;
        paragraph(out, "Also offered", &names(self.offered & !self.negotiated))?;
        let offloads = Features::VIRTIO_NET_F_CSUM | Features::VIRTIO_NET_F_GUEST_CSUM;
        if self.negotiated & offloads.bits() == 0 {
            let note = "This driver takes no offloads: each frame is one TCP segment with its own \
                        checksum. Linux guests negotiate them and move up to 64 KB a frame.";
            paragraph(out, "", &words(note))?;
        }
        Ok(())
    }

    fn print_latency(&self, out: &mut dyn Write) -> io::Result<()> {
        let answered = self.latency.as_ref().map_or(0, Latency::count);
        let (pings, payload) = (self.pings, ping::PAYLOAD);
        line(
            out,
            "Latency",
            &format!("{answered} of {pings} echo requests of {payload} bytes answered"),
        )?;
        let Some(latency) = &self.latency else {
            return Ok(());
        };
        let columns = [
            ("min", latency.min()),
            ("p50", latency.percentile(50)),
            ("p90", latency.percentile(90)),
            ("p99", latency.percentile(99)),
            ("max", latency.max()),
        ];
        let columns = columns.map(|(name, time)| format!("{name} {}", units::micros(time)));
        line(out, "", &columns.join("   "))
    }

    fn print_throughput(&self, out: &mut dyn Write) -> io::Result<()> {
        line(
            out,
            "Throughput",
            "one TCP stream at a time, every byte compared",
        )?;
        for (name, flow) in [("guest to host", &self.up), ("host to guest", &self.down)] {
            let Moved { bytes, time, .. } = flow.moved;
            let [sent, received] = ["tx_frames", "rx_frames"]
                .map(|counter| units::event_rate(flow.counters.get(counter), time));
            let text = format!(
                "{name}  {:>12}  {:>8} in {:.2} s   frames/s {sent} out, {received} in",
                units::bit_rate(bytes, time),
                units::bytes(bytes),
                time.as_secs_f64(),
            );
            line(out, "", &text)?;
        }
        Ok(())
    }

    fn print_counters(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows = [
            ("from guest", "tx_frames", "tx_bytes"),
            ("to guest", "rx_frames", "rx_bytes"),
        ];
        for (i, (name, frames, bytes)) in rows.into_iter().enumerate() {
            let [frames, bytes] =
                [frames, bytes].map(|counter| units::grouped(self.counters.get(counter)));
            let label = if i == 0 { "Counters" } else { "" };
            line(
                out,
                label,
                &format!("{name:<10}  {frames:>12} frames  {bytes:>16} bytes"),
            )?;
        }
        let events: Vec<_> = self
            .counters
            .events()
            .map(|(name, value)| format!("{name} {}", units::grouped(*value)))
            .collect();
        if events.is_empty() {
            line(out, "", "nothing dropped")
        } else {
            paragraph(out, "", &events)
        }
    }
}

/// The names of a feature set, without the prefix that all share.
fn names(features: u64) -> Vec<String> {
    let known = Features::from_bits_truncate(features);
    let short = |name: &str| {
        let name = name
            .strip_prefix("VIRTIO_NET_F_")
            .or(name.strip_prefix("VIRTIO_F_"))
            .unwrap_or(name);
        name.to_owned()
    };
    known.iter_names().map(|(name, _)| short(name)).collect()
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn line(out: &mut dyn Write, label: &str, text: &str) -> io::Result<()> {
    writeln!(out, "  {label:<LABEL$}{text}")
}

/// Words in lines of at most [`WIDTH`] columns.
fn paragraph(out: &mut dyn Write, label: &str, words: &[String]) -> io::Result<()> {
    let mut label = label;
    let mut text = String::new();
    for word in words {
        if !text.is_empty() && LABEL + text.len() + 1 + word.len() > WIDTH {
            line(out, label, &text)?;
            (label, text) = ("", String::new());
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
    }
    line(out, label, &text)
}
