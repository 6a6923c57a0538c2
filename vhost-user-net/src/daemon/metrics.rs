//! Counters and states of all devices of the process, in Prometheus' text format.
//!
//! The format is a dozen rules, which are all here: a crate for it would bring a registry of its
//! own, while every value is read from the devices' counters at the moment it is asked for.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};

use net_device::net_queue::{GroupEnd, Refusal};
use net_device::{DeviceHandle, DeviceStats, DropCause, QueueStats, WaitsFor};

use crate::protocol::stall::{Missing, RingGauges};

#[cfg(test)]
mod tests;

/// Media type of the format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Front-ends that a device has had. Counted by the thread that serves them, read by any.
#[derive(Debug, Default)]
pub struct FrontEnds {
    connected: AtomicBool,
    total: AtomicU64,
    overdue_receivers: AtomicU64,
    /// Gauges of the rings of the one that is there, by index.
    rings: OnceLock<Box<[RingGauges]>>,
}

impl FrontEnds {
    /// Gauges of so many rings.
    pub(crate) fn for_rings(&self, count: usize) -> &[RingGauges] {
        let rings = || (0..count).map(|_| RingGauges::default()).collect();
        self.rings.get_or_init(rings)
    }

    /// Gauges of the rings, by index; none before there was a front-end.
    #[must_use]
    pub fn rings(&self) -> &[RingGauges] {
        self.rings.get().map_or(&[], |rings| rings)
    }

    pub(crate) fn count_overdue_receiver(&self) {
        self.overdue_receivers.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections that were ended because a descriptor could not be closed.
    #[must_use]
    pub fn overdue_receivers(&self) -> u64 {
        self.overdue_receivers.load(Ordering::Relaxed)
    }

    pub(crate) fn begin(&self) {
        self.total.fetch_add(1, Ordering::Relaxed);
        self.connected.store(true, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.rings().iter().for_each(RingGauges::clear);
        self.connected.store(false, Ordering::Relaxed);
    }

    /// Returns true while one is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Front-ends so far, with the one that is there.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

/// A device as it is reported.
#[derive(Clone, Debug)]
pub struct Reported {
    /// Its name, which no other device of the process has.
    pub name: String,
    /// Its counters and its state.
    pub device: DeviceHandle,
    /// Its front-ends.
    pub front_ends: Arc<FrontEnds>,
}

/// Kinds of metrics.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Counter,
    Gauge,
}

/// Name of a metric without its prefix, its help, and its value for one queue.
type QueueMetric = (&'static str, &'static str, fn(&QueueStats) -> u64);

/// Counters that each queue of a pair has.
const QUEUE: [QueueMetric; 16] = [
    ("frames", "Frames that passed.", |queue| queue.frames),
    (
        "bytes",
        "Bytes of the frames that passed, virtio-net headers not counted.",
        |queue| queue.bytes,
    ),
    (
        "batches",
        "Batches in which a frame passed; frames by batches is their mean size.",
        |queue| queue.batches,
    ),
    (
        "kicks",
        "Notifications of the driver that were seen; several in a row are one.",
        |queue| queue.kicks,
    ),
    (
        "interrupts",
        "Batches after which the driver was interrupted.",
        |queue| queue.interrupts,
    ),
    (
        "interrupts_suppressed",
        "Batches after which the driver wished no interrupt.",
        |queue| queue.interrupts_suppressed,
    ),
    (
        "rate_limited",
        "Times that a rate limit stopped the queue.",
        |queue| queue.limited,
    ),
    (
        "segmented",
        "Large frames that were cut into segments here.",
        |queue| queue.segmented,
    ),
    (
        "steered",
        "Received frames that were passed on to the queue of the driver's table.",
        |queue| queue.steered,
    ),
    (
        "groups",
        "Groups of several frames that were sent as one.",
        |queue| queue.groups,
    ),
    (
        "grouped_frames",
        "Frames in groups; frames by groups is their mean size.",
        |queue| queue.grouped,
    ),
    (
        "groups_refused",
        "Groups that the host refused, so that their frames were sent one by one.",
        |queue| queue.groups_refused,
    ),
    (
        "partial_checksums",
        "Frames of those that passed with a partial checksum.",
        |queue| queue.needs_csum,
    ),
    (
        "verified_checksums",
        "Frames of those that passed whose checksum was said to be right.",
        |queue| queue.data_valid,
    ),
    (
        "gso_frames",
        "Frames of those that passed larger than a segment.",
        |queue| queue.gso_frames,
    ),
    (
        "gso_bytes",
        "Bytes of the frames larger than a segment.",
        |queue| queue.gso_bytes,
    ),
];

/// Counters of the control queue.
const CONTROL: [QueueMetric; 4] = [
    ("control_commands", "Control commands.", |queue| {
        queue.frames
    }),
    (
        "control_kicks",
        "Notifications of the driver for its control queue.",
        |queue| queue.kicks,
    ),
    (
        "control_interrupts",
        "Interrupts for the control queue.",
        |queue| queue.interrupts,
    ),
    (
        "control_rate_limited",
        "Times that the limit for control commands stopped the control queue.",
        |queue| queue.limited,
    ),
];

/// Causes of drops as label values.
static DROPS: LazyLock<Vec<(DropCause, &str)>> = LazyLock::new(|| {
    let named = DropCause::all().map(|cause| (cause, cause.name()));
    named
        .map(|(cause, name)| (cause, name.trim_start_matches("drop_")))
        .collect()
});

/// All metrics of `devices`, as one page.
#[must_use]
pub fn page(devices: &[Reported]) -> String {
    let stats: Vec<_> = devices.iter().map(|it| (it, it.device.stats())).collect();
    let mut page = Page(String::new());
    page.family("info", Kind::Gauge, "Version of the daemon.");
    page.sample("info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    states(&mut page, devices);
    rings(&mut page, devices);
    for (name, help, value) in QUEUE {
        let name = format!("{name}_total");
        page.family(&name, Kind::Counter, help);
        for_each_queue(&stats, |labels, queue| {
            page.sample(&name, labels, value(queue));
        });
    }
    let help = "Frames and chains that were dropped, by cause.";
    page.family("drops_total", Kind::Counter, help);
    for_each_queue(&stats, |&[device, direction, queue], counted| {
        for &(cause, name) in &*DROPS {
            let labels = [device, direction, queue, ("cause", name)];
            page.sample("drops_total", &labels, counted.drops(cause));
        }
    });
    let help = "Groups that ended, those of a single frame among them, by cause.";
    page.family("group_ends_total", Kind::Counter, help);
    for_each_queue(&stats, |&[device, direction, queue], counted| {
        for end in GroupEnd::ALL {
            let name = end.name().trim_start_matches("group_end_");
            let labels = [device, direction, queue, ("cause", name)];
            page.sample("group_ends_total", &labels, counted.group_ends(end));
        }
    });
    control(&mut page, &stats);
    page.0
}

/// Calls `report` with the labels and the counters of each queue.
fn for_each_queue(
    devices: &[(&Reported, DeviceStats)],
    mut report: impl FnMut(&[(&str, &str); 3], &QueueStats),
) {
    for (device, stats) in devices {
        for (direction, queues) in [("rx", &stats.rx), ("tx", &stats.tx)] {
            for (number, queue) in queues.iter().enumerate() {
                let labels = [
                    ("device", device.name.as_str()),
                    ("direction", direction),
                    ("queue", &number.to_string()),
                ];
                report(&labels, queue);
            }
        }
    }
}

fn states(page: &mut Page, devices: &[Reported]) {
    type State = (&'static str, Kind, &'static str, fn(&Reported) -> u64);
    let states: [State; 6] = [
        (
            "link_up",
            Kind::Gauge,
            "Whether the driver is shown a link that is up.",
            |it| it.device.is_link_up().into(),
        ),
        (
            "needs_reset",
            Kind::Gauge,
            "Whether the device has failed and waits for the driver to reset it.",
            |it| it.device.needs_reset().into(),
        ),
        (
            "port_lost",
            Kind::Gauge,
            "Whether the tap was found to be gone.",
            |it| it.device.is_port_lost().into(),
        ),
        (
            "front_end_connected",
            Kind::Gauge,
            "Whether a front-end is connected.",
            |it| it.front_ends.is_connected().into(),
        ),
        (
            "front_ends_total",
            Kind::Counter,
            "Front-ends that have connected.",
            |it| it.front_ends.total(),
        ),
        (
            "overdue_receivers_total",
            Kind::Counter,
            "Connections that were ended because a descriptor could not be closed.",
            |it| it.front_ends.overdue_receivers(),
        ),
    ];
    for (name, kind, help, value) in states {
        page.family(name, kind, help);
        for device in devices {
            page.sample(name, &[("device", &device.name)], value(device));
        }
    }
}

/// The rings as they are seen from outside.
fn rings(page: &mut Page, devices: &[Reported]) {
    type Gauge = (&'static str, &'static str, fn(&RingGauges) -> u64);
    let gauges: [Gauge; 2] = [
        (
            "ring_depth",
            "Entries that the driver made available and that are not used, at the last look.",
            RingGauges::depth,
        ),
        (
            "ring_idle_seconds",
            "Seconds since something passed a ring that runs, at the last look.",
            RingGauges::idle_s,
        ),
    ];
    for (name, help, value) in gauges {
        page.family(name, Kind::Gauge, help);
        for_each_ring(devices, |labels, ring, _| {
            page.sample(name, labels, value(ring))
        });
    }
    let help = "Times that a ring stood still for want of a notification.";
    page.family("ring_stalls_total", Kind::Counter, help);
    for_each_ring(devices, |&[device, index], ring, _| {
        for (side, missing) in [("kick", Missing::Kick), ("interrupt", Missing::Interrupt)] {
            let labels = [device, index, ("missing", side)];
            page.sample("ring_stalls_total", &labels, ring.stalls(missing));
        }
    });
    let help = "Event that the device's side of a ring waits for: 1 for the one that it is.";
    page.family("ring_waits_for", Kind::Gauge, help);
    for_each_ring(devices, |&[device, index], _, now| {
        for event in WaitsFor::ALL {
            let labels = [device, index, ("event", event.name())];
            page.sample("ring_waits_for", &labels, u64::from(event == now));
        }
    });
}

/// Calls `report` with the labels of each ring, its gauges, and what it waits for.
fn for_each_ring(
    devices: &[Reported],
    mut report: impl FnMut(&[(&str, &str); 2], &RingGauges, WaitsFor),
) {
    for device in devices {
        // Before the first front-end nobody has looked.
        let (seen, none) = (device.front_ends.rings(), RingGauges::default());
        for (index, state) in device.device.queue_states().iter().enumerate() {
            let ring = seen.get(index).unwrap_or(&none);
            let index = index.to_string();
            let labels = [("device", device.name.as_str()), ("ring", &index)];
            report(&labels, ring, state.waits_for);
        }
    }
}

/// The control queues, and what is left of the devices.
fn control(page: &mut Page, devices: &[(&Reported, DeviceStats)]) {
    for (name, help, value) in CONTROL {
        let name = format!("{name}_total");
        page.family(&name, Kind::Counter, help);
        for (device, stats) in devices {
            page.sample(&name, &[("device", &device.name)], value(&stats.control));
        }
    }
    let help = "Control commands that were answered with an error, by cause.";
    page.family("control_refused_total", Kind::Counter, help);
    for (device, stats) in devices {
        for cause in Refusal::ALL {
            let name = cause.name().trim_start_matches("refused_");
            let labels = [("device", device.name.as_str()), ("cause", name)];
            let count = stats.control.refusals(*cause);
            page.sample("control_refused_total", &labels, count);
        }
    }
    let help = "Chains of the control queue that were of no use, by cause.";
    page.family("control_drops_total", Kind::Counter, help);
    for (device, stats) in devices {
        for &(cause, name) in &*DROPS {
            let labels = [("device", device.name.as_str()), ("cause", name)];
            page.sample("control_drops_total", &labels, stats.control.drops(cause));
        }
    }
    let help = "Lines of the log that were withheld.";
    page.family("log_withheld_total", Kind::Counter, help);
    for (device, stats) in devices {
        let labels = [("device", device.name.as_str())];
        page.sample("log_withheld_total", &labels, stats.log_withheld);
    }
}

/// A page that is being written.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        self.write(format_args!("# HELP vhost_user_net_{name} {help}\n"));
        self.write(format_args!("# TYPE vhost_user_net_{name} {kind}\n"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.write(format_args!("vhost_user_net_{name}"));
        for (number, (label, text)) in labels.iter().enumerate() {
            let begin = if number == 0 { '{' } else { ',' };
            self.write(format_args!("{begin}{label}=\"{}\"", Escaped(text)));
        }
        self.write(format_args!("}} {value}\n"));
    }

    fn write(&mut self, text: fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.0.write_fmt(text);
    }
}

/// A label's value, as it stands between its quotes.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}
