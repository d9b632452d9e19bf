//! How long claude may be silent.

use std::time::Duration;

use super::{StopReason, Supervisor, WorkerPhase};
use crate::job::{EventKind, milliseconds};

/// The present silence of claude.
#[derive(Debug)]
pub(super) struct Silence {
    /// When claude last wrote something or got input, on the monotonic clock.
    pub(super) since: Duration,
    pub(super) is_reported: bool,
}

impl Silence {
    pub(super) fn beginning_at(since: Duration) -> Self {
        Self { since, is_reported: false }
    }
}

impl Supervisor {
    /// Returns how long claude may be silent now; `None` for no limit. While a tool or background
    /// work runs, only `--tool-timeout` sets a limit.
    fn silence_bound(&self) -> Option<Duration> {
        let spec = &self.record.spec;
        let stall = spec.limits.stall_timeout_ms.unwrap_or_default();
        let bound = match (self.digest.is_at_work(), spec.limits.tool_timeout_ms) {
            (false, _) => stall,
            (true, 0) => 0,
            (true, tool) => tool.max(stall),
        };
        if bound == 0 { None } else { Some(Duration::from_millis(bound)) }
    }

    pub(super) fn silence_allowed(&self) -> Duration {
        self.silence_bound().unwrap_or_default()
    }

    /// Returns when the silence is to be reported or ended, on the monotonic clock.
    pub(super) fn silence(&self) -> Option<Duration> {
        let allowed = self.silence_bound()?;
        let can_stall = match self.phase {
            WorkerPhase::Working | WorkerPhase::FollowUp { .. } => true,
            WorkerPhase::Holding { .. } => self.digest.outstanding() > 0,
            WorkerPhase::Closing { .. } => {
                self.digest.is_turn_open() || self.digest.is_follow_up_due()
            }
            _ => false,
        };
        // Claude has a reason to be silent while it waits for an answer.
        if !can_stall || self.stop.reason.is_some() || self.digest.blocked().is_some() {
            return None;
        }
        let from = self.silence.since.saturating_add(self.digest.retry_in);
        Some(from.saturating_add(if self.silence.is_reported { allowed } else { allowed / 2 }))
    }

    /// Restarts the measurement of silence: claude wrote something or got input.
    pub(super) fn silence_started(&mut self) {
        self.silence = Silence::beginning_at(self.now.mono);
    }

    pub(super) fn check_silence(&mut self) {
        if self.silence().is_none_or(|at| at > self.now.mono) {
            return;
        }
        if self.silence.is_reported {
            self.log(EventKind::Stalled);
            self.stop(StopReason::Stall { limit: self.silence_allowed() });
            return;
        }
        self.silence.is_reported = true;
        let silent = self.now.mono.saturating_sub(self.silence.since);
        let silent = Duration::from_secs(silent.as_secs().max(1));
        let allowed = humantime::format_duration(self.silence_allowed());
        self.record.warn(format!(
            "claude has been silent for {}; after {allowed} it is stopped",
            humantime::format_duration(silent)
        ));
        let for_ms = milliseconds(silent);
        self.log(EventKind::Silent { for_ms });
        self.save();
    }
}
