//! Candidates from the jobs directory: ids, labels and groups.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::Candidate;
use crate::arguments::{CommonArgs, Typed};
use crate::commands::Call;
use crate::config::UserConfig;
use crate::job::{Status, Summary};
use crate::output::Sink;
use crate::store::{Listed, Store, Summaries};

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

/// Returns the values of the jobs that the verb accepts and that begin with `prefix`; none if
/// reading the jobs takes too long.
pub(super) fn job_values(typed: &Typed<'_>, value: JobValue, prefix: &str) -> Vec<Candidate> {
    let variable = typed.option("--jobs-dir").and_then(|option| option.get_env());
    let from_variable = variable.and_then(std::env::var_os).map(PathBuf::from);
    let jobs_dir = typed.jobs_dir.clone().or(from_variable);
    let verb = typed.command.get_name().to_owned();
    let prefix = prefix.to_owned();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let found = match (Jobs::read(jobs_dir), value) {
            (None, _) => Vec::new(),
            (Some(jobs), JobValue::Id) => jobs.ids(&verb, &prefix),
            (Some(jobs), value) => jobs.distinct(value, &prefix),
        };
        let _ = sender.send(found);
    });
    receiver.recv_timeout(BOUND).unwrap_or_default()
}

/// The jobs as they are recorded: a completion does not write verdicts of lost jobs.
struct Jobs {
    store: Store,
    summaries: Summaries,
    listed: Vec<Listed>,
}

impl Jobs {
    fn read(jobs_dir: Option<PathBuf>) -> Option<Self> {
        let config = UserConfig::load().unwrap_or_default();
        let jobs_dir = jobs_dir.or_else(|| config.jobs_dir.clone());
        let common = CommonArgs { jobs_dir, ..CommonArgs::default() };
        let call = Call::new(common, Vec::new(), &config, Sink::Stdout);
        let store = call.store().ok()?;
        let (summaries, listed) = store.summaries().ok()?;
        Some(Self { store, summaries, listed })
    }

    fn summary(&self, job: &Listed) -> Option<Summary> {
        self.summaries.get_or_load(&self.store, job)
    }

    /// Returns the ids of the jobs that the verb accepts, newest first.
    fn ids(&self, verb: &str, prefix: &str) -> Vec<Candidate> {
        let mut jobs = Vec::new();
        for job in self.listed.iter().filter(|job| job.id.as_str().starts_with(prefix)) {
            // Only the summaries of the jobs that are offered are decoded.
            let (status, started_at) = match &job.ended {
                Some(ended) => (ended.status, ended.started_at),
                None => match self.summary(job) {
                    Some(summary) => (summary.status, summary.started_at),
                    None => continue,
                },
            };
            if accepts(verb, status) {
                jobs.push((started_at, &job.id, job));
            }
        }
        jobs.sort_by(|a, b| (b.0, b.1).cmp(&(a.0, a.1)));
        let mut found = Vec::new();
        for (_, id, job) in jobs.into_iter().take(MAX_CANDIDATES) {
            if let Some(summary) = self.summary(job) {
                let help = format!("{}: {}", summary.status, summary.prompt);
                found.push(Candidate::new(id.as_str(), help));
            }
        }
        found
    }

    /// Returns the labels or groups of the jobs, each once.
    fn distinct(&self, value: JobValue, prefix: &str) -> Vec<Candidate> {
        let mut values = BTreeSet::new();
        for summary in self.listed.iter().filter_map(|job| self.summary(job)) {
            if let JobValue::Label = value {
                let labels = summary.spec.labels.into_iter();
                values.extend(labels.map(|(key, value)| format!("{key}={value}")));
            } else {
                values.extend(summary.spec.admission.group);
            }
        }
        let found = values.into_iter().filter(|value| value.starts_with(prefix));
        found.take(MAX_CANDIDATES).map(|value| Candidate::new(value, "")).collect()
    }
}

/// Whether a verb can do something with a job of this status.
fn accepts(verb: &str, status: Status) -> bool {
    match verb {
        "answer" => status == Status::Blocked,
        "update" => status == Status::Queued,
        "kill" | "send" | "interrupt" | "finish" | "wait" | "pause" | "unpause" => status.is_live(),
        "resume" | "clean" | "rm" => !status.is_live(),
        // A lost job is still recorded as live.
        "recover" => status != Status::Completed,
        _ => true,
    }
}
