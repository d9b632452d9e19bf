//! Arguments that name or select jobs.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::{label, parse_job_id, since, status};
use crate::error::Error;
use crate::job::{Filter, JobId, Status, Timestamp};

const SELECTION: &str = "Selection";

/// One job.
#[derive(Clone, Debug, Args)]
#[group(multiple = false)]
pub(crate) struct JobName {
    /// The job's id
    #[arg(value_name = "ID")]
    pub id: Option<String>,
    /// Another form of the argument
    #[arg(long = "job-id", value_name = "ID", hide = true)]
    pub job_id: Option<String>,
}

/// Several jobs: their ids, or what they have in common. A verb that can do its work with all of
/// its jobs has an option `--all` of its own.
#[derive(Debug, Default, Args)]
pub(crate) struct SelectorArgs {
    /// Ids of the jobs
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// Another form of the argument
    #[arg(long, value_name = "ID", hide = true)]
    pub job_id: Vec<String>,
    #[command(flatten)]
    pub filter: FilterArgs,
}

impl SelectorArgs {
    /// Whether ids are given.
    pub(crate) fn has_ids(&self) -> bool {
        !self.ids.is_empty() || !self.job_id.is_empty()
    }

    /// Refuses ids beside a selection.
    pub(crate) fn check_exclusive(&self) -> Result<(), Error> {
        if self.has_ids() && !self.filter.is_empty() {
            return Err(Error::Usage("ids and a selection exclude each other".to_owned()));
        }
        Ok(())
    }

    /// Returns the jobs with exactly the given ids.
    pub(crate) fn whole_ids(&self) -> Result<Vec<JobId>, Error> {
        self.ids.iter().chain(&self.job_id).map(|text| parse_job_id(text)).collect()
    }
}

/// What selected jobs have in common.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct FilterArgs {
    /// Select jobs with this label (repeatable)
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = label, help_heading = SELECTION)]
    pub label: Vec<(String, String)>,
    /// Select jobs of this group (repeatable)
    #[arg(short, long, value_name = "NAME", help_heading = SELECTION)]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub group: Vec<String>,
    /// Select jobs with this status (repeatable)
    #[arg(long, value_name = "STATUS", value_delimiter = ',', help_heading = SELECTION)]
    #[arg(value_parser = status)]
    pub status: Vec<Status>,
    /// Select jobs started since: 7d, 2026-11-20 or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = since, help_heading = SELECTION)]
    pub since: Option<Timestamp>,
}

impl FilterArgs {
    /// Whether no option is given.
    pub(crate) fn is_empty(&self) -> bool {
        self.label.is_empty()
            && self.group.is_empty()
            && self.status.is_empty()
            && self.since.is_none()
    }

    pub(crate) fn into_filter(self) -> Filter {
        Filter { statuses: self.status, labels: self.label, groups: self.group, since: self.since }
    }
}
