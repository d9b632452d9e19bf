//! Tests of offsets: whatever the log contains and whatever is requested, nothing is repeated,
//! nothing is lost, and every answer advances.

use std::io::Write;

use proptest::collection::vec;
use proptest::prelude::*;

use super::raw::count_lines;
use super::*;
use crate::stream::transcript::{Speaker, transcript_lines};

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn log(bytes: &[u8], ended: bool) -> JobLog {
    JobLog::single(Some(file(bytes)), ended).unwrap()
}

fn request(tail: usize, max_bytes: Option<u64>, form: LogFormat) -> LogsRequest {
    let id = JobId::parse("a").unwrap();
    let max_chars = if max_bytes.is_none() { Some(MAX_CHARS) } else { None };
    let limits = LogLimits { max_bytes, max_chars };
    LogsRequest { id, tail, since: None, limits, format: form, merged: false, notes_rest: false }
}

fn read(log: &JobLog, request: &LogsRequest, from: Option<LogPosition>) -> LogPart {
    match read_part(log, request, from, None) {
        Ok(part) => part,
        Err(ReadFailure::Io(error)) => panic!("{error}"),
        Err(ReadFailure::BadOffset { length, .. }) => panic!("beyond {length}"),
    }
}

fn at(main: u64) -> Option<LogPosition> {
    Some(LogPosition { main, ..LogPosition::default() })
}

/// Reads repeatedly with the returned offset, as a caller does.
fn read_all_parts(
    bytes: &[u8],
    max_bytes: Option<u64>,
    form: LogFormat,
    ended: bool,
) -> (Vec<LogPart>, u64) {
    let log = log(bytes, ended);
    let (mut parts, mut main) = (Vec::new(), 0);
    loop {
        let part = read(&log, &request(0, max_bytes, form), at(main));
        if part.next.main == main {
            assert!(!part.truncated, "stuck at {main}");
            return (parts, main);
        }
        main = part.next.main;
        parts.push(part);
    }
}

fn complete_lines(bytes: &[u8]) -> &[u8] {
    &bytes[..memchr::memrchr(b'\n', bytes).map_or(0, |at| at + 1)]
}

/// The limit of answers for an agent.
const MAX_CHARS: usize = 7_500;

const HELLO: &str =
    r#"{"type":"assistant","message":{"content":[{"type":"text","text":"hello"}]}}"#;
const INIT: &str = r#"{"type":"system","subtype":"init"}"#;

fn lines() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(format!("{HELLO}\n").into_bytes()),
        Just(format!("{INIT}\n").into_bytes()),
        "[ -~äß€😀\\\\\"]{0,40}".prop_map(|text| format!("{text}\n").into_bytes()),
        vec(any::<u8>(), 0..50),
        Just(vec![b'x'; 9_000]),
        Just("😀".repeat(3_000).into_bytes()),
        Just(vec![b'\n'; 3]),
    ];
    vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn raw_parts_add_up_to_the_log(
        bytes in lines(),
        max in proptest::option::of(1..200u64),
        ended: bool,
    ) {
        let (parts, end) = read_all_parts(&bytes, max, LogFormat::Raw, ended);
        let expected = if ended { &bytes[..] } else { complete_lines(&bytes) };
        let all: Vec<u8> = parts.iter().flat_map(|part| part.bytes.clone()).collect();
        prop_assert_eq!(&all, expected);
        prop_assert_eq!(end, expected.len() as u64);
        for part in &parts {
            prop_assert!(max.is_none_or(|max| part.bytes.len() as u64 <= max));
            let weight = weight_of(&String::from_utf8_lossy(&part.bytes));
            prop_assert!(max.is_some() || weight <= MAX_CHARS, "{}", weight);
        }
    }

    #[test]
    fn readable_parts_are_complete_without_repeats(
        bytes in lines(),
        max in proptest::option::of(1..20_000u64),
        ended: bool,
    ) {
        let (parts, end) = read_all_parts(&bytes, max, LogFormat::Readable, ended);
        let expected = if ended { &bytes[..] } else { complete_lines(&bytes) };
        prop_assert_eq!(end, expected.len() as u64);
        let count_hello = |passages: &[TranscriptLine]| passages.iter().filter(|p| p.text == "hello").count();
        let all: usize = parts.iter().map(|part| count_hello(&part.passages)).sum();
        let mut once = Vec::new();
        let mut splitter = LineSplitter::default();
        splitter.push(expected, |line| once.extend(transcript_lines(line)));
        splitter.finish(|line| once.extend(transcript_lines(line)));
        prop_assert_eq!(all, count_hello(&once));
        let lines: u64 = parts.iter().map(|part| part.lines).sum();
        prop_assert_eq!(lines, count_lines(expected));
        for part in &parts {
            let weight: usize =
                part.passages.iter().map(|passage| weight_of(&passage.to_string()) + 2).sum();
            prop_assert!(max.is_some() || weight <= MAX_CHARS, "{}", weight);
        }
    }

    #[test]
    fn verdict_comes_once_and_last(
        bytes in lines(),
        max in proptest::option::of(1..200u64),
        tail in 1..8usize,
    ) {
        let log = log(&bytes, true);
        let verdict = TranscriptLine { speaker: Speaker::End, text: "killed".to_owned() };
        let read = |request: &LogsRequest, from: Option<LogPosition>| {
            match read_part(&log, request, from, Some(verdict.clone())) {
                Ok(part) => part,
                Err(_) => panic!("cannot be read"),
            }
        };
        let (mut passages, mut next) = (Vec::new(), 0);
        loop {
            let part = read(&request(0, max, LogFormat::Readable), at(next));
            passages.extend(part.passages);
            next = part.next.main;
            if !part.truncated {
                break;
            }
        }
        prop_assert_eq!(next, bytes.len() as u64);
        prop_assert_eq!(passages.iter().position(|p| *p == verdict), Some(passages.len() - 1));
        let last = read(&request(tail, max, LogFormat::Readable), None);
        prop_assert!(last.passages.len() <= tail);
        prop_assert_eq!(last.passages.last(), Some(&verdict));
        for form in [LogFormat::Raw, LogFormat::Stderr] {
            prop_assert!(read(&request(0, None, form), at(0)).passages.is_empty());
        }
    }

    #[test]
    fn tail_is_end_of_log(bytes in lines(), tail in 0..8usize, ended: bool) {
        let log = log(&bytes, ended);
        let part = read(&log, &request(tail, None, LogFormat::Raw), None);
        let whole = if ended { &bytes[..] } else { complete_lines(&bytes) };
        prop_assert!(whole.ends_with(&part.bytes));
        prop_assert_eq!(part.next.main, whole.len() as u64);
        if !part.truncated {
            let lines = whole.split_inclusive(|byte| *byte == b'\n').count();
            prop_assert_eq!(part.lines, lines.min(tail) as u64);
        }
        let part = read(&log, &request(tail, None, LogFormat::Readable), None);
        prop_assert!(part.passages.len() <= tail);
    }
}

#[test]
fn tail_does_not_count_lines_without_text() {
    let text = format!("{HELLO}\n{HELLO}\n{}", format!("{INIT}\n").repeat(500));
    let part = read(&log(text.as_bytes(), false), &request(2, None, LogFormat::Readable), None);
    assert_eq!(part.passages.len(), 2);
}

#[test]
fn omits_incomplete_line_until_job_has_ended() {
    let text = format!("{HELLO}\n{HELLO}");
    let request = request(0, None, LogFormat::Readable);
    assert_eq!(read(&log(text.as_bytes(), false), &request, at(0)).passages.len(), 1);
    assert_eq!(read(&log(text.as_bytes(), true), &request, at(0)).passages.len(), 2);
}

#[test]
fn rejects_offset_beyond_end() {
    let request = request(0, None, LogFormat::Raw);
    assert!(matches!(
        read_part(&log(b"abc", true), &request, at(4), None),
        Err(ReadFailure::BadOffset { offset: 4, length: 3 })
    ));
}

#[test]
fn truncates_huge_line() {
    let text = format!("{}\n", HELLO.replace("hello", &"\\\"€".repeat(1 << 20)));
    let part = read(&log(text.as_bytes(), false), &request(0, None, LogFormat::Readable), at(0));
    assert_eq!(part.next.main, text.len() as u64);
    assert_eq!(part.passages.len(), 1);
    assert!(weight_of(&part.passages[0].text) < MAX_CHARS);
    assert!(part.passages[0].text.ends_with(" more characters]"));
}

mod merged;
