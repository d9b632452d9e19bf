//! All about one job.

use std::time::Duration;

use maud::{Markup, html};

use super::conversation::{Conversation, Cut};
use super::{anchor, dollars, mark, tone};
use crate::job::{Record, Timestamp};
use crate::text::{grouped, harmless, one_line, short};

/// Characters shown of a sentence in the record.
const SENTENCE_SHOWN: usize = 4_000;

/// A job's prompt.
#[derive(Debug, Default)]
pub struct Prompt {
    /// Its text.
    pub text: String,
    /// Bytes of it that are not in `text`.
    pub omitted: u64,
}

/// The section of a job whose record, under this id, can be read.
pub fn section(
    id: &str,
    record: &Record,
    prompt: &Prompt,
    conversation: &Conversation,
    open: bool,
    now: Timestamp,
) -> Markup {
    let tone = tone(record.status);
    let verdict = record.reason.map_or(String::new(), |reason| format!(" ({reason})"));
    let took = took(record, now).map(short);
    let sentence = |text: &str| Cut::of(text, SENTENCE_SHOWN).text;
    html! {
        details.job open[open] {
            summary {
                b.mark.(tone) { (mark(record.status)) }
                span.id { (id) }
                span.status.(tone) { (record.status.as_str()) (verdict) }
                @if let Some(took) = &took { span.dim { (took) } }
                @if let Some(usd) = record.cost_usd { span.dim { (dollars(usd, 2)) } }
                span.about { (harmless(&one_line(&record.prompt, 120))) }
            }
            // Not the whole, so that a link to it opens what is closed.
            div.body id=(anchor(id)) {
                @if let Some(error) = &record.error {
                    p.error { (sentence(error)) }
                }
                @for warning in &record.warnings {
                    p.warning { (sentence(warning)) }
                }
                dl {
                    (row("started", record.started_at.map(second)))
                    (row("ended", record.ended_at.map(second)))
                    (row(if record.status.is_live() { "for" } else { "took" }, took))
                    (row("queued", waited(record.queued_ms)))
                    (row("waited to try again", waited(record.limited_ms)))
                    (row("model", record.model.as_deref().map(|model| harmless(&one_line(model, 200)))))
                    (row("turns", Some(grouped(record.num_turns))))
                    (row("cost", record.cost_usd.map(|usd| dollars(usd, 4))))
                    (row("attempts", (record.attempt > 1).then(|| record.attempt.to_string())))
                    (row("group", record.spec.admission.group.as_deref().map(|group| harmless(&one_line(group, 200)))))
                    @if !record.spec.labels.is_empty() {
                        div {
                            dt { "labels" }
                            dd {
                                @for (key, value) in &record.spec.labels {
                                    span.label { (harmless(&one_line(&format!("{key}={value}"), 400))) } " "
                                }
                            }
                        }
                    }
                    (row("folder", Some(harmless(&one_line(&record.spec.cwd, 1_000)))))
                    (row("session", record.session_id.as_deref().map(|id| harmless(&one_line(id, 100)))))
                }
                h3 { "Prompt" }
                pre.prompt dir="auto" { (harmless(prompt.text.trim_end())) }
                @if prompt.omitted > 0 {
                    p.more { "… " (grouped(prompt.omitted)) " more bytes in prompt.txt" }
                }
                h3 { "Conversation" }
                (conversation.markup())
            }
        }
    }
}

/// The section of a job whose record cannot be read.
pub fn unreadable(id: &str, why: &str, open: bool) -> Markup {
    html! {
        details.job open[open] {
            summary {
                b.mark.bad { "?" }
                span.id { (id) }
                span.status.bad { "unreadable" }
            }
            div.body id=(anchor(id)) { p.error { (Cut::of(why, SENTENCE_SHOWN).text) } }
        }
    }
}

fn row(name: &str, value: Option<String>) -> Markup {
    html! {
        @if let Some(value) = value.filter(|value| !value.is_empty()) {
            div { dt { (name) } dd { (value) } }
        }
    }
}

fn second(at: Timestamp) -> String {
    format!("{} {} UTC", at.day(), at.time_of_day())
}

fn waited(ms: u64) -> Option<String> {
    (ms > 0).then(|| short(Duration::from_millis(ms)))
}

/// How long the job was live. What the record of a live one says of that is a moment old at best.
fn took(record: &Record, now: Timestamp) -> Option<Duration> {
    if record.status.is_live() {
        return record.started_at.map(|at| now.since(at));
    }
    let between = || Some(record.ended_at?.since(record.started_at?));
    record.elapsed_ms.map(Duration::from_millis).or_else(between)
}
