//! Finding lines from the end of a file, in pieces of bounded size.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::stream::Line;

const PIECE: u64 = 64 << 10;

/// The offset behind the last line feed in this part of a file; `None` where there is none.
pub(super) fn end_of_last_line(file: &File, part: Range<u64>) -> io::Result<Option<u64>> {
    let mut found = None;
    // Most often it is the last byte.
    let mut last = [0];
    if part.start < part.end {
        file.read_exact_at(&mut last, part.end - 1)?;
    }
    if last == *b"\n" {
        return Ok(Some(part.end));
    }
    backwards(file, part, |at| {
        found = Some(at + 1);
        false
    })?;
    Ok(found)
}

/// The offset at which the last `lines` lines before `end` begin. A line feed right before `end`
/// ends the last of them.
pub(super) fn start_of_last_lines(file: &File, end: u64, lines: usize) -> io::Result<u64> {
    let mut start = 0;
    let mut left = lines;
    backwards(file, 0..end, |at| {
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

/// Gives each line of a part of a file, which begins where a line does, and where the line begins:
/// the last one first, until `each` says false.
pub(super) fn lines_back(
    file: &File,
    part: Range<u64>,
    mut each: impl FnMut(Line<'_>, u64) -> bool,
) -> io::Result<()> {
    let Range { start: first, end } = part;
    let mut buffer = vec![0; PIECE.min(end.saturating_sub(first)) as usize];
    let mut line_end = end;
    let mut to = end;
    while to > first {
        let from = to.saturating_sub(PIECE).max(first);
        let piece = &mut buffer[..(to - from) as usize];
        file.read_exact_at(piece, from)?;
        let piece = &*piece;
        let begins = memchr::memrchr_iter(b'\n', piece).map(|at| from + at as u64 + 1);
        for start in begins.chain((from == first).then_some(first)) {
            if start == end {
                line_end = end - 1;
                continue;
            }
            let more = if line_end <= to {
                let bytes = &piece[(start - from) as usize..(line_end - from) as usize];
                each(Line { bytes, length: bytes.len() as u64 }, start)
            } else {
                // It began in this piece and went on in those that were read before.
                let mut more = true;
                super::each_line(file, start..line_end, |line, _| {
                    more = each(line, start);
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

/// Gives the offset of each line feed in a part of a file, the last one first, until `each` says
/// false.
fn backwards(file: &File, part: Range<u64>, mut each: impl FnMut(u64) -> bool) -> io::Result<()> {
    let Range { start: first, end } = part;
    let mut buffer = vec![0; PIECE.min(end.saturating_sub(first)) as usize];
    let mut to = end;
    while to > first {
        let from = to.saturating_sub(PIECE).max(first);
        let piece = &mut buffer[..(to - from) as usize];
        file.read_exact_at(piece, from)?;
        for at in memchr::memrchr_iter(b'\n', piece) {
            if !each(from + at as u64) {
                return Ok(());
            }
        }
        to = from;
    }
    Ok(())
}
