//! Text form of `list`.

use anstyle::Style;
use unicode_width::UnicodeWidthStr;

use super::{Item, ListAnswer};
use crate::clock;
use crate::job::{Status, Timestamp};
use crate::output::{
    Answer, DIM, RED, activity_text, color, columns, fit, open_request, pad, painted, undelivered,
    wait_reason,
};
use crate::text::{format_duration, harmless, one_line};

/// The head of each column, and whether it is aligned to the right. The last one gets the rest of the
/// line.
const COLUMNS: [(&str, bool); 5] =
    [("JOB", false), (STATUS, false), ("AGE", true), ("COST", true), ("NOW", false)];
/// This column has the color of the job's status.
const STATUS: &str = "STATUS";
const LAST: usize = COLUMNS.len() - 1;
const GAP: &str = "  ";

type Cells = [String; COLUMNS.len()];

impl Answer for ListAnswer {
    fn text(&self) -> String {
        text(self)
    }
}

fn text(answer: &ListAnswer) -> String {
    let items: Vec<Item> = answer.items().collect();
    if items.is_empty() {
        return match answer.has_jobs {
            true => "No matching jobs. claudejob list --all lists all jobs.\n".to_owned(),
            false => "No jobs. claudejob start --prompt \"…\" starts a job.\n".to_owned(),
        };
    }
    let now = clock::now();
    let mut rows = vec![COLUMNS.map(|(head, _)| head.to_owned())];
    rows.extend(items.iter().map(|item| cells(item, now)));
    let widths = widths(&rows);
    let mut text = painted(DIM, &line(&rows[0], widths, Style::new()));
    for (row, item) in rows[1..].iter().zip(&items) {
        text.push_str(&line(row, widths, item.status.map_or(RED, color)));
    }
    if answer.omitted > 0 {
        let more = format!("… and {} more: claudejob list --all\n", answer.omitted);
        text.push_str(&painted(DIM, &more));
    }
    text
}

/// Returns the width of each column, so that a line fits the terminal.
fn widths(rows: &[Cells]) -> [usize; COLUMNS.len()] {
    let mut left = columns();
    let mut widths = [0; COLUMNS.len()];
    for column in 0..LAST {
        let widest = rows.iter().map(|row| row[column].width()).max();
        widths[column] = widest.unwrap_or(0).min(40);
        left = left.saturating_sub(widths[column] + GAP.len());
    }
    widths[LAST] = left.max(8);
    widths
}

fn line(cells: &Cells, widths: [usize; COLUMNS.len()], status: Style) -> String {
    let mut line = String::new();
    for column in 0..LAST {
        let (head, is_right) = COLUMNS[column];
        let cell = pad(&cells[column], widths[column], is_right);
        line += &if head == STATUS { painted(status, &cell) } else { cell };
        line += GAP;
    }
    line + &fit(&cells[LAST], widths[LAST]) + "\n"
}

fn cells(item: &Item, now: Timestamp) -> Cells {
    let status = match (item.status, item.reason) {
        (None, _) => "unreadable".to_owned(),
        (Some(_), Some(reason)) => format!("failed: {reason}"),
        (Some(status), None) => status.to_string(),
    };
    let age = item.started_at.map(|at| format_duration(now.since(at))).unwrap_or_default();
    let least = if item.cost_is_lower_bound { "≥" } else { "" };
    let cost = item.cost_usd.map(|usd| format!("{least}${usd:.2}")).unwrap_or_default();
    let now = match (&item.activity, &item.error) {
        _ if !item.undelivered_notifications.is_empty() => {
            format!("not delivered: {}", undelivered(&item.undelivered_notifications[0]))
        }
        _ if item.blocked.is_some() => item.blocked.as_ref().map(open_request).unwrap_or_default(),
        _ if item.position.is_some() && !item.rate_limited => {
            format!("position {} in queue: {}", item.position.unwrap_or_default(), item.prompt)
        }
        _ if item.status == Some(Status::Idle) => item.prompt.clone(),
        _ if item.waiting_for.is_some() => {
            let wait = item.waiting_for.as_ref().map(wait_reason).unwrap_or_default();
            format!("{wait}: {}", item.prompt)
        }
        (Some(activity), _) => activity_text(activity),
        (None, Some(error)) => error.clone(),
        (None, None) => item.prompt.clone(),
    };
    [item.job_id.to_string(), status, age, cost, one_line(&harmless(&now), 200)]
}
