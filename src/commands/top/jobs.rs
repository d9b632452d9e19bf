//! The jobs of the directory, which are watched for changes.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use crate::commands::engine_jobs::Ask;
use crate::commands::observe::{Observed, load, observe_loaded};
use crate::commands::status::{QueueView, status_view_in_queue};
use crate::commands::watch::Watch;
use crate::error::Error;
use crate::job::{JobId, Record, Status, StatusView, Summary};
use crate::output::{activity_text, failure, local_time};
use crate::queue::{PauseScope, Queue};
use crate::screen::top::{JobPlace, QueueState, TopJob, TopModel};
use crate::store::{Listed, LoadError, OUTPUT, RECORD, Store};
use crate::text::clip;

use super::slow_jobs::{SlowJobs, Slowness};

/// Longest text of a job in the list.
const MAX_TEXT_CHARS: usize = 400;

/// The watched jobs.
pub(super) struct WatchedJobs<'a> {
    store: &'a Store,
    pub watch: Watch,
    queue: Queue,
    /// The directories of the queue that are not watched yet, because they do not exist.
    unwatched: Vec<PathBuf>,
    /// Each job that was watched, by its index in the watch.
    ids: Vec<JobId>,
    indices: HashMap<JobId, usize>,
    /// The job whose conversation is shown.
    chosen: Option<JobId>,
    lost: SlowJobs,
    on_engines: SlowJobs,
}

/// What loads of several jobs share.
struct Loading<'m> {
    queue: OnceCell<QueueView>,
    model: &'m TopModel,
    /// The jobs of the model.
    shown: OnceCell<HashMap<&'m JobId, &'m TopJob>>,
}

impl<'m> Loading<'m> {
    fn new(model: &'m TopModel) -> Self {
        Self { queue: OnceCell::new(), model, shown: OnceCell::new() }
    }

    fn shown(&self, id: &JobId) -> Option<&'m TopJob> {
        let by_id = || self.model.jobs().map(|job| (&job.id, job)).collect();
        self.shown.get_or_init(by_id).get(id).copied()
    }
}

impl<'a> WatchedJobs<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        let queue = Queue::for_jobs_dir(store.root());
        let watch = Watch::new();
        let unwatched = queue.directories();
        let (lost, on_engines) = (SlowJobs::default(), SlowJobs::default());
        let (ids, indices, chosen) = (Vec::new(), HashMap::new(), None);
        Self { store, watch, queue, unwatched, ids, indices, chosen, lost, on_engines }
    }

    /// Returns the job with this index in the watch.
    pub(super) fn id(&self, index: usize) -> Option<&JobId> {
        self.ids.get(index)
    }

    fn index(&mut self, id: &JobId) -> usize {
        if let Some(index) = self.indices.get(id) {
            return *index;
        }
        let index = self.ids.len();
        self.ids.push(id.clone());
        self.indices.insert(id.clone(), index);
        index
    }

    /// Watches the log of this job, and of no other.
    pub(super) fn choose(&mut self, id: &JobId) {
        if let Some(before) = self.chosen.replace(id.clone())
            && before != *id
        {
            let index = self.index(&before);
            self.watch.remove_files(index);
            // A live job is watched again for changes of its record when it is loaded.
            if self.store.job(&before).may_live() {
                self.watch.add_files(index, &self.store.job(&before), &[RECORD]);
            }
        }
        let index = self.index(id);
        self.watch.remove_files(index);
        self.watch.add_files(index, &self.store.job(id), &[OUTPUT, RECORD]);
    }

    /// Returns the jobs of this kind whose state takes time.
    pub(super) fn slow(&mut self, why: Slowness) -> &mut SlowJobs {
        match why {
            Slowness::Lost => &mut self.lost,
            Slowness::OnEngine => &mut self.on_engines,
        }
    }

    fn remove_slow(&mut self, id: &JobId) {
        self.lost.remove(id);
        self.on_engines.remove(id);
    }

    /// Watches a removed job no longer.
    pub(super) fn forget(&mut self, id: &JobId) {
        self.remove_slow(id);
        if let Some(index) = self.indices.remove(id) {
            self.watch.remove_files(index);
        }
    }

    /// Watches the jobs directory, which may have been created or replaced.
    fn watch_root(&mut self) {
        self.watch.add_root_and_removals(self.store.root());
        self.unwatched = self.queue.directories();
        self.watch_queue();
    }

    /// Loads all jobs. The record of an ended one is not read if its summary is known.
    pub(super) fn load_all(&mut self, model: &TopModel) -> Result<Vec<TopJob>, Error> {
        self.watch_root();
        let (summaries, listed) = self.store.summaries()?;
        let loading = Loading::new(model);
        let mut jobs = Vec::with_capacity(listed.len());
        for Listed { id, ended, .. } in listed {
            let summary = ended.and_then(|ended| summaries.get(&ended));
            match summary {
                Some(summary) => jobs.push(from_summary(summary)),
                None => jobs.extend(self.load_one(&id, &loading)),
            }
        }
        Ok(jobs)
    }

    /// Loads these jobs. Returns those that exist, and the ids of the others.
    pub(super) fn load(
        &mut self,
        ids: &BTreeSet<JobId>,
        model: &TopModel,
    ) -> (Vec<TopJob>, Vec<JobId>) {
        self.watch_queue();
        let loading = Loading::new(model);
        let (mut found, mut gone) = (Vec::new(), Vec::new());
        for id in ids {
            match self.load_one(id, &loading) {
                Some(job) => found.push(job),
                None => gone.push(id.clone()),
            }
        }
        (found, gone)
    }

    /// Loads a job. One whose state takes time to find out is shown by its record until then.
    fn load_one(&mut self, id: &JobId, loading: &Loading<'_>) -> Option<TopJob> {
        // Watched first, so that no change is missed.
        let dir = self.store.job(id);
        let index = self.indices.get(id).copied();
        let is_chosen = self.chosen.as_ref() == Some(id);
        if index.is_none_or(|index| !self.watch.awaits_end(index)) && dir.may_live() {
            let index = self.index(id);
            if !is_chosen {
                self.watch.add_files(index, &dir, &[RECORD]);
            }
            self.watch.add_end(index, &dir);
        }
        match load(self.store, id) {
            Ok((dir, record)) => {
                if let Some(why) = Slowness::of(&dir, &record) {
                    self.slow(why).add(id);
                    return Some(from_slow(record, loading.shown(id)));
                }
                self.remove_slow(id);
                let Observed { record, live, .. } = observe_loaded(dir, record);
                if let (false, false, Some(index)) = (live, is_chosen, index) {
                    self.watch.remove_files(index);
                }
                let view = status_view_in_queue(self.store, &record, &loading.queue, Ask::Many);
                Some(from_record(record, view))
            }
            Err(LoadError::NotFound(_)) => None,
            Err(error) => {
                let text = Some(clip(&error.to_string(), MAX_TEXT_CHARS));
                Some(TopJob { text, ..TopJob::blank(id.clone(), None) })
            }
        }
    }

    /// Watches the queue as soon as it exists.
    fn watch_queue(&mut self) {
        let watch = &mut self.watch;
        self.unwatched.retain(|path| !watch.add_directory(path));
    }

    /// Returns the jobs of the queue that the list does not show as live: they were resumed.
    pub(super) fn resumed(&self, model: &TopModel) -> Vec<JobId> {
        let mut tickets = self.queue.running_tickets();
        tickets.extend(self.queue.waiting_tickets().0);
        tickets.retain(|ticket| !model.is_live(&ticket.job_id));
        tickets.into_iter().map(|ticket| ticket.job_id).collect()
    }

    /// Returns what the header says about the queue.
    pub(super) fn queue_state(&self) -> QueueState {
        let running = self.queue.running_tickets();
        let (waiting, limits) = self.queue.waiting_tickets();
        let mut max_slots = None;
        for ticket in running.iter().chain(&waiting) {
            if let slots @ 1.. = ticket.options.max_parallel as usize {
                max_slots = max_slots.max(Some(slots));
            }
        }
        let mut ends = Vec::new();
        for limit in limits {
            if let Some(until) = limit.ends_at() {
                ends.push((until, local_time(until)));
            }
        }
        // One limit has several names.
        ends.sort();
        ends.dedup_by(|a, b| a.1 == b.1);
        let slots = running.len();
        let mut state = QueueState { slots, max_slots, limits: ends, ..QueueState::default() };
        for pause in self.queue.paused().pauses() {
            match pause {
                PauseScope::All => state.paused.push("the queue".to_owned()),
                PauseScope::Group(group) => state.paused.push(format!("group {group}")),
                PauseScope::Job(id) => drop(state.paused_jobs.insert(id)),
            }
        }
        state
    }

    /// Returns the visible jobs with the beginnings of their answers, if these are not known yet.
    pub(super) fn answers(&self, model: &TopModel) -> Vec<TopJob> {
        let mut answered = Vec::new();
        for job in model.visible_jobs() {
            let has_answer = matches!(job.status, Some(Status::Completed | Status::Idle));
            if has_answer && job.text.is_none() {
                let text = self.store.job(&job.id).first_line_of_answer().unwrap_or_default();
                answered.push(TopJob { text: Some(text), ..job.clone() });
            }
        }
        answered
    }
}

/// Shows a job whose state is not known yet. What is `shown` stays where only an engine knows whether a
/// job has started, or is started again.
fn from_slow(record: Record, shown: Option<&TopJob>) -> TopJob {
    let status = record.status;
    if let Some(job) = shown
        && (job.status == Some(Status::Queued)
            || !status.is_live()
            || (status == Status::Queued && job.is_live()))
    {
        return job.clone();
    }
    let view = StatusView::from_record(&record);
    from_record(record, view)
}

pub(super) fn from_record(record: Record, view: StatusView) -> TopJob {
    let text = match (&view.error, &view.activity) {
        (Some(error), _) => Some(failure(view.reason, error)),
        (None, Some(activity)) if view.status != Status::Idle && view.status.is_live() => {
            Some(activity_text(activity))
        }
        (None, _) if matches!(view.status, Status::Completed | Status::Idle) => None,
        _ => Some(String::new()),
    };
    TopJob {
        id: view.job_id,
        status: Some(view.status),
        blocked: record.blocked,
        waiting_for: view.waiting_for,
        text: text.map(|text| clip(&text, MAX_TEXT_CHARS)),
        prompt: view.prompt,
        started_at: view.started_at,
        last_event_at: view.last_event_at,
        ended_at: view.ended_at,
        work_time: view.work_time,
        position: view.position,
        cost_usd: view.cost_usd,
        cost_is_lower_bound: view.cost_is_lower_bound,
        place: JobPlace {
            folder: view.cwd,
            group: view.group,
            model: view.model,
            labels: labels(&view.labels),
        },
    }
}

/// Shows an ended job. It stays ended, so its lock need not be checked.
fn from_summary(summary: Summary) -> TopJob {
    let work_time = summary.work_time();
    let text = match (summary.status, &summary.error) {
        (_, Some(error)) => Some(failure(summary.reason, error)),
        (Status::Completed, None) => None,
        _ => Some(String::new()),
    };
    TopJob {
        text: text.map(|text| clip(&text, MAX_TEXT_CHARS)),
        prompt: summary.prompt,
        started_at: summary.started_at,
        ended_at: summary.ended_at,
        work_time,
        cost_usd: summary.cost_usd,
        cost_is_lower_bound: summary.cost_is_lower_bound,
        place: JobPlace {
            folder: String::new(),
            group: summary.spec.admission.group,
            model: summary.model,
            labels: labels(&summary.spec.labels),
        },
        ..TopJob::blank(summary.job_id, Some(summary.status))
    }
}

fn labels(labels: &BTreeMap<String, String>) -> Vec<String> {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect()
}
