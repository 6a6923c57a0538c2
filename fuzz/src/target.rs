//! One thing to fuzz.

/// One input with its file name.
pub type Seed = (&'static str, Vec<u8>);

/// One thing to fuzz.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Name of its binary and its folders.
    pub name: &'static str,
    /// Runs one input; a panic is a finding.
    pub run: fn(&[u8]),
    /// Well-formed inputs to start from.
    pub seeds: fn() -> Vec<Seed>,
}
