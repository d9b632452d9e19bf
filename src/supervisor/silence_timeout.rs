//! Silence: how long nothing may be heard of claude.

use std::time::Duration;

use super::{Effect, Now, StopReason, Supervisor, WorkerPhase};
use crate::job::{EventKind, milliseconds};

impl Supervisor {
    /// How long nothing may be heard now; `None` if there is no bound: while a tool or background
    /// work runs there is one only where `--tool-timeout` sets it.
    fn silence_bound(&self) -> Option<Duration> {
        let spec = &self.record.spec;
        let stall = spec.stall_timeout_ms.unwrap_or_default();
        let bound = match (self.digest.is_at_work(), spec.tool_timeout_ms) {
            (false, _) => stall,
            (true, 0) => 0,
            (true, tool) => tool.max(stall),
        };
        if bound == 0 { None } else { Some(Duration::from_millis(bound)) }
    }

    pub(super) fn silence_allowed(&self) -> Duration {
        self.silence_bound().unwrap_or_default()
    }

    /// When the silence is to be told or ended, on the monotonic clock.
    pub(super) fn silence(&self) -> Option<Duration> {
        let allowed = self.silence_bound()?;
        let can_stall = match self.phase {
            WorkerPhase::Working | WorkerPhase::FollowUp { .. } => true,
            WorkerPhase::Holding { .. } => self.digest.outstanding() > 0,
            WorkerPhase::Closing { .. } => self.digest.turn_open || self.digest.follow_up_due,
            _ => false,
        };
        // Whoever waits for an answer, or for a limit of the API, has a reason to be silent.
        if !can_stall || self.stop_reason.is_some() || self.digest.blocked().is_some() {
            return None;
        }
        let from = self.heard.saturating_add(self.digest.retry_in);
        Some(from.saturating_add(if self.silence_told { allowed } else { allowed / 2 }))
    }

    /// Something was heard, or claude was given something to do: it is silent from now on.
    pub(super) fn silence_started(&mut self, now: Now) {
        self.heard = now.mono;
        self.silence_told = false;
    }

    pub(super) fn check_silence(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.silence().is_none_or(|at| at > now.mono) {
            return;
        }
        if self.silence_told {
            self.stalled_for = Some(self.silence_allowed());
            self.log(EventKind::Stalled, now, effects);
            self.stop(StopReason::Stall, now, effects);
            return;
        }
        self.silence_told = true;
        let silent = now.mono.saturating_sub(self.heard);
        let silent = Duration::from_secs(silent.as_secs().max(1));
        let allowed = humantime::format_duration(self.silence_allowed());
        self.record.warn(format!(
            "nothing was heard of claude for {}; after {allowed} it is ended",
            humantime::format_duration(silent)
        ));
        let for_ms = milliseconds(silent);
        self.log(EventKind::Silent { for_ms }, now, effects);
        self.save(now, effects);
    }
}
