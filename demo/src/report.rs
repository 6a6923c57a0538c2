//! The result, for a person.

use std::io::{self, Write};
use std::time::Duration;

use net_device::Features;

use super::counters::Counters;
use super::guest::QUEUE_SIZE;
use super::host::Moved;
use super::latency::Latency;
use super::migration::Migration;
use super::netns::Namespace;
use super::network::{GUEST, HOST, MTU, PREFIX, TAP};
use super::{ping, units};

/// Columns of a line, and of the label in front of it.
const WIDTH: usize = 88;
const LABEL: usize = 16;

/// One direction.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    /// View of the receiver.
    pub(super) moved: Moved,
    /// Counters of the device meanwhile.
    pub(super) counters: Counters,
    /// The move of the device in the middle of it.
    pub(super) migration: Option<Migration>,
}

/// Everything that was measured.
#[derive(Debug, Clone)]
pub(super) struct Report {
    pub(super) namespace: Namespace,
    pub(super) mac: [u8; 6],
    pub(super) offered: u128,
    pub(super) negotiated: u128,
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
            &format!("virtio-net on {TAP}0, two rings of {QUEUE_SIZE}, MAC {mac}, MTU {MTU}"),
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
        let flows = [
            ("guest to host", &self.up, "tx_frames", "rx_frames"),
            ("host to guest", &self.down, "rx_frames", "tx_frames"),
        ];
        for (name, flow, data, acks) in flows {
            let Moved { bytes, time, .. } = flow.moved;
            let [data, acks] =
                [data, acks].map(|name| units::event_rate(flow.counters.get(name), time));
            let text = format!(
                "{name}  {:>11}   {:>7} in {:.2} s   {data:>9} frames/s, {acks} back",
                units::bit_rate(bytes, time),
                units::bytes(bytes),
                time.as_secs_f64(),
            );
            line(out, "", &text)?;
            if let Some(Migration { bytes, down, .. }) = &flow.migration {
                let down = units::micros(*down);
                let text = format!(
                    "{:15}saved ({bytes} bytes) and restored on another tap: {down}",
                    ""
                );
                line(out, "", &text)?;
            }
        }
        Ok(())
    }

    fn print_counters(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows = [("Counters", "from guest", "tx"), ("", "to guest", "rx")];
        for (label, name, side) in rows {
            let [frames, bytes, interrupts] = ["frames", "bytes", "interrupts"]
                .map(|counter| units::grouped(self.counters.get(&format!("{side}_{counter}"))));
            let text = format!(
                "{name:<10} {frames:>11} frames {bytes:>14} bytes {interrupts:>9} interrupts"
            );
            line(out, label, &text)?;
        }
        let event = |(name, value): &(String, u64)| format!("{name} {}", units::grouped(*value));
        let events: Vec<_> = self.counters.events().map(event).collect();
        if events.is_empty() {
            line(out, "", "nothing dropped")
        } else {
            paragraph(out, "", &events)
        }
    }
}

/// The names of a feature set, without the prefix that all share.
fn names(features: u128) -> Vec<String> {
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
