//! A second opinion on how many frames a limit lets pass.

/// Frames of a token bucket: `size` of them at once, and `size` more in each `period`. Exact, in
/// parts of a token of which `period` make one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    size: u64,
    period_ns: u64,
    /// Queues that share it.
    queues: u64,
    /// Parts that are there at most, and at least.
    most: i128,
    least: i128,
    /// Parts that passed early and are not paid yet: others may have come before.
    debt: i128,
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
            most: full,
            least: full,
            debt: 0,
            now: 0,
        }
    }

    fn token(&self) -> i128 {
        i128::from(self.period_ns)
    }

    fn full(&self) -> i128 {
        i128::from(self.size) * self.token()
    }

    /// Parts for which one of several queues waits at once, so that each has its turn: half of the
    /// burst is for all of them.
    fn quantum(&self) -> i128 {
        (self.full() / 2 / i128::from(self.queues)).max(self.token())
    }

    /// Parts that queues may hold in advance, where there are several.
    fn advances(&self) -> i128 {
        if self.queues > 1 { self.full() / 8 } else { 0 }
    }

    fn refill(&mut self, now: u64) {
        let gained = i128::from(now - self.now) * i128::from(self.size);
        let full = self.full();
        self.most = (self.most + gained).min(full);
        self.least = (self.least + gained).min(full);
        self.debt = (self.debt - gained).max(0);
        self.now = now;
    }

    /// A frame passes at `now`, which may be `early`.
    ///
    /// # Errors
    /// It is too early, by a token or more; where several queues share the limit, on top of what
    /// they hold in advance, of what each has waited for and uses late, and of what passed early.
    pub(crate) fn pass(&mut self, now: u64, early: bool) -> Result<(), String> {
        self.refill(now);
        self.most -= self.token();
        self.least -= self.token();
        if early {
            self.debt += self.token();
            return Ok(());
        }
        let late = match self.queues {
            1 => 0,
            queues => self.quantum() * i128::from(queues) + self.debt,
        };
        if self.most <= -(self.token() + self.advances() + late) {
            return Err(format!("a frame passed its limit early, at {now} ns"));
        }
        Ok(())
    }

    /// Queues stop at `now`. What one has waited for lapses if others come behind it.
    pub(crate) fn stop(&mut self, now: u64) {
        self.refill(now);
        if self.queues > 1 {
            self.least -= (self.quantum() + self.token()) * i128::from(self.queues);
        }
    }

    /// The device stands still at `now`, and says that it has so many whole `tokens`.
    ///
    /// # Errors
    /// It has others, by one or more.
    pub(crate) fn holds(&mut self, now: u64, tokens: i64) -> Result<(), String> {
        self.refill(now);
        let token = self.token();
        let tokens = i128::from(tokens);
        // What is used of a full bucket may be told late.
        let least = (self.least - self.advances()).div_euclid(token);
        let most = self.most.div_euclid(token);
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
    /// It waits too long, by the time of a token or more; where several queues share the limit, by
    /// that of the whole burst.
    pub(crate) fn wait(&mut self, now: u64, deadlines: &[u64]) -> Result<(), String> {
        self.refill(now);
        let Some(deadline) = deadlines.iter().min() else {
            return Ok(());
        };
        let missing = (self.token() - self.least).max(0);
        let due = i128::from(now) + missing.div_euclid(i128::from(self.size)) + 1;
        let tokens = match self.queues {
            1 => 1,
            queues => i128::from(self.size + queues),
        };
        let late_ns = self.token() * tokens / i128::from(self.size);
        if i128::from(*deadline) >= due + late_ns.max(1) {
            return Err(format!(
                "a frame waits for its limit until {deadline} ns, which lets it pass at {due} ns"
            ));
        }
        Ok(())
    }
}
