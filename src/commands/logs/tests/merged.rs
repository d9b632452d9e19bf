//! Tests of merged logs: both streams are in the order of the marks and, whatever the marks
//! contain, each line comes once and complete.

use super::super::raw::end_line;
use super::*;
use crate::store::StderrMark;

/// A write of claude or its worker.
#[derive(Clone, Debug)]
enum Write {
    /// Written by claude to stderr.
    Stderr(Vec<u8>),
    /// Written by the worker to the output, after a mark if stderr has grown.
    Output(Vec<u8>),
}

/// The three files of a log.
#[derive(Clone, Debug, Default)]
struct Files {
    output: Vec<u8>,
    stderr: Vec<u8>,
    marks: Vec<u8>,
    /// The marks, parsed.
    made: Vec<StderrMark>,
}

impl Files {
    fn write(&mut self, write: &Write) {
        match write {
            Write::Stderr(bytes) => self.stderr.extend(bytes),
            Write::Output(bytes) => {
                let (stderr, output) = (self.stderr.len() as u64, self.output.len() as u64);
                if self.made.last().map_or(0, |mark| mark.stderr) < stderr {
                    let mark = StderrMark { stderr, output };
                    self.marks.extend(format!("{mark}\n").as_bytes());
                    self.made.push(mark);
                }
                self.output.extend(bytes);
            }
        }
    }

    fn log(&self, ended: bool) -> JobLog {
        let [output, stderr, marks] =
            [&self.output, &self.stderr, &self.marks].map(|bytes| Some(file(bytes)));
        JobLog::of_both(output, stderr, marks, ended).unwrap()
    }

    /// Returns the lines of an ended job in the order of the marks.
    fn merged(&self) -> Vec<Vec<u8>> {
        let (mut output, mut stderr) =
            (lines_with_offsets(&self.output), lines_with_offsets(&self.stderr));
        let mut merged = Vec::new();
        for mark in &self.made {
            let begins_before = |(start, _, _): &(u64, u64, Vec<u8>)| *start < mark.output;
            let is_whole =
                |(_, end, line): &(u64, u64, Vec<u8>)| *end <= mark.stderr && line.ends_with(b"\n");
            let n = output.iter().take_while(|line| begins_before(line)).count();
            merged.extend(output.drain(..n));
            let n = stderr.iter().take_while(|line| is_whole(line)).count();
            merged.extend(stderr.drain(..n));
        }
        merged.extend(output);
        merged.extend(stderr);
        merged.into_iter().map(|(_, _, line)| ended(line)).collect()
    }
}

/// Returns the lines of a text with their start and end offsets.
fn lines_with_offsets(text: &[u8]) -> Vec<(u64, u64, Vec<u8>)> {
    let mut at = 0;
    let line = |line: &[u8]| {
        let start = at;
        at += line.len() as u64;
        (start, at, line.to_vec())
    };
    text.split_inclusive(|byte| *byte == b'\n').map(line).collect()
}

fn ended(mut line: Vec<u8>) -> Vec<u8> {
    end_line(&mut line);
    line
}

fn lines_of(bytes: &[u8]) -> Vec<Vec<u8>> {
    lines_with_offsets(bytes).into_iter().map(|(_, _, line)| ended(line)).collect()
}

fn merged_request(tail: usize, max_bytes: Option<u64>, form: LogFormat) -> LogsRequest {
    LogsRequest { merged: true, ..request(tail, max_bytes, form) }
}

/// Reads all parts from a position on, as a follower does.
fn read_rest(log: &JobLog, from: &mut LogPosition, max: Option<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let part = read(log, &merged_request(0, max, LogFormat::Raw), Some(*from));
        assert!(max.is_none_or(|max| part.bytes.len() as u64 <= max + 1));
        assert!(!part.truncated || part.next != *from, "stuck at {from:?}");
        bytes.extend(part.bytes);
        *from = part.next;
        if !part.truncated {
            return bytes;
        }
    }
}

/// Writes of letters, lower case to the output and upper case to stderr, split anywhere.
fn writes() -> impl Strategy<Value = Vec<Write>> {
    let write = prop_oneof![
        "[a-z]{0,6}\n?[a-z]{0,3}\n{0,2}".prop_map(|text| Write::Output(text.into_bytes())),
        "[A-Z]{0,6}\n?[A-Z]{0,3}\n{0,2}".prop_map(|text| Write::Stderr(text.into_bytes())),
        "[A-Z]{1,5}\n".prop_map(|text| Write::Stderr(text.into_bytes())),
    ];
    vec(write, 0..20)
}

fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        (0..60u64, 0..60u64).prop_map(|(stderr, output)| format!("{stderr} {output}\n")),
        "[0-9 x-]{0,70}\n?",
    ];
    vec(line, 0..12).prop_map(|lines| lines.concat().into_bytes())
}

proptest! {
    #[test]
    fn merges_streams_in_order_of_marks(
        writes in writes(),
        max in proptest::option::of(1..12u64),
        tail in 0..12usize,
    ) {
        let mut files = Files::default();
        for write in &writes {
            files.write(write);
        }
        let (log, expected) = (files.log(true), files.merged());
        let bytes = read_rest(&log, &mut LogPosition::default(), max);
        prop_assert_eq!(lines_of(&bytes), &expected[..]);
        let last = read(&log, &merged_request(tail, None, LogFormat::Raw), None);
        let few = &expected[expected.len().saturating_sub(tail)..];
        prop_assert_eq!(lines_of(&last.bytes), few);
        prop_assert_eq!((last.lines, last.truncated), (few.len() as u64, false));
        prop_assert_eq!(last.next, log.end);
        if let Some(max) = max {
            let last = read(&log, &merged_request(tail, Some(max), LogFormat::Raw), None);
            prop_assert!(last.bytes.len() as u64 <= max);
        }
    }

    #[test]
    fn follower_gets_each_line_once_in_order(
        writes in writes(),
        from in 0..20usize,
        reads in vec(any::<bool>(), 20),
        max in proptest::option::of(1..12u64),
    ) {
        let mut files = Files::default();
        let mut at = None;
        let mut bytes = Vec::new();
        for (n, write) in writes.iter().enumerate() {
            files.write(write);
            let log = files.log(false);
            // A follower gets the end of the existing log first, and then new parts.
            match &mut at {
                None if n >= from => {
                    let part = read(&log, &merged_request(50, None, LogFormat::Raw), None);
                    bytes.extend(part.bytes);
                    at = Some(part.next);
                }
                Some(at) if reads[n] => bytes.extend(read_rest(&log, at, max)),
                _ => {}
            }
        }
        bytes.extend(read_rest(&files.log(true), &mut at.unwrap_or_default(), max));
        let lines = lines_of(&bytes);
        let of = |upper: bool, lines: &[Vec<u8>]| -> Vec<u8> {
            let is_upper = |line: &&Vec<u8>| line.iter().any(u8::is_ascii_uppercase) == upper;
            lines.iter().filter(|line| line.len() > 1).filter(is_upper).flatten().copied().collect()
        };
        let expected = files.merged();
        for upper in [false, true] {
            prop_assert_eq!(of(upper, &lines), of(upper, &expected));
        }
        prop_assert_eq!(lines.len(), expected.len());
    }

    #[test]
    fn invalid_marks_keep_lines_complete_and_unique(
        writes in writes(),
        marks in garbage(),
        max in proptest::option::of(1..12u64),
        ended: bool,
    ) {
        let mut files = Files::default();
        for write in &writes {
            files.write(write);
        }
        files.marks = marks;
        let (log, before) = (files.log(true), files.log(ended));
        let mut at = LogPosition::default();
        let mut forwards = read_rest(&before, &mut at, max);
        forwards.extend(read_rest(&log, &mut at, max));
        let backwards = read(&log, &merged_request(1_000, None, LogFormat::Raw), None).bytes;
        for bytes in [forwards, backwards] {
            let mut lines = lines_of(&bytes);
            let mut expected = [lines_of(&files.output), lines_of(&files.stderr)].concat();
            lines.sort();
            expected.sort();
            prop_assert_eq!(lines, expected);
        }
    }
}

fn write(files: &mut Files, writes: &[(&str, &str)]) {
    for (to, text) in writes {
        let bytes = text.as_bytes().to_vec();
        files.write(&if *to == "err" { Write::Stderr(bytes) } else { Write::Output(bytes) });
    }
}

fn follow(files: &Files, at: &mut LogPosition) -> String {
    String::from_utf8(read_rest(&files.log(false), at, None)).unwrap()
}

#[test]
fn defers_stderr_until_end_of_output_line() {
    let (mut files, mut at) = (Files::default(), LogPosition::default());
    write(&mut files, &[("out", "a\nb"), ("err", "X\nY")]);
    assert_eq!(follow(&files, &mut at), "a\n");
    write(&mut files, &[("out", "b"), ("err", "y\n")]);
    assert_eq!(follow(&files, &mut at), "");
    write(&mut files, &[("out", "\nc\n"), ("err", "Z\n")]);
    assert_eq!(follow(&files, &mut at), "bb\nX\nYy\nc\nZ\n");
    assert_eq!(follow(&files, &mut at), "");
    let all = read(&files.log(false), &merged_request(50, None, LogFormat::Raw), None).bytes;
    assert_eq!(String::from_utf8(all).unwrap(), "a\nbb\nX\nYy\nc\nZ\n");
}

#[test]
fn reads_huge_line_once_despite_many_marks() {
    let mut files = Files::default();
    for _ in 0..2_000 {
        files.write(&Write::Output(vec![b'x'; 10_000]));
        files.write(&Write::Stderr(b"E\n".to_vec()));
    }
    write(&mut files, &[("out", "\nlast\n")]);
    // 20 MB are read once, not once for each mark.
    let part = read(&files.log(false), &merged_request(3, None, LogFormat::Raw), None);
    assert_eq!(String::from_utf8(part.bytes).unwrap(), "E\nE\nlast\n");
    let all = read(
        &files.log(false),
        &merged_request(1, Some(64), LogFormat::Readable),
        Some(LogPosition::default()),
    );
    assert_eq!(all.lines, 1);
}

#[test]
fn shows_stderr_lines_as_passages() {
    let mut files = Files::default();
    let output = format!("{HELLO}\n");
    write(&mut files, &[("err", "first\n \n"), ("out", &output), ("err", "  last\r\n")]);
    let text = |part: LogPart| -> Vec<String> {
        part.passages.iter().map(TranscriptLine::to_string).collect()
    };
    let log = files.log(false);
    let expected = ["! first", "hello", "!   last"];
    assert_eq!(text(read(&log, &merged_request(50, None, LogFormat::Readable), None)), expected);
    assert_eq!(
        text(read(&log, &merged_request(2, None, LogFormat::Readable), None)),
        expected[1..]
    );
    let from = Some(LogPosition::default());
    assert_eq!(text(read(&log, &merged_request(0, None, LogFormat::Readable), from)), expected);
    assert_eq!(read(&log, &merged_request(0, None, LogFormat::Readable), from).next, log.end);
}

#[test]
fn keeps_the_order_of_what_comes_during_the_look() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["output", "stderr", "marks"] {
        std::fs::write(path(name), "").unwrap();
    }
    let texts = [("stderr", "E\n"), ("marks", "2 0\n"), ("output", "a\n")];
    let writes = texts.map(|(name, text)| (path(name), text));
    crate::fault_point::hook::set(move || {
        for (path, text) in &writes {
            std::fs::write(path, text).unwrap();
        }
    });
    let [output, stderr, marks] =
        ["output", "stderr", "marks"].map(|name| Some(File::open(path(name)).unwrap()));
    let log = JobLog::of_both(output, stderr, marks, false).unwrap();
    let last = read(&log, &merged_request(50, None, LogFormat::Raw), None).bytes;
    assert_eq!(String::from_utf8(last).unwrap(), "E\na\n");
    let all = read_rest(&log, &mut LogPosition::default(), None);
    assert_eq!(String::from_utf8(all).unwrap(), "E\na\n");
}

#[test]
fn reads_log_with_missing_files() {
    let stderr = || Some(file(b"E\n"));
    let output = || Some(file(b"a\n"));
    for (log, expected) in [
        (JobLog::of_both(None, stderr(), None, true), "E\n"),
        (JobLog::of_both(None, stderr(), Some(file(b"2 7\n")), true), "E\n"),
        (JobLog::of_both(output(), None, Some(file(b"2 0\n")), true), "a\n"),
        (JobLog::of_both(output(), stderr(), None, true), "a\nE\n"),
        (JobLog::of_both(output(), stderr(), Some(file(b"2 0\n")), true), "E\na\n"),
        (JobLog::of_both(None, None, None, true), ""),
    ] {
        let log = log.unwrap();
        let last = read(&log, &merged_request(50, None, LogFormat::Raw), None).bytes;
        assert_eq!(String::from_utf8(last).unwrap(), expected);
        let all = read_rest(&log, &mut LogPosition::default(), None);
        assert_eq!(String::from_utf8(all).unwrap(), expected);
    }
}
