//! A second opinion on how many frames a limit lets pass.

/// Frames of a token bucket: `size` of them at once, and `size` more in each `period`. Exact, in
/// parts of a token of which `period` make one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    size: u64,
    period_ns: u64,
    /// Queues that share it, and those that waited for it when somebody looked last.
    queues: u64,
    waiting: u64,
    /// A frame passed since.
    passed: bool,
    /// Parts that are there at most, and at least.
    most: i128,
    least: i128,
    now: u64,
}

impl Bucket {
    /// A full bucket, which so many `queues` share.
    pub(crate) fn new(size: u64, period_ns: u64, queues: u64) -> Self {
        let full = i128::from(size) * i128::from(period_ns);
        Self {
            size,
            period_ns,
            queues,
            waiting: 0,
            passed: false,
            most: full,
            least: full,
            now: 0,
        }
    }

    fn token(&self) -> i128 {
        i128::from(self.period_ns)
    }

    /// Tokens for which one of several queues waits at once, so that each has its turn; alone, it
    /// waits for that of its frame.
    fn quantum(&self) -> i128 {
        match self.queues {
            1 => 0,
            queues => i128::from((self.size / 2 / queues).max(1)),
        }
    }

    fn refill(&mut self, now: u64) {
        let gained = i128::from(now - self.now) * i128::from(self.size);
        let full = i128::from(self.size) * self.token();
        self.most = (self.most + gained).min(full);
        self.least = (self.least + gained).min(full);
        self.now = now;
    }

    /// A frame passes at `now`, which may be `early`.
    ///
    /// # Errors
    /// It is too early, by a token or more; where several queues share the limit, on top of what
    /// they hold in advance, and of what each has waited for and uses late.
    pub(crate) fn pass(&mut self, now: u64, early: bool) -> Result<(), String> {
        self.refill(now);
        self.most -= self.token();
        self.least -= self.token();
        self.passed = true;
        let on_top = match self.queues {
            1 => 0,
            queues => i128::from(self.size / 8) + i128::from(queues) * self.quantum(),
        };
        if !early && self.most <= -self.token() * (1 + on_top) {
            return Err(format!("a frame passed its limit early, at {now} ns"));
        }
        Ok(())
    }

    /// Queues stop at `now`, and wait for nothing.
    pub(crate) fn stop(&mut self, now: u64) {
        self.refill(now);
        self.waits(0, false);
    }

    /// So many queues wait from now on. What one has waited for lapses if it has not used it, and
    /// others wait behind it.
    fn waits(&mut self, waiting: u64, uses: bool) {
        if self.waiting > 1 && waiting < self.waiting && !uses {
            self.least -= (self.quantum() + 1) * self.token();
        }
        self.waiting = waiting;
    }

    /// The device stands still at `now`, and says that it has so many whole `tokens`.
    ///
    /// # Errors
    /// It has others, by one or more.
    pub(crate) fn holds(&mut self, now: u64, tokens: i64) -> Result<(), String> {
        self.refill(now);
        let token = self.token();
        let tokens = i128::from(tokens);
        let (least, most) = (self.least.div_euclid(token), self.most.div_euclid(token));
        if !(least - 1..=most + 1).contains(&tokens) {
            return Err(format!(
                "a limit is saved with {tokens} tokens, and has {least} to {most}"
            ));
        }
        if self.queues > 1 {
            self.least = self.least.max(tokens * token);
            self.most = self.most.min((tokens + 1) * token);
        }
        Ok(())
    }

    /// Frames wait at `now`, until these deadlines. The first of them counts.
    ///
    /// # Errors
    /// It waits too long, by the time of a token or more for each queue.
    pub(crate) fn wait(&mut self, now: u64, deadlines: &[u64]) -> Result<(), String> {
        self.refill(now);
        let uses = std::mem::take(&mut self.passed);
        self.waits(deadlines.len() as u64, uses);
        let Some(deadline) = deadlines.iter().min() else {
            return Ok(());
        };
        let missing = (self.token() - self.least).max(0);
        let due = i128::from(now) + missing.div_euclid(i128::from(self.size)) + 1;
        let tokens = self.quantum() + i128::from(self.queues);
        let late_ns = self.token() * tokens / i128::from(self.size);
        if i128::from(*deadline) >= due + late_ns.max(1) {
            return Err(format!(
                "a frame waits for its limit until {deadline} ns, which lets it pass at {due} ns"
            ));
        }
        Ok(())
    }
}
