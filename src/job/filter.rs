//! Selection of jobs.

use std::collections::BTreeMap;

use super::{Record, Status, Summary, Timestamp};
use crate::text::shell_quote;

/// Selects jobs; the default selects every job.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// Only jobs with one of these statuses; empty for any.
    pub statuses: Vec<Status>,
    /// Only jobs that have all these labels.
    pub labels: Vec<(String, String)>,
    /// Only jobs of one of these groups; empty for any.
    pub groups: Vec<String>,
    /// Only jobs that were started at this time or later.
    pub since: Option<Timestamp>,
}

impl Filter {
    /// Returns a filter for jobs that have all these labels.
    pub(crate) fn for_labels(labels: &BTreeMap<String, String>) -> Self {
        let labels = labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        Self { labels, ..Self::default() }
    }

    /// Returns the options that select these jobs.
    pub(crate) fn options(&self) -> String {
        let mut options = Vec::new();
        for (key, value) in &self.labels {
            options.push(format!("--label {}", shell_quote(&format!("{key}={value}"))));
        }
        for group in &self.groups {
            options.push(format!("--group {}", shell_quote(group)));
        }
        for status in &self.statuses {
            options.push(format!("--status {status}"));
        }
        if let Some(since) = self.since {
            options.push(format!("--since {since}"));
        }
        options.join(" ")
    }

    /// Whether every job is selected.
    pub(crate) fn is_empty(&self) -> bool {
        self.statuses.is_empty() && self.since.is_none() && self.has_only_times()
    }

    /// Whether [`Filter::matches_times`] decides alone.
    pub(crate) fn has_only_times(&self) -> bool {
        self.labels.is_empty() && self.groups.is_empty()
    }

    /// Whether the job of this summary is selected.
    pub(crate) fn matches(&self, job: &Summary) -> bool {
        let group = job.spec.admission.group.as_deref();
        self.matches_times(Some(job.status), job.started_at)
            && self.matches_spec(&job.spec.labels, group)
    }

    /// Whether the job of this record is selected.
    pub(crate) fn matches_record(&self, job: &Record) -> bool {
        let group = job.spec.queue_options.group.as_deref();
        self.matches_times(Some(job.status), job.times.started_at)
            && self.matches_spec(&job.spec.labels, group)
    }

    /// Whether a job with this status and start can be selected; both are `None` for a job whose
    /// record cannot be read.
    pub(crate) fn matches_times(&self, status: Option<Status>, started: Option<Timestamp>) -> bool {
        let has_status = match status {
            Some(status) => self.statuses.is_empty() || self.statuses.contains(&status),
            None => self.statuses.is_empty(),
        };
        has_status && self.since.is_none_or(|since| started >= Some(since))
    }

    /// Whether a job with these labels and this group can be selected.
    pub(crate) fn matches_spec(
        &self,
        labels: &BTreeMap<String, String>,
        group: Option<&str>,
    ) -> bool {
        let has_group = match group {
            Some(group) => self.groups.iter().any(|name| name == group),
            None => false,
        };
        (has_group || self.groups.is_empty())
            && self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}
