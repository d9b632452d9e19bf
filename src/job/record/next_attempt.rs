//! The step of a record from one attempt to the next.

use super::{EarlierTotals, FORMAT_VERSION, Reason, Record, Status};

impl Record {
    /// Begins the next attempt: the worker starts claude again, within the same job.
    pub(crate) fn begin_attempt(&mut self) {
        let (reason, failures) = if self.status.is_live() {
            // The worker starts claude again: the job has not failed since.
            (self.attempt.earlier.reason, self.attempt.earlier.failures)
        } else {
            (self.reason, self.failures_in_row())
        };
        self.attempt.earlier = EarlierTotals {
            turns: self.progress.num_turns,
            cost_usd: self.cost.usd,
            elapsed_ms: self.times.elapsed_ms.unwrap_or_default(),
            untimed_ms: self.attempt.earlier.untimed_ms,
            denied: self.progress.denied,
            reason,
            failures,
        };
        self.attempt.resumed = false;
        self.attempt.number += 1;
        self.version = FORMAT_VERSION;
        self.status = Status::Starting;
        self.reason = None;
        self.error = None;
        self.times.ended_at = None;
        self.times.counted_since = None;
        self.worker.claude_pid = None;
        self.ending.dependency_cut_off = false;
        self.ending.killed_after_end = false;
        self.attempt.log_incomplete = false;
        self.ending.lost_connection = false;
        self.limit.rate_limited = false;
        self.limit.retry_at = None;
        self.limit.resumable_at = None;
        self.activity = None;
        self.waiting_for = None;
        self.blocked = None;
        self.ending.left_processes.clear();
        self.ending.exit = None;
    }

    /// Begins an attempt that continues an interrupted job (`recover`).
    pub(crate) fn begin_recovery(&mut self) {
        self.attempt.recovered_from = self.reason;
        self.begin_attempt();
        if self.attempt.recovered_from == Some(Reason::WakeupMissed) {
            // The job may have reached its own time limit while it waited.
            self.attempt.earlier.untimed_ms = self.attempt.earlier.elapsed_ms;
        }
    }

    /// Shows the job as queued: its engine starts it again.
    pub(crate) fn await_restart(&mut self) {
        self.status = Status::Queued;
        self.reason = None;
        self.error = None;
        self.times.ended_at = None;
        self.worker.pid = None;
    }

    /// Begins an attempt with another message (`resume`): in the session if there is one, else with
    /// the prompt. Limits and failures belong to the earlier work.
    pub(crate) fn begin_resumption(&mut self) {
        let continues = self.has_session();
        if !continues {
            self.attempt.recovered_from = self.reason;
        }
        self.begin_attempt();
        self.attempt.resumed = continues;
        self.progress.last_failure = None;
        self.progress.released = None;
        self.progress.denied = 0;
        self.progress.denied_tools.clear();
        self.attempt.earlier.denied = 0;
        self.attempt.earlier.untimed_ms = self.attempt.earlier.elapsed_ms;
    }

    /// Whether claude has begun a session, which another attempt can continue.
    pub(crate) fn has_session(&self) -> bool {
        self.session.began && self.session.id.is_some()
    }
}
