//! Mutated recordings. Whatever arrives, nothing panics, nothing grows without bound, the pieces in
//! which it arrives make no difference, and no job is completed unless an independent reader
//! agrees.
//!
//! `PROPTEST_CASES=1000000 cargo test --release fuzz` runs longer.

use crate::job::Limits;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Value;

use super::*;
use crate::stream::transcript::transcript_lines;

/// Largest size of a record in bytes, whatever the stream contains.
const RECORD_MOST: usize = 64 << 10;

#[derive(Clone, Debug)]
enum Mutation {
    Flip(Index, u8),
    Cut(Index, u16),
    Insert(Index, Vec<u8>),
    RepeatLine(Index),
    DropLine(Index),
    SwapLines(Index, Index),
    InsertLine(Index, &'static str),
    /// Replaces a value of a line.
    Replace(Index, Index, &'static str),
}

/// Lines and values that have broken readers.
const ODD_VALUES: [&str; 16] = [
    "null",
    "true",
    "0",
    "-1",
    "1e999",
    "-0.0",
    "18446744073709551616",
    "0.1e-400",
    "\"\"",
    "[]",
    "{}",
    "[[[[{}]]]]",
    "\"\\ud800\"",
    "\"\\u0000\\u001b[2J\"",
    "\"success\"",
    "\"result\"",
];
const ODD_LINES: [&str; 17] = [
    r#"{"type":"result"}"#,
    r#"{"type":"result","subtype":"success","is_error":true,"result":7}"#,
    r#"{"type":"result","subtype":"success","is_error":false,"type":"system"}"#,
    r#"{"type":"assistant","message":{"content":"text"}}"#,
    r#"{"type":"assistant","message":{"content":[{"type":"tool_use","id":"x"}]}}"#,
    r#"{"type":"user","message":{"content":[{"type":"tool_result"}]}}"#,
    r#"{"type":"system","subtype":"task_started","task_id":"t"}"#,
    r#"{"type":"control_request","request_id":"r","request":{"subtype":"can_use_tool","tool_name":"T","input":{}}}"#,
    r#"{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":9223372036854775807}}"#,
    r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"wk"}]},"tool_use_result":{"scheduledFor":60000}}"#,
    r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"wk"}]},"tool_use_result":{"scheduledFor":0,"stopped":true}}"#,
    r#"{"type":"command_lifecycle","state":"started","wakeup_source":"loop_wakeup"}"#,
    r#"{"type":"system","subtype":"background_tasks_changed","tasks":[{"task_id":"t"}]}"#,
    r#"{"type":"system","subtype":"background_tasks_changed","tasks":[]}"#,
    r#"{"type":"result","subtype":"success","is_error":false,"result":""}"#,
    r#"{"type":"result","subtype":"success","is_error":false,"result":"no","usage":{"input_tokens":0,"output_tokens":0}}"#,
    "\u{feff}{}",
];

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Flip(at, byte)),
        (at(), any::<u16>()).prop_map(|(at, length)| Mutation::Cut(at, length)),
        (at(), vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        at().prop_map(Mutation::RepeatLine),
        at().prop_map(Mutation::DropLine),
        (at(), at()).prop_map(|(a, b)| Mutation::SwapLines(a, b)),
        (at(), select(&ODD_LINES[..])).prop_map(|(at, line)| Mutation::InsertLine(at, line)),
        (at(), at(), select(&ODD_VALUES[..]))
            .prop_map(|(line, value, odd)| Mutation::Replace(line, value, odd)),
    ]
}

impl Mutation {
    fn apply(&self, stream: &mut Vec<u8>) {
        if stream.is_empty() {
            return;
        }
        let mut lines: Vec<Vec<u8>> =
            stream.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
        match self {
            Self::Flip(at, byte) => {
                let at = at.index(stream.len());
                stream[at] = *byte;
                return;
            }
            Self::Cut(at, length) => {
                let at = at.index(stream.len());
                let end = (at + usize::from(*length)).min(stream.len());
                stream.drain(at..end);
                return;
            }
            Self::Insert(at, bytes) => {
                let at = at.index(stream.len());
                stream.splice(at..at, bytes.iter().copied());
                return;
            }
            Self::RepeatLine(at) => {
                let at = at.index(lines.len());
                lines.insert(at, lines[at].clone());
            }
            Self::DropLine(at) => {
                lines.remove(at.index(lines.len()));
            }
            Self::SwapLines(a, b) => {
                let (a, b) = (a.index(lines.len()), b.index(lines.len()));
                lines.swap(a, b);
            }
            Self::InsertLine(at, line) => {
                lines.insert(at.index(lines.len()), format!("{line}\n").into_bytes());
            }
            Self::Replace(line, value, odd) => {
                let at = line.index(lines.len());
                let line = &mut lines[at];
                let colons: Vec<usize> = memchr::memmem::find_iter(line, b"\":").collect();
                if let Some(at) = (!colons.is_empty()).then(|| colons[value.index(colons.len())]) {
                    let ends = |&byte: &u8| matches!(byte, b',' | b'}' | b']');
                    let from = at + 2;
                    let to = line[from..].iter().position(ends).map_or(line.len(), |n| from + n);
                    line.splice(from..to, odd.bytes());
                }
            }
        }
        *stream = lines.concat();
    }
}

fn streams() -> impl Strategy<Value = Vec<u8>> {
    let names: Vec<&'static str> = table().into_iter().map(|(name, ..)| name).collect();
    (select(names), vec(mutation(), 0..12)).prop_map(|(name, mutations)| {
        let mut stream = transcript(name);
        for mutation in mutations {
            mutation.apply(&mut stream);
        }
        stream
    })
}

/// Runs a stream that arrives in these pieces; returns the record and the result as JSON.
pub(super) fn run_in(stream: &[u8], pieces: &[usize]) -> (Record, Outcome) {
    let mut rig = Rig::launched(Spec {
        limits: Limits { background_wait_ms: 60_000, ..Limits::default() },
        ..Spec::default()
    });
    let mut lines = LineSplitter::default();
    let (mut rest, mut next) = (stream, pieces.iter().cycle());
    while !rest.is_empty() {
        let length = next.next().copied().unwrap_or(rest.len()).clamp(1, rest.len());
        lines.push(&rest[..length], |line| {
            rig.take(Input::Line(line));
        });
        rest = &rest[length..];
    }
    lines.finish(|line| {
        rig.take(Input::Torn(line));
    });
    rig.take(Input::OutputClosed);
    rig.take(exited(Exit { code: Some(0), signal: None }));
    rig.take(Input::Swept { ended: 0, left: Default::default() });
    rig.pass(5);
    let mut conclusion = rig.conclude(&Evidence::default());
    // A login that was accepted before is retried once.
    while conclusion == Conclusion::NextAttempt {
        rig.pass(30);
        rig.take(Input::Admitted);
        rig.take(launched(79));
        rig.take(Input::OutputClosed);
        rig.take(exited(Exit { code: Some(0), signal: None }));
        rig.take(Input::Swept { ended: 0, left: Default::default() });
        rig.pass(5);
        conclusion = rig.conclude(&Evidence::default());
    }
    let Conclusion::Ended(outcome) = conclusion else { panic!("no end") };
    (rig.supervisor.record().clone(), *outcome)
}

/// Whether a much simpler reader could call the job done: a line is a successful result, and no
/// text of the agent follows. `reference.rs` judges valid events exactly.
fn may_be_done(stream: &[u8]) -> bool {
    let text = String::from_utf8_lossy(stream);
    let read = |line: &str| match serde_json::from_str::<Value>(line) {
        Ok(event) => Some(event),
        // JSON with a number or a character that this reader cannot represent.
        Err(error) if error.is_syntax() && line.contains("\"subtype\":\"success\"") => {
            Some(serde_json::json!({"type": "result", "subtype": "success"}))
        }
        Err(_) => None,
    };
    let events: Vec<Value> = text.lines().filter_map(read).collect();
    let last_result = events.iter().rposition(|event| event["type"] == "result");
    last_result.is_some_and(|at| {
        let result = &events[at];
        let fine = result["subtype"] == "success" && result["is_error"] != true;
        let agent = |event: &Value| {
            matches!(event["type"].as_str(), Some("assistant"))
                && event["parent_tool_use_id"].is_null()
        };
        let fired = |event: &Value| {
            let result = &event["tool_use_result"];
            (event["wakeup_source"] == "loop_wakeup" && event["state"] == "started")
                || result["stopped"] == true
                || result["scheduledFor"].as_f64().is_some_and(|at| at <= 0.0)
        };
        let scheduled = |event: &Value| {
            let block = &event["message"]["content"][0];
            event["type"] == "user"
                && block["type"] == "tool_result"
                && block["tool_use_id"].is_string()
                && event["tool_use_result"]["scheduledFor"].as_f64().is_some_and(|at| at > 0.0)
        };
        let is_pending = events.iter().rposition(scheduled) > events.iter().rposition(fired);
        fine && !is_pending && !events[at + 1..].iter().any(agent)
    })
}

/// Runs this number of cases, unless `PROPTEST_CASES` says another.
pub(super) fn config(cases: u32) -> ProptestConfig {
    let default = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    ProptestConfig { cases: if asked { default.cases } else { cases }, ..default }
}

proptest! {
    // Few: each runs several whole streams.
    #![proptest_config(config(32))]

    #[test]
    fn fuzz_streams(stream in streams(), pieces in vec(1..5_000usize, 1..5)) {
        let (record, outcome) = run_in(&stream, &[usize::MAX]);
        let (in_pieces, outcome_in_pieces) = run_in(&stream, &pieces);
        prop_assert_eq!(&record, &in_pieces);
        prop_assert_eq!(&outcome, &outcome_in_pieces);
        let text = serde_json::to_string(&record).unwrap();
        prop_assert!(text.len() <= RECORD_MOST, "{} bytes", text.len());
        let again = Record::from_json(&text).unwrap();
        prop_assert_eq!(&again, &record);
        let again: Outcome =
            serde_json::from_str(&serde_json::to_string(&outcome).unwrap()).unwrap();
        prop_assert_eq!(again.status, outcome.status);
        if record.status == Status::Completed {
            prop_assert!(may_be_done(&stream), "{}", String::from_utf8_lossy(&stream));
            let has_answer = outcome.result.is_some() || outcome.structured_output.is_some();
            prop_assert!(has_answer && !outcome.partial, "{}", String::from_utf8_lossy(&stream));
        }
        // The post-mortem, which reads the same, must not complete more.
        let (lost, _) = recovery::examine(
            &Rig::launched(Spec::default()).supervisor.record().clone(),
            &String::from_utf8_lossy(&stream),
            None,
        );
        prop_assert!(lost.status != Status::Completed || may_be_done(&stream));
    }

    #[test]
    fn fuzz_transcripts(stream in streams(), max in 1..3_000usize) {
        let mut lines = LineSplitter::default();
        let mut characters = 0;
        for piece in stream.chunks(max) {
            lines.push(piece, |line| {
                characters +=
                    transcript_lines(line).iter().map(|passage| passage.to_string().len()).sum::<usize>();
            });
        }
        prop_assert!(characters <= stream.len() * 4 + 100_000);
    }

    /// Lines beyond every limit, whose strings look like JSON structure.
    #[test]
    fn fuzz_long_lines(
        text in "[a-z\\\\\"\\[\\]{}:,😀\u{0}]{0,40}",
        times in 1..60_000usize,
        member in select(&["result", "x", "message", "type", "session_id", "subtype", "permission_denials"][..]),
        pieces in vec(1..200_000usize, 1..4),
    ) {
        let long = serde_json::to_string(&text.repeat(times)).unwrap();
        let answer = if member == "result" { "" } else { "\"result\":\"ok\"," };
        let line = format!(
            "{{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,{answer}\"{member}\":{long}}}\n"
        );
        let (whole, _) = run_in(line.as_bytes(), &[usize::MAX]);
        let (in_pieces, outcome) = run_in(line.as_bytes(), &pieces);
        prop_assert_eq!(&whole, &in_pieces);
        prop_assert!(outcome.result.as_ref().is_none_or(|text| text.len() <= 2 << 20));
        prop_assert!(serde_json::to_string(&whole).unwrap().len() <= RECORD_MOST);
        // Invisible text is not an answer.
        let shows = !text.chars().all(|c| c.is_whitespace() || c.is_control());
        if member == "x" || (member == "result" && shows) {
            prop_assert_eq!(whole.status, Status::Completed);
        }
    }
}
