//! The rows of the list.

use anstyle::Style;
use unicode_width::UnicodeWidthStr;

use super::{TopJob, TopModel};
use crate::job::{Status, Timestamp, WaitKind};
use crate::output::{PLAIN, RED, color, open_request, pad, short_path, wait_reason};
use crate::text::{format_cost, format_duration, harmless, one_line};

/// Space between two columns.
const GAP: usize = 2;
/// Width of the mark of the chosen row.
pub(super) const MARK_WIDTH: usize = 2;
/// Least width of the last column.
const MIN_LAST: usize = 12;
/// Longest text of a cell, which is cut at the width of the screen anyway.
const MAX_CELL_CHARS: usize = 500;

/// A column of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TopColumn {
    Job,
    Status,
    Time,
    Cost,
    Group,
    Folder,
    Now,
}

impl TopColumn {
    /// All but the last, in the order of their importance, with the width of the screen from which
    /// each is shown.
    const BY_WIDTH: [(Self, usize); 6] = [
        (Self::Job, 0),
        (Self::Status, 30),
        (Self::Time, 48),
        (Self::Cost, 60),
        (Self::Group, 120),
        (Self::Folder, 140),
    ];

    fn head(self) -> &'static str {
        match self {
            Self::Job => "JOB",
            Self::Status => "STATUS",
            Self::Time => "TIME",
            Self::Cost => "COST",
            Self::Group => "GROUP",
            Self::Folder => "FOLDER",
            Self::Now => "NOW",
        }
    }

    fn is_right(self) -> bool {
        matches!(self, Self::Time | Self::Cost)
    }

    /// Returns the largest width on a screen of this width.
    fn max_width(self, screen: usize) -> usize {
        match self {
            Self::Job => (screen / 4).clamp(8, 32),
            Self::Group => 16,
            Self::Folder => screen / 5,
            _ => MIN_LAST,
        }
    }

    fn cell(self, job: &TopJob, now: Timestamp) -> (Style, String) {
        let text = match self {
            Self::Job => job.id.to_string(),
            Self::Status => return status_cell(job),
            Self::Time => time(job, now),
            Self::Cost => match job.cost_usd {
                Some(usd) => format_cost(usd, job.cost_is_lower_bound),
                None => String::new(),
            },
            Self::Group => job.place.group.clone().unwrap_or_default(),
            Self::Folder => short_path(&job.place.folder),
            Self::Now => now_text(job),
        };
        (PLAIN, one_line(&harmless(&text), MAX_CELL_CHARS))
    }
}

/// The visible rows of the list, with the widths of their columns.
pub(super) struct TopTable {
    columns: Vec<(TopColumn, usize)>,
    rows: Vec<Vec<(Style, String)>>,
}

impl TopTable {
    /// Returns the visible rows for a screen of this width.
    pub(super) fn new(model: &TopModel, width: usize) -> Self {
        let mut columns: Vec<TopColumn> = Vec::new();
        for (column, from) in TopColumn::BY_WIDTH {
            if width >= from {
                columns.push(column);
            }
        }
        let group_is_empty = model.visible_jobs().all(|job| job.place.group.is_none());
        columns.retain(|column| *column != TopColumn::Group || !group_is_empty);
        columns.push(TopColumn::Now);
        let row = |job: &TopJob| columns.iter().map(|column| column.cell(job, model.now)).collect();
        let rows: Vec<Vec<(Style, String)>> = model.visible_jobs().map(row).collect();
        let mut widths = Vec::new();
        let mut used = MARK_WIDTH;
        for (at, column) in columns.iter().enumerate() {
            let widest = rows.iter().map(|row| row[at].1.width()).max().unwrap_or_default();
            let wanted = widest.max(column.head().width()).min(column.max_width(width));
            let wanted = if *column == TopColumn::Now { usize::MAX } else { wanted };
            let wanted = wanted.min(width.saturating_sub(used));
            widths.push((*column, wanted));
            used += wanted.saturating_add(GAP);
        }
        Self { columns: widths, rows }
    }

    /// Returns the heads of the columns as one line.
    pub(super) fn heads(&self) -> String {
        let mut line = " ".repeat(MARK_WIDTH);
        for (column, width) in &self.columns {
            line.push_str(&pad(column.head(), *width, column.is_right()));
            line.push_str(&" ".repeat(GAP));
        }
        line
    }

    /// Returns the parts of each row.
    pub(super) fn rows(&self) -> impl Iterator<Item = Vec<(Style, String)>> {
        self.rows.iter().map(|row| {
            let mut parts = Vec::new();
            for ((column, width), (style, text)) in self.columns.iter().zip(row) {
                let text = pad(text, *width, column.is_right()) + &" ".repeat(GAP);
                parts.push((*style, text));
            }
            parts
        })
    }
}

fn status_cell(job: &TopJob) -> (Style, String) {
    let Some(status) = job.status else { return (RED, "unreadable".to_owned()) };
    let word = match &job.waiting_for {
        Some(wait) if matches!(wait.kind, WaitKind::Limit | WaitKind::Retry) => "waiting",
        _ => status.as_str(),
    };
    (color(status), word.to_owned())
}

/// Returns how long a blocked job waits for its answer, how long ago an ended one ended, and how
/// long any other one works or waits.
fn time(job: &TopJob, now: Timestamp) -> String {
    let since = match (job.status, &job.blocked, job.work_time) {
        (Some(Status::Blocked), Some(blocked), _) => now.since(blocked.since),
        (Some(status), ..) if !status.is_live() => match job.ended_at {
            Some(at) => return format!("{} ago", format_duration(now.since(at))),
            None => return String::new(),
        },
        (_, _, Some(time)) => time.at(now),
        _ => match job.started_at {
            Some(at) => now.since(at),
            None => return String::new(),
        },
    };
    format_duration(since)
}

/// Returns what the job asks, waits for or does, or how it has ended.
pub(super) fn now_text(job: &TopJob) -> String {
    if let Some(blocked) = &job.blocked {
        return open_request(blocked);
    }
    // The last answer of an idle job says more than that it waits for a message.
    if let Some(wait) = &job.waiting_for
        && wait.kind != WaitKind::Message
    {
        return wait_reason(wait);
    }
    match &job.text {
        Some(text) if !text.is_empty() => text.clone(),
        _ => job.prompt.clone(),
    }
}
