//! Both streams: in the order that the marks tell, and whatever they tell, each line once and whole.

use super::*;
use crate::store::StderrMark;

/// What claude and its worker write.
#[derive(Clone, Debug)]
enum Write {
    /// Claude, to stderr.
    Stderr(Vec<u8>),
    /// The worker, to the output, after the mark that is due.
    Output(Vec<u8>),
}

/// The three files of a log.
#[derive(Clone, Debug, Default)]
struct Files {
    output: Vec<u8>,
    stderr: Vec<u8>,
    marks: Vec<u8>,
    /// The marks that were written.
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

    fn log(&self, ended: bool) -> Log {
        let [output, stderr, marks] =
            [&self.output, &self.stderr, &self.marks].map(|bytes| Some(file(bytes)));
        Log::of_both(output, stderr, marks, ended).unwrap()
    }

    /// The lines of a job that has ended, in the order that the marks tell.
    fn merged(&self) -> Vec<Vec<u8>> {
        let (mut output, mut stderr) = (placed(&self.output), placed(&self.stderr));
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

/// The lines of a text, with the places at which they begin and end.
fn placed(text: &[u8]) -> Vec<(u64, u64, Vec<u8>)> {
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
    placed(bytes).into_iter().map(|(_, _, line)| ended(line)).collect()
}

fn asked(tail: usize, max_bytes: Option<u64>, form: Form) -> Request {
    Request { merged: true, ..request(tail, max_bytes, form) }
}

/// All parts of what is there from a position on, as one who follows takes them.
fn take(log: &Log, from: &mut Position, max: Option<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let part = read(log, &asked(0, max, Form::Raw), Some(*from));
        assert!(max.is_none_or(|max| part.bytes.len() as u64 <= max + 1));
        assert!(!part.truncated || part.next != *from, "stuck at {from:?}");
        bytes.extend(part.bytes);
        *from = part.next;
        if !part.truncated {
            return bytes;
        }
    }
}

/// Writes of letters, in lower case to the output and in upper case to stderr, cut anywhere.
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
    fn both_streams_come_as_the_marks_tell(
        writes in writes(),
        max in proptest::option::of(1..12u64),
        tail in 0..12usize,
    ) {
        let mut files = Files::default();
        for write in &writes {
            files.write(write);
        }
        let (log, expected) = (files.log(true), files.merged());
        let bytes = take(&log, &mut Position::default(), max);
        prop_assert_eq!(lines_of(&bytes), &expected[..]);
        let last = read(&log, &asked(tail, None, Form::Raw), None);
        let few = &expected[expected.len().saturating_sub(tail)..];
        prop_assert_eq!(lines_of(&last.bytes), few);
        prop_assert_eq!((last.lines, last.truncated), (few.len() as u64, false));
        prop_assert_eq!(last.next, log.end);
        if let Some(max) = max {
            let last = read(&log, &asked(tail, Some(max), Form::Raw), None);
            prop_assert!(last.bytes.len() as u64 <= max);
        }
    }

    #[test]
    fn who_follows_gets_each_line_once_in_the_same_order(
        writes in writes(),
        from in 0..20usize,
        looks in vec(any::<bool>(), 20),
        max in proptest::option::of(1..12u64),
    ) {
        let mut files = Files::default();
        let mut at = None;
        let mut bytes = Vec::new();
        for (n, write) in writes.iter().enumerate() {
            files.write(write);
            let log = files.log(false);
            // Who begins to follow gets the end of what is there, and then what comes.
            match &mut at {
                None if n >= from => {
                    let part = read(&log, &asked(50, None, Form::Raw), None);
                    bytes.extend(part.bytes);
                    at = Some(part.next);
                }
                Some(at) if looks[n] => bytes.extend(take(&log, at, max)),
                _ => {}
            }
        }
        bytes.extend(take(&files.log(true), &mut at.unwrap_or_default(), max));
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
    fn no_mark_loses_repeats_or_tears_a_line(
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
        let mut at = Position::default();
        let mut forwards = take(&before, &mut at, max);
        forwards.extend(take(&log, &mut at, max));
        let backwards = read(&log, &asked(1_000, None, Form::Raw), None).bytes;
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

fn follow(files: &Files, at: &mut Position) -> String {
    String::from_utf8(take(&files.log(false), at, None)).unwrap()
}

#[test]
fn stderr_waits_for_the_end_of_a_line_that_it_came_within() {
    let (mut files, mut at) = (Files::default(), Position::default());
    write(&mut files, &[("out", "a\nb"), ("err", "X\nY")]);
    assert_eq!(follow(&files, &mut at), "a\n");
    write(&mut files, &[("out", "b"), ("err", "y\n")]);
    assert_eq!(follow(&files, &mut at), "");
    write(&mut files, &[("out", "\nc\n"), ("err", "Z\n")]);
    assert_eq!(follow(&files, &mut at), "bb\nX\nYy\nc\nZ\n");
    assert_eq!(follow(&files, &mut at), "");
    let all = read(&files.log(false), &asked(50, None, Form::Raw), None).bytes;
    assert_eq!(String::from_utf8(all).unwrap(), "a\nbb\nX\nYy\nc\nZ\n");
}

#[test]
fn marks_in_a_huge_line_are_not_paid_for_each() {
    let mut files = Files::default();
    for _ in 0..2_000 {
        files.write(&Write::Output(vec![b'x'; 10_000]));
        files.write(&Write::Stderr(b"E\n".to_vec()));
    }
    write(&mut files, &[("out", "\nlast\n")]);
    // 20 MB, and not that for each mark.
    let part = read(&files.log(false), &asked(3, None, Form::Raw), None);
    assert_eq!(String::from_utf8(part.bytes).unwrap(), "E\nE\nlast\n");
    let all =
        read(&files.log(false), &asked(1, Some(64), Form::Readable), Some(Position::default()));
    assert_eq!(all.lines, 1);
}

#[test]
fn lines_of_stderr_are_passages_of_their_own() {
    let mut files = Files::default();
    let output = format!("{SAID}\n");
    write(&mut files, &[("err", "first\n \n"), ("out", &output), ("err", "  last\r\n")]);
    let text =
        |part: Part| -> Vec<String> { part.passages.iter().map(Passage::to_string).collect() };
    let log = files.log(false);
    let expected = ["! first", "hello", "!   last"];
    assert_eq!(text(read(&log, &asked(50, None, Form::Readable), None)), expected);
    assert_eq!(text(read(&log, &asked(2, None, Form::Readable), None)), expected[1..]);
    let from = Some(Position::default());
    assert_eq!(text(read(&log, &asked(0, None, Form::Readable), from)), expected);
    assert_eq!(read(&log, &asked(0, None, Form::Readable), from).next, log.end);
}

#[test]
fn a_log_without_one_of_its_files_is_the_rest() {
    let stderr = || Some(file(b"E\n"));
    let output = || Some(file(b"a\n"));
    for (log, expected) in [
        (Log::of_both(None, stderr(), None, true), "E\n"),
        (Log::of_both(None, stderr(), Some(file(b"2 7\n")), true), "E\n"),
        (Log::of_both(output(), None, Some(file(b"2 0\n")), true), "a\n"),
        (Log::of_both(output(), stderr(), None, true), "a\nE\n"),
        (Log::of_both(output(), stderr(), Some(file(b"2 0\n")), true), "E\na\n"),
        (Log::of_both(None, None, None, true), ""),
    ] {
        let log = log.unwrap();
        let last = read(&log, &asked(50, None, Form::Raw), None).bytes;
        assert_eq!(String::from_utf8(last).unwrap(), expected);
        let all = take(&log, &mut Position::default(), None);
        assert_eq!(String::from_utf8(all).unwrap(), expected);
    }
}
