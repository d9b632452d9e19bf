//! `logs`: what a job's agent said and did.
//!
//! Offsets count bytes of the file. Only whole lines are given while the job lives, so an answer's
//! `nextOffset` is where the next one goes on: nothing comes twice and nothing is lost, however
//! the log grows meanwhile.
//!
//! The readable log of a job that has ended ends in the verdict, which is in the record and not in
//! the file: each answer that reaches the end of the file has it as its last line. A caller who asks
//! again from there, having seen in `status` that the job has ended, gets it again.

mod follow;
mod tail;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use serde::Serialize;

use super::ANSWER_MOST;
use super::seen::{Seen, look};
use crate::error::Error;
use crate::job::{JobId, Status};
use crate::store::{OUTPUT, STDERR, Store, StoreError};
use crate::stream::transcript::{Passage, Piece, conclude, pieces, resolve, verdict};
use crate::stream::{Line, LineSplitter};
use crate::text::{clip, is_harmful};

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
    /// Offset for `--since-offset` of the next call.
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
}

/// The part of the log that was asked for.
pub fn logs(store: &Store, request: &Request) -> Result<LogsAnswer, Error> {
    let seen = look(store, &request.id)?;
    part(&seen, request)
}

/// A piece of the log file and what it says.
#[derive(Debug, Default)]
struct Part {
    lines: u64,
    passages: Vec<Passage>,
    bytes: Vec<u8>,
    next_offset: u64,
    truncated: bool,
}

fn part(seen: &Seen, request: &Request) -> Result<LogsAnswer, Error> {
    let name = if request.form == Form::Stderr { STDERR } else { OUTPUT };
    let file = seen.dir.open(name)?;
    let is_readable = request.form == Form::Readable;
    let verdict = if is_readable { verdict(&seen.record) } else { None };
    let part = match file {
        // Without a log there is nothing but the verdict to read.
        None => Part {
            next_offset: request.since.unwrap_or(0),
            passages: match request.since {
                Some(_) => verdict.into_iter().collect(),
                None => last_of(Vec::new(), request.tail, verdict.as_ref()),
            },
            ..Part::default()
        },
        Some(mut file) => read_part(&mut file, request, verdict.clone(), !seen.live).map_err(
            |error| match error {
                Failure::Offset { length } => {
                    Error::BadOffset { offset: request.since.unwrap_or(0), length }
                }
                Failure::Io(source) => {
                    Error::from(StoreError { operation: "read", path: seen.dir.file(name), source })
                }
            },
        )?,
    };
    let tail = if is_readable {
        part.passages.iter().map(Passage::to_string).collect::<Vec<_>>().join("\n")
    } else {
        String::from_utf8_lossy(&part.bytes).into_owned()
    };
    Ok(LogsAnswer {
        job_id: seen.record.job_id.clone(),
        status: seen.record.status,
        lines: part.lines,
        tail,
        next_offset: part.next_offset,
        truncated: part.truncated,
        passages: part.passages,
        bytes: part.bytes,
    })
}

enum Failure {
    Offset { length: u64 },
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The part that was asked for of a log that grows no more if the job has `ended`. Behind the end
/// of a readable one stands the `verdict`.
fn read_part(
    file: &mut File,
    request: &Request,
    verdict: Option<Passage>,
    ended: bool,
) -> Result<Part, Failure> {
    let length = file.metadata()?.len();
    let end = if ended { length } else { tail::end_of_last_line(file, length)? };
    match (request.since, request.form) {
        // What was given as an end may, in a log that somebody cut, lie beyond it now.
        (Some(since), _) if since > length => Err(Failure::Offset { length }),
        (Some(since), Form::Readable) => {
            Ok(read_passages(file, since, end, request.max_bytes, verdict)?)
        }
        (Some(since), _) => Ok(read_bytes(file, since, end, request.max_bytes)?),
        (None, Form::Readable) => Ok(last_passages(file, end, request, verdict.as_ref())?),
        (None, _) => Ok(last_bytes(file, end, request)?),
    }
}

/// Passages from `since` on, as many as fit, and the verdict if that is all.
fn read_passages(
    file: &File,
    since: u64,
    end: u64,
    max: Option<u64>,
    verdict: Option<Passage>,
) -> io::Result<Part> {
    let mut part = Part { next_offset: since, ..Part::default() };
    let room = TEXT_MOST - verdict.as_ref().map_or(0, weight_of_passage);
    let room = if max.is_some() { usize::MAX } else { room };
    let most = max.unwrap_or(LOG_MOST);
    let mut weight = 0;
    let mut all: Vec<Piece> = Vec::new();
    each_line(file, since, end, |line, next| {
        let mut said = pieces(line);
        let mut adds: usize = said.iter().map(weight_of_piece).sum();
        let first = part.lines == 0;
        if !first && (weight + adds > room || next - since > most) {
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
        part.next_offset = next;
        all.append(&mut said);
        true
    })?;
    let context = context(file, since, &all)?;
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

/// The last passages before `end`, and behind them the verdict: read from the end on, and no
/// further than what is shown.
fn last_passages(
    file: &File,
    end: u64,
    request: &Request,
    verdict: Option<&Passage>,
) -> io::Result<Part> {
    let mut part = Part { next_offset: end, ..Part::default() };
    let room = TEXT_MOST - verdict.map_or(0, weight_of_passage);
    let most = request.max_bytes.map_or(room, |most| usize::try_from(most).unwrap_or(0));
    let mut weight = 0;
    // The last one first.
    let mut all: Vec<Piece> = Vec::new();
    let mut shown = 0;
    tail::lines_back(file, end, |line, start| {
        for mut piece in pieces(line).into_iter().rev() {
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
        // Lines that are not worth reading do not count: further back there may be others.
        let enough = shown >= request.tail && count(&all) >= request.tail;
        !enough && end - start < BACK_MOST
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

/// Bytes from `since` on, whole lines as far as they fit; of a line that does not fit by itself
/// as much as does.
fn read_bytes(file: &mut File, since: u64, end: u64, max: Option<u64>) -> io::Result<Part> {
    let most = max.unwrap_or(TEXT_MOST as u64).min(HELD_MOST);
    let mut bytes = read_range(file, since, end.min(since.saturating_add(most)))?;
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
    let next_offset = since + bytes.len() as u64;
    Ok(Part {
        lines: count_lines(&bytes),
        truncated: next_offset < end,
        next_offset,
        bytes,
        ..Part::default()
    })
}

/// The last lines before `end`, as they are, and of those the last that fit.
fn last_bytes(file: &mut File, end: u64, request: &Request) -> io::Result<Part> {
    let start =
        if request.tail == 0 { end } else { tail::start_of_last_lines(file, end, request.tail)? };
    let most = request.max_bytes.unwrap_or(TEXT_MOST as u64).min(HELD_MOST);
    let from = start.max(end.saturating_sub(most));
    let mut bytes = read_range(file, from, end)?;
    let mut truncated = from > start;
    let too_long = |bytes: &[u8]| {
        request.max_bytes.is_none() && weight_of(&String::from_utf8_lossy(bytes)) > TEXT_MOST
    };
    if truncated || too_long(&bytes) {
        truncated = true;
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
    }
    Ok(Part { lines: count_lines(&bytes), truncated, next_offset: end, bytes, ..Part::default() })
}

/// Gives each line from `start` to `end` and the offset behind it, until `each` says false.
fn each_line(
    mut file: &File,
    start: u64,
    end: u64,
    mut each: impl FnMut(Line<'_>, u64) -> bool,
) -> io::Result<()> {
    file.seek(SeekFrom::Start(start))?;
    let mut left = end.saturating_sub(start);
    let mut next = start;
    let mut wanted = true;
    let mut lines = LineSplitter::default();
    let mut buffer = vec![0; 64 << 10];
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

fn read_range(file: &mut File, from: u64, to: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(to.saturating_sub(from)).read_to_end(&mut bytes)?;
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
