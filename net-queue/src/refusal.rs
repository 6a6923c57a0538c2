//! Causes for which control commands are refused.

/// Cause for which a control command was answered with an error, without effect (NET-CVQ-05).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// Fewer bytes than the command needs (NET-CVQ-05, NET-CVQ-14).
    #[error("command cut short")]
    Short,
    /// No command that this device knows (NET-CVQ-04).
    #[error("unknown command")]
    Unknown,
    /// A command of a feature that was not negotiated (NET-CVQ-04, NET-FEAT-13).
    #[error("command of a feature that was not negotiated")]
    NotNegotiated,
    /// A value that no device takes, or that this one does not take now (NET-CVQ-17, NET-CVQ-31,
    /// NET-MQ-04).
    #[error("value out of range")]
    Value,
    /// The host could not do it.
    #[error("refused by the host")]
    Host,
}

impl Refusal {
    /// Every cause, in the order of [`Refusal::index`].
    pub const ALL: &'static [Self] = &[
        Self::Short,
        Self::Unknown,
        Self::NotNegotiated,
        Self::Value,
        Self::Host,
    ];

    /// Number of causes.
    pub const COUNT: usize = Self::ALL.len();

    /// Position among all causes.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Name in counters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Short => "refused_short",
            Self::Unknown => "refused_unknown",
            Self::NotNegotiated => "refused_not_negotiated",
            Self::Value => "refused_value",
            Self::Host => "refused_host",
        }
    }
}
