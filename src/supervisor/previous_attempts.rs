//! Results of earlier attempts, besides the sums in the record.

use serde_json::Value;

use super::{AttemptState, Supervisor};
use crate::job::{Outcome, PreviousResult, Status};
use crate::stream::{Digest, FinalAnswer};

/// Number of denials of earlier attempts that are kept.
const MAX_DENIALS: usize = 100;

/// Results of earlier attempts. Another attempt is the same job, so its result covers all of them.
#[derive(Debug, Default)]
pub(super) struct PreviousAttempts {
    /// The last answer of any of their turns.
    pub(super) answer: Option<FinalAnswer>,
    /// Whether this worker received that answer. An answer from a file does not count for a
    /// verdict.
    pub(super) is_from_this_worker: bool,
    /// The result before the job was resumed.
    pub(super) previous: Option<PreviousResult>,
    /// The last text of the agent after that answer.
    pub(super) said: Option<FinalAnswer>,
    /// The structured output of their last result.
    pub(super) structured_output: Option<Value>,
    /// The first denied tool calls.
    pub(super) denials: Vec<Value>,
    /// Sum over their turns; `None` if no turn has ended.
    pub(super) duration_ms: Option<u64>,
}

impl Supervisor {
    /// Continues from the outcome of an earlier attempt of another worker. A resumed job has a new
    /// task: only the time is added up.
    pub(crate) fn continue_from(&mut self, outcome: Outcome) {
        if outcome.attempt >= self.record.attempt.number {
            return;
        }
        self.previous.duration_ms = outcome.duration_ms;
        if self.record.attempt.resumed {
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
        self.previous.denials.truncate(MAX_DENIALS);
    }

    /// Returns the kept denials of all attempts.
    pub(super) fn denials(&self) -> impl Iterator<Item = &Value> {
        self.previous.denials.iter().chain(&self.digest.denials).chain(self.digest.open_denials())
    }

    /// Whether the last external message has an answer that does not come from a file.
    pub(super) fn has_answer(&self) -> bool {
        let before = !self.digest.has_new_request && self.previous.is_from_this_worker;
        self.digest.answer.is_some() || (before && self.previous.answer.is_some())
    }

    /// Returns the answer to show; `true` if it is only text before a failure.
    pub(super) fn answer_shown(&self) -> (Option<FinalAnswer>, bool) {
        let (digest, previous) = (&self.digest, &self.previous);
        let before = if digest.has_new_request {
            (None, None)
        } else {
            (previous.said.clone(), previous.answer.clone())
        };
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

    /// Archives the results of the present attempt. `next` is the digest with which the next
    /// attempt begins.
    pub(super) fn archive_attempt(&mut self, next: Digest) {
        let (previous, digest) = (&mut self.previous, &mut self.digest);
        if digest.has_new_request {
            previous.answer = None;
            previous.said = None;
        }
        if let Some(answer) = digest.answer.take() {
            previous.answer = Some(answer);
            previous.is_from_this_worker = true;
            previous.said = None;
        }
        previous.said = digest.said().or(previous.said.take());
        self.retries.login_accepted |= digest.answered;
        if digest.has_new_request {
            previous.structured_output = None;
        }
        previous.structured_output =
            digest.structured_output.take().or(previous.structured_output.take());
        if digest.last.is_some() {
            let sum = previous.duration_ms.unwrap_or_default().saturating_add(digest.duration_ms);
            previous.duration_ms = Some(sum);
        }
        let left = MAX_DENIALS.saturating_sub(previous.denials.len());
        previous.denials.extend(digest.denials.drain(..).take(left));
        self.digest = next;
        self.attempt = AttemptState::beginning_at(self.now.mono);
    }
}
