//! `logs`: what a job's agent said and did.
//!
//! Offsets count bytes of the file. Only whole lines are given while the job lives, so an answer's
//! `nextOffset` is where the next one goes on: nothing comes twice and nothing is lost, however
//! the log grows meanwhile.
//!
//! Both streams of claude are merged line by line, as [`log`] says. Who follows them keeps an offset
//! in each.
//!
//! The readable log of a job that has ended ends in the verdict, which is in the record and not in
//! the file: each answer that reaches the end of the file has it as its last line. A caller who asks
//! again from there, having seen in `status` that the job has ended, gets it again.

mod follow;
mod log;
mod tail;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use serde::Serialize;

use super::ANSWER_MOST;
use super::seen::{Seen, look};
use crate::error::Error;
use crate::job::{JobId, Status};
use crate::store::{OUTPUT, STDERR, Store, StoreError};
use crate::stream::transcript::{Passage, Piece, complaint, conclude, pieces, resolve, verdict};
use crate::stream::{Line, LineSplitter};
use crate::text::{clip, is_harmful};
use log::{Log, Position, Stream};

pub use follow::{follow, follow_until};

/// Characters of log in an answer whose length nobody asked to exceed: what remains of
/// [`ANSWER_MOST`] beside the other fields.
const TEXT_MOST: usize = ANSWER_MOST - 500;
/// Bytes of log that one answer goes through at most where nothing else was asked for: much of a
/// stream may not be worth reading.
const LOG_MOST: u64 = 16 << 20;
/// Bytes that one answer holds at most whatever was asked for.
const HELD_MOST: u64 = 64 << 20;
/// Bytes before a part in which the requests are looked for that it answers.
const CONTEXT_MOST: u64 = 256 << 10;
/// Bytes that a search for passages goes back at most.
const BACK_MOST: u64 = 4 << 20;

/// Which part of a log, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// The job.
    pub id: JobId,
    /// The last so many passages, or lines where the log is `raw`.
    pub tail: usize,
    /// From this byte on, instead.
    pub since: Option<u64>,
    /// Bytes of the log to take in at most.
    pub max_bytes: Option<u64>,
    /// As it is.
    pub form: Form,
    /// Claude's stderr as well, in the order in which both came.
    pub merged: bool,
}

/// Which log, and in which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Claude's stream, as a conversation.
    Readable,
    /// Claude's stream, as it is.
    Raw,
    /// Claude's stderr, as it is.
    Stderr,
}

/// A part of a log.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct LogsAnswer {
    /// The job's id.
    pub job_id: JobId,
    /// The job's status.
    pub status: Status,
    /// Number of lines of the log in this answer; the verdict's line is none of them.
    pub lines: u64,
    /// The text.
    pub tail: String,
    /// Offset for `--since-offset` of the next call; with `--merged` that in claude's stdout.
    pub next_offset: u64,
    /// Parts do not fit: later ones with `--since-offset`, which `nextOffset` gives; earlier ones
    /// without it.
    pub truncated: bool,
    /// The text, by who speaks; empty where the log is given as it is.
    #[serde(skip)]
    pub passages: Vec<Passage>,
    /// The bytes, where the log is given as it is.
    #[serde(skip)]
    pub bytes: Vec<u8>,
    /// Whether the bytes are for a program, which takes them as they are.
    #[serde(skip)]
    pub is_raw: bool,
}

/// The part of the log that was asked for.
pub fn logs(store: &Store, request: &Request) -> Result<LogsAnswer, Error> {
    let seen = look(store, &request.id)?;
    let log = open(&seen, request)?;
    part(&seen, request, &log, start(request)).map(|(answer, _)| answer)
}

/// Where the part that is asked for begins; `None`: it is the end of the log.
fn start(request: &Request) -> Option<Position> {
    request.since.map(|main| Position { main, ..Position::default() })
}

/// A piece of the log file and what it says.
#[derive(Debug, Default)]
struct Part {
    lines: u64,
    passages: Vec<Passage>,
    bytes: Vec<u8>,
    /// Where the next one begins.
    next: Position,
    truncated: bool,
}

/// The file whose bytes offsets count.
fn main_file(request: &Request) -> &'static str {
    if request.form == Form::Stderr { STDERR } else { OUTPUT }
}

fn open(seen: &Seen, request: &Request) -> Result<Log, Error> {
    if request.merged {
        return Ok(Log::merged(&seen.dir, !seen.live)?);
    }
    let name = main_file(request);
    let log = Log::of(seen.dir.open(name)?, !seen.live);
    log.map_err(|source| could_not_read(seen, request, source))
}

fn could_not_read(seen: &Seen, request: &Request, source: io::Error) -> Error {
    let path = seen.dir.file(main_file(request));
    Error::from(StoreError { operation: "read", path, source })
}

/// The part of the log from a position on, or its end, and where the next part begins.
fn part(
    seen: &Seen,
    request: &Request,
    log: &Log,
    from: Option<Position>,
) -> Result<(LogsAnswer, Position), Error> {
    let is_readable = request.form == Form::Readable;
    let verdict = if is_readable { verdict(&seen.record) } else { None };
    let part = read_part(log, request, from, verdict).map_err(|error| match error {
        Failure::Offset { offset, length } => Error::BadOffset { offset, length },
        Failure::Io(source) => could_not_read(seen, request, source),
    })?;
    let tail = if is_readable {
        part.passages.iter().map(Passage::to_string).collect::<Vec<_>>().join("\n")
    } else {
        String::from_utf8_lossy(&part.bytes).into_owned()
    };
    let answer = LogsAnswer {
        job_id: seen.record.job_id.clone(),
        status: seen.record.status,
        lines: part.lines,
        tail,
        next_offset: part.next.main,
        truncated: part.truncated,
        passages: part.passages,
        bytes: part.bytes,
        is_raw: request.form == Form::Raw,
    };
    Ok((answer, part.next))
}

enum Failure {
    Offset { offset: u64, length: u64 },
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The part that was asked for. Behind the end of a readable log stands the `verdict`.
fn read_part(
    log: &Log,
    request: &Request,
    from: Option<Position>,
    verdict: Option<Passage>,
) -> Result<Part, Failure> {
    // What was given as an end may, in a log that somebody cut, lie beyond it now.
    let from = match from {
        Some(from) if request.merged => Some(Position { main: from.main.min(log.length), ..from }),
        Some(from) if log.main.is_some() && from.main > log.length => {
            return Err(Failure::Offset { offset: from.main, length: log.length });
        }
        from => from,
    };
    let max = request.max_bytes;
    Ok(match (from, request.form) {
        (Some(from), Form::Readable) => read_passages(log, from, max, verdict)?,
        (None, Form::Readable) => last_passages(log, request, verdict.as_ref())?,
        (Some(from), _) if request.merged => read_lines(log, from, max)?,
        (None, _) if request.merged => last_lines(log, request)?,
        (from, _) => match (&log.main, from) {
            (Some(file), Some(from)) => read_bytes(file, from.main..log.end.main, max)?,
            (Some(file), None) => last_bytes(file, log.end.main, request)?,
            (None, from) => Part { next: from.unwrap_or_default(), ..Part::default() },
        },
    })
}

/// What a line of a stream says.
fn said_by(stream: Stream, line: Line<'_>) -> Vec<Piece> {
    match stream {
        Stream::Main => pieces(line),
        Stream::Stderr => complaint(line).into_iter().collect(),
    }
}

/// Passages from `from` on, as many as fit, and the verdict if that is all.
fn read_passages(
    log: &Log,
    from: Position,
    max: Option<u64>,
    verdict: Option<Passage>,
) -> io::Result<Part> {
    let mut part = Part::default();
    let room = TEXT_MOST - verdict.as_ref().map_or(0, weight_of_passage);
    let room = if max.is_some() { usize::MAX } else { room };
    let most = max.unwrap_or(LOG_MOST);
    let mut weight = 0;
    let mut taken = 0;
    let mut all: Vec<Piece> = Vec::new();
    part.next = log.parts_from(from, |stream, file, range| {
        let (before, mut end) = (taken, range.start);
        each_line(file, range.clone(), |line, next| {
            let mut said = said_by(stream, line);
            let mut adds: usize = said.iter().map(weight_of_piece).sum();
            let first = part.lines == 0;
            if !first && (weight + adds > room || before + next - range.start > most) {
                part.truncated = true;
                return false;
            }
            if adds > room {
                // A line that is too long by itself is cut, or nobody would ever get past it.
                for passage in said.iter_mut().filter_map(Piece::passage_mut) {
                    passage.text = clip(&passage.text, room / 8);
                }
                said.truncate(8);
                adds = room;
                part.truncated = true;
            }
            weight += adds;
            part.lines += 1;
            end = next;
            all.append(&mut said);
            true
        })?;
        taken += end - range.start;
        Ok(end)
    })?;
    let context = match &log.main {
        Some(file) => context(file, from.main, &all)?,
        None => Vec::new(),
    };
    part.passages = resolve(&context, &all).into_iter().map(|(_, passage)| passage).collect();
    if let Some(verdict) = verdict.filter(|_| !part.truncated) {
        conclude(&mut part.passages, verdict);
    }
    Ok(part)
}

/// The pieces shortly before `since` that `part`, which follows, depends on: none where claude did
/// not ask for anything.
fn context(file: &File, since: u64, part: &[Piece]) -> io::Result<Vec<Piece>> {
    if !part.iter().any(|piece| piece.lacks_context(part)) {
        return Ok(Vec::new());
    }
    let from = since.saturating_sub(CONTEXT_MOST);
    let mut before = vec![0; usize::try_from(since - from).unwrap_or(0)];
    file.read_exact_at(&mut before, from)?;
    let asks = memchr::memmem::find(&before, b"\"control_request\"").is_some();
    if !asks && !part.iter().any(Piece::is_request) {
        return Ok(Vec::new());
    }
    let mut context = Vec::new();
    let mut lines = LineSplitter::default();
    let mut is_whole = from == 0;
    lines.push(&before, |line| {
        // Where it was cut, the first line is not whole.
        if std::mem::replace(&mut is_whole, true) {
            context.extend(pieces(line).into_iter().filter(Piece::is_linked));
        }
    });
    Ok(context)
}

/// The last passages, and behind them the verdict: read from the end on, and no further than what
/// is shown.
fn last_passages(log: &Log, request: &Request, verdict: Option<&Passage>) -> io::Result<Part> {
    let mut part = Part { next: log.end, ..Part::default() };
    let room = TEXT_MOST - verdict.map_or(0, weight_of_passage);
    let most = request.max_bytes.map_or(room, |most| usize::try_from(most).unwrap_or(0));
    let mut weight = 0;
    // The last one first.
    let mut all: Vec<Piece> = Vec::new();
    let mut shown = 0;
    let mut gone_back = 0;
    log.lines_back(|stream, line, place| {
        for mut piece in said_by(stream, line).into_iter().rev() {
            if shown >= request.tail && count(&all) >= request.tail {
                return false;
            }
            let adds = weight_of_piece(&piece);
            if weight + adds > most {
                part.truncated = true;
                if weight > 0 {
                    return false;
                }
                if let Some(passage) = piece.passage_mut() {
                    passage.text = clip(&passage.text, most / 8);
                }
            }
            weight += adds;
            shown += usize::from(piece.passage().is_some());
            all.push(piece);
        }
        part.lines += 1;
        gone_back += place.end - place.start;
        // Lines that are not worth reading do not count: further back there may be others.
        let enough = shown >= request.tail && count(&all) >= request.tail;
        !enough && gone_back < BACK_MOST
    })?;
    part.passages = last_of(all, request.tail, verdict);
    Ok(part)
}

/// How many passages there are in pieces of which the last one comes first.
fn count(last_first: &[Piece]) -> usize {
    if !last_first.iter().any(Piece::is_request) {
        return last_first.iter().filter(|piece| piece.passage().is_some()).count();
    }
    let pieces: Vec<Piece> = last_first.iter().rev().cloned().collect();
    resolve(&[], &pieces).len()
}

/// The last `most` passages of pieces of which the last one comes first, the verdict among them.
fn last_of(last_first: Vec<Piece>, most: usize, verdict: Option<&Passage>) -> Vec<Passage> {
    let mut pieces = last_first;
    pieces.reverse();
    loop {
        let passages = resolve(&[], &pieces);
        let places: Vec<usize> = passages.iter().map(|(at, _)| *at).collect();
        let mut passages = passages.into_iter().map(|(_, passage)| passage).collect();
        if let Some(verdict) = verdict {
            conclude(&mut passages, verdict.clone());
        }
        let excess = passages.len().saturating_sub(most);
        if excess == 0 {
            return passages;
        }
        match places.get(excess - 1) {
            // What remains may read in another way without them.
            Some(first) => pieces.drain(..=*first),
            None => return Vec::new(),
        };
    }
}

/// Lines of both streams as they are, as far as they fit; of a line that does not fit by itself as
/// much as does, and the next part begins with the rest of it.
fn read_lines(log: &Log, from: Position, max: Option<u64>) -> io::Result<Part> {
    let most = max.unwrap_or(TEXT_MOST as u64).min(HELD_MOST);
    let mut part = Part::default();
    part.next = log.parts_from(from, |_, file, range| {
        let room = most.saturating_sub(part.bytes.len() as u64);
        if room == 0 {
            part.truncated = true;
            return Ok(range.start);
        }
        let mut read = read_bytes(file, range, Some(room))?;
        part.bytes.append(&mut read.bytes);
        part.truncated = read.truncated;
        if !read.truncated {
            end_line(&mut part.bytes);
        }
        Ok(read.next.main)
    })?;
    part.lines = count_lines(&part.bytes);
    Ok(part)
}

/// The last lines of both streams as they are, and of those the last that fit.
fn last_lines(log: &Log, request: &Request) -> io::Result<Part> {
    let most = request.max_bytes.unwrap_or(TEXT_MOST as u64).min(HELD_MOST);
    let mut part = Part { next: log.end, ..Part::default() };
    // Where they are, the last one first; lines that follow each other in one file together.
    let mut places: Vec<(Stream, Range<u64>)> = Vec::new();
    let mut held = 0;
    let mut lines = 0;
    let mut cut = false;
    log.lines_back(|stream, line, mut place| {
        if lines >= request.tail {
            return false;
        }
        lines += 1;
        if held + line.length + 1 > most {
            part.truncated = true;
            if held > 0 {
                return false;
            }
            cut = true;
            place.start = place.end - (place.end - place.start).min(most);
        }
        held += line.length + 1;
        match places.last_mut() {
            Some((last, range)) if *last == stream && range.start == place.end => {
                range.start = place.start;
            }
            _ => places.push((stream, place)),
        }
        !part.truncated
    })?;
    for (stream, range) in places.into_iter().rev() {
        if let Some(file) = log.file(stream) {
            end_line(&mut part.bytes);
            part.bytes.append(&mut read_range(file, range)?);
        }
    }
    part.truncated |= keep_end(&mut part.bytes, cut, request);
    part.lines = count_lines(&part.bytes);
    Ok(part)
}

/// Ends the last line, if it is torn: what comes from the other stream is no part of it.
fn end_line(bytes: &mut Vec<u8>) {
    if bytes.last().is_some_and(|last| *last != b'\n') {
        bytes.push(b'\n');
    }
}

/// Bytes of a part of a file, whole lines as far as they fit; of a line that does not fit by itself
/// as much as does.
fn read_bytes(file: &File, range: Range<u64>, max: Option<u64>) -> io::Result<Part> {
    let Range { start: since, end } = range;
    let most = max.unwrap_or(TEXT_MOST as u64).min(HELD_MOST);
    let mut bytes = read_range(file, since..end.min(since.saturating_add(most)))?;
    let cut = since + (bytes.len() as u64) < end;
    if cut {
        let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |at| at + 1);
        bytes.truncate(if whole > 0 { whole } else { whole_characters(&bytes) });
    }
    if max.is_none() {
        while weight_of(&String::from_utf8_lossy(&bytes)) > TEXT_MOST {
            let shorter = bytes.len() * 3 / 4;
            let whole = memchr::memrchr(b'\n', &bytes[..shorter]).map_or(0, |at| at + 1);
            let kept = if whole > 0 { whole } else { whole_characters(&bytes[..shorter]) };
            bytes.truncate(kept);
        }
    }
    let next = since + bytes.len() as u64;
    Ok(Part {
        lines: count_lines(&bytes),
        truncated: next < end,
        next: Position { main: next, ..Position::default() },
        bytes,
        ..Part::default()
    })
}

/// The last lines before `end`, as they are, and of those the last that fit.
fn last_bytes(file: &File, end: u64, request: &Request) -> io::Result<Part> {
    let start =
        if request.tail == 0 { end } else { tail::start_of_last_lines(file, end, request.tail)? };
    let most = request.max_bytes.unwrap_or(TEXT_MOST as u64).min(HELD_MOST);
    let from = start.max(end.saturating_sub(most));
    let mut bytes = read_range(file, from..end)?;
    let truncated = keep_end(&mut bytes, from > start, request);
    Ok(Part {
        lines: count_lines(&bytes),
        truncated,
        next: Position { main: end, ..Position::default() },
        bytes,
        ..Part::default()
    })
}

/// Keeps of lines the last that fit into an answer; the first line of `cut` bytes is not whole.
/// Returns whether any were left out.
fn keep_end(bytes: &mut Vec<u8>, cut: bool, request: &Request) -> bool {
    let too_long = |bytes: &[u8]| {
        request.max_bytes.is_none() && weight_of(&String::from_utf8_lossy(bytes)) > TEXT_MOST
    };
    if !cut && !too_long(bytes) {
        return false;
    }
    let mut drop = 0;
    while too_long(&bytes[drop..]) {
        drop += (bytes.len() - drop) / 4 + 1;
    }
    // On to the next whole line, or else the next whole character.
    let last = bytes.len().saturating_sub(1);
    drop = memchr::memchr(b'\n', &bytes[drop..last.max(drop)]).map_or_else(
        || (drop..bytes.len()).find(|&at| bytes[at] & 0xc0 != 0x80).unwrap_or(drop),
        |at| drop + at + 1,
    );
    bytes.drain(..drop);
    true
}

/// Gives each line of a part of a file and the offset behind it, until `each` says false.
fn each_line(
    mut file: &File,
    range: Range<u64>,
    mut each: impl FnMut(Line<'_>, u64) -> bool,
) -> io::Result<()> {
    file.seek(SeekFrom::Start(range.start))?;
    let mut left = range.end.saturating_sub(range.start);
    let mut next = range.start;
    let mut wanted = true;
    let mut lines = LineSplitter::default();
    let mut buffer = vec![0; left.min(64 << 10) as usize];
    while wanted && left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let length = file.read(&mut buffer[..most])?;
        if length == 0 {
            break;
        }
        left -= length as u64;
        lines.push(&buffer[..length], |line| {
            next += line.length + 1;
            wanted = wanted && each(line, next);
        });
    }
    if wanted {
        lines.finish(|line| {
            next += line.length;
            each(line, next);
        });
    }
    Ok(())
}

fn read_range(mut file: &File, range: Range<u64>) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(range.start))?;
    let mut bytes = Vec::new();
    file.take(range.end.saturating_sub(range.start)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// How long the passage of a piece is in a JSON answer, in characters.
fn weight_of_piece(piece: &Piece) -> usize {
    piece.passage().map_or(0, weight_of_passage)
}

fn weight_of_passage(passage: &Passage) -> usize {
    weight_of(&passage.to_string()) + 2
}

/// How long a text is in a JSON answer, in characters.
fn weight_of(text: &str) -> usize {
    let weight = |c| match c {
        '"' | '\\' | '\n' | '\t' => 2,
        c if c < ' ' || is_harmful(c) => 6,
        _ => 1,
    };
    text.chars().map(weight).sum()
}

/// The length of `bytes` without a character that is cut at its end.
fn whole_characters(bytes: &[u8]) -> usize {
    let tail = bytes.len().saturating_sub(3);
    match std::str::from_utf8(&bytes[tail..]) {
        Err(error) if error.error_len().is_none() => (tail + error.valid_up_to()).max(1),
        _ => bytes.len(),
    }
}

fn count_lines(bytes: &[u8]) -> u64 {
    let whole = memchr::memchr_iter(b'\n', bytes).count() as u64;
    whole + u64::from(bytes.last().is_some_and(|last| *last != b'\n'))
}

#[cfg(test)]
mod tests;
