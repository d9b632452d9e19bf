//! `clean` and `rm`: remove ended jobs.

mod rm;
mod worktrees;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::Call;
use super::engine_jobs::{Ask, is_live, may_restart};
use super::naming::Action;
use super::observe::observe_unless_loaded;
use super::selecting::take_over_selected;
use super::several::FailedJob;
use crate::arguments::{FORCE_HOST, SelectorArgs, duration};
use crate::clock;
use crate::error::{Error, ExitStatus};
use crate::job::{Filter, JobId, Record, Status, Summary, Timestamp};
use crate::output::{Answer, push_warning};
use crate::queue::Queue;
use crate::store::{JobDir, Listed, Liveness, LoadError, LoadedJob, Store, StoreError, Summaries};
use crate::text::{format_bytes, plural};

pub(crate) use rm::RmArgs;
use worktrees::{KeptWorktree, WorktreeRemoval};

/// Number of ended jobs that are kept by default.
const DEFAULT_KEEP: usize = 50;
/// Maximum number of ids in an answer.
const MAX_NAMED: usize = 50;
/// Maximum number of jobs in the warning of a start.
const MAX_NAMED_AT_START: usize = 5;

/// Arguments of `clean`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  claudejob clean --dry-run\n  claudejob clean --keep 0 --older-than 7d\n  \
    claudejob clean --label project=app\n\n\
    It never removes a job that is live, that a queued job waits for, or that has undelivered \
    notifications (list --undelivered). A job with a worktree is removed together with that and its \
    branch, but only if no work is lost: no changed or untracked file (ignored files are deleted), \
    and every commit in the base of the branch or in its upstream.",
    mut_arg("ids", |arg| arg.help("Consider only these jobs")),
    mut_arg("job_id", |arg| arg.help("Consider only this job (repeatable)"))
)]
pub(crate) struct CleanArgs {
    #[command(flatten)]
    targets: SelectorArgs,
    #[command(flatten)]
    options: CleanOptions,
    /// Treat live jobs of other machines as lost
    #[arg(long, long_help = FORCE_HOST)]
    force_host: bool,
}

/// Which jobs to remove.
#[derive(Debug, Default, Args)]
pub(super) struct CleanOptions {
    /// Keep the N jobs that ended last [default: 50; 0 with a filter]
    #[arg(long, value_name = "N")]
    pub(super) keep: Option<usize>,
    /// Consider only jobs that ended longer ago, such as 7d
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(super) older_than: Option<Duration>,
    /// Show what would be removed, without removing it
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Remove the jobs without their worktrees
    #[arg(long)]
    pub(super) keep_worktree: bool,
    /// A notification that is no longer tried keeps no job.
    #[arg(skip)]
    pub(super) drop_failed_notifications: bool,
    #[arg(skip)]
    pub(super) filter: Filter,
    /// Worktrees are removed until this time only.
    #[arg(skip)]
    pub(super) worktrees_until: Option<Instant>,
}

impl CleanArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let store = call.store()?;
        let mut options = self.options;
        let ids = options.named_jobs(call, &store, &self.targets)?;
        if self.force_host && !options.dry_run {
            take_over_selected(&store, &ids, &self.targets.filter)?;
        }
        options.filter = self.targets.filter.into_filter();
        call.print(&clean(&store, &ids, None, &options)?)
    }
}

impl CleanOptions {
    /// Returns the named jobs. Asks before it completes a name, unless nothing will be removed.
    fn named_jobs(
        &self,
        call: &Call,
        store: &Store,
        targets: &SelectorArgs,
    ) -> Result<Vec<JobId>, Error> {
        let action = if self.dry_run { None } else { Some(Action::Remove) };
        call.named_jobs(action, store, targets)
    }
}

/// The jobs that were removed.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct CleanAnswer {
    /// Number of jobs that were removed, or would be with `dryRun`.
    pub removed: usize,
    /// Bytes of disk space that were freed, or would be with `dryRun`.
    pub freed_bytes: u64,
    /// Nothing was removed (`--dry-run`).
    pub dry_run: bool,
    /// Ids of the first of these jobs.
    pub jobs: Vec<JobId>,
    /// Ids of all of them.
    #[serde(skip)]
    pub all_jobs: Vec<JobId>,
    /// Number of further jobs, which `jobs` leaves out.
    pub omitted: usize,
    /// Number of ended jobs that `--keep` or its default keeps.
    #[serde(skip)]
    pub kept: usize,
    /// Jobs that were selected by id but are kept, and jobs that could not be removed.
    pub left: Vec<FailedJob>,
    /// The first worktrees that stay without their jobs (`--keep-worktree`).
    pub worktrees: Vec<KeptWorktree>,
    /// Problems that did not prevent the removal, and jobs that stay because of their worktrees.
    pub warnings: Vec<String>,
}

impl Answer for CleanAnswer {
    fn text(&self) -> String {
        let (jobs, size) = (plural(self.removed, "job"), format_bytes(self.freed_bytes));
        let mut text = match (self.dry_run, self.removed) {
            (_, 0) if self.kept > 0 && self.left.is_empty() => {
                let kept = plural(self.kept, "ended job");
                format!("Nothing to remove: --keep spares {kept}.\n")
            }
            (_, 0) => "Nothing to remove.\n".to_owned(),
            (false, _) => format!("Removed {jobs}, freed {size}.\n"),
            (true, _) => format!("Would remove {jobs} and free {size}:\n"),
        };
        if self.dry_run {
            for id in &self.jobs {
                let _ = writeln!(text, "  {id}");
            }
            if self.omitted > 0 {
                let _ = writeln!(text, "  … and {} more", self.omitted);
            }
        }
        for KeptWorktree { path, branch, .. } in &self.worktrees {
            let _ = writeln!(text, "  the worktree {path} with the branch {branch} stays");
        }
        text + &self.failures()
    }

    fn ids(&self) -> Option<Vec<JobId>> {
        Some(self.all_jobs.clone())
    }

    fn failures(&self) -> String {
        let mut text = String::new();
        for left in &self.left {
            left.push_to(&mut text);
        }
        for warning in &self.warnings {
            push_warning(&mut text, warning);
        }
        text
    }

    fn exit_status(&self) -> ExitStatus {
        if self.left.is_empty() { ExitStatus::Done } else { ExitStatus::Failed }
    }
}

/// Removes ended jobs, of these `ids` unless there are none. A `spare` job is kept in addition to
/// those that `keep` counts. Jobs that are live, have undelivered notifications, or are awaited by
/// another job are never removed, nor are directories that are not jobs. A job disappears as a
/// whole, and symbolic links in it are not followed. A job that cannot be removed does not prevent
/// the removal of the others, and is an error only if there is nothing else to report.
pub(super) fn clean(
    store: &Store,
    ids: &[JobId],
    spare: Option<&JobId>,
    options: &CleanOptions,
) -> Result<CleanAnswer, Error> {
    let mut choice = RemovalChoice::new(ids, spare, options);
    let chosen = choice.choose(store)?;
    let (dry_run, kept_jobs) = (options.dry_run, choice.kept);
    let mut answer = CleanAnswer { dry_run, kept: kept_jobs, ..CleanAnswer::default() };
    let (mut left, mut failures) = (choice.left, choice.failures);
    if !options.dry_run {
        store.clear_leftovers()?;
    }
    // While this lock is held, no new job can depend on one of them.
    let _removal = if options.dry_run || chosen.is_empty() { None } else { store.lock_removal() };
    let mut others = if chosen.is_empty() { Others::default() } else { Others::find(store)? };
    others.drop_failed_notifications = options.drop_failed_notifications;
    others.worktrees.keeps = options.keep_worktree;
    others.worktrees.until = options.worktrees_until;
    let (mut cost_error, mut with_worktree) = (None, Vec::new());
    for id in chosen {
        let dir = store.job(&id);
        let freed = dir.disk_usage();
        match others.remove(&dir, options.dry_run) {
            Ok(error) => {
                cost_error = cost_error.or(error);
                answer.count(id, freed);
            }
            Err(RemovalError::Refused(error) | RemovalError::HasWorktree(error))
                if !ids.is_empty() =>
            {
                left.push((id, error));
            }
            Err(RemovalError::HasWorktree(error)) => with_worktree.push((id, error)),
            Err(RemovalError::Refused(_)) => {}
            Err(RemovalError::Failed(error)) => failures.push((id, error.into())),
        }
    }
    if answer.removed == 0 && left.is_empty() && !failures.is_empty() {
        return Err(failures.swap_remove(0).1);
    }
    left.extend(failures.into_iter().take(MAX_NAMED));
    for (id, error) in left {
        answer.left.push(FailedJob::new(store, id, &error));
    }
    answer.worktrees = others.worktrees.kept;
    // Each start with CLAUDE_SKILL_KEEP repeats the warning.
    let max_ids = if options.worktrees_until.is_some() { MAX_NAMED_AT_START } else { MAX_NAMED };
    answer.warnings.extend(worktrees::warning(&with_worktree, max_ids));
    if let Some(error) = cost_error {
        answer.warnings.push(format!(
            "the cost of removed jobs stays in .new until it can be recorded: {error}"
        ));
    }
    Ok(answer)
}

/// The choice of the jobs to remove.
struct RemovalChoice<'a> {
    ids: &'a [JobId],
    spare: Option<&'a JobId>,
    keep: usize,
    /// Only jobs that ended before this time.
    before: Option<Timestamp>,
    filter: Filter,
    drop_failed_notifications: bool,
    /// Jobs that can be removed, with their ends.
    ended: Vec<(Option<Timestamp>, JobId)>,
    /// Number of jobs that `keep` spares.
    kept: usize,
    /// Jobs that were selected by id but are kept.
    left: Vec<(JobId, Error)>,
    /// Jobs that were selected by id but cannot be read.
    failures: Vec<(JobId, Error)>,
}

impl<'a> RemovalChoice<'a> {
    fn new(ids: &'a [JobId], spare: Option<&'a JobId>, options: &CleanOptions) -> Self {
        let filter = options.filter.clone();
        let selects = !ids.is_empty() || options.older_than.is_some() || !filter.is_empty();
        Self {
            ids,
            spare,
            keep: options.keep.unwrap_or(if selects { 0 } else { DEFAULT_KEEP }),
            before: options.older_than.map(|age| clock::now().before(age)),
            filter,
            drop_failed_notifications: options.drop_failed_notifications,
            ended: Vec::new(),
            kept: 0,
            left: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Returns the jobs to remove, latest end first.
    fn choose(&mut self, store: &Store) -> Result<Vec<JobId>, Error> {
        if self.ids.is_empty() {
            let (summaries, jobs) = store.summaries_with_records()?;
            for job in jobs {
                if self.spare != Some(&job.id) {
                    self.consider(store, &summaries, job);
                }
            }
        } else {
            for id in self.ids {
                self.consider_record(store, id.clone(), None);
            }
        }
        self.ended.sort_unstable_by(|a, b| b.cmp(a));
        let chosen = self.ended.split_off(self.keep.min(self.ended.len()));
        self.kept = self.ended.len();
        for (_, id) in std::mem::take(&mut self.ended) {
            self.leave(id, kept(format!("kept by --keep {}", self.keep)));
        }
        Ok(chosen.into_iter().map(|(_, id)| id).collect())
    }

    fn consider(&mut self, store: &Store, summaries: &Summaries, job: Listed) {
        match job.ended {
            // Without recipients there are no notifications that could be undelivered.
            Some(ended) if !ended.has_recipients => {
                // The summary is decoded only if it is needed.
                let is_selected = self.selects_all()
                    || summaries.get(&ended).is_some_and(|it| self.mismatch_reason(&it).is_none());
                if is_selected {
                    self.ended.push((ended.ended_at, job.id));
                }
            }
            _ => self.consider_record(store, job.id, job.loaded),
        }
    }

    fn consider_record(&mut self, store: &Store, id: JobId, loaded: Option<Box<LoadedJob>>) {
        let observed = match observe_unless_loaded(store, &id, loaded.map(|loaded| *loaded)) {
            Ok(observed) => observed,
            Err(error) => {
                if !self.ids.is_empty() {
                    self.failures.push((id, error.into()));
                }
                return;
            }
        };
        let drops_failed = self.drop_failed_notifications;
        if let Some(why) = keep_reason(&observed.dir, &observed.record, drops_failed) {
            return self.leave(id, why);
        }
        let summary = observed.record.into();
        match self.mismatch_reason(&summary) {
            Some(why) => self.leave(id, kept(why)),
            None => self.ended.push((summary.ended_at, id)),
        }
    }

    /// Records why a job is kept, if it was selected by id.
    fn leave(&mut self, id: JobId, error: Error) {
        if !self.ids.is_empty() {
            self.left.push((id, error));
        }
    }

    fn selects_all(&self) -> bool {
        self.before.is_none() && self.filter.is_empty()
    }

    /// Returns why an ended job is not selected.
    fn mismatch_reason(&self, job: &Summary) -> Option<&'static str> {
        let is_old = match self.before {
            Some(before) => job.ended_at.is_some_and(|at| at <= before),
            None => true,
        };
        if !is_old {
            return Some("it ended too recently");
        }
        if self.filter.matches(job) { None } else { Some("it does not match the selection") }
    }
}

impl CleanAnswer {
    fn count(&mut self, id: JobId, freed: u64) {
        self.removed += 1;
        self.freed_bytes += freed;
        self.all_jobs.push(id.clone());
        if self.jobs.len() < MAX_NAMED {
            self.jobs.push(id);
        } else {
            self.omitted += 1;
        }
    }
}

/// What other jobs need of the jobs to remove.
#[derive(Default)]
struct Others {
    /// The jobs that are awaited, each with a job that waits for it: one that has not been admitted
    /// yet, or was interrupted before its admission. It will read how they ended.
    awaited: BTreeMap<JobId, JobId>,
    worktrees: WorktreeRemoval,
    drop_failed_notifications: bool,
}

impl Others {
    fn find(store: &Store) -> Result<Self, StoreError> {
        let mut others = Self::default();
        let (summaries, jobs) = store.summaries_with_records()?;
        for job in jobs {
            // What a job needs whose record cannot be read is unknown.
            let Some(other) = summaries.get_or_load(store, &job) else { continue };
            others.worktrees.add_user(&other);
            // A job that was interrupted before its admission may be recovered.
            if !other.was_admitted && (other.status.is_live() || other.end_state().is_cut_off()) {
                for awaited in [other.spec.after, other.spec.after_any].concat() {
                    others.awaited.insert(awaited, job.id.clone());
                }
            }
        }
        Ok(others)
    }

    /// Removes the job with its worktree if it can still be removed, or only checks that. Returns the
    /// error that prevented recording its cost.
    fn remove(&mut self, dir: &JobDir, dry_run: bool) -> Result<Option<StoreError>, RemovalError> {
        if let Some(waiter) = self.awaited.get(dir.id()) {
            return Err(RemovalError::Refused(kept(format!("job {waiter} waits for it"))));
        }
        let drops_failed = self.drop_failed_notifications;
        if dry_run {
            let record =
                check_removable(dir, dir.is_held().as_ref().map(|held| !held), drops_failed)?;
            self.worktrees.remove(dir, &record, dry_run)?;
            return Ok(None);
        }
        // Held until the job is removed: so it is not resumed in its worktree.
        let lock = dir.try_lock();
        let record = check_removable(dir, lock.as_ref().map(Option::is_some), drops_failed)?;
        self.worktrees.remove(dir, &record, dry_run)?;
        Queue::for_jobs_dir(dir.root()).remove_pause_of(dir.id());
        dir.discard().map_err(RemovalError::Failed)
    }
}

/// Returns why a job must be kept. `drops_failed`: a notification that is no longer tried is no reason.
fn keep_reason(dir: &JobDir, record: &Record, drops_failed: bool) -> Option<Error> {
    let id = dir.id().to_string();
    let restarts = may_restart(record) && is_live(dir, Ask::Many) != Some(false);
    match dir.liveness_if_unlocked(record) {
        Liveness::Ended if restarts => return Some(Error::JobLive(id, Status::Queued)),
        Liveness::Ended => {}
        Liveness::Live | Liveness::Lost => return Some(Error::JobLive(id, record.status)),
        Liveness::OtherMachine(host) => return Some(Error::OtherHost(id, host)),
    }
    let mut notifications = dir.notifications(record).into_iter();
    let notification = notifications.find(|it| it.error.is_none() || !drops_failed)?;
    let (to, event) = (&notification.to, notification.event);
    let (why, alternative) = match &notification.error {
        Some(why) => (
            format!("the notification to {to} that it {event} failed: {why}"),
            format!("  # claudejob rm {id} removes the job with it"),
        ),
        None => (
            format!("the notification to {to} that it {event} is not delivered yet"),
            String::new(),
        ),
    };
    Some(Error::Kept { why, hint: format!("claudejob redeliver {id}{alternative}") })
}

fn kept(why: impl Into<String>) -> Error {
    Error::Kept { why: why.into(), hint: String::new() }
}

/// Why a job was not removed.
enum RemovalError {
    /// It must be kept.
    Refused(Error),
    /// It must be kept because of its worktree.
    HasWorktree(Error),
    /// It could not be removed.
    Failed(StoreError),
}

impl From<LoadError> for RemovalError {
    fn from(error: LoadError) -> Self {
        Self::Refused(error.into())
    }
}

/// Checks that the job can be removed in its current state, and returns its record. `is_free` says
/// whether its lock is free.
fn check_removable(
    dir: &JobDir,
    is_free: Result<bool, &StoreError>,
    drops_failed: bool,
) -> Result<Record, RemovalError> {
    let record = dir.load_checked()?;
    match is_free {
        Ok(true) => {}
        // Another process resumes the job or is reading it.
        Ok(false) => {
            return Err(RemovalError::Refused(kept("another process holds its lock")));
        }
        // The Node skill's jobs have no lock.
        Err(_) if record.is_of_node_skill() => {}
        Err(error) => return Err(RemovalError::Refused(kept(error.to_string()))),
    }
    match keep_reason(dir, &record, drops_failed) {
        Some(why) => Err(RemovalError::Refused(why)),
        None => Ok(record),
    }
}
