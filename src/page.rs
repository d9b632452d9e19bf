//! HTML page of jobs, for a browser and for passing on: one file without scripts and without
//! external resources.
//!
//! Pure: takes jobs, returns markup. The page is rendered in parts, so that a page of many jobs is
//! never held in memory as a whole. The templates escape all text of models, tools and callers.

mod conversation;
mod diff;
mod excerpt;
mod section;
mod timeline;

use std::collections::BTreeMap;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::job::{Status, Timestamp};
use crate::text::{format_duration, format_number, format_usd, plural};

pub(crate) use conversation::{AttemptBoundaries, Conversation};
pub(crate) use diff::{Diff, LineChange};
pub(crate) use section::{PromptExcerpt, section, unreadable_section};
pub(crate) use timeline::{TimelineRow, timeline};

const STYLE: &str = include_str!("page/style.css");

/// Allows only the page's own style, in case a script or a link ever gets into the page.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; \
                      base-uri 'none'; form-action 'none'";

/// PageTotals of all jobs on a page.
#[derive(Debug, Default)]
pub(crate) struct PageTotals {
    /// Number of jobs with each status.
    pub by_status: BTreeMap<Status, usize>,
    /// Number of jobs whose record cannot be read.
    pub unreadable: usize,
    /// Cost in US dollars, as far as claude reported it.
    pub cost_usd: f64,
    /// When the first job was requested, and when the last one ended; now if one is live.
    pub span: Option<(Timestamp, Timestamp)>,
}

impl PageTotals {
    /// Returns the number of jobs.
    pub(crate) fn jobs(&self) -> usize {
        self.by_status.values().sum::<usize>() + self.unreadable
    }
}

/// Returns the beginning of a page: its head and the totals.
pub(crate) fn header(totals: &PageTotals, now: Timestamp) -> Markup {
    let jobs = plural(totals.jobs(), "job");
    html! {
        (DOCTYPE)
        // `footer` closes `html` and `body`; every other element is closed here.
        (PreEscaped("<html lang=\"en\">"))
        head {
            meta charset="utf-8";
            meta http-equiv="Content-Security-Policy" content=(POLICY);
            meta name="referrer" content="no-referrer";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { "claudejob: " (jobs) }
            style { (PreEscaped(STYLE)) }
        }
        (PreEscaped("<body>"))
        header {
            h1 { (jobs) }
            ul.totals {
                @for (status, n) in &totals.by_status {
                    li { b.(status_class(*status)) { (status_symbol(*status)) " " (format_number(*n as u64)) } " " (status.as_str()) }
                }
                @if totals.unreadable > 0 {
                    li { b.bad { "? " (totals.unreadable) } " unreadable" }
                }
                li { b { (format_usd(totals.cost_usd)) } " cost" }
                @if let Some((from, to)) = totals.span {
                    li { b { (format_duration(to.since(from))) } " from " (minute(from)) " to " (minute(to)) " UTC" }
                }
            }
            p.dim { "As of " (minute(now)) " UTC." }
        }
    }
}

/// Returns the heading above the sections of the jobs.
pub(crate) fn sections_heading() -> Markup {
    html! { h2 { "Jobs" } }
}

/// Returns the end of a page.
pub(crate) fn footer() -> Markup {
    PreEscaped("</body></html>\n".to_owned())
}

/// Formats a time as `2026-11-20 21:45`.
fn minute(at: Timestamp) -> String {
    format!("{} {}", at.day(), &at.time_of_day()[..5])
}

/// Returns the CSS class that colours a status.
fn status_class(status: Status) -> &'static str {
    match status {
        Status::Completed => "ok",
        Status::Failed => "bad",
        Status::Killed => "warn",
        Status::Queued | Status::Starting | Status::Running | Status::Blocked | Status::Idle => {
            "live"
        }
    }
}

/// Returns the symbol that shows a status without colour.
fn status_symbol(status: Status) -> &'static str {
    match status {
        Status::Completed => "✓",
        Status::Failed => "✗",
        Status::Killed => "■",
        Status::Queued | Status::Starting | Status::Running | Status::Blocked | Status::Idle => "▸",
    }
}

/// Returns the URL fragment of a job's section.
fn anchor(id: &str) -> String {
    format!("job-{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_has_no_external_resources() {
        let page = header(&PageTotals::default(), Timestamp::from_epoch_ms(0).unwrap()).0;
        assert!(page.contains("default-src 'none'; style-src 'unsafe-inline'; img-src data:"));
        for word in ["http://", "https://", "url(", "@import", "src=", "href=", "<script"] {
            assert!(!page.contains(word), "{word}");
        }
    }
}
