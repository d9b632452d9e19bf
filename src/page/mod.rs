//! Jobs as a page to read in a browser and to hand on: one file of HTML, without any program in
//! it and without anything that it would have to fetch.
//!
//! Pure: jobs in, markup out, a piece at a time, so that a page of many jobs is never held whole.
//! Whatever a model, a tool or a caller said is text here: the templates escape it.

mod conversation;
mod diff;
mod section;
mod timeline;

use std::collections::BTreeMap;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::job::{Status, Timestamp};
use crate::text::{count, grouped, short};

pub use conversation::{Attempts, Conversation};
pub use section::{Prompt, section, unreadable};
pub use timeline::{Row, timeline};

const STYLE: &str = include_str!("style.css");

/// Nothing but the style in the page itself may take effect, should anything else ever get in.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; \
                      base-uri 'none'; form-action 'none'";

/// What all jobs of a page came to.
#[derive(Debug, Default)]
pub struct Totals {
    /// How many of each status.
    pub by_status: BTreeMap<Status, usize>,
    /// Jobs whose record cannot be read.
    pub unreadable: usize,
    /// US dollars as far as claude reported them.
    pub cost_usd: f64,
    /// When the first one was asked for, and when the last one ended, or now.
    pub span: Option<(Timestamp, Timestamp)>,
}

impl Totals {
    /// How many jobs there are.
    pub fn jobs(&self) -> usize {
        self.by_status.values().sum::<usize>() + self.unreadable
    }
}

/// The beginning of a page: its head, and what all jobs came to.
pub fn opening(totals: &Totals, now: Timestamp) -> Markup {
    let jobs = count(totals.jobs(), "job");
    html! {
        (DOCTYPE)
        // The rest is closed by `closing`; the parser needs no other tags for that.
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
                    li { b.(tone(*status)) { (mark(*status)) " " (grouped(*n as u64)) } " " (status.as_str()) }
                }
                @if totals.unreadable > 0 {
                    li { b.bad { "? " (totals.unreadable) } " unreadable" }
                }
                li { b { (dollars(totals.cost_usd, 2)) } " cost" }
                @if let Some((from, to)) = totals.span {
                    li { b { (short(to.since(from))) } " from " (minute(from)) " to " (minute(to)) " UTC" }
                }
            }
            p.dim { "As of " (minute(now)) " UTC." }
        }
    }
}

/// What stands before the sections of the jobs.
pub fn sections() -> Markup {
    html! { h2 { "Jobs" } }
}

/// The end of a page.
pub fn closing() -> Markup {
    PreEscaped("</body></html>\n".to_owned())
}

/// `2026-11-20 21:45`.
fn minute(at: Timestamp) -> String {
    format!("{} {}", at.day(), &at.time_of_day()[..5])
}

fn dollars(usd: f64, places: usize) -> String {
    format!("${usd:.places$}")
}

/// The class that a status is coloured by.
fn tone(status: Status) -> &'static str {
    match status {
        Status::Completed => "ok",
        Status::Failed => "bad",
        Status::Killed => "warn",
        Status::Queued | Status::Starting | Status::Running | Status::Blocked | Status::Idle => {
            "live"
        }
    }
}

/// What a status is known by where there is no colour.
fn mark(status: Status) -> &'static str {
    match status {
        Status::Completed => "✓",
        Status::Failed => "✗",
        Status::Killed => "■",
        Status::Queued | Status::Starting | Status::Running | Status::Blocked | Status::Idle => "▸",
    }
}

/// The fragment by which a job's section is found in the page.
fn anchor(id: &str) -> String {
    format!("job-{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_asks_nobody_for_anything() {
        let page = opening(&Totals::default(), Timestamp::from_epoch_ms(0).unwrap()).0;
        assert!(page.contains("default-src 'none'; style-src 'unsafe-inline'; img-src data:"));
        for word in ["http://", "https://", "url(", "@import", "src=", "href=", "<script"] {
            assert!(!page.contains(word), "{word}");
        }
    }
}
