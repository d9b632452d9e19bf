//! Writes to the event log and to the record.

use std::time::Duration;

use super::{Effect, SAVE_INTERVAL, Supervisor, WorkerPhase};
use crate::job::{EventKind, EventLine};
use crate::text::sum_usd;

/// What was written to the event log and to the record.
#[derive(Debug, Default)]
pub(super) struct Recording {
    /// Whether `events.ndjson` has the start of this worker.
    pub(super) is_start_logged: bool,
    /// Whether the record has changed since it was saved.
    pub(super) is_unsaved: bool,
    /// When it was saved, on the monotonic clock.
    pub(super) saved_at: Option<Duration>,
}

impl Supervisor {
    pub(super) fn log(&mut self, event: EventKind) {
        self.record.last_seq += 1;
        self.effects.push(Effect::Log(EventLine {
            seq: self.record.last_seq,
            at: self.now.wall,
            attempt: self.record.attempt.number,
            kind: event,
        }));
    }

    pub(super) fn save(&mut self) {
        // After the end the record describes the end, not the last event.
        if self.phase != WorkerPhase::Over {
            self.follow_digest();
        }
        self.recording.is_unsaved = false;
        self.recording.saved_at = Some(self.now.mono);
        self.effects.push(Effect::Save);
    }

    /// Returns when the record is to be saved, on the monotonic clock; `None` if it is.
    pub(super) fn save_at(&self) -> Option<Duration> {
        if !self.recording.is_unsaved || self.phase.is_over() {
            return None;
        }
        match self.recording.saved_at {
            // The clock stands still.
            _ if self.freeze.is_frozen() => Some(Duration::ZERO),
            Some(at) => Some(at + SAVE_INTERVAL),
            None => Some(Duration::ZERO),
        }
    }

    pub(super) fn save_if_due(&mut self) {
        if self.save_at().is_some_and(|at| at <= self.now.mono) {
            self.save();
        }
    }

    /// Updates the record from the digest.
    pub(super) fn follow_digest(&mut self) {
        let (digest, record) = (&self.digest, &mut self.record);
        if digest.session_id.is_some() {
            record.session.id.clone_from(&digest.session_id);
        }
        if digest.model.is_some() {
            record.model.clone_from(&digest.model);
        }
        record.session.began |= digest.began;
        record.progress.denied =
            record.attempt.earlier.denied.saturating_add(digest.denials.len() as u64);
        record.progress.num_turns = record.attempt.earlier.turns + digest.num_turns();
        record.cost.usd = sum_usd([record.attempt.earlier.cost_usd, digest.spent_usd]);
        // The wait before the first attempt is not part of the elapsed time.
        let began = if self.has_launched { self.attempt.started } else { self.now.mono };
        let took = self.now.mono.saturating_sub(began);
        record.times.counted_since =
            if self.has_launched { Some(self.now.wall.before(took)) } else { None };
        let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX / 2);
        record.times.elapsed_ms = Some(record.attempt.earlier.elapsed_ms + took);
        record.limit.rate_limited = digest.is_rate_limited();
        record.limit.retry_at = digest.retry_at;
        record.times.last_event_at = digest.last_event_at.or(record.times.last_event_at);
        record.activity = digest.activity();
        if digest.answered
            && record.progress.released.as_ref().is_some_and(|it| it.response.is_some())
        {
            record.progress.released = None;
        }
        record.blocked = digest.blocked().or(record.released_question().cloned());
        let waiting_for = self.waiting_for();
        if waiting_for.is_some() {
            self.record.activity = None;
        }
        self.record.waiting_for = waiting_for;
    }

    /// Records that `output.log` lacks some of what claude wrote in this attempt.
    pub(super) fn log_incomplete(&mut self) {
        self.record.attempt.log_incomplete = true;
        self.recording.is_unsaved = true;
    }

    /// Records that another program has removed or truncated the log, which has this length now.
    pub(super) fn log_damaged(&mut self, file: &str, what: &str, length: u64) {
        self.record.attempt.log_start = self.record.attempt.log_start.min(length);
        self.log_incomplete();
        self.record.warn(format!("{file} {what}"));
        self.log(EventKind::Damaged { file: file.to_owned(), what: what.to_owned() });
    }

    pub(super) fn write_failed(&mut self, file: &str, error: String) {
        self.record.warn(format!("{file} is incomplete: {error}"));
        self.log(EventKind::WriteFailed { file: file.to_owned(), error });
        self.recording.is_unsaved = true;
    }

    /// Ends the present attempt in the record and begins the next.
    pub(super) fn next_attempt(&mut self) {
        self.follow_digest();
        self.note_unknown_cost();
        self.record.begin_attempt();
    }

    /// Marks the cost as a lower bound if requests may be missing from all results.
    pub(super) fn note_unknown_cost(&mut self) {
        let has_gap =
            self.digest.began && (self.attempt.torn || self.record.attempt.log_incomplete);
        if self.digest.cost_is_lower_bound() || has_gap {
            self.record.cost.is_lower_bound = true;
            let attempt = self.record.attempt.number;
            self.record.warn(format!(
                "the cost is a lower bound: attempt {attempt} ended without a result of its last \
                 requests"
            ));
        }
    }
}
