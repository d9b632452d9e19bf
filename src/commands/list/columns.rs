//! The columns of `list`.

use super::Item;
use crate::job::{Status, Timestamp, WaitKind};
use crate::output::{
    Cell, Column, RED, activity_text, color, columns, failure, local_time, open_request,
    short_path, undelivered, wait_reason,
};
use crate::text::{format_cost, format_duration, harmless, one_line};

/// Columns that the other ones need at least beside an id.
const MIN_BESIDE_ID: usize = 50;
/// The largest width of a column of `-o wide`.
const MAX_WIDE: usize = 24;
/// Longest text of a cell on a terminal, which is cut at the width of the terminal anyway.
const MAX_CELL_CHARS: usize = 1_000;

/// A column of `list`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ListColumn {
    Job,
    Status,
    Reason,
    Age,
    Time,
    Started,
    Ended,
    Cost,
    Turns,
    Now,
    Folder,
    Group,
    Branch,
    Model,
    Labels,
    Prompt,
    Attempt,
}

impl ListColumn {
    /// The columns that are shown unless the call names others.
    pub(super) const USUAL: [Self; 6] =
        [Self::Job, Self::Status, Self::Age, Self::Time, Self::Cost, Self::Now];
    /// The columns of the wide format.
    pub(super) const WIDE: [Self; 11] = [
        Self::Job,
        Self::Status,
        Self::Age,
        Self::Time,
        Self::Cost,
        Self::Folder,
        Self::Group,
        Self::Branch,
        Self::Model,
        Self::Labels,
        Self::Now,
    ];

    /// Returns the head and the alignment.
    pub(super) fn column(self) -> Column {
        match self {
            Self::Job => Column::left("JOB")
                .at_most(columns().saturating_sub(MIN_BESIDE_ID).max(MAX_WIDE / 2)),
            Self::Status => Column::left("STATUS"),
            Self::Reason => Column::left("REASON"),
            Self::Age => Column::right("AGE"),
            Self::Time => Column::right("TIME"),
            Self::Started => Column::left("STARTED"),
            Self::Ended => Column::left("ENDED"),
            Self::Cost => Column::right("COST"),
            Self::Turns => Column::right("TURNS"),
            Self::Now => Column::left("NOW OR RESULT").at_most(MAX_WIDE),
            Self::Folder => Column::left("FOLDER").at_most(MAX_WIDE),
            Self::Group => Column::left("GROUP").at_most(MAX_WIDE),
            Self::Branch => Column::left("BRANCH").at_most(MAX_WIDE),
            Self::Model => Column::left("MODEL").at_most(MAX_WIDE),
            Self::Labels => Column::left("LABELS").at_most(MAX_WIDE),
            Self::Prompt => Column::left("PROMPT").at_most(MAX_WIDE),
            Self::Attempt => Column::right("ATTEMPT"),
        }
    }

    /// Returns the cell of a job at `now`.
    pub(super) fn cell(self, item: &Item, now: Timestamp) -> Cell {
        let time = |at: Option<Timestamp>| at.map(local_time).unwrap_or_default();
        let text = match self {
            Self::Job => item.job_id.to_string(),
            Self::Status => return status_cell(item),
            Self::Reason => item.reason.map(|reason| reason.to_string()).unwrap_or_default(),
            Self::Age => match item.started_at {
                Some(at) => format_duration(now.since(at)),
                None => String::new(),
            },
            Self::Time => match item.for_text.work_time {
                Some(time) => format_duration(time.at(now)),
                None => String::new(),
            },
            Self::Started => time(item.started_at),
            Self::Ended => time(item.ended_at),
            Self::Cost => match item.cost_usd {
                Some(usd) => format_cost(usd, item.cost_is_lower_bound),
                None => String::new(),
            },
            Self::Turns => item.num_turns.to_string(),
            Self::Now => now_or_result(item),
            Self::Folder => short_path(&item.for_text.folder),
            Self::Group => item.group.clone().unwrap_or_default(),
            Self::Branch => item.branch.clone().unwrap_or_default(),
            Self::Model => item.for_text.model.clone().unwrap_or_default(),
            Self::Labels => labels(item),
            Self::Prompt => item.prompt.clone(),
            Self::Attempt => item.for_text.attempt.to_string(),
        };
        one_line(&harmless(&text), MAX_CELL_CHARS).into()
    }
}

fn status_cell(item: &Item) -> Cell {
    match item.status {
        Some(status) => Cell::new(color(status), status.as_str()),
        None => Cell::new(RED, "unreadable"),
    }
}

fn labels(item: &Item) -> String {
    let labels = item.labels.iter().map(|(key, value)| format!("{key}={value}"));
    labels.collect::<Vec<String>>().join(",")
}

/// Returns what the job does or needs now, or how it has ended.
fn now_or_result(item: &Item) -> String {
    if let Some(notification) = item.undelivered_notifications.first() {
        return format!("not delivered: {}", undelivered(notification));
    }
    if let Some(blocked) = &item.blocked {
        return open_request(blocked);
    }
    // The last answer of an idle job says more than that it waits for a message.
    if let Some(wait) = &item.waiting_for
        && wait.kind != WaitKind::Message
    {
        return wait_reason(wait);
    }
    if let Some(activity) = &item.activity
        && item.status != Some(Status::Idle)
    {
        return activity_text(activity);
    }
    match (&item.error, &item.for_text.result) {
        (Some(error), _) => failure(item.reason, error),
        (None, Some(result)) => result.clone(),
        (None, None) => item.prompt.clone(),
    }
}
