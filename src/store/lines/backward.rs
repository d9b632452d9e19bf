//! Finds lines from the end of a file, in chunks of bounded size.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::stream::Line;

/// Bytes read at once.
const CHUNK_BYTES: u64 = super::CHUNK_BYTES as u64;

/// Returns the offset after the last line feed in this part of a file; `None` without one.
pub(crate) fn end_of_last_line(file: &File, part: Range<u64>) -> io::Result<Option<u64>> {
    let mut found = None;
    // Usually it is the last byte.
    let mut last = [0];
    if part.start < part.end {
        file.read_exact_at(&mut last, part.end - 1)?;
    }
    if last == *b"\n" {
        return Ok(Some(part.end));
    }
    line_feeds_back(file, part, |at| {
        found = Some(at + 1);
        false
    })?;
    Ok(found)
}

/// Returns the offset at which the last `lines` lines before `end` begin. A line feed right before
/// `end` terminates the last line.
pub(crate) fn start_of_last_lines(file: &File, end: u64, lines: usize) -> io::Result<u64> {
    let mut start = 0;
    let mut left = lines;
    line_feeds_back(file, 0..end, |at| {
        if at + 1 == end {
            return true;
        }
        left -= 1;
        if left == 0 {
            start = at + 1;
        }
        left > 0
    })?;
    Ok(start)
}

/// Calls `each` with each line of a part of a file and the line's offset, last line first, until it
/// returns false. The part must begin at the beginning of a line.
pub(crate) fn lines_back(
    file: &File,
    part: Range<u64>,
    mut each: impl FnMut(Line<'_>, u64) -> bool,
) -> io::Result<()> {
    let Range { start: first, end } = part;
    let mut buffer = vec![0; CHUNK_BYTES.min(end.saturating_sub(first)) as usize];
    let mut line_end = end;
    let mut to = end;
    while to > first {
        let from = to.saturating_sub(CHUNK_BYTES).max(first);
        let chunk = &mut buffer[..(to - from) as usize];
        file.read_exact_at(chunk, from)?;
        let chunk = &*chunk;
        let starts = memchr::memrchr_iter(b'\n', chunk).map(|at| from + at as u64 + 1);
        for start in starts.chain((from == first).then_some(first)) {
            if start == end {
                line_end = end - 1;
                continue;
            }
            let more = if line_end <= to {
                let bytes = &chunk[(start - from) as usize..(line_end - from) as usize];
                each(Line { bytes, length: bytes.len() as u64 }, start)
            } else {
                // The line begins in this chunk and continues in those read before.
                let mut more = true;
                super::each_line(file, start..line_end, |line| {
                    more = each(line.text, start);
                    more
                })?;
                more
            };
            if !more {
                return Ok(());
            }
            line_end = start.saturating_sub(1);
        }
        to = from;
    }
    Ok(())
}

/// Calls `each` with the offset of each line feed in a part of a file, last one first, until it
/// returns false.
fn line_feeds_back(
    file: &File,
    part: Range<u64>,
    mut each: impl FnMut(u64) -> bool,
) -> io::Result<()> {
    let Range { start: first, end } = part;
    let mut buffer = vec![0; CHUNK_BYTES.min(end.saturating_sub(first)) as usize];
    let mut to = end;
    while to > first {
        let from = to.saturating_sub(CHUNK_BYTES).max(first);
        let chunk = &mut buffer[..(to - from) as usize];
        file.read_exact_at(chunk, from)?;
        for at in memchr::memrchr_iter(b'\n', chunk) {
            if !each(from + at as u64) {
                return Ok(());
            }
        }
        to = from;
    }
    Ok(())
}
