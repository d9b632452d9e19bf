//! Finding lines from the end of a file, in pieces of bounded size.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::stream::Line;

const PIECE: u64 = 64 << 10;

/// The offset behind the last line feed before `end`; 0 where there is none.
pub(super) fn end_of_last_line(file: &File, end: u64) -> io::Result<u64> {
    let mut found = 0;
    backwards(file, end, |at| {
        found = at + 1;
        false
    })?;
    Ok(found)
}

/// The offset at which the last `lines` lines before `end` begin. A line feed right before `end`
/// ends the last of them.
pub(super) fn start_of_last_lines(file: &File, end: u64, lines: usize) -> io::Result<u64> {
    let mut start = 0;
    let mut left = lines;
    backwards(file, end, |at| {
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

/// Gives each line before `end` and where it begins, the last one first, until `each` says false.
pub(super) fn lines_back(
    file: &File,
    end: u64,
    mut each: impl FnMut(Line<'_>, u64) -> bool,
) -> io::Result<()> {
    let mut buffer = vec![0; PIECE as usize];
    let mut line_end = end;
    let mut to = end;
    while to > 0 {
        let from = to.saturating_sub(PIECE);
        let piece = &mut buffer[..(to - from) as usize];
        file.read_exact_at(piece, from)?;
        let piece = &*piece;
        let begins = memchr::memrchr_iter(b'\n', piece).map(|at| from + at as u64 + 1);
        for start in begins.chain((from == 0).then_some(0)) {
            if start == end && end > 0 {
                line_end = end - 1;
                continue;
            }
            let more = if line_end <= to {
                let bytes = &piece[(start - from) as usize..(line_end - from) as usize];
                each(Line { bytes, length: bytes.len() as u64 }, start)
            } else {
                // It began in this piece and went on in those that were read before.
                let mut more = true;
                super::each_line(file, start, line_end, |line, _| {
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

/// Gives the offset of each line feed before `end`, the last one first, until `each` says false.
fn backwards(file: &File, end: u64, mut each: impl FnMut(u64) -> bool) -> io::Result<()> {
    let mut buffer = vec![0; PIECE as usize];
    let mut to = end;
    while to > 0 {
        let from = to.saturating_sub(PIECE);
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
