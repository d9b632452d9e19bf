//! Conversations with jobs end to end, with the fake claude: messages, interrupts, questions, and
//! jobs that are resumed after their end.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "conversation/follow_events.rs"]
mod follow_events;
#[path = "conversation/keep_alive.rs"]
mod keep_alive;
#[path = "conversation/messages.rs"]
mod messages;
#[path = "conversation/questions.rs"]
mod questions;
#[path = "conversation/resume.rs"]
mod resume;
#[path = "conversation/stopped.rs"]
mod stopped;
mod support;

use std::fs;

use serde_json::Value;
use support::{Sandbox, eventually};

fn lines(sandbox: &Sandbox, file: &str) -> Vec<String> {
    let text = fs::read_to_string(sandbox.path(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn turns(sandbox: &Sandbox, id: &str) -> Vec<Value> {
    let text = fs::read_to_string(sandbox.job(id).join("turns.ndjson")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn inbox(sandbox: &Sandbox, id: &str) -> Vec<String> {
    let entries = fs::read_dir(sandbox.job(id).join("inbox")).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.starts_with('.')).collect()
}

/// Waits until the worker has read a text of claude: only then it knows of the turn.
#[track_caller]
fn await_heard(sandbox: &Sandbox, id: &str, text: &str) {
    let log = sandbox.job(id).join("output.log");
    eventually(text, || fs::read_to_string(&log).ok()?.contains(text).then_some(()));
}
