//! What the runs of claude before the present one came to, beside what their record adds up.

use serde_json::Value;

use super::{Now, Supervisor};
use crate::job::{Outcome, PreviousResult, Status};
use crate::stream::{Digest, FinalAnswer};

/// Denials of earlier runs that are kept.
const DENIALS_KEPT: usize = 100;

/// What earlier runs came to: another one is the same job, and its result tells of all of it.
#[derive(Debug, Default)]
pub(super) struct PreviousAttempts {
    /// The last answer that any turn of them gave.
    pub(super) answer: Option<FinalAnswer>,
    /// That answer was given to this worker. One that was read from a file counts for no verdict.
    pub(super) is_of_this_worker: bool,
    /// The answer before the job was resumed.
    pub(super) previous: Option<PreviousResult>,
    /// What the agent said last, after that answer.
    pub(super) said: Option<FinalAnswer>,
    /// What the last result of them held of that kind.
    pub(super) structured_output: Option<Value>,
    /// Tool calls that were denied, the first of them.
    pub(super) denials: Vec<Value>,
    /// Milliseconds of their turns, added up; `None` if none has ended.
    pub(super) duration_ms: Option<u64>,
}

impl Supervisor {
    /// An attempt before this one, of another worker, came to this. Of a job that is resumed, which
    /// is another piece of work, only the time is added up.
    pub fn continue_from(&mut self, outcome: Outcome) {
        if outcome.attempt >= self.record.attempt {
            return;
        }
        self.previous.duration_ms = outcome.duration_ms;
        if self.record.resumed {
            self.previous.previous = outcome.into_previous();
            return;
        }
        self.previous.previous.clone_from(&outcome.previous_result);
        let omitted = outcome.result_omitted_bytes;
        let said = outcome.result.map(|text| FinalAnswer { text, omitted });
        if outcome.partial {
            self.previous.said = said;
        } else {
            self.previous.answer = said;
        }
        self.previous.structured_output = outcome.structured_output;
        self.previous.denials = outcome.permission_denials;
        self.previous.denials.truncate(DENIALS_KEPT);
    }

    /// The tool calls that were denied in all runs, as far as they are kept.
    pub(super) fn denials(&self) -> impl Iterator<Item = &Value> {
        self.previous.denials.iter().chain(&self.digest.denials).chain(self.digest.open_denials())
    }

    /// Whether there is an answer to the last message from outside, other than in a file.
    pub(super) fn has_answer(&self) -> bool {
        let before = !self.digest.asked_anew && self.previous.is_of_this_worker;
        self.digest.answer.is_some() || (before && self.previous.answer.is_some())
    }

    /// The answer to show; `true`: it is only what the agent said before it failed.
    pub(super) fn answer_shown(&self) -> (Option<FinalAnswer>, bool) {
        let (digest, past) = (&self.digest, &self.previous);
        let before =
            if digest.asked_anew { (None, None) } else { (past.said.clone(), past.answer.clone()) };
        let said = digest.said().or(before.0);
        let answer = digest.answer.clone().or(before.1);
        let failed = matches!(self.record.status, Status::Failed | Status::Killed);
        if !failed {
            return (answer, false);
        }
        let shown = said.or(answer);
        let partial = shown.is_some();
        (shown, partial)
    }

    /// The present run of claude is over, and another follows, of which `next` is known by now.
    pub(super) fn archive_attempt(&mut self, next: Digest, now: Now) {
        let (past, digest) = (&mut self.previous, &mut self.digest);
        if digest.asked_anew {
            past.answer = None;
            past.said = None;
        }
        if let Some(answer) = digest.answer.take() {
            past.answer = Some(answer);
            past.is_of_this_worker = true;
            past.said = None;
        }
        past.said = digest.said().or(past.said.take());
        self.login_accepted |= digest.answered;
        if digest.asked_anew {
            past.structured_output = None;
        }
        past.structured_output = digest.structured_output.take().or(past.structured_output.take());
        if digest.last.is_some() {
            let sum = past.duration_ms.unwrap_or_default().saturating_add(digest.duration_ms);
            past.duration_ms = Some(sum);
        }
        let room = DENIALS_KEPT.saturating_sub(past.denials.len());
        past.denials.extend(digest.denials.drain(..).take(room));
        self.digest = next;
        self.started = now.mono;
        self.input_closed = false;
        self.output_closed = false;
        self.torn = false;
    }
}
