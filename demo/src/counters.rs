//! Counters of the device, for the report.

use net_device::VirtioDevice;

/// Counters of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Counters(Vec<(String, u64)>);

impl Counters {
    /// Now.
    pub(super) fn of(device: &dyn VirtioDevice) -> Self {
        Self(device.counters())
    }

    /// Difference to `before`.
    pub(super) fn since(mut self, before: &Self) -> Self {
        for (name, value) in &mut self.0 {
            *value = value.saturating_sub(before.get(name));
        }
        self
    }

    /// Sum of these and those of another device that is configured alike.
    pub(super) fn plus(mut self, other: &Self) -> Self {
        for (name, value) in &mut self.0 {
            *value += other.get(name);
        }
        self
    }

    /// One of them; 0 if there is none of that name.
    pub(super) fn get(&self, name: &str) -> u64 {
        self.0
            .iter()
            .find(|(known, _)| *known == name)
            .map_or(0, |&(_, value)| value)
    }

    /// All others, when not zero.
    pub(super) fn events(&self) -> impl Iterator<Item = &(String, u64)> {
        self.0
            .iter()
            .filter(|(name, value)| *value > 0 && !TRAFFIC.contains(&name.as_str()))
    }
}

/// Counters that have a place of their own in the report.
const TRAFFIC: [&str; 6] = [
    "rx_bytes",
    "rx_frames",
    "rx_interrupts",
    "tx_bytes",
    "tx_frames",
    "tx_interrupts",
];
