//! Text form of `wait`.

use std::time::Duration;

use super::{WaitAnswer, Waited};
use crate::clock;
use crate::commands::markdown;
use crate::commands::result::ResultAnswer;
use crate::error::ExitStatus;
use crate::job::{JobId, Lifetime, Reason, Status};
use crate::output::{
    Answer, Cell, Column, DIM, RED, Table, color, columns, failure, now_text, painted,
};
use crate::text::{format_cost, format_duration, harmless, one_line, plural, round_usd};

/// Longest text of a cell.
const MAX_CELL_CHARS: usize = 1_000;
/// The least width of the last column.
const MIN_LAST: usize = 10;
/// Columns that the other ones need at least beside an id.
const MIN_BESIDE_ID: usize = 50;
const MIN_ID: usize = 12;

impl Answer for WaitAnswer {
    fn text(&self) -> String {
        match self.jobs.as_slice() {
            [] => "No job to wait for.\n".to_owned(),
            [one] if !self.is_several => match one {
                Waited::Ended(result) => result.text(),
                Waited::Live(status) => status.text(),
                Waited::Short(_) => self.table(&self.jobs),
                Waited::Failed(failed) => {
                    let mut text = String::new();
                    failed.push_to(&mut text);
                    text
                }
            },
            several => self.table(several),
        }
    }

    fn quiet(&self) -> Option<String> {
        match self.jobs.as_slice() {
            [Waited::Ended(result)] if !self.is_several => result.quiet(),
            _ => Some(String::new()),
        }
    }

    fn markdown(&self) -> Option<String> {
        let parts: Vec<String> = self.jobs.iter().map(Waited::markdown).collect();
        Some(parts.join("\n"))
    }

    fn ids(&self) -> Option<Vec<JobId>> {
        Some(self.jobs.iter().filter_map(Waited::id).cloned().collect())
    }

    fn failures(&self) -> String {
        let mut text = String::new();
        for job in &self.jobs {
            match job {
                Waited::Ended(result) => text += &result.failures(),
                Waited::Failed(failed) => failed.push_to(&mut text),
                Waited::Live(_) | Waited::Short(_) => {}
            }
        }
        text
    }

    fn exit_status(&self) -> ExitStatus {
        self.exit_status
    }
}

impl WaitAnswer {
    /// Returns a table of the jobs, and their sum.
    fn table(&self, jobs: &[Waited]) -> String {
        let id_width = columns().saturating_sub(MIN_BESIDE_ID).max(MIN_ID);
        let mut table = Table::new(vec![
            Column::left("JOB").at_most(id_width),
            Column::left("STATUS"),
            Column::right("TIME"),
            Column::right("COST"),
            Column::left("RESULT"),
        ]);
        let rows: Vec<WaitRow> = jobs.iter().map(WaitRow::new).collect();
        for row in &rows {
            table.push(row.cells());
        }
        let fitted = table.fitted(columns(), MIN_LAST);
        let mut text = fitted.head();
        text.extend(fitted.rows());
        text.push_str(&sum(&rows));
        let mut cut = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            let is_whole = !row.is_truncated && !row.said.trim().contains('\n');
            if row.is_answer && (fitted.cuts_last_cell(index) || !is_whole) {
                cut.push(row.id.as_str());
            }
        }
        if let Some(first) = cut.first() {
            let id = if cut.len() == 1 { first } else { "JOB" };
            let command = self.address.apply(format!("claudejob result {id}"));
            let rest = if cut.len() == 1 { "the whole answer" } else { "a whole answer" };
            text.push_str(&painted(DIM, &format!("{command} shows {rest}\n")));
        }
        for (status, verb, one, several) in [
            (Status::Failed, "status", "shows why it failed", "shows why a job failed"),
            (Status::Blocked, "answer", "answers its request", "answers a request"),
        ] {
            let mut ids = rows.iter().filter(|row| row.status == Some(status)).map(|row| &row.id);
            let Some(first) = ids.next() else { continue };
            let (id, what) = match ids.next() {
                None => (first.as_str(), one),
                Some(_) => ("JOB", several),
            };
            let command = self.address.apply(format!("claudejob {verb} {id}"));
            text.push_str(&painted(DIM, &format!("{command} {what}\n")));
        }
        text
    }
}

/// A job in the table.
pub(super) struct WaitRow {
    id: String,
    /// `None` if its record cannot be read.
    status: Option<Status>,
    /// It was removed.
    is_missing: bool,
    pub(super) lifetime: Lifetime,
    /// The cost, and whether it is a lower bound.
    pub(super) cost: Option<(f64, bool)>,
    /// The answer, the error, or what the job does.
    said: String,
    is_answer: bool,
    /// It is only the beginning.
    is_truncated: bool,
}

impl WaitRow {
    pub(super) fn new(job: &Waited) -> Self {
        match job {
            Waited::Ended(ResultAnswer::Ended(ended)) => {
                let outcome = &ended.outcome;
                let output = outcome.structured_output.as_ref().map(ToString::to_string);
                let answer = outcome.result.clone().or(output);
                let (said, is_answer) = said(outcome.reason, outcome.error.as_ref(), answer);
                Self {
                    id: outcome.job_id.to_string(),
                    status: Some(outcome.status),
                    is_missing: false,
                    lifetime: ended.lifetime,
                    cost: outcome.cost_usd.map(|usd| (usd, outcome.cost_is_lower_bound)),
                    said,
                    is_answer,
                    is_truncated: ended.truncated,
                }
            }
            Waited::Ended(ResultAnswer::Pending(pending)) => {
                Self::bare(pending.job_id.to_string(), Some(pending.status))
            }
            Waited::Live(live) => Self {
                lifetime: Lifetime {
                    started_at: live.started_at,
                    ended_at: live.ended_at,
                    work_time: live.work_time,
                },
                cost: live.cost_usd.map(|usd| (usd, live.cost_is_lower_bound)),
                said: now_text(live),
                ..Self::bare(live.job_id.to_string(), Some(live.status))
            },
            Waited::Short(short) => {
                let (said, is_answer) =
                    said(short.reason, short.error.as_ref(), short.result.clone());
                Self {
                    lifetime: short.lifetime,
                    cost: short.cost,
                    said,
                    is_answer,
                    is_truncated: true,
                    ..Self::bare(short.job_id.to_string(), Some(short.status))
                }
            }
            Waited::Failed(failed) => {
                let is_missing = failed.status.is_some();
                Self {
                    said: failed.error.clone(),
                    is_missing,
                    ..Self::bare(failed.job_id.to_string(), None)
                }
            }
        }
    }

    fn bare(id: String, status: Option<Status>) -> Self {
        Self {
            id,
            status,
            is_missing: false,
            lifetime: Lifetime::default(),
            cost: None,
            said: String::new(),
            is_answer: false,
            is_truncated: false,
        }
    }

    fn cells(&self) -> Vec<Cell> {
        let status = match self.status {
            Some(status) => Cell::new(color(status), status.as_str()),
            None if self.is_missing => Cell::new(RED, "not found"),
            None => Cell::new(RED, "unreadable"),
        };
        let time = match self.lifetime.work_time {
            Some(time) => format_duration(time.at(clock::now())),
            None => String::new(),
        };
        let cost = match self.cost {
            Some((usd, is_lower_bound)) => format_cost(usd, is_lower_bound),
            None => String::new(),
        };
        let said = harmless(self.said.trim().lines().next().unwrap_or_default());
        vec![
            self.id.as_str().into(),
            status,
            time.into(),
            cost.into(),
            one_line(&said, MAX_CELL_CHARS).into(),
        ]
    }
}

/// Returns the text of an ended job, and whether it is its answer.
fn said(reason: Option<Reason>, error: Option<&String>, answer: Option<String>) -> (String, bool) {
    match (error, answer) {
        (Some(error), _) => (failure(reason, error), false),
        (None, Some(answer)) => (answer, true),
        (None, None) => (String::new(), false),
    }
}

/// Returns `3 jobs: 2 completed, 1 failed · 3m 40s · ≥$0.67`: the time from the first start to the
/// last end, and the cost of all jobs.
fn sum(rows: &[WaitRow]) -> String {
    let mut counts = Vec::new();
    let (live, ended): (Vec<Status>, Vec<Status>) =
        Status::ALL.into_iter().partition(|status| status.is_live());
    for status in ended.into_iter().chain(live) {
        let count = rows.iter().filter(|row| row.status == Some(status)).count();
        if count > 0 {
            counts.push(format!("{count} {status}"));
        }
    }
    for (is_missing, word) in [(true, "not found"), (false, "unreadable")] {
        let is_counted = |row: &&WaitRow| row.status.is_none() && row.is_missing == is_missing;
        let count = rows.iter().filter(is_counted).count();
        if count > 0 {
            counts.push(format!("{count} {word}"));
        }
    }
    let mut parts = vec![format!("{}: {}", plural(rows.len(), "job"), counts.join(", "))];
    if let Some(time) = span(rows) {
        parts.push(format_duration(time));
    }
    let costs: Vec<(f64, bool)> = rows.iter().filter_map(|row| row.cost).collect();
    if !costs.is_empty() {
        let usd = costs.iter().map(|(usd, _)| usd).sum();
        parts.push(format_cost(round_usd(usd), costs.iter().any(|(_, is_lower)| *is_lower)));
    }
    parts.join(" · ") + "\n"
}

/// Returns the time from the first start to the last end, or to now.
fn span(rows: &[WaitRow]) -> Option<Duration> {
    let first = rows.iter().filter_map(|row| row.lifetime.started_at).min()?;
    let mut last = first;
    for row in rows {
        if row.lifetime.started_at.is_some() {
            last = last.max(row.lifetime.ended_at.unwrap_or_else(clock::now));
        }
    }
    Some(last.since(first))
}

impl Waited {
    /// Returns the job's id; `None` if the wait for it failed.
    fn id(&self) -> Option<&JobId> {
        match self {
            Self::Ended(result) => Some(result.job_id()),
            Self::Live(status) => Some(&status.job_id),
            Self::Short(short) => Some(&short.job_id),
            Self::Failed(_) => None,
        }
    }

    fn markdown(&self) -> String {
        match self {
            Self::Ended(result) => result.markdown().unwrap_or_default(),
            Self::Live(status) => markdown::heading(&status.job_id, status.status.as_str()),
            Self::Short(short) => markdown::heading(&short.job_id, short.status.as_str()),
            Self::Failed(failed) => markdown::failed(&failed.job_id, &failed.error),
        }
    }
}
