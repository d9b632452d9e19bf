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
    let rows: Vec<[String; 5]> = items.iter().map(|item| cells(item, now)).collect();
    let heads = ["JOB", "STATUS", "AGE", "COST", "NOW"];
    let widths: [usize; 4] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].width());
        cells.chain([heads[column].len()]).max().unwrap_or(0).min(40)
    });
    let last = columns().saturating_sub(widths.iter().sum::<usize>() + 8).max(8);
    let mut text = String::new();
    let line = |cells: &[&str; 5], style: Style| {
        let padded: Vec<String> = (0..4)
            .map(|column| pad(cells[column], widths[column], column == 2 || column == 3))
            .collect();
        let status = painted(style, &padded[1]);
        let rest = fit(cells[4], last);
        format!("{}  {status}  {}  {}  {rest}\n", padded[0], padded[2], padded[3])
    };
    let head = heads.map(|head| head);
    text.push_str(&painted(DIM, &line(&head, Style::new())));
    for (row, item) in rows.iter().zip(&items) {
        let style = item.status.map_or(RED, color);
        text.push_str(&line(&row.each_ref().map(String::as_str), style));
    }
    if answer.omitted > 0 {
        let more = format!("… and {} more: claudejob list --all\n", answer.omitted);
        text.push_str(&painted(DIM, &more));
    }
    text
}

fn cells(item: &Item, now: Timestamp) -> [String; 5] {
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
