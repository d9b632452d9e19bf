//! Candidates from the jobs directory: ids, labels and groups.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::Candidate;
use crate::arguments::{CommonArgs, Typed};
use crate::commands::Call;
use crate::job::{JobId, Status, Summary};

/// Maximum time for reading the jobs: the user waits for the next key.
const BOUND: Duration = Duration::from_millis(100);
/// Maximum number of candidates.
const MAX_CANDIDATES: usize = 200;

#[derive(Clone, Copy, Debug)]
pub(super) enum JobValue {
    Id,
    /// `KEY=VALUE`.
    Label,
    Group,
}

/// Returns the values of the jobs that the verb accepts; none if reading them takes too long.
pub(super) fn job_values(typed: &Typed<'_>, value: JobValue) -> Vec<Candidate> {
    let verb = typed.command.get_name().to_owned();
    let variable = typed.option("--jobs-dir").and_then(|option| option.get_env());
    let from_variable = variable.and_then(std::env::var_os).map(PathBuf::from);
    let jobs_dir = typed.jobs_dir.clone().or(from_variable);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let jobs = read_jobs(jobs_dir);
        let _ = sender.send(match value {
            JobValue::Id => ids(&verb, jobs),
            JobValue::Label => {
                let labels = jobs.into_iter().flat_map(|(_, job)| job.spec.labels);
                distinct(labels.map(|(key, value)| format!("{key}={value}")))
            }
            JobValue::Group => {
                distinct(jobs.into_iter().filter_map(|(_, job)| job.spec.admission.group))
            }
        });
    });
    receiver.recv_timeout(BOUND).unwrap_or_default()
}

/// Reads the jobs as they are recorded: a completion does not write verdicts of lost jobs.
fn read_jobs(jobs_dir: Option<PathBuf>) -> Vec<(JobId, Summary)> {
    let call = Call::new(CommonArgs { jobs_dir, json: false, plain: false, pretty: false });
    let Ok(store) = call.store() else { return Vec::new() };
    let Ok((summaries, listed)) = store.summaries() else { return Vec::new() };
    let mut jobs = Vec::new();
    for job in listed {
        if let Some(summary) = summaries.get_or_load(&store, &job) {
            jobs.push((job.id, summary));
        }
    }
    jobs
}

/// Returns the ids of the jobs that the verb accepts, newest first.
fn ids(verb: &str, mut jobs: Vec<(JobId, Summary)>) -> Vec<Candidate> {
    jobs.retain(|(_, job)| accepts(verb, job.status));
    jobs.sort_by(|(a_id, a), (b_id, b)| (b.started_at, b_id).cmp(&(a.started_at, a_id)));
    jobs.truncate(MAX_CANDIDATES);
    jobs.into_iter()
        .map(|(id, job)| Candidate::new(id.as_str(), format!("{}: {}", job.status, job.prompt)))
        .collect()
}

/// Whether a verb can do something with a job of this status.
fn accepts(verb: &str, status: Status) -> bool {
    match verb {
        "answer" => status == Status::Blocked,
        "kill" | "send" | "interrupt" | "finish" | "wait" => status.is_live(),
        "resume" | "clean" => !status.is_live(),
        // A lost job is still recorded as live.
        "recover" => status != Status::Completed,
        _ => true,
    }
}

fn distinct(values: impl Iterator<Item = String>) -> Vec<Candidate> {
    let values: BTreeSet<String> = values.collect();
    values.into_iter().take(MAX_CANDIDATES).map(|value| Candidate::new(value, "")).collect()
}
