//! A second opinion on how many frames a limit lets pass.

/// Frames of a token bucket: `size` of them at once, and `size` more in each `period`. Exact, in
/// parts of a token of which `period` make one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    size: u64,
    period_ns: u64,
    parts: i128,
    now: u64,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(size: u64, period_ns: u64) -> Self {
        Self {
            size,
            period_ns,
            parts: i128::from(size) * i128::from(period_ns),
            now: 0,
        }
    }

    fn token(&self) -> i128 {
        i128::from(self.period_ns)
    }

    fn refill(&mut self, now: u64) {
        let gained = i128::from(now - self.now) * i128::from(self.size);
        let full = i128::from(self.size) * self.token();
        self.parts = (self.parts + gained).min(full);
        self.now = now;
    }

    /// A frame passes at `now`.
    ///
    /// # Errors
    /// It is too early, by a token or more.
    pub(crate) fn pass(&mut self, now: u64) -> Result<(), String> {
        self.refill(now);
        self.parts -= self.token();
        if self.parts <= -self.token() {
            return Err(format!("a frame passed its limit early, at {now} ns"));
        }
        Ok(())
    }

    /// A frame waits at `now`, until `deadline`.
    ///
    /// # Errors
    /// It waits too long, by the time of a token or more.
    pub(crate) fn wait(&mut self, now: u64, deadline: u64) -> Result<(), String> {
        self.refill(now);
        let missing = (self.token() - self.parts).max(0);
        let due = i128::from(now) + missing.div_euclid(i128::from(self.size)) + 1;
        let token_ns = self.token() / i128::from(self.size);
        if i128::from(deadline) >= due + token_ns.max(1) {
            return Err(format!(
                "a frame waits for its limit until {deadline} ns, which lets it pass at {due} ns"
            ));
        }
        Ok(())
    }
}
