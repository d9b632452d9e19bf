//! Lines on the terminal that show the progress of jobs.

use std::io::{self, Write as _};

use super::layout::{fit, size_of};
use super::table::{Cell, Column, Table};
use super::text::{activity_text, color, open_request, styled_for, wait_reason};
use crate::clock;
use crate::job::{StatusView, Timestamp, WaitKind};
use crate::text::{format_cost, format_duration, harmless, one_line};

/// Largest number of jobs in the block of several.
const MAX_JOBS: usize = 10;
/// Indentation of the jobs below the heading.
const INDENT: &str = "  ";
/// Longest text about what a job does.
const MAX_NOW_CHARS: usize = 400;

/// Lines on stderr that show the progress of jobs, drawn in place. They are cleared when dropped.
#[derive(Default)]
pub(crate) struct LiveLine {
    /// Number of lines that are shown.
    lines: usize,
}

impl LiveLine {
    /// Shows the current status of a job.
    pub(crate) fn show(&mut self, status: &StatusView) {
        self.draw(&[job_line(status, clock::now())]);
    }

    /// Shows the progress of several jobs, and the current status of those that are live.
    pub(crate) fn show_all(&mut self, progress: &str, live: &[&StatusView]) {
        let (width, height) = size_of(&io::stderr());
        let shown = live.len().min(MAX_JOBS).min(height.saturating_sub(3));
        let mut lines = vec![progress.to_owned()];
        let width = width.saturating_sub(INDENT.len() + 1);
        for row in job_table(&live[..shown], clock::now()).fitted(width, 10).rows() {
            lines.push(format!("{INDENT}{}", row.trim_end()));
        }
        if shown < live.len() {
            lines.push(format!("{INDENT}… and {} more", live.len() - shown));
        }
        self.draw(&lines);
    }

    /// Replaces the lines. Each must fit the terminal: a line that the terminal wraps could not be
    /// cleared.
    fn draw(&mut self, lines: &[String]) {
        let err = io::stderr();
        let (width, _) = size_of(&err);
        let mut text = self.clear_text();
        for (index, line) in lines.iter().enumerate() {
            if index > 0 {
                text.push('\n');
            }
            let is_plain = !line.contains('\x1b');
            let line = if is_plain { fit(line, width.saturating_sub(1)) } else { line.clone() };
            text.push_str(&styled_for(&err, &line));
        }
        let mut err = err.lock();
        let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
        self.lines = lines.len();
    }

    /// Returns the text that clears the lines.
    fn clear_text(&self) -> String {
        match self.lines {
            0 => String::new(),
            1 => "\r\x1b[J".to_owned(),
            lines => format!("\r\x1b[{}A\x1b[J", lines - 1),
        }
    }
}

impl Drop for LiveLine {
    fn drop(&mut self) {
        let mut err = io::stderr().lock();
        let _ = err.write_all(self.clear_text().as_bytes()).and_then(|()| err.flush());
    }
}

/// Returns `running 1m 12s · $0.12 · Bash: cargo test`.
pub(crate) fn job_line(status: &StatusView, now: Timestamp) -> String {
    let mut parts = vec![format!("{} {}", live_word(status), time(status, now))];
    if let Some(usd) = status.cost_usd {
        parts.push(format_cost(usd, status.cost_is_lower_bound));
    }
    let doing = now_text(status);
    if !doing.is_empty() {
        parts.push(doing);
    }
    parts.join(" · ")
}

fn job_table(jobs: &[&StatusView], now: Timestamp) -> Table {
    let columns = [Column::left(""), Column::left(""), Column::right(""), Column::left("")];
    let mut table = Table::new(columns.to_vec());
    for job in jobs {
        table.push(vec![
            job.job_id.as_str().into(),
            Cell::new(color(job.status), live_word(job)),
            time(job, now).into(),
            now_text(job).into(),
        ]);
    }
    table
}

/// Returns the status of a job. One that waits for a limit or its next attempt does not run.
pub(crate) fn live_word(status: &StatusView) -> &'static str {
    match &status.waiting_for {
        Some(wait) if matches!(wait.kind, WaitKind::Limit | WaitKind::Retry) => "waiting",
        _ => status.status.as_str(),
    }
}

/// Returns how long the job has worked, or how long it has waited for its first start.
fn time(status: &StatusView, now: Timestamp) -> String {
    match status.work_time {
        Some(time) => format_duration(time.at(now)),
        None => format_duration(status.age(now)),
    }
}

/// Returns what a live job does, asks or waits for.
pub(crate) fn now_text(status: &StatusView) -> String {
    let text = match (&status.blocked, &status.waiting_for, &status.activity) {
        (Some(blocked), ..) => open_request(blocked),
        (None, Some(wait), _) => wait_reason(wait),
        (None, None, Some(activity)) => activity_text(activity),
        (None, None, None) => String::new(),
    };
    one_line(&harmless(&text), MAX_NOW_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Activity, JobId, Record, Spec, Status, WaitingFor};

    #[test]
    fn the_line_says_what_the_job_does_or_waits_for() {
        let at = |s: i64| Timestamp::from_epoch_ms(s * 1_000).unwrap();
        let id = JobId::parse("j").unwrap();
        let mut record = Record::new(id, Spec::default(), String::new(), at(1_000));
        record.status = Status::Queued;
        let mut view = StatusView::from_record(&record);
        let why = "it is number 3 in the queue for a slot";
        view.waiting_for = Some(WaitingFor::new(WaitKind::Slot, None, why));
        assert_eq!(job_line(&view, at(1_012)), "queued 12s · number 3 in the queue");

        record.status = Status::Running;
        record.times.counted_since = Some(at(1_012));
        record.cost.usd = Some(0.123);
        let tool = Some("Bash".to_owned());
        record.activity = Some(Activity { tool, text: "cargo\u{1b}[2J\ntest".to_owned() });
        let view = StatusView::from_record(&record);
        let line = "running 1m 12s · $0.12 · Bash: cargo\u{fffd}[2J test";
        assert_eq!(job_line(&view, at(1_084)), line);

        // The end of the limit has passed: it is not named any more.
        record.waiting_for = Some(WaitingFor::new(WaitKind::Limit, Some(at(1_000)), "a limit"));
        record.cost.is_lower_bound = true;
        let view = StatusView::from_record(&record);
        assert_eq!(job_line(&view, at(1_194)), "waiting 3m 02s · ≥$0.12 · rate limit");
    }
}
