//! What a job waits for, between and within turns.

use std::time::Duration;

use super::{Supervisor, WorkerPhase};
use crate::job::{Timestamp, WaitKind, WaitingFor};
use crate::text::{one_line, plural};

const MAX_TASK_LIST_CHARS: usize = 120;

/// The time without an open turn.
#[derive(Debug, Default)]
pub(super) struct BetweenTurns {
    /// When the last turn ended.
    pub(super) since: Option<Timestamp>,
    /// Since when only recurring cron tasks have kept the job open, on the monotonic clock.
    pub(super) recurring_since: Option<Duration>,
}

impl Supervisor {
    /// Returns why claude is not working now; `None` if it is.
    pub(super) fn waiting_for(&self) -> Option<WaitingFor> {
        if self.freeze.is_frozen() {
            return self.frozen_wait();
        }
        let digest = &self.digest;
        match self.phase {
            WorkerPhase::Backoff { .. } if digest.is_rate_limited() => Some(WaitingFor::new(
                WaitKind::Limit,
                digest.retry_at,
                "the API's limit or overload; then claude is started again",
            )),
            WorkerPhase::Backoff { until, .. } => Some(WaitingFor::new(
                WaitKind::Retry,
                digest.retry_at.or(Some(self.wall(until))),
                "claude is started again",
            )),
            WorkerPhase::Holding { until } => {
                let why = self.outstanding_work();
                Some(WaitingFor::new(WaitKind::Background, Some(self.wall(until)), why))
            }
            WorkerPhase::Awaiting { .. } => Some(WaitingFor::new(
                WaitKind::Wakeup,
                digest.schedule.next_due(),
                "a wake-up or cron task that the agent scheduled",
            )),
            WorkerPhase::Idle { until } => Some(WaitingFor::new(
                WaitKind::Message,
                Some(self.wall(until)),
                "waiting for the next message",
            )),
            WorkerPhase::Closing { until } if !self.digest.is_turn_open() => Some(WaitingFor::new(
                WaitKind::Exit,
                Some(self.wall(until)),
                "claude's input is closed and claude has not ended; then it is terminated",
            )),
            WorkerPhase::Working | WorkerPhase::FollowUp { .. } | WorkerPhase::Closing { .. } => {
                self.waiting_in_turn()
            }
            // The record already has the question.
            WorkerPhase::Released { .. }
            | WorkerPhase::Waiting { .. }
            | WorkerPhase::Starting
            | WorkerPhase::Stopping { .. }
            | WorkerPhase::Sweeping
            | WorkerPhase::Draining { .. }
            | WorkerPhase::Over
            | WorkerPhase::Ending(_) => None,
        }
    }

    /// Describes the background work that claude's input is held open for.
    fn outstanding_work(&self) -> String {
        if self.digest.outstanding() == 0 {
            return "a recurring cron task of the agent".to_owned();
        }
        let count = plural(self.digest.outstanding(), "background task");
        let mut named: Vec<&str> = self.digest.outstanding_tasks().collect();
        named.retain(|task| !task.is_empty());
        if named.is_empty() {
            return count;
        }
        format!("{count}: {}", one_line(&named.join(", "), MAX_TASK_LIST_CHARS))
    }

    fn waiting_in_turn(&self) -> Option<WaitingFor> {
        let digest = &self.digest;
        if digest.blocked().is_some() {
            // The record already has the question.
            return None;
        }
        if digest.is_rate_limited() {
            let why = "the API's limit or overload; claude tries again by itself";
            return Some(WaitingFor::new(WaitKind::Limit, digest.retry_at, why));
        }
        if digest.retry_in.is_zero() {
            return None;
        }
        let until = digest.last_event_at.map(|at| at.after(digest.retry_in));
        let why = "the API has failed; claude tries again by itself";
        Some(WaitingFor::new(WaitKind::Retry, until, why))
    }

    /// Gives up waiting for background work that has not ended in time.
    pub(super) fn background_wait_expired(&mut self) {
        // A job that awaits messages continues, and so does its background work.
        if !self.awaits_messages() {
            let what = match self.digest.outstanding() {
                0 => "a recurring cron task".to_owned(),
                tasks => plural(tasks, "background task"),
            };
            self.record.warn(format!("--background-wait ran out with {what} outstanding"));
        }
        self.await_next();
    }

    /// Gives up waiting for a wake-up that did not come in time.
    pub(super) fn wakeup_expired(&mut self) {
        let rested = self.between_turns.since.unwrap_or(self.now.wall);
        self.digest.schedule.expire(self.now.wall, rested);
        if self.digest.schedule.next_due().is_none() {
            self.digest.schedule.expire_unknown();
        }
        self.await_next();
    }

    /// Returns until when a scheduled wake-up is awaited, on the monotonic clock.
    pub(super) fn wakeup_deadline(&self) -> Duration {
        // A wake-up that is overdue fires when the turn has ended.
        let rested = self.between_turns.since.unwrap_or(self.now.wall);
        let (from, wait) = match self.digest.schedule.next_due() {
            Some(due) => (due.max(rested), crate::stream::WAKEUP_TIMEOUT),
            None => (rested, Duration::from_millis(self.record.spec.limits.background_wait_ms)),
        };
        self.now.mono.saturating_add(from.after(wait).since(self.now.wall))
    }

    /// Converts a time on the monotonic clock to the time of day.
    fn wall(&self, at: Duration) -> Timestamp {
        self.now.wall.after(at.saturating_sub(self.now.mono))
    }
}
