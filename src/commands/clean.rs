//! `clean`: removes ended jobs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::Call;
use super::host_takeover::{take_over, take_over_all};
use super::observe::try_load_checked;
use crate::arguments::{FORCE_HOST, JobIdsArgs, duration, label};
use crate::clock;
use crate::error::{Error, ExitStatus};
use crate::job::{Filter, JobId, Record, Summary, Timestamp};
use crate::output::{Answer, YELLOW, painted};
use crate::store::{JobDir, Listed, Liveness, Store, StoreError, Summaries};
use crate::text::{harmless, plural};

/// Number of ended jobs that are kept by default.
const DEFAULT_KEEP: usize = 50;
/// Maximum number of ids in an answer.
const MAX_NAMED: usize = 50;

/// Arguments of `clean`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  claudejob clean --dry-run\n  claudejob clean --keep 0 --older-than 7d\n  \
    claudejob clean --label project=app\n\n\
    It never removes a job that is live, that a queued job waits for, or that has undelivered \
    notifications (list --undelivered).",
    mut_arg("ids", |arg| arg.help("Consider only these jobs")),
    mut_arg("job_id", |arg| arg.help("Consider only this job (repeatable)"))
)]
pub(crate) struct CleanArgs {
    #[command(flatten)]
    targets: JobIdsArgs,
    /// Keep the N jobs that ended last [default: 50; 0 with a filter]
    #[arg(long, value_name = "N")]
    keep: Option<usize>,
    /// Consider only jobs that ended longer ago, such as 7d
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    older_than: Option<Duration>,
    /// Select jobs with this label (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Show what would be removed, without removing it
    #[arg(long)]
    dry_run: bool,
    /// Treat live jobs of other machines as lost
    #[arg(long, long_help = FORCE_HOST)]
    force_host: bool,
}

impl CleanArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let store = call.store()?;
        let ids = self.targets.parse()?;
        if self.force_host && !self.dry_run {
            if ids.is_empty() {
                take_over_all(&store)?;
            } else {
                take_over(&store, &ids)?;
            }
        }
        let request = CleanRequest {
            ids,
            spare: None,
            keep: self.keep,
            older_than: self.older_than,
            filter: Filter { labels: self.label, ..Filter::default() },
            dry_run: self.dry_run,
        };
        call.print(&clean(&store, &request)?)
    }
}

/// Which jobs to remove.
#[derive(Debug, Default)]
pub(crate) struct CleanRequest {
    /// Only these jobs; empty for any.
    pub ids: Vec<JobId>,
    /// A job that is kept in addition to those that `keep` counts.
    pub spare: Option<JobId>,
    /// Number of jobs to keep: those that ended last.
    pub keep: Option<usize>,
    /// Only jobs that ended at least this long ago.
    pub older_than: Option<Duration>,
    pub filter: Filter,
    /// Remove nothing.
    pub dry_run: bool,
}

/// A job that was not removed.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct NotRemoved {
    /// The job's id.
    pub job_id: JobId,
    /// Why the job was not removed.
    pub error: String,
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
    /// Number of further jobs, which `jobs` leaves out.
    pub omitted: usize,
    /// Jobs that were selected by id but are kept, and jobs that could not be removed.
    pub left: Vec<NotRemoved>,
    /// Problems that did not prevent the removal.
    pub warnings: Vec<String>,
}

impl Answer for CleanAnswer {
    fn text(&self) -> String {
        let (jobs, size) = (plural(self.removed, "job"), format_bytes(self.freed_bytes));
        let mut text = match (self.dry_run, self.removed) {
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
        for left in &self.left {
            let what = format!("{} not removed: {}", left.job_id, left.error);
            let _ = writeln!(text, "{}", painted(YELLOW, &harmless(&what)));
        }
        for warning in &self.warnings {
            let _ = writeln!(text, "{}", painted(YELLOW, &harmless(warning)));
        }
        text
    }

    fn exit_status(&self) -> ExitStatus {
        if self.left.is_empty() { ExitStatus::Done } else { ExitStatus::Failed }
    }
}

/// Formats a number of bytes in its largest unit of 1,000.
fn format_bytes(amount: u64) -> String {
    let mut amount = amount as f64;
    if amount < 1_000.0 {
        return format!("{amount} bytes");
    }
    for unit in ["kB", "MB", "GB"] {
        amount /= 1_000.0;
        if amount < 1_000.0 {
            return format!("{amount:.1} {unit}");
        }
    }
    format!("{:.1} TB", amount / 1_000.0)
}

/// Removes ended jobs. Jobs that are live, have undelivered notifications, or are awaited by
/// another job are never removed, nor are directories that are not jobs. A job disappears as a
/// whole, and symbolic links in it are not followed. A job that cannot be removed does not prevent
/// the removal of the others, and is an error only if there is nothing else to report.
pub(crate) fn clean(store: &Store, request: &CleanRequest) -> Result<CleanAnswer, Error> {
    let mut answer = CleanAnswer { dry_run: request.dry_run, ..CleanAnswer::default() };
    let mut failures = Vec::new();
    let chosen = choose(store, request, &mut answer, &mut failures)?;
    if !request.dry_run {
        store.clear_leftovers()?;
    }
    // While this lock is held, no new job can depend on one of them.
    let removal = !request.dry_run && !chosen.is_empty();
    let _removal = removal.then(|| store.lock_removal()).flatten();
    let awaited = if chosen.is_empty() { BTreeMap::new() } else { awaited(store)? };
    let mut cost_error = None;
    for id in chosen {
        let dir = store.job(&id);
        let freed = dir.disk_usage();
        let removed = match awaited.get(&id) {
            Some(waiter) => Err(RemovalError::Refused(format!("job {waiter} waits for it"))),
            None if request.dry_run => {
                check_removable(&dir, dir.is_held().as_ref().map(|held| !held)).map(|()| None)
            }
            None => remove(&dir),
        };
        match removed {
            Ok(error) => {
                cost_error = cost_error.or(error);
                answer.count(id, freed);
            }
            Err(RemovalError::Refused(error)) if !request.ids.is_empty() => {
                answer.left.push(NotRemoved { job_id: id, error });
            }
            Err(RemovalError::Refused(_)) => {}
            Err(RemovalError::Failed(error)) => failures.push((id, error.into())),
        }
    }
    if answer.removed == 0 && answer.left.is_empty() && !failures.is_empty() {
        return Err(failures.swap_remove(0).1);
    }
    let failures = failures.into_iter().take(MAX_NAMED);
    let failures = failures.map(|(job_id, error)| NotRemoved { job_id, error: error.to_string() });
    answer.left.extend(failures);
    let warning =
        |error| format!("the cost of removed jobs stays in .new until it can be recorded: {error}");
    answer.warnings.extend(cost_error.map(warning));
    Ok(answer)
}

/// Returns the jobs to remove, latest end first. Of jobs that were selected by id, those that are
/// kept are added to `answer` and those that cannot be read to `failures`.
fn choose(
    store: &Store,
    request: &CleanRequest,
    answer: &mut CleanAnswer,
    failures: &mut Vec<(JobId, Error)>,
) -> Result<Vec<JobId>, Error> {
    let named = !request.ids.is_empty();
    let selects = named || request.older_than.is_some() || !request.filter.is_empty();
    let keep = request.keep.unwrap_or(if selects { 0 } else { DEFAULT_KEEP });
    let before = request.older_than.map(|age| clock::now().before(age));
    let mut ended: Vec<(Option<Timestamp>, JobId)> = Vec::new();
    let (summaries, jobs) = match named {
        true => (Summaries::default(), request.ids.iter().cloned().map(Listed::unread).collect()),
        false => store.summaries()?,
    };
    for job in jobs {
        let id = job.id;
        if request.spare.as_ref() == Some(&id) {
            continue;
        }
        // Without recipients there are no notifications that could be undelivered.
        if let Some(job) = job.ended.filter(|job| !job.has_recipients) {
            let is_selected = match !selects {
                true => true,
                false => summaries
                    .get(&job)
                    .is_some_and(|summary| request.mismatch_reason(&summary, before).is_none()),
            };
            if is_selected {
                ended.push((job.ended_at, id));
            }
            continue;
        }
        match try_load_checked(store, &id) {
            Ok(observed) => match keep_reason(&observed.dir, &observed.record) {
                None => {
                    let summary = observed.record.into();
                    match request.mismatch_reason(&summary, before) {
                        None => ended.push((summary.ended_at, id)),
                        Some(why) if named => {
                            answer.left.push(NotRemoved { job_id: id, error: why.to_owned() });
                        }
                        Some(_) => {}
                    }
                }
                Some(error) if named => answer.left.push(NotRemoved { job_id: id, error }),
                Some(_) => {}
            },
            Err(error) if named => failures.push((id, error.into())),
            Err(_) => {}
        }
    }
    ended.sort_unstable_by(|a, b| b.cmp(a));
    let chosen = ended.split_off(keep.min(ended.len()));
    if named {
        let error = || format!("kept by --keep {keep}");
        answer
            .left
            .extend(ended.into_iter().map(|(_, job_id)| NotRemoved { job_id, error: error() }));
    }
    Ok(chosen.into_iter().map(|(_, id)| id).collect())
}

impl CleanAnswer {
    fn count(&mut self, id: JobId, freed: u64) {
        self.removed += 1;
        self.freed_bytes += freed;
        if self.jobs.len() < MAX_NAMED {
            self.jobs.push(id);
        } else {
            self.omitted += 1;
        }
    }
}

impl CleanRequest {
    /// Returns why an ended job is not selected.
    fn mismatch_reason(&self, job: &Summary, before: Option<Timestamp>) -> Option<&'static str> {
        let old = before.is_none_or(|before| job.ended_at.is_some_and(|at| at <= before));
        if !old {
            return Some("it ended too recently");
        }
        if self.filter.matches(job) { None } else { Some("it does not have these labels") }
    }
}

/// Returns the jobs that are awaited, each with a job that waits for it: one that has not been
/// admitted yet, or was interrupted before its admission. It will read how they ended.
fn awaited(store: &Store) -> Result<BTreeMap<JobId, JobId>, StoreError> {
    let mut awaited = BTreeMap::new();
    let (summaries, jobs) = store.summaries()?;
    for Listed { id, ended } in jobs {
        let known = ended.and_then(|ended| summaries.get(&ended));
        // The dependencies of a job whose record cannot be read are unknown.
        let Some(waiter) = known.or_else(|| store.job(&id).summary().ok()) else { continue };
        // A job that was interrupted before its admission may be recovered.
        if !waiter.was_admitted && (waiter.status.is_live() || waiter.end_state().is_cut_off()) {
            let others = [waiter.spec.after, waiter.spec.after_any].concat();
            awaited.extend(others.into_iter().map(|other| (other, id.clone())));
        }
    }
    Ok(awaited)
}

/// Returns why a job must be kept; `None` if it can be removed.
fn keep_reason(dir: &JobDir, record: &Record) -> Option<String> {
    match dir.liveness_if_unlocked(record) {
        Liveness::Ended => {}
        Liveness::Live | Liveness::Lost => return Some(format!("it is {}", record.status)),
        Liveness::OtherMachine(host) => return Some(format!("it is {} on {host}", record.status)),
    }
    let notifications = dir.notifications(record);
    let notification = notifications.first()?;
    let (to, event) = (&notification.to, notification.event);
    Some(match &notification.error {
        Some(why) => format!("the notification to {to} that it {event} failed: {why}"),
        None => format!("the notification to {to} that it {event} is not delivered yet"),
    })
}

/// Why a job was not removed.
enum RemovalError {
    /// It must be kept.
    Refused(String),
    /// It could not be removed.
    Failed(StoreError),
}

/// Checks that the job can be removed in its current state. `is_free` says whether its lock is free.
fn check_removable(dir: &JobDir, is_free: Result<bool, &StoreError>) -> Result<(), RemovalError> {
    let record = dir.load_checked();
    let record = record.map_err(|error| RemovalError::Refused(error.to_string()))?;
    match is_free {
        Ok(true) => {}
        // Another process resumes the job or is reading it.
        Ok(false) => {
            return Err(RemovalError::Refused("another process holds its lock".to_owned()));
        }
        // The Node skill's jobs have no lock.
        Err(_) if record.is_of_node_skill() => {}
        Err(error) => return Err(RemovalError::Refused(error.to_string())),
    }
    keep_reason(dir, &record).map_or(Ok(()), |why| Err(RemovalError::Refused(why)))
}

/// Removes the job if it can still be removed. Returns the error that prevented recording its
/// cost.
fn remove(dir: &JobDir) -> Result<Option<StoreError>, RemovalError> {
    let lock = dir.try_lock();
    check_removable(dir, lock.as_ref().map(Option::is_some))?;
    dir.discard().map_err(RemovalError::Failed)
}
