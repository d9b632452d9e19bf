//! Recorded streams of each tested version of the CLI against the committed table of verdicts:
//! whole, cut after each line, and cut inside each line.

use crate::job::{ClaudeOptions, FailOn, Limits};
use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use super::*;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/transcripts");

/// A row of `verdicts.json`, which the README beside it describes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Row {
    cli: String,
    stream: String,
    status: Status,
    #[serde(default)]
    reason: Option<Reason>,
    exit: Exit,
    #[serde(default)]
    stderr: String,
    #[serde(default)]
    kill_requested: bool,
    #[serde(default)]
    fail_on_denial: bool,
    #[serde(default)]
    json_schema: bool,
    #[serde(default = "minute")]
    background_wait_ms: u64,
    #[serde(default)]
    stdin_closed: bool,
    #[serde(default)]
    cost_is_lower_bound: bool,
    #[serde(default)]
    warnings: Vec<String>,
}

fn minute() -> u64 {
    60_000
}

fn rows() -> Vec<Row> {
    let table = std::fs::read(format!("{FIXTURES}/verdicts.json")).unwrap();
    serde_json::from_slice(&table).unwrap()
}

impl Row {
    fn path(&self) -> PathBuf {
        PathBuf::from(format!("{FIXTURES}/{}/{}.ndjson", self.cli, self.stream))
    }

    fn name(&self) -> String {
        format!("{}/{}", self.cli, self.stream)
    }

    fn verdict(&self) -> Verdict2 {
        Verdict2(self.status, self.reason)
    }

    /// Judges a stream of these bytes; claude then exits with `exit`.
    fn judge(&self, stream: &[u8], exit: Exit, is_whole: bool) -> (Verdict2, Outcome) {
        let spec = Spec {
            fail_on: FailOn { denial: self.fail_on_denial, ..FailOn::default() },
            options: ClaudeOptions {
                json_schema: self.json_schema.then(|| "{}".to_owned()),
                ..ClaudeOptions::default()
            },
            limits: Limits { background_wait_ms: self.background_wait_ms, ..Limits::default() },
            ..Spec::default()
        };
        let mut rig = Rig::launched(spec);
        if self.kill_requested {
            rig.take(Input::KillRequested);
        }
        let mut splitter = LineSplitter::default();
        splitter.push(stream, |line| {
            rig.take(Input::Line(line));
        });
        splitter.finish(|line| {
            rig.take(Input::Torn(line));
        });
        if self.stdin_closed && is_whole {
            rig.supervisor.attempt.input_closed = true;
        }
        rig.take(Input::OutputClosed);
        rig.take(exited(exit));
        rig.concludes(if is_whole { &self.stderr } else { "" })
    }
}

#[test]
fn each_stream_has_a_row_and_each_row_a_stream() {
    let in_table: BTreeSet<PathBuf> = rows().iter().map(Row::path).collect();
    let mut on_disk = BTreeSet::new();
    for version in std::fs::read_dir(FIXTURES).unwrap().map(|entry| entry.unwrap().path()) {
        if version.is_dir() {
            on_disk.extend(std::fs::read_dir(version).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    assert_eq!(in_table, on_disk);
}

#[test]
fn a_whole_stream_gets_the_verdict_of_the_table() {
    let mut wrong = Vec::new();
    for row in rows() {
        let (verdict, outcome) = row.judge(&std::fs::read(row.path()).unwrap(), row.exit, true);
        let mut warnings = outcome.warnings.clone();
        // Given by a field of the table.
        warnings.retain(|warning| !warning.starts_with("the cost is a lower bound"));
        let reached = (verdict, &warnings, outcome.cost_is_lower_bound);
        if reached != (row.verdict(), &row.warnings, row.cost_is_lower_bound) {
            wrong
                .push(format!("{row:?}: {verdict:?}, {:?}, {:?}", outcome.error, outcome.warnings));
        }
        if verdict == failed(Reason::ClaudeRefused) {
            assert_eq!(outcome.error.as_deref(), Some(row.stderr.as_str()), "{}", row.name());
        }
        assert_eq!(outcome.error.is_some(), verdict.0 == Status::Failed, "{}", row.name());
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn cut_stream_completes_only_after_a_final_result() {
    let killed = Exit { code: None, signal: Some(9) };
    let ended = Exit { code: Some(0), signal: None };
    let mut wrong = Vec::new();
    for row in rows() {
        let stream = std::fs::read(row.path()).unwrap();
        for cut in cuts(&stream) {
            let heard = &stream[..cut];
            let may_be_completed =
                row.status == Status::Completed && is_settled(heard, row.background_wait_ms == 0);
            for exit in [killed, ended] {
                let (verdict, outcome) = row.judge(heard, exit, false);
                if verdict == COMPLETED && !may_be_completed {
                    let last = heard.rsplit(|byte| *byte == b'\n').find(|line| !line.is_empty());
                    let last = String::from_utf8_lossy(last.unwrap_or_default());
                    wrong.push(format!("{} cut at {cut} after {last:.100}", row.name()));
                }
                let has_answer = outcome.result.is_some() || outcome.structured_output.is_some();
                assert!(verdict != COMPLETED || has_answer, "{} cut at {cut}", row.name());
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Returns where to cut a stream: after each line, before its line feed, and at several places
/// inside.
fn cuts(stream: &[u8]) -> BTreeSet<usize> {
    let mut cuts = BTreeSet::from([0]);
    let mut start = 0;
    for line in stream.split_inclusive(|byte| *byte == b'\n') {
        let length = line.len();
        let inside = [1, length / 4, length / 2, length * 3 / 4, length.saturating_sub(2)];
        cuts.extend(inside.map(|offset| start + offset));
        cuts.extend([start + length - 1, start + length]);
        start += length;
    }
    cuts.remove(&stream.len());
    cuts
}

/// Whether nothing is outstanding in the beginning of a stream: it has a successful result, no
/// later turn has begun or is due, no line is cut, no background task runs that the job waits for,
/// and no wake-up is scheduled.
fn is_settled(heard: &[u8], ignores_tasks: bool) -> bool {
    let mut is_settled = false;
    let mut tasks = BTreeSet::new();
    for line in heard.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let Ok(event) = serde_json::from_slice::<Value>(line) else { return false };
        let text = |field: &str| event[field].as_str().unwrap_or_default();
        match (text("type"), text("subtype")) {
            ("result", _) => {
                is_settled = text("subtype") == "success" && event["is_error"] == false;
            }
            ("system", "task_started") if event["is_backgrounded"] != false => {
                tasks.insert(text("task_id").to_owned());
            }
            ("system", "task_notification") => {
                tasks.remove(text("task_id"));
                // A turn follows unless the task was stopped.
                is_settled &= text("status") == "stopped";
            }
            ("system", "background_tasks_changed") => {
                let outstanding = event["tasks"].as_array().unwrap();
                let ids = outstanding.iter().map(|task| task["task_id"].as_str().unwrap());
                tasks = ids.map(str::to_owned).collect();
            }
            ("system", "task_updated") => {
                if ["killed", "stopped"].map(Value::from).contains(&event["patch"]["status"]) {
                    tasks.remove(text("task_id"));
                }
            }
            ("system", "task_started") | ("rate_limit_event", _) => {}
            ("command_lifecycle", _) if text("state") == "completed" => {}
            _ => is_settled = false,
        }
        let scheduled = &event["tool_use_result"];
        if scheduled["scheduledFor"].is_number() || scheduled["nextFireAt"].is_number() {
            return false;
        }
    }
    is_settled && (ignores_tasks || tasks.is_empty())
}
