//! Finds the jobs that a caller selects by what they have in common.

use super::Call;
use super::host_takeover::take_over;
use super::naming::{Action, no_job_given};
use super::observe::try_load_checked;
use crate::arguments::{FilterArgs, SelectorArgs};
use crate::error::Error;
use crate::job::{Filter, JobId, Status, Timestamp};
use crate::store::Store;

/// The jobs among which a verb selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Among {
    Every,
    Live,
    Ended,
    /// Jobs that have failed or were killed.
    Unsuccessful,
    /// Jobs that may have been interrupted: live and failed ones, and those whose notifications may
    /// have been interrupted.
    Interrupted,
    /// Every job as it is recorded: the verdict of a lost job is not written.
    Recorded,
    /// Jobs that are recorded as live. A lost job is one of them, and its verdict is not written.
    RecordedLive,
}

impl Among {
    fn includes(self, status: Status) -> bool {
        match self {
            Self::Every | Self::Recorded => true,
            Self::Live | Self::RecordedLive => status.is_live(),
            Self::Ended => !status.is_live(),
            Self::Unsuccessful => matches!(status, Status::Failed | Status::Killed),
            Self::Interrupted => status.is_live() || status == Status::Failed,
        }
    }

    /// Whether jobs are compared as they are recorded, without a check of their workers.
    fn is_of_records(self) -> bool {
        matches!(self, Self::Recorded | Self::RecordedLive)
    }
}

/// The jobs that a call names or selects.
#[derive(Debug)]
pub(super) struct Selected {
    /// In the order of the call; the latest start first if they were selected.
    pub ids: Vec<JobId>,
    /// They were selected, not named.
    pub is_selection: bool,
}

impl Selected {
    pub(super) fn one(id: JobId) -> Self {
        Self { ids: vec![id], is_selection: false }
    }

    /// Whether the call asks for several jobs, by a selection or by different ids: its answer is an
    /// array, whatever matches.
    pub(super) fn is_several(&self) -> bool {
        self.is_selection || self.ids.len() > 1
    }

    /// Refuses a call that names no job and selects none.
    pub(super) fn required(self) -> Result<Self, Error> {
        if self.ids.is_empty() && !self.is_selection {
            return Err(no_job_given());
        }
        Ok(self)
    }
}

impl Call {
    /// Returns the jobs that the arguments name, or else those that they select; none if they do
    /// neither. With `all`, every one of these jobs is selected unless the arguments say more.
    pub(super) fn select(
        &self,
        store: &Store,
        targets: SelectorArgs,
        all: bool,
        among: Among,
    ) -> Result<Selected, Error> {
        self.select_to(None, store, targets, all, among)
    }

    /// Like [`select`](Self::select), and asks before it completes a name.
    pub(super) fn select_to(
        &self,
        action: Option<Action>,
        store: &Store,
        targets: SelectorArgs,
        all: bool,
        among: Among,
    ) -> Result<Selected, Error> {
        if !all && targets.filter.is_empty() {
            let ids = self.named_jobs(action, store, &targets)?;
            return Ok(Selected { ids, is_selection: false });
        }
        if all && targets.has_ids() {
            return Err(Error::Usage("ids and --all exclude each other".to_owned()));
        }
        targets.check_exclusive()?;
        let ids = matching(store, &targets.filter.into_filter(), among)?;
        Ok(Selected { ids, is_selection: true })
    }

    /// Like [`select`](Self::select), for verbs that show jobs: the last job if nothing is given,
    /// and an error if no job matches. With `all` there may be none.
    pub(super) fn select_some(
        &self,
        store: &Store,
        targets: SelectorArgs,
        all: bool,
        among: Among,
    ) -> Result<Selected, Error> {
        if !all && !targets.has_ids() && targets.filter.is_empty() {
            return Ok(Selected::one(self.last_job(store)?));
        }
        let filter = targets.filter.clone().into_filter();
        let selected = self.select(store, targets, all, among)?;
        if selected.ids.is_empty() && !all {
            return Err(Error::NoMatch(filter.options()));
        }
        Ok(selected)
    }
}

/// Takes over the live jobs of other machines among these; if there are none, among the jobs with
/// these properties. A status does not count, because it may change.
pub(super) fn take_over_selected(
    store: &Store,
    ids: &[JobId],
    filter: &FilterArgs,
) -> Result<(), Error> {
    if !ids.is_empty() {
        return take_over(store, ids);
    }
    let filter = Filter { statuses: Vec::new(), ..filter.clone().into_filter() };
    take_over(store, &matching(store, &filter, Among::Recorded)?)
}

/// Returns the matching jobs, the latest start first.
fn matching(store: &Store, filter: &Filter, among: Among) -> Result<Vec<JobId>, Error> {
    let mut found = Vec::new();
    let (summaries, jobs) = store.summaries()?;
    for job in jobs {
        let Some(ended) = &job.ended else {
            if let Some(started_at) = match_record(store, &job.id, filter, among) {
                found.push((started_at, job.id));
            }
            continue;
        };
        let may_notify = among == Among::Interrupted && ended.has_recipients;
        let is_candidate = (among.includes(ended.status) || may_notify)
            && filter.matches_times(Some(ended.status), ended.started_at);
        // The summary is decoded only if it is needed.
        let is_selected = is_candidate
            && (filter.has_only_times()
                || summaries.get_or_load(store, &job).is_some_and(|it| filter.matches(&it)));
        if is_selected {
            found.push((ended.started_at, job.id));
        }
    }
    found.sort_unstable_by(|a, b| b.cmp(a));
    Ok(found.into_iter().map(|(_, id)| id).collect())
}

/// Returns the start of a job if its record matches.
fn match_record(
    store: &Store,
    id: &JobId,
    filter: &Filter,
    among: Among,
) -> Option<Option<Timestamp>> {
    let loaded = if among.is_of_records() {
        store.job(id).load()
    } else {
        try_load_checked(store, id).map(|observed| observed.record)
    };
    let Ok(record) = loaded else {
        // Nothing is known of the job but that it runs.
        let may_run = among.includes(Status::Running) && filter.is_empty();
        let is_live = may_run && store.job(id).has_worker().unwrap_or(false);
        return if is_live { Some(None) } else { None };
    };
    if among.includes(record.status) && filter.matches_record(&record) {
        Some(record.times.started_at)
    } else {
        None
    }
}
