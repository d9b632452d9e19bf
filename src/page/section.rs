//! The section of one job on the page.

use maud::{Markup, html};

use super::conversation::Conversation;
use super::excerpt::Excerpt;
use super::{anchor, status_class, status_symbol};
use crate::job::{Record, Timestamp};
use crate::text::{format_cost, format_duration, format_ms, format_number, harmless, one_line};

/// Characters shown of an error or a warning in the record.
const MAX_SENTENCE_CHARS: usize = 4_000;

/// The beginning of a job's prompt.
#[derive(Debug, Default)]
pub(crate) struct PromptExcerpt {
    pub text: String,
    /// Bytes that are not in `text`.
    pub omitted_bytes: u64,
}

/// Renders the section of a job whose record can be read.
pub(crate) fn section(
    id: &str,
    record: &Record,
    prompt: &PromptExcerpt,
    conversation: &Conversation,
    open: bool,
    now: Timestamp,
) -> Markup {
    let class = status_class(record.status);
    let duration = match record.work_time() {
        Some(time) => format_duration(time.at(now)),
        None => String::new(),
    };
    html! {
        details.job open[open] {
            summary {
                b.mark.(class) { (status_symbol(record.status)) }
                span.id { (id) }
                span.status.(class) {
                    (record.status.as_str())
                    @if let Some(reason) = record.reason { " (" (reason.as_str()) ")" }
                }
                @if !duration.is_empty() { span.dim { (duration) } }
                @if let Some(usd) = record.cost.usd { span.dim { (cost_text(record, usd)) } }
                span.about { (shown(&record.prompt, 120)) }
            }
            // The anchor is inside `details`, so that following a link to it opens the section.
            div.body id=(anchor(id)) {
                @if let Some(error) = &record.error {
                    p.error { (sentence(error)) }
                }
                @for warning in &record.warnings {
                    p.warning { (sentence(warning)) }
                }
                (facts(record, &duration))
                h3 { "Prompt" }
                pre.prompt dir="auto" { (harmless(prompt.text.trim_end())) }
                @if prompt.omitted_bytes > 0 {
                    p.more { "… " (format_number(prompt.omitted_bytes)) " more bytes in prompt.txt" }
                }
                h3 { "Conversation" }
                (conversation.markup())
            }
        }
    }
}

/// Renders the table of facts about a job.
fn facts(record: &Record, duration: &str) -> Markup {
    let attempts =
        if record.attempt.number > 1 { record.attempt.number.to_string() } else { String::new() };
    let group = record.spec.queue_options.group.as_deref().unwrap_or_default();
    html! {
        dl {
            (row("started", &record.times.started_at.map(format_second).unwrap_or_default()))
            (row("ended", &record.times.ended_at.map(format_second).unwrap_or_default()))
            (row(if record.status.is_live() { "for" } else { "took" }, duration))
            (row("queued", &nonzero_duration(record.times.queued_ms)))
            (row("waited to retry", &nonzero_duration(record.times.limited_ms)))
            (row("model", &shown(record.model.as_deref().unwrap_or_default(), 200)))
            (row("turns", &format_number(record.progress.num_turns)))
            @if let Some(usd) = record.cost.usd { (row("cost", &cost_text(record, usd))) }
            (row("attempts", &attempts))
            (row("group", &shown(group, 200)))
            @if !record.spec.labels.is_empty() {
                div {
                    dt { "labels" }
                    dd {
                        @for (key, value) in &record.spec.labels {
                            span.label { (shown(&format!("{key}={value}"), 400)) } " "
                        }
                    }
                }
            }
            (row("directory", &shown(&record.spec.cwd, 1_000)))
            (row("session", &shown(record.session.id.as_deref().unwrap_or_default(), 100)))
        }
    }
}

/// Renders the section of a job whose record cannot be read.
pub(crate) fn unreadable_section(id: &str, why: &str, open: bool) -> Markup {
    html! {
        details.job open[open] {
            summary {
                b.mark.bad { "?" }
                span.id { (id) }
                span.status.bad { "unreadable" }
            }
            div.body id=(anchor(id)) { p.error { (sentence(why)) } }
        }
    }
}

/// Renders a fact; nothing if its value is empty.
fn row(name: &str, value: &str) -> Markup {
    html! {
        @if !value.is_empty() {
            div { dt { (name) } dd { (value) } }
        }
    }
}

/// Returns untrusted text on one line.
fn shown(text: &str, max_chars: usize) -> String {
    harmless(&one_line(text, max_chars))
}

fn sentence(text: &str) -> String {
    Excerpt::sanitized(text, MAX_SENTENCE_CHARS).text
}

fn format_second(at: Timestamp) -> String {
    format!("{} {} UTC", at.day(), at.time_of_day())
}

fn nonzero_duration(ms: u64) -> String {
    if ms == 0 { String::new() } else { format_ms(ms) }
}

fn cost_text(record: &Record, usd: f64) -> String {
    format_cost(usd, record.cost.is_lower_bound)
}
