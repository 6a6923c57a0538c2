//! A state as text or as JSON.

use std::fmt;
use std::io::{self, Write};

use net_device::snapshot::state::{
    BucketState, LimiterState, NetState, NotfCoalState, QueueLayout, QueueState, RssState,
};
use net_device::{Features, MacAddr, Snapshot};
use serde_json::json;

/// Column in which values begin.
const COLUMN: usize = 20;

/// Bits of `low` and `high` by their names in the specification, or by number.
fn feature_names(low: u64, high: u64) -> Vec<String> {
    let bits = u128::from(high) << 64 | u128::from(low);
    let features = Features::from_bits_retain(bits);
    let named = features.iter_names().map(|(name, _)| name.to_owned());
    let unknown = bits & !Features::all().bits();
    let numbers = (0..u128::BITS).filter(|bit| unknown >> bit & 1 == 1);
    named.chain(numbers.map(|bit| bit.to_string())).collect()
}

/// Prints the state as one object. Features are there by name, too, since not every reader of JSON
/// keeps numbers of 64 bits.
pub(super) fn json(snapshot: &Snapshot, state: &NetState, out: &mut dyn Write) -> io::Result<()> {
    let report = json!({
        "release": snapshot.release(),
        "bytes": snapshot.as_bytes().len(),
        "features_offered": feature_names(state.features_offered, state.features_offered_high),
        "features_acked": feature_names(state.features_acked, state.features_acked_high),
        "mac": MacAddr::from(state.config.mac).to_string(),
        "state": state,
    });
    serde_json::to_writer_pretty(&mut *out, &report)?;
    writeln!(out)
}

/// Prints what a person looks for.
pub(super) fn text(snapshot: &Snapshot, state: &NetState, out: &mut dyn Write) -> io::Result<()> {
    let mut lines = Lines(out);
    let bytes = snapshot.as_bytes().len();
    lines.field(
        "snapshot",
        format_args!("release {}, {bytes} bytes", snapshot.release()),
    )?;
    // The name may hold anything.
    lines.field("id", state.id.escape_debug())?;
    lines.field("state", Life(state))?;
    configuration(state, &mut lines)?;
    let names = |low, high| feature_names(low, high).join(" ");
    lines.field(
        "features offered",
        names(state.features_offered, state.features_offered_high),
    )?;
    lines.field(
        "features accepted",
        names(state.features_acked, state.features_acked_high),
    )?;
    control(state, &mut lines)?;
    for queue in &state.queues {
        lines.field(&format!("queue {}", queue.index), Ring(queue))?;
    }
    for stopped in &state.stopped_queues {
        let notf_coal = NotfCoal(stopped.notf_coal);
        lines.field(
            &format!("queue {}", stopped.index),
            format_args!("stands still{notf_coal}"),
        )?;
    }
    for limiter in &state.limiters {
        lines.field(&format!("limit of queue {}", limiter.queue), Limit(limiter))?;
    }
    Ok(())
}

struct Lines<'a>(&'a mut dyn Write);

impl Lines<'_> {
    fn field(&mut self, name: &str, value: impl fmt::Display) -> io::Result<()> {
        writeln!(self.0, "{name:COLUMN$}{value}")
    }
}

fn configuration(state: &NetState, lines: &mut Lines<'_>) -> io::Result<()> {
    let config = &state.config;
    lines.field("mac", MacAddr::from(config.mac))?;
    if config.mtu != 0 {
        lines.field("mtu", config.mtu)?;
    }
    if config.speed != 0 {
        lines.field("speed", format_args!("{} Mbit/s", config.speed))?;
    }
    let pairs = format_args!(
        "{} of {}",
        state.active_pairs.max(1),
        config.max_virtqueue_pairs
    );
    lines.field("queue pairs", pairs)?;
    lines.field("generation", config.generation)
}

fn control(state: &NetState, lines: &mut Lines<'_>) -> io::Result<()> {
    const MODES: [&str; 6] = [
        "promiscuous",
        "all multicast",
        "all unicast",
        "no multicast",
        "no unicast",
        "no broadcast",
    ];
    let control = &state.control;
    lines.field(
        "receive offloads",
        feature_names(state.guest_offloads, 0).join(" "),
    )?;
    let modes = (0..8).filter(|bit| control.rx_modes >> bit & 1 == 1);
    let modes = modes.map(|bit| MODES.get(bit).copied().unwrap_or("unknown"));
    lines.field("receive modes", modes.collect::<Vec<_>>().join(", "))?;
    let addresses = |list: &[[u8; 6]], overflow| match overflow {
        true => "all, since there were too many".to_owned(),
        false => {
            let texts = list.iter().map(|mac| MacAddr::from(*mac).to_string());
            texts.collect::<Vec<_>>().join(" ")
        }
    };
    lines.field(
        "unicast",
        addresses(&control.unicast, control.unicast_overflow),
    )?;
    lines.field(
        "multicast",
        addresses(&control.multicast, control.multicast_overflow),
    )?;
    let ids =
        (0..64 * control.vlans.len()).filter(|id| control.vlans[id / 64] >> (id % 64) & 1 == 1);
    lines.field(
        "vlans",
        ids.map(|id| id.to_string()).collect::<Vec<_>>().join(" "),
    )?;
    for (name, notf_coal) in [("rx", control.rx_notf_coal), ("tx", control.tx_notf_coal)] {
        if notf_coal != NotfCoalState::default() {
            lines.field(
                &format!("{name} queues"),
                &NotfCoal(notf_coal).to_string()[2..],
            )?;
        }
    }
    match &control.rss {
        Some(rss) => lines.field("rss", Steering(rss)),
        None => Ok(()),
    }
}

/// State of the device as a whole.
struct Life<'a>(&'a NetState);

impl fmt::Display for Life<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0;
        f.write_str(match (state.activated, state.features_acked) {
            (true, _) => "activated",
            (false, 0) => "not driven yet",
            (false, _) => "negotiated",
        })?;
        if state.needs_reset {
            f.write_str(", needs a reset")?;
        }
        if state.suspended {
            f.write_str(", suspended by its driver")?;
        }
        if state.announce_pending {
            f.write_str(", its driver is asked to announce itself")?;
        }
        Ok(())
    }
}

/// One ring: layout, place, positions.
struct Ring<'a>(&'a QueueState);

impl fmt::Display for Ring<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue = self.0;
        let (layout, packed) = match queue.layout {
            QueueLayout::Split => ("split", false),
            QueueLayout::Packed => ("packed", true),
        };
        write!(
            f,
            "{layout}, {} of {} descriptors, at {:#x}, driver {:#x}, device {:#x}, avail {}",
            queue.size,
            queue.max_size,
            queue.desc_addr,
            queue.driver_addr,
            queue.device_addr,
            queue.avail,
        )?;
        if packed {
            write!(f, " (wrap {})", u8::from(queue.avail_wrap))?;
        }
        match queue.used {
            Some(used) => write!(f, ", used {used}")?,
            None => f.write_str(", used as in the ring")?,
        }
        if packed {
            write!(f, " (wrap {})", u8::from(queue.used_wrap))?;
        }
        if !queue.in_flight.is_empty() {
            write!(f, ", {} in flight", queue.in_flight.len())?;
        }
        write!(f, "{}", NotfCoal(queue.notf_coal))
    }
}

/// Notification coalescing behind something else; nothing where it is off.
struct NotfCoal(NotfCoalState);

impl fmt::Display for NotfCoal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NotfCoalState {
            max_packets,
            max_usecs,
        } = self.0;
        if self.0 == NotfCoalState::default() {
            return Ok(());
        }
        write!(
            f,
            ", notified after {max_packets} packets or {max_usecs} us"
        )
    }
}

/// Parameters of receive-side scaling.
struct Steering<'a>(&'a RssState);

impl fmt::Display for Steering<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rss = self.0;
        let what = if rss.steering { "steers" } else { "reports" };
        write!(
            f,
            "{what}, hash types {:#x}, {} entries, key of {} bytes",
            rss.hash_types,
            rss.indirection_table.len(),
            rss.key.len()
        )
    }
}

/// Levels of one queue's limit.
struct Limit<'a>(&'a LimiterState);

impl fmt::Display for Limit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = |bucket: Option<BucketState>| match bucket {
            Some(bucket) => bucket.tokens.to_string(),
            None => "none".to_owned(),
        };
        let LimiterState {
            bandwidth,
            ops,
            peak_bandwidth,
            ..
        } = *self.0;
        write!(
            f,
            "tokens: bytes {}, frames {}, peak {}",
            level(bandwidth),
            level(ops),
            level(peak_bandwidth)
        )
    }
}
