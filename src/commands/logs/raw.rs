//! Reads parts of a log unchanged.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use super::log::{JobLog, LogPosition, LogStream};
use super::{LogLimits, LogPart, LogsRequest, weight_of};
use crate::store::start_of_last_lines;

/// Reads lines of both streams unchanged, as many as fit. A line longer than the limit is split, and
/// the next part begins with its rest.
pub(super) fn read_lines(
    log: &JobLog,
    from: LogPosition,
    limits: LogLimits,
) -> io::Result<LogPart> {
    let max_bytes = limits.raw_bytes();
    let mut part = LogPart::default();
    part.next = log.parts_from(from, |_, file, range| {
        let remaining = max_bytes.saturating_sub(part.bytes.len() as u64);
        if remaining == 0 {
            part.truncated = true;
            return Ok(range.start);
        }
        let mut read =
            read_bytes(file, range, LogLimits { max_bytes: Some(remaining), max_chars: None })?;
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

/// Reads the last lines of both streams unchanged, as many as fit.
pub(super) fn last_lines(log: &JobLog, request: &LogsRequest) -> io::Result<LogPart> {
    let max_bytes = request.limits.raw_bytes();
    let mut part = LogPart { next: log.end, ..LogPart::default() };
    // Ranges of the lines, last first; adjacent lines of one file form one range.
    let mut ranges: Vec<(LogStream, Range<u64>)> = Vec::new();
    let mut total_bytes = 0;
    let mut lines = 0;
    let mut is_split = false;
    log.lines_back(|stream, line, mut line_range| {
        if lines >= request.tail {
            return false;
        }
        lines += 1;
        if total_bytes + line.length + 1 > max_bytes {
            part.truncated = true;
            if total_bytes > 0 {
                return false;
            }
            is_split = true;
            line_range.start = line_range.end - (line_range.end - line_range.start).min(max_bytes);
        }
        total_bytes += line.length + 1;
        match ranges.last_mut() {
            Some((last, range)) if *last == stream && range.start == line_range.end => {
                range.start = line_range.start;
            }
            _ => ranges.push((stream, line_range)),
        }
        !part.truncated
    })?;
    for (stream, range) in ranges.into_iter().rev() {
        if let Some(file) = log.file(stream) {
            end_line(&mut part.bytes);
            part.bytes.append(&mut read_range(file, range)?);
        }
    }
    part.truncated |= keep_end(&mut part.bytes, is_split, request);
    part.lines = count_lines(&part.bytes);
    Ok(part)
}

/// Terminates an incomplete last line, so that text of the other stream is not appended to it.
pub(super) fn end_line(bytes: &mut Vec<u8>) {
    if bytes.last().is_some_and(|last| *last != b'\n') {
        bytes.push(b'\n');
    }
}

/// Reads bytes of a part of a file: as many complete lines as fit, or the beginning of a line longer
/// than the limit.
pub(super) fn read_bytes(file: &File, range: Range<u64>, limits: LogLimits) -> io::Result<LogPart> {
    let Range { start: since, end } = range;
    let max_bytes = limits.raw_bytes();
    let mut bytes = read_range(file, since..end.min(since.saturating_add(max_bytes)))?;
    let is_truncated = since + (bytes.len() as u64) < end;
    if is_truncated {
        bytes.truncate(complete_length(&bytes));
    }
    if let Some(max) = limits.max_chars {
        while weight_of(&String::from_utf8_lossy(&bytes)) > max {
            bytes.truncate(complete_length(&bytes[..bytes.len() * 3 / 4]));
        }
    }
    let next = since + bytes.len() as u64;
    Ok(LogPart {
        lines: count_lines(&bytes),
        truncated: next < end,
        next: LogPosition { main: next, ..LogPosition::default() },
        bytes,
        ..LogPart::default()
    })
}

/// Reads the last lines before `end` unchanged, as many as fit.
pub(super) fn last_bytes(file: &File, end: u64, request: &LogsRequest) -> io::Result<LogPart> {
    let start = if request.tail == 0 { end } else { start_of_last_lines(file, end, request.tail)? };
    let max_bytes = request.limits.raw_bytes();
    let from = start.max(end.saturating_sub(max_bytes));
    let mut bytes = read_range(file, from..end)?;
    let truncated = keep_end(&mut bytes, from > start, request);
    Ok(LogPart {
        lines: count_lines(&bytes),
        truncated,
        next: LogPosition { main: end, ..LogPosition::default() },
        bytes,
        ..LogPart::default()
    })
}

/// Removes lines from the beginning until the rest fits into an answer. `is_split`: the first line
/// is incomplete. Returns whether anything was removed.
fn keep_end(bytes: &mut Vec<u8>, is_split: bool, request: &LogsRequest) -> bool {
    let mut drop = 0;
    if let Some(max) = request.limits.max_chars {
        while weight_of(&String::from_utf8_lossy(&bytes[drop..])) > max {
            drop += (bytes.len() - drop) / 4 + 1;
        }
    }
    if drop == 0 && !is_split {
        return false;
    }
    // Skip to the next complete line, or else to the next complete character.
    let last = bytes.len().saturating_sub(1);
    if let Some(at) = memchr::memchr(b'\n', &bytes[drop..last.max(drop)]) {
        drop += at + 1;
    } else {
        while drop < bytes.len() && bytes[drop] & 0xc0 == 0x80 {
            drop += 1;
        }
    }
    bytes.drain(..drop);
    true
}

fn read_range(mut file: &File, range: Range<u64>) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(range.start))?;
    let mut bytes = Vec::new();
    file.take(range.end.saturating_sub(range.start)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Returns the length of the complete lines, or of the complete characters of an incomplete line.
fn complete_length(bytes: &[u8]) -> usize {
    match memchr::memrchr(b'\n', bytes) {
        Some(at) => at + 1,
        None => complete_chars_length(bytes),
    }
}

/// Returns the length of `bytes` without an incomplete character at the end.
fn complete_chars_length(bytes: &[u8]) -> usize {
    let tail = bytes.len().saturating_sub(3);
    match std::str::from_utf8(&bytes[tail..]) {
        Err(error) if error.error_len().is_none() => (tail + error.valid_up_to()).max(1),
        _ => bytes.len(),
    }
}

pub(super) fn count_lines(bytes: &[u8]) -> u64 {
    let whole = memchr::memchr_iter(b'\n', bytes).count() as u64;
    whole + u64::from(bytes.last().is_some_and(|last| *last != b'\n'))
}
