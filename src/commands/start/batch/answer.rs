//! Answer of `start --from`.

use std::fmt::Write as _;

use serde::Serialize;

use crate::commands::naming;
use crate::commands::start::StartAnswer;
use crate::error::{Error, ExitStatus};
use crate::job::{JobId, Status};
use crate::output::{
    Answer, BOLD, RED, color, painted, push_hint, push_marked, push_warning, sentence,
};
use crate::store::{Store, addressed};
use crate::text::{json_length_of, plural};

/// Maximum number of jobs that the text lists.
const MAX_TEXT_JOBS: usize = 20;

/// The jobs of the lines.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct BatchAnswer {
    /// Number of jobs that were started.
    pub started: usize,
    /// Number of jobs that existed before (`--if-absent`).
    pub existing: usize,
    /// Number of jobs that could not be started, 0 or 1: the lines after it are not tried.
    pub failed: usize,
    /// The first of these jobs, in the order of the lines.
    pub jobs: Vec<BatchJob>,
    /// Number of further jobs, which `jobs` leaves out.
    pub omitted: usize,
    /// The failure that ended the batch; null if all lines have a job.
    pub failure: Option<BatchFailure>,
    /// The first line that has no job, because of the failure; null if all lines have one.
    pub next_line: Option<usize>,
    /// Circumstances that could end jobs early.
    pub warnings: Vec<String>,
    /// The command to run next, as `sh` takes it.
    pub hint: Option<String>,
    /// Ids of all jobs.
    #[serde(skip)]
    pub ids: Vec<JobId>,
    #[serde(skip)]
    pub exit_status: Option<ExitStatus>,
}

/// The job of a line.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct BatchJob {
    /// Number of the line, from 1.
    pub line: usize,
    /// The job's id.
    pub job_id: JobId,
    /// The job's status.
    pub status: Status,
    /// The job existed before (`--if-absent`).
    pub existing: bool,
}

/// A job that could not be started.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct BatchFailure {
    /// Number of the line, from 1.
    pub line: usize,
    /// Error message.
    pub error: String,
    /// Stable code of the error.
    pub code: &'static str,
    /// How to resolve the error.
    pub hint: Option<String>,
}

impl BatchAnswer {
    /// Adds the job of a line.
    pub(super) fn add(&mut self, line: usize, answer: StartAnswer) {
        if answer.existing {
            self.existing += 1;
        } else {
            self.started += 1;
        }
        for warning in answer.warnings {
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
        let StartAnswer { job_id, status, existing, .. } = answer;
        self.jobs.push(BatchJob { line, job_id, status, existing });
    }

    /// Adds the failure that ends the batch.
    pub(super) fn fail(&mut self, store: &Store, line: usize, error: &Error) {
        self.failed += 1;
        self.exit_status = Some(error.exit_status());
        self.failure = Some(BatchFailure {
            line,
            error: error.to_string(),
            code: error.code(),
            hint: naming::hint(store, error).map(|hint| addressed(store.root(), hint)),
        });
    }

    /// Sorts the jobs by their lines, and leaves out those that do not fit into the maximum number of
    /// characters.
    pub(super) fn arranged(mut self, max_chars: Option<usize>) -> Self {
        self.jobs.sort_by_key(|job| job.line);
        self.ids = self.jobs.iter().map(|job| job.job_id.clone()).collect();
        let jobs = std::mem::take(&mut self.jobs);
        let mut rest = max_chars.map(|max| max.saturating_sub(json_length_of(&self)));
        for job in jobs {
            if let Some(rest) = &mut rest {
                let length = json_length_of(&job) + 1;
                if length > *rest || self.omitted > 0 {
                    self.omitted += 1;
                    continue;
                }
                *rest -= length;
            }
            self.jobs.push(job);
        }
        self
    }
}

impl Answer for BatchAnswer {
    fn text(&self) -> String {
        let mut counts = format!("Started {}", plural(self.started, "job"));
        if self.existing > 0 {
            let _ = write!(counts, "; {} already existed", self.existing);
        }
        let mut text = sentence(&(counts + "."));
        let width = self.jobs.iter().map(|job| job.job_id.as_str().len()).max().unwrap_or(0);
        for job in self.jobs.iter().take(MAX_TEXT_JOBS) {
            let id = format!("{:width$}", job.job_id.as_str());
            let status = painted(color(job.status), job.status.as_str());
            let _ = writeln!(text, "  {}  {status}", painted(BOLD, &id));
        }
        if self.ids.len() > MAX_TEXT_JOBS {
            let _ = writeln!(text, "  … and {} more", self.ids.len() - MAX_TEXT_JOBS);
        }
        text += &self.failures();
        push_hint(&mut text, self.hint.as_deref());
        text
    }

    fn ids(&self) -> Option<Vec<JobId>> {
        Some(self.ids.clone())
    }

    fn failures(&self) -> String {
        let mut text = String::new();
        if let Some(failure) = &self.failure {
            let error = format!("line {}: {}", failure.line, failure.error);
            push_marked(&mut text, RED.bold(), "error:", &error);
            push_hint(&mut text, failure.hint.as_deref());
        }
        for warning in &self.warnings {
            push_warning(&mut text, warning);
        }
        text
    }

    fn exit_status(&self) -> ExitStatus {
        self.exit_status.unwrap_or(ExitStatus::Done)
    }
}
