//! `pause`: holds queued jobs back.

use std::io;

use clap::Args;
use serde::Serialize;

use super::Call;
use super::freezing::freeze;
use super::observe::observe;
use super::selecting::Among;
use super::several::{FailedJob, failures, first_exit_status};
use crate::arguments::SelectorArgs;
use crate::error::{Error, ExitStatus};
use crate::job::JobId;
use crate::output::{Answer, push_hint};
use crate::queue::{PauseScope, PauseSet, Queue, QueueBusy, Ticket};
use crate::store::{Store, addressed};
use crate::text::{harmless, plural};

/// Arguments of `pause`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  claudejob pause\n  claudejob pause -g web\n  claudejob pause \
    fix-login\n\nJobs that run go on; their next attempt waits. claudejob unpause lets the jobs \
    continue. With --stop a job that runs stands still and keeps its slot and its memory; its \
    connection to the API may be lost.",
    mut_arg("ids", |arg| arg.help("Ids of the jobs [default: the whole queue]")),
    mut_arg("group", |arg| arg.help("Pause this group, with jobs to come (repeatable)"))
)]
pub(crate) struct PauseArgs {
    #[command(flatten)]
    targets: SelectorArgs,
    /// Freeze the running ones, too
    #[arg(long)]
    stop: bool,
}

impl PauseArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let store = call.store()?;
        let scopes = scopes(call, &store, self.targets)?;
        call.print(&pause(&store, scopes, self.stop)?)
    }
}

/// Pauses these jobs, and with `freezes` freezes those of them that run.
pub(super) fn pause(
    store: &Store,
    scopes: Vec<PauseScope>,
    freezes: bool,
) -> Result<PauseAnswer, Error> {
    let queue = Queue::for_jobs_dir(store.root());
    let mut failed = Vec::new();
    let mut pauses = Vec::new();
    for scope in scopes {
        match check_live(store, &scope).and_then(|()| check_queue(store, &scope, freezes)) {
            Ok(()) => pauses.push(scope),
            Err(failure) => failed.push(failure),
        }
    }
    if !pauses.is_empty() {
        queue.pause(&pauses).map_err(|error| queue_error(&queue, error))?;
    }
    for scope in &pauses {
        // A job that has ended meanwhile takes its pause with it.
        if let Err(failure) = check_live(store, scope) {
            queue.remove_pause_of(&failure.job_id);
            failed.push(failure);
        }
    }
    let mut stopped = Vec::new();
    if freezes {
        let frozen = freeze(store, &queue, &pauses)?;
        stopped = frozen.done;
        failed.extend(frozen.failed);
    }
    Ok(PauseAnswer { stopped, ..PauseAnswer::new(store, &queue, pauses, failed) })
}

/// Returns what the arguments name: groups as such, else live jobs, and the whole queue if they name
/// nothing.
pub(super) fn scopes(
    call: &Call,
    store: &Store,
    targets: SelectorArgs,
) -> Result<Vec<PauseScope>, Error> {
    let filter = &targets.filter;
    let names_groups =
        filter.label.is_empty() && filter.status.is_empty() && filter.since.is_none();
    if names_groups && !targets.has_ids() {
        let groups = targets.filter.group.into_iter().map(PauseScope::Group);
        let scopes: Vec<PauseScope> = groups.collect();
        return Ok(if scopes.is_empty() { vec![PauseScope::All] } else { scopes });
    }
    let selected = call.select(store, targets, false, Among::Live)?;
    Ok(selected.ids.into_iter().map(PauseScope::Job).collect())
}

/// Returns the failure of a job that has ended.
fn check_live(store: &Store, scope: &PauseScope) -> Result<(), FailedJob> {
    let PauseScope::Job(id) = scope else { return Ok(()) };
    let error = match observe(store, id) {
        Ok(observed) if observed.live => return Ok(()),
        Ok(observed) => Error::JobEnded(id.to_string(), observed.record.status.to_string()),
        Err(error) => error,
    };
    Err(FailedJob::new(store, id.clone(), &error))
}

/// Returns the failure of a job on a cluster, which only a freeze holds back.
fn check_queue(store: &Store, scope: &PauseScope, freezes: bool) -> Result<(), FailedJob> {
    let PauseScope::Job(id) = scope else { return Ok(()) };
    if freezes || !store.job(id).is_on_engine() {
        return Ok(());
    }
    Err(FailedJob::new(store, id.clone(), &Error::NotInQueue(id.to_string())))
}

/// Converts an error of the queue.
pub(super) fn queue_error(queue: &Queue, error: io::Error) -> Error {
    if QueueBusy::is_in(&error) {
        return Error::Busy(error.to_string());
    }
    Error::Store(queue.error(error))
}

/// All that is paused after a `pause` or an `unpause`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct PauseAnswer {
    /// All that is paused now.
    pub paused: PauseSet,
    /// Number of paused jobs that hold a slot and are not frozen.
    pub running: usize,
    /// Number of jobs that wait in the queue because they are paused.
    pub held: usize,
    /// The jobs that are frozen by `--stop`.
    pub stopped: Vec<JobId>,
    /// The frozen jobs that continue.
    pub continued: Vec<JobId>,
    /// The jobs for which the call failed.
    pub failed: Vec<FailedJob>,
    /// The jobs that the call named or selected, without those for which it failed.
    #[serde(skip)]
    pub chosen: Vec<JobId>,
    /// The pauses that the call removed.
    #[serde(skip)]
    pub undone: Vec<PauseScope>,
    /// The command that removes the pauses, as `sh` takes it; null if nothing is paused.
    pub hint: Option<String>,
}

impl PauseAnswer {
    /// Returns the answer after these pauses were made or removed.
    pub(super) fn new(
        store: &Store,
        queue: &Queue,
        pauses: Vec<PauseScope>,
        failed: Vec<FailedJob>,
    ) -> Self {
        let mut chosen = Vec::new();
        for pause in pauses {
            if let PauseScope::Job(id) = pause
                && !failed.iter().any(|failure| failure.job_id == id)
            {
                chosen.push(id);
            }
        }
        let paused = queue.paused();
        let hint = match paused.pauses().as_slice() {
            [] => None,
            [only] => only.waiting_for().hint,
            _ => Some("claudejob unpause --all".to_owned()),
        };
        let is_held =
            |ticket: &Ticket| paused.holds(ticket) && store.job(&ticket.job_id).may_live();
        let mut running = queue.running_tickets();
        running.retain(|ticket| is_held(ticket) && !is_frozen(store, &ticket.job_id));
        let mut held = queue.waiting_tickets().0;
        held.retain(is_held);
        Self {
            running: running.len(),
            held: held.len(),
            hint: hint.map(|hint| addressed(store.root(), hint)),
            paused,
            stopped: Vec::new(),
            continued: Vec::new(),
            failed,
            chosen,
            undone: Vec::new(),
        }
    }
}

impl PauseAnswer {
    /// Returns the numbers of jobs that go on and that are held, as the end of a sentence.
    fn jobs_concerned(&self) -> String {
        let mut parts = Vec::new();
        if self.running > 0 {
            let go = if self.running == 1 { "goes" } else { "go" };
            parts.push(format!("{} {go} on", plural(self.running, "running job")));
        }
        if self.held > 0 {
            let are = if self.held == 1 { "is" } else { "are" };
            parts.push(format!("{} {are} held", plural(self.held, "job")));
        }
        if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) }
    }
}

impl Answer for PauseAnswer {
    fn text(&self) -> String {
        let mut text = match describe(&self.undone) {
            Some(what) => format!("{} no longer paused.\n", harmless(&what)),
            None => String::new(),
        };
        match describe(&self.paused.pauses()) {
            Some(what) => {
                text += &format!("{} paused{}.\n", harmless(&what), self.jobs_concerned());
            }
            None if text.is_empty() => text += "Nothing is paused.\n",
            None => {}
        }
        for (verb, jobs) in [("Frozen", &self.stopped), ("Continued", &self.continued)] {
            if !jobs.is_empty() {
                let names: Vec<&str> = jobs.iter().map(JobId::as_str).collect();
                text += &format!("{verb}: {}.\n", names.join(", "));
            }
        }
        push_hint(&mut text, self.hint.as_deref());
        text + &self.failures()
    }

    fn ids(&self) -> Option<Vec<JobId>> {
        let mut ids = self.chosen.clone();
        for id in self.stopped.iter().chain(&self.continued) {
            if !ids.contains(id) {
                ids.push(id.clone());
            }
        }
        Some(ids)
    }

    fn failures(&self) -> String {
        failures(&self.failed)
    }

    fn exit_status(&self) -> ExitStatus {
        let statuses: Vec<ExitStatus> = self.failed.iter().map(|it| it.exit_status).collect();
        first_exit_status(&statuses).unwrap_or(ExitStatus::Done)
    }
}

fn is_frozen(store: &Store, id: &JobId) -> bool {
    store.job(id).load().is_ok_and(|record| record.times.frozen_at.is_some())
}

/// Returns the beginning of a sentence that names what is paused; `None` if nothing is.
fn describe(pauses: &[PauseScope]) -> Option<String> {
    let mut names = Vec::new();
    for pause in pauses {
        let is_first = names.is_empty();
        names.push(match pause {
            PauseScope::All => "The queue".to_owned(),
            PauseScope::Group(group) if is_first => format!("Group {group}"),
            PauseScope::Group(group) => format!("group {group}"),
            PauseScope::Job(job) if is_first => format!("Job {job}"),
            PauseScope::Job(job) => format!("job {job}"),
        });
    }
    match names.as_slice() {
        [] => None,
        [one] => Some(format!("{one} is")),
        [first @ .., last] => Some(format!("{} and {last} are", first.join(", "))),
    }
}
