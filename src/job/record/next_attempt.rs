//! The step of a record from one attempt to the next.

use super::{EarlierTotals, FORMAT_VERSION, Reason, Record, Status};

impl Record {
    /// Begins the next attempt: the worker starts claude again, within the same job.
    pub(crate) fn begin_attempt(&mut self) {
        self.earlier = EarlierTotals {
            turns: self.num_turns,
            cost_usd: self.cost_usd,
            elapsed_ms: self.elapsed_ms.unwrap_or_default(),
            untimed_ms: self.earlier.untimed_ms,
            denied: self.denied,
        };
        self.resumed = false;
        self.attempt += 1;
        self.version = FORMAT_VERSION;
        self.status = Status::Starting;
        self.reason = None;
        self.error = None;
        self.ended_at = None;
        self.claude_pid = None;
        self.dependency_cut_off = false;
        self.log_incomplete = false;
        self.lost_connection = false;
        self.rate_limited = false;
        self.retry_at = None;
        self.resumable_at = None;
        self.activity = None;
        self.waiting_for = None;
        self.blocked = None;
        self.left_processes.clear();
        self.exit = None;
    }

    /// Begins an attempt that continues an interrupted job (`recover`).
    pub(crate) fn begin_recovery(&mut self) {
        self.recovered_from = self.reason;
        self.begin_attempt();
        if self.recovered_from == Some(Reason::WakeupMissed) {
            // The job may have reached its own time limit while it waited.
            self.earlier.untimed_ms = self.earlier.elapsed_ms;
        }
    }

    /// Begins an attempt with another message (`resume`): in the session if there is one, else with
    /// the prompt. Limits and failures belong to the earlier work.
    pub(crate) fn begin_resumption(&mut self) {
        let continues = self.has_session();
        if !continues {
            self.recovered_from = self.reason;
        }
        self.begin_attempt();
        self.resumed = continues;
        self.last_failure = None;
        self.released = None;
        self.denied = 0;
        self.earlier.denied = 0;
        self.earlier.untimed_ms = self.earlier.elapsed_ms;
    }

    /// Whether claude has begun a session, which another attempt can continue.
    pub(crate) fn has_session(&self) -> bool {
        self.session_began && self.session_id.is_some()
    }
}
