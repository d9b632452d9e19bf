//! `logs`: shows the log of a job.
//!
//! Offsets count bytes of the file. While the job is live, an answer contains complete lines only,
//! and the next answer starts at its `nextOffset`: nothing is repeated and nothing is lost while
//! the log grows.
//!
//! Both streams of claude are merged line by line, as [`log`] describes. Following them needs an
//! offset in each.
//!
//! The readable log of an ended job ends with the verdict, which is in the record and not in the
//! file: it is the last line of each answer that reaches the end of the file. A caller that reads
//! from there again, after `status` has shown the end, gets it again.

mod args;
mod feed;
mod follow;
mod held_turn;
mod limits;
mod log;
mod raw;
mod several;
mod text;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde::Serialize;

use super::observe::{Observed, observe};
use crate::error::Error;
use crate::job::{JobId, Status};
use crate::store::{OUTPUT, STDERR, Store, StoreError, addressed, each_line};
use crate::stream::transcript::{
    Piece, TranscriptLine, append_verdict, pieces, resolve, stderr_piece, verdict_line,
};
use crate::stream::{Line, LineSplitter};
use crate::text::{clip, is_harmful};
use log::{JobLog, LogPosition, LogStream};
use raw::{last_bytes, last_lines, read_bytes, read_lines};

pub(crate) use args::LogsArgs;
pub(crate) use feed::{ConversationFeed, FeedOptions};
pub(crate) use follow::follow_until;
pub(crate) use held_turn::HeldTurn;
pub(crate) use limits::LogLimits;

/// Maximum number of bytes of a log whose entries are counted.
const MAX_COUNTED_BYTES: u64 = 16 << 20;
/// Bytes before a part that are searched for the requests that it answers.
const MAX_CONTEXT_BYTES: u64 = 256 << 10;

/// Part of a log to show, and its format.
#[derive(Clone, Debug)]
pub(crate) struct LogsRequest {
    pub id: JobId,
    /// Number of passages from the end, or of lines of a raw log.
    pub tail: usize,
    /// Offset to start at, instead of `tail`.
    pub since: Option<u64>,
    pub limits: LogLimits,
    pub format: LogFormat,
    /// Include claude's stderr, in the order of arrival.
    pub merged: bool,
    /// Say in text which entries are left out.
    pub notes_rest: bool,
}

impl LogsRequest {
    /// Requests the readable log from this offset on.
    pub(super) fn from_offset(id: JobId, offset: u64) -> Self {
        Self {
            id,
            tail: 0,
            since: Some(offset),
            limits: LogLimits::default(),
            format: LogFormat::Readable,
            merged: false,
            notes_rest: false,
        }
    }
}

/// Which log to show, and in which format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Claude's stream, as a conversation.
    Readable,
    /// Claude's stream, unchanged.
    Raw,
    /// Claude's stderr, unchanged.
    Stderr,
}

/// A part of a log.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct LogsAnswer {
    /// The job's id.
    pub job_id: JobId,
    /// The job's status.
    pub status: Status,
    /// Number of lines of the log in this answer, without the verdict.
    pub lines: u64,
    /// Text of the log.
    pub tail: String,
    /// Offset for `--since-offset` of the next call; with `--merged`, an offset in claude's stdout.
    pub next_offset: u64,
    /// Parts are omitted: with `--since-offset` later ones, which start at `nextOffset`; without it
    /// earlier ones.
    pub truncated: bool,
    /// What text says about earlier entries, which are left out.
    #[serde(skip)]
    pub earlier: Option<String>,
    /// What text says about later entries, which are left out.
    #[serde(skip)]
    pub later: Option<String>,
    /// The text by speaker; empty for a raw log.
    #[serde(skip)]
    pub passages: Vec<TranscriptLine>,
    /// The bytes of a raw log.
    #[serde(skip)]
    pub bytes: Vec<u8>,
    /// Whether the bytes must be printed unchanged, for a program.
    #[serde(skip)]
    pub is_raw: bool,
}

impl LogsAnswer {
    /// Whether the verdict is the last passage.
    pub(crate) fn has_verdict(&self) -> bool {
        !self.status.is_live() && !self.truncated
    }
}

/// Returns the requested part of the log.
pub(crate) fn logs(store: &Store, request: &LogsRequest) -> Result<LogsAnswer, Error> {
    let observed = observe(store, &request.id)?;
    let log = open(&observed, request)?;
    let (mut answer, _) = part(&observed, request, &log, start_position(request))?;
    if request.since.is_none() {
        note_earlier(store, request, &observed, &log, &mut answer);
    } else if request.notes_rest && answer.truncated {
        let (id, next) = (&request.id, answer.next_offset);
        let call = addressed(store.root(), format!("claudejob logs {id} --since-offset {next}"));
        answer.later = Some(format!("… more: {call}"));
    }
    answer.note_request(store, request, &observed);
    Ok(answer)
}

/// Says which entries precede those of the answer, and how they are shown.
fn note_earlier(
    store: &Store,
    request: &LogsRequest,
    observed: &Observed,
    log: &JobLog,
    answer: &mut LogsAnswer,
) {
    let is_readable = request.format == LogFormat::Readable;
    let shown = answer.passages.len();
    if !request.notes_rest || !is_readable || (shown < request.tail && !answer.truncated) {
        return;
    }
    let mut call = addressed(store.root(), format!("claudejob logs {}", request.id));
    if request.merged {
        call.push_str(" --merged");
    }
    let rest = if answer.truncated { " --max-chars 0" } else { "" };
    if log.end.main + log.end.stderr > MAX_COUNTED_BYTES {
        answer.earlier = Some(format!("… earlier entries: {call} -n 1000000{rest}"));
        return;
    }
    let (start, verdict) = (LogPosition::default(), verdict_line(&observed.record));
    let Ok(all) = read_passages(log, start, LogLimits::default(), verdict) else { return };
    let total = all.passages.len();
    let number = match total.saturating_sub(shown) {
        0 => return,
        1 => "1 earlier entry".to_owned(),
        number => format!("{number} earlier entries"),
    };
    answer.earlier = Some(format!("… {number}: {call} -n {total}{rest}"));
}

/// Returns where the requested part begins; `None` for the end of the log.
fn start_position(request: &LogsRequest) -> Option<LogPosition> {
    request.since.map(|main| LogPosition { main, ..LogPosition::default() })
}

/// A part of the log.
#[derive(Debug, Default)]
struct LogPart {
    lines: u64,
    passages: Vec<TranscriptLine>,
    bytes: Vec<u8>,
    /// Position at which the next part begins.
    next: LogPosition,
    truncated: bool,
}

/// Returns the name of the file that offsets refer to.
fn main_file(request: &LogsRequest) -> &'static str {
    if request.format == LogFormat::Stderr { STDERR } else { OUTPUT }
}

fn open(observed: &Observed, request: &LogsRequest) -> Result<JobLog, Error> {
    if request.merged {
        return Ok(JobLog::merged(&observed.dir, !observed.live)?);
    }
    let name = main_file(request);
    JobLog::single(observed.dir.open(name)?, !observed.live)
        .map_err(|source| read_error(observed, request, source))
}

fn read_error(observed: &Observed, request: &LogsRequest, source: io::Error) -> Error {
    let path = observed.dir.file(main_file(request));
    Error::from(StoreError { operation: "read", path, source })
}

/// Returns the part of the log from a position on, or the end of the log, and the next position.
fn part(
    observed: &Observed,
    request: &LogsRequest,
    log: &JobLog,
    from: Option<LogPosition>,
) -> Result<(LogsAnswer, LogPosition), Error> {
    let is_readable = request.format == LogFormat::Readable;
    let verdict = if is_readable { verdict_line(&observed.record) } else { None };
    let part = read_part(log, request, from, verdict).map_err(|error| match error {
        ReadFailure::BadOffset { offset, length } => Error::BadOffset { offset, length },
        ReadFailure::Io(source) => read_error(observed, request, source),
    })?;
    let tail = if is_readable {
        part.passages.iter().map(TranscriptLine::to_string).collect::<Vec<_>>().join("\n")
    } else {
        String::from_utf8_lossy(&part.bytes).into_owned()
    };
    let answer = LogsAnswer {
        job_id: observed.record.job_id.clone(),
        status: observed.record.status,
        lines: part.lines,
        tail,
        next_offset: part.next.main,
        truncated: part.truncated,
        earlier: None,
        later: None,
        passages: part.passages,
        bytes: part.bytes,
        is_raw: request.format == LogFormat::Raw,
    };
    Ok((answer, part.next))
}

enum ReadFailure {
    BadOffset { offset: u64, length: u64 },
    Io(io::Error),
}

impl From<io::Error> for ReadFailure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads the requested part. The `verdict` follows the end of a readable log.
fn read_part(
    log: &JobLog,
    request: &LogsRequest,
    from: Option<LogPosition>,
    verdict: Option<TranscriptLine>,
) -> Result<LogPart, ReadFailure> {
    // If the log was truncated by a user, a `nextOffset` from before may be beyond its end.
    let from = match from {
        Some(from) if request.merged => {
            Some(LogPosition { main: from.main.min(log.length), ..from })
        }
        Some(from) if log.main.is_some() && from.main > log.length => {
            return Err(ReadFailure::BadOffset { offset: from.main, length: log.length });
        }
        from => from,
    };
    let limits = request.limits;
    Ok(match (from, request.format) {
        (Some(from), LogFormat::Readable) => read_passages(log, from, limits, verdict)?,
        (None, LogFormat::Readable) => last_passages(log, request, verdict.as_ref())?,
        (Some(from), _) if request.merged => read_lines(log, from, limits)?,
        (None, _) if request.merged => last_lines(log, request)?,
        (from, _) => match (&log.main, from) {
            (Some(file), Some(from)) => read_bytes(file, from.main..log.end.main, limits)?,
            (Some(file), None) => last_bytes(file, log.end.main, request)?,
            (None, from) => LogPart { next: from.unwrap_or_default(), ..LogPart::default() },
        },
    })
}

/// Returns the pieces of text in a line of a stream. A limited answer contains only the beginning
/// of a very long message.
fn pieces_of(stream: LogStream, line: Line<'_>, limits: LogLimits) -> Vec<Piece> {
    let mut found = match stream {
        LogStream::Main => pieces(line),
        LogStream::Stderr => stderr_piece(line).into_iter().collect(),
    };
    if limits.max_chars.is_some() {
        found.iter_mut().filter_map(Piece::line_mut).for_each(TranscriptLine::shorten);
    }
    found
}

/// Reads passages from `from` on, as many as fit, and appends the verdict if none is omitted.
fn read_passages(
    log: &JobLog,
    from: LogPosition,
    limits: LogLimits,
    verdict: Option<TranscriptLine>,
) -> io::Result<LogPart> {
    let mut part = LogPart::default();
    let max_weight = limits.chars().saturating_sub(verdict.as_ref().map_or(0, weight_of_passage));
    let max_bytes = limits.scanned_bytes();
    let mut weight = 0;
    let mut bytes_read = 0;
    let mut all: Vec<Piece> = Vec::new();
    part.next = log.parts_from(from, |stream, file, range| {
        let (before, mut end) = (bytes_read, range.start);
        each_line(file, range.clone(), |line| {
            let next = line.end();
            let mut found = pieces_of(stream, line.text, limits);
            let mut adds: usize = found.iter().map(weight_of_piece).sum();
            let first = part.lines == 0;
            if !first && (weight + adds > max_weight || before + next - range.start > max_bytes) {
                part.truncated = true;
                return false;
            }
            if adds > max_weight {
                // A line longer than the limit is truncated: otherwise no caller could read past it.
                for passage in found.iter_mut().filter_map(Piece::line_mut) {
                    passage.text = clip(&passage.text, max_weight / 8);
                }
                found.truncate(8);
                adds = max_weight;
                part.truncated = true;
            }
            weight += adds;
            part.lines += 1;
            end = next;
            all.append(&mut found);
            true
        })?;
        bytes_read += end - range.start;
        Ok(end)
    })?;
    let context = match &log.main {
        Some(file) => context(file, from.main, &all)?,
        None => Vec::new(),
    };
    part.passages = resolve(&context, &all).into_iter().map(|(_, passage)| passage).collect();
    if !part.truncated
        && let Some(verdict) = verdict
    {
        append_verdict(&mut part.passages, verdict);
    }
    Ok(part)
}

/// Returns the pieces shortly before `since` that `part` depends on: requests that it answers.
fn context(file: &File, since: u64, part: &[Piece]) -> io::Result<Vec<Piece>> {
    if !part.iter().any(|piece| piece.lacks_context(part)) {
        return Ok(Vec::new());
    }
    let from = since.saturating_sub(MAX_CONTEXT_BYTES);
    let mut before = vec![0; usize::try_from(since - from).unwrap_or(0)];
    file.read_exact_at(&mut before, from)?;
    let asks = memchr::memmem::find(&before, b"\"control_request\"").is_some();
    if !asks && !part.iter().any(Piece::is_request) {
        return Ok(Vec::new());
    }
    let mut context = Vec::new();
    let mut lines = LineSplitter::default();
    let mut is_complete = from == 0;
    lines.push(&before, |line| {
        // The first line is incomplete unless the text begins at the start of the file.
        if std::mem::replace(&mut is_complete, true) {
            context.extend(pieces(line).into_iter().filter(Piece::is_linked));
        }
    });
    Ok(context)
}

/// Reads the last passages, followed by the verdict. Reads backwards from the end, no further than
/// necessary.
fn last_passages(
    log: &JobLog,
    request: &LogsRequest,
    verdict: Option<&TranscriptLine>,
) -> io::Result<LogPart> {
    let mut part = LogPart { next: log.end, ..LogPart::default() };
    let max_weight =
        request.limits.end_chars().saturating_sub(verdict.map_or(0, weight_of_passage));
    let max_back = request.limits.searched_bytes();
    let mut weight = 0;
    // Last piece first.
    let mut all: Vec<Piece> = Vec::new();
    let mut shown = 0;
    let mut gone_back = 0;
    log.lines_back(|stream, line, range| {
        for mut piece in pieces_of(stream, line, request.limits).into_iter().rev() {
            if shown >= request.tail && count_passages(&all) >= request.tail {
                return false;
            }
            let adds = weight_of_piece(&piece);
            if weight + adds > max_weight {
                part.truncated = true;
                if weight > 0 {
                    return false;
                }
                if let Some(passage) = piece.line_mut() {
                    passage.text = clip(&passage.text, max_weight / 8);
                }
            }
            weight += adds;
            shown += usize::from(piece.line().is_some());
            all.push(piece);
        }
        part.lines += 1;
        gone_back += range.end - range.start;
        // Lines without readable text do not count: earlier ones may have some.
        let enough = shown >= request.tail && count_passages(&all) >= request.tail;
        part.truncated |= !enough && gone_back >= max_back;
        !enough && gone_back < max_back
    })?;
    part.passages = last_of(all, request.tail, verdict);
    Ok(part)
}

/// Counts the passages in pieces, given in reverse order.
fn count_passages(last_first: &[Piece]) -> usize {
    if !last_first.iter().any(Piece::is_request) {
        return last_first.iter().filter(|piece| piece.line().is_some()).count();
    }
    let pieces: Vec<Piece> = last_first.iter().rev().cloned().collect();
    resolve(&[], &pieces).len()
}

/// Returns the last `max` passages, including the verdict, of pieces in reverse order.
fn last_of(
    last_first: Vec<Piece>,
    max: usize,
    verdict: Option<&TranscriptLine>,
) -> Vec<TranscriptLine> {
    let mut pieces = last_first;
    pieces.reverse();
    loop {
        let passages = resolve(&[], &pieces);
        let indices: Vec<usize> = passages.iter().map(|(at, _)| *at).collect();
        let mut passages = passages.into_iter().map(|(_, passage)| passage).collect();
        if let Some(verdict) = verdict {
            append_verdict(&mut passages, verdict.clone());
        }
        let excess = passages.len().saturating_sub(max);
        if excess == 0 {
            return passages;
        }
        match indices.get(excess - 1) {
            // Without them, the remaining pieces may resolve differently.
            Some(first) => pieces.drain(..=*first),
            None => return Vec::new(),
        };
    }
}

/// Returns the length of a piece's passage in a JSON answer, in characters.
fn weight_of_piece(piece: &Piece) -> usize {
    piece.line().map_or(0, weight_of_passage)
}

fn weight_of_passage(passage: &TranscriptLine) -> usize {
    weight_of(&passage.to_string()) + 2
}

/// Returns the length of a text in a JSON answer, in characters.
fn weight_of(text: &str) -> usize {
    let mut weight = 0;
    for c in text.chars() {
        weight += match c {
            '"' | '\\' | '\n' | '\t' => 2,
            c if c < ' ' || is_harmful(c) => 6,
            _ => 1,
        };
    }
    weight
}

#[cfg(test)]
mod tests;
