//! Results that `wait` has read before all its jobs have ended.

use std::collections::BTreeMap;

use super::{Waited, exit_status};
use crate::commands::engine_jobs::{Ask, may_restart};
use crate::commands::observe::observe;
use crate::commands::result::{ResultAnswer, result_within};
use crate::commands::status::status_view;
use crate::error::{Error, ExitStatus};
use crate::fault_point::fault_point;
use crate::job::{JobId, Status};
use crate::store::Store;

/// If there are fewer characters for each job, only its most important fields are shown.
const MIN_RESULT_CHARS: usize = 600;

/// Results of jobs that ended while others are live: such a job may be removed before the answer.
pub(super) struct FinishedResults {
    results: BTreeMap<JobId, ResultAnswer>,
    /// Maximum number of characters of the answer.
    pub(super) bound: Option<usize>,
    /// Maximum number of characters of each result.
    pub(super) max_chars: usize,
    /// A named job does not exist or cannot be read: the others were not waited for.
    pub(super) has_unknown: bool,
    /// How engines are asked about live jobs.
    ask: Ask,
}

impl FinishedResults {
    /// Results of so many jobs in an answer of at most `bound` characters.
    pub(super) fn within(bound: Option<usize>, number: usize) -> Self {
        let max_chars = bound.map_or(usize::MAX, |bound| (bound / number.max(1)).saturating_sub(2));
        let ask = Ask::about(number);
        Self { results: BTreeMap::new(), bound, max_chars, has_unknown: false, ask }
    }

    pub(super) fn is_short(&self) -> bool {
        self.max_chars < MIN_RESULT_CHARS
    }

    /// Returns the job's result. For a short answer it is shortened later.
    fn result(&self, store: &Store, id: &JobId) -> Result<ResultAnswer, Error> {
        let max = if self.is_short() { self.bound } else { Some(self.max_chars) };
        result_within(store, id, max)
    }

    pub(super) fn keep(&mut self, store: &Store, id: &JobId) {
        if let Ok(result) = self.result(store, id) {
            self.results.insert(id.clone(), result);
        }
        fault_point("wait:kept");
    }

    /// Returns the job's present state, or its earlier result if it has been removed, with the exit
    /// status for it.
    pub(super) fn answer(
        &mut self,
        store: &Store,
        id: &JobId,
    ) -> Result<(ExitStatus, Waited), Error> {
        let result = match self.present_state(store, id) {
            Ok(Waited::Ended(result)) => result,
            Ok(Waited::Live(view)) if view.status == Status::Blocked => {
                return Ok((ExitStatus::Blocked, Waited::Live(view)));
            }
            Ok(live) => return Ok((ExitStatus::TimedOut, live)),
            Err(error) => self.results.remove(id).ok_or(error)?,
        };
        Ok((exit_status(&result), Waited::Ended(result)))
    }

    fn present_state(&self, store: &Store, id: &JobId) -> Result<Waited, Error> {
        let observed = observe(store, id)?;
        let record = &observed.record;
        let mut warnings = Vec::new();
        if record.status.is_live() || may_restart(record) {
            let view = status_view(store, record, self.ask);
            if view.status.is_live() {
                return Ok(Waited::Live(Box::new(view)));
            }
            warnings = view.warnings;
        }
        let mut result = self.result(store, id)?;
        if let ResultAnswer::Ended(ended) = &mut result {
            warnings.retain(|warning| !ended.outcome.warnings.contains(warning));
            ended.outcome.warnings.extend(warnings);
        }
        Ok(Waited::Ended(result))
    }
}
