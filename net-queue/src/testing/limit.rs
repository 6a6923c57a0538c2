//! A limiter that answers as told and remembers what it was asked.

use std::collections::VecDeque;

use crate::engine::Limit;

/// One call of a [`Limit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitCall {
    /// `take`, and whether it was granted.
    Take {
        /// The time that was passed, ns.
        now: u64,
        /// Bytes asked for.
        bytes: u64,
        /// True if the frame might pass.
        granted: bool,
    },
    /// `force`.
    Force {
        /// The time that was passed, ns.
        now: u64,
        /// Bytes charged.
        bytes: u64,
    },
    /// `refund` of that many bytes.
    Refund(u64),
    /// `idle` at that time, ns.
    Idle(u64),
}

/// Grants every frame except those that its script holds back.
#[derive(Clone, Debug, Default)]
pub struct ScriptedLimit {
    /// One answer for each coming `take`; when it is empty, all are granted.
    pub answers: VecDeque<Result<(), u64>>,
    /// Calls in order.
    pub calls: Vec<LimitCall>,
}

impl ScriptedLimit {
    /// Grants `count` frames, then holds the next until `deadline` (ns).
    #[must_use]
    pub fn holding_after(count: usize, deadline: u64) -> Self {
        let mut answers = VecDeque::from(vec![Ok(()); count]);
        answers.push_back(Err(deadline));
        Self {
            answers,
            calls: Vec::new(),
        }
    }
}

impl Limit for ScriptedLimit {
    fn take(&mut self, now: u64, bytes: u64) -> Result<(), u64> {
        let answer = self.answers.pop_front().unwrap_or(Ok(()));
        let granted = answer.is_ok();
        self.calls.push(LimitCall::Take {
            now,
            bytes,
            granted,
        });
        answer
    }

    fn force(&mut self, now: u64, bytes: u64) {
        self.calls.push(LimitCall::Force { now, bytes });
    }

    fn refund(&mut self, bytes: u64) {
        self.calls.push(LimitCall::Refund(bytes));
    }

    fn idle(&mut self, now: u64) {
        self.calls.push(LimitCall::Idle(now));
    }
}
