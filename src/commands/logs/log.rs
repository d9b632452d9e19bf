//! A snapshot of a job's log: one stream of claude, or both in the order of arrival.
//!
//! The marks in `stderr.marks` record that order: "stderr.log up to this offset came before
//! output.log from that offset on". Stderr after the last mark came after all output. Whatever the
//! marks contain, each line of both streams is returned once, complete, and in the order of its
//! stream: a mark within a line of the output counts as the end of that line, a mark within a line
//! of stderr as its beginning.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::fault_point::fault_point;
use crate::store::{
    JobDir, LineReader, OUTPUT, STDERR, STDERR_MARKS, StderrMark, StoreError, end_of_last_line,
    lines_back,
};
use crate::stream::Line;

/// Bytes read at once in the search for the end of a line.
const CHUNK_BYTES: u64 = 64 << 10;
/// Maximum number of bytes read of a mark; valid marks are far shorter.
const MAX_MARK_BYTES: u64 = 64;

/// The file of the log that a line is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogStream {
    /// The file that offsets refer to: claude's stdout, or its stderr if only that is shown.
    Main,
    /// Claude's stderr, in addition to its stdout.
    Stderr,
}

/// LogPosition in a log: an offset in each of its files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LogPosition {
    pub main: u64,
    pub stderr: u64,
    pub marks: u64,
}

/// The files of a log, and the end of each.
#[derive(Debug)]
pub(super) struct JobLog {
    pub main: Option<File>,
    stderr: Option<File>,
    marks: Option<File>,
    /// The length of the main file.
    pub length: u64,
    /// End of the readable part: while the job is live, the end of the last complete line of each
    /// file.
    pub end: LogPosition,
}

impl JobLog {
    /// Returns the log of one file. `ended`: the job has ended and will not write more.
    pub(super) fn single(main: Option<File>, ended: bool) -> io::Result<Self> {
        let length = length_of(main.as_ref())?;
        let end = LogPosition {
            main: readable_end(main.as_ref(), length, ended)?,
            ..LogPosition::default()
        };
        Ok(Self { main, stderr: None, marks: None, length, end })
    }

    /// Returns the log of both streams.
    pub(super) fn merged(dir: &JobDir, ended: bool) -> Result<Self, StoreError> {
        let [main, stderr, marks] = [dir.open(OUTPUT)?, dir.open(STDERR)?, dir.open(STDERR_MARKS)?];
        Self::of_both(main, stderr, marks, ended).map_err(|source| StoreError {
            operation: "read",
            path: dir.path().to_owned(),
            source,
        })
    }

    pub(super) fn of_both(
        main: Option<File>,
        stderr: Option<File>,
        marks: Option<File>,
        ended: bool,
    ) -> io::Result<Self> {
        // Lengths are read in this order because the mark of the present end of stderr is written
        // before the output that came after it.
        let mut stderr_length = length_of(stderr.as_ref())?;
        fault_point("logs:measured");
        let log = Self::single(main, ended)?;
        let marks_end = readable_end(marks.as_ref(), length_of(marks.as_ref())?, false)?;
        let present_length = length_of(stderr.as_ref())?;
        if let Some(marks) = &marks
            && present_length > stderr_length
        {
            // Some of the output may have come after stderr that is not in that length.
            let before = stderr_before(marks, marks_end, log.length)?;
            stderr_length = before.min(present_length).max(stderr_length);
        }
        let stderr_end = readable_end(stderr.as_ref(), stderr_length, ended)?;
        let end = LogPosition { stderr: stderr_end, marks: marks_end, ..log.end };
        Ok(Self { stderr, marks, end, ..log })
    }

    /// Returns the file of a stream.
    pub(super) fn file(&self, stream: LogStream) -> Option<&File> {
        match stream {
            LogStream::Main => self.main.as_ref(),
            LogStream::Stderr => self.stderr.as_ref(),
        }
    }

    /// Calls `each` with the parts of the log from `from` on, each of one stream and up to the end of
    /// a line. `each` returns the offset up to which it consumed the part; less than all of it ends
    /// the iteration. Returns the position reached.
    ///
    /// While the main file ends within a line, stderr that came within or after that line is not
    /// returned yet.
    pub(super) fn parts_from(
        &self,
        from: LogPosition,
        mut each: impl FnMut(LogStream, &File, Range<u64>) -> io::Result<u64>,
    ) -> io::Result<LogPosition> {
        let mut at = from;
        let ends_within_line = self.length > self.end.main;
        // Offset up to which stderr was searched for line ends, and the last line end found.
        let (mut searched, mut line_end) = (from.stderr, from.stderr);
        let mut take = |stream, offset: &mut u64, end| match self.file(stream) {
            Some(file) if *offset < end => {
                *offset = each(stream, file, *offset..end)?;
                io::Result::Ok(*offset >= end)
            }
            _ => Ok(true),
        };
        let mut marks = MarkReader::from(self.marks.as_ref(), from.marks..self.end.marks)?;
        loop {
            let mark = marks.next()?;
            let is_deferred =
                ends_within_line && mark.is_none_or(|mark| mark.output > self.end.main);
            let (main, stderr) = match mark {
                _ if is_deferred => (self.end.main, at.stderr),
                None => (self.end.main, self.end.stderr),
                Some(mark) => {
                    let stderr = mark.stderr.min(self.end.stderr);
                    if let (Some(file), true) = (&self.stderr, searched < stderr) {
                        line_end = end_of_last_line(file, searched..stderr)?.unwrap_or(line_end);
                        searched = stderr;
                    }
                    let main = mark.output.min(self.end.main).max(at.main);
                    (self.line_end(main, self.end.main)?, line_end)
                }
            };
            if !take(LogStream::Main, &mut at.main, main)?
                || !take(LogStream::Stderr, &mut at.stderr, stderr)?
            {
                return Ok(at);
            }
            if is_deferred || mark.is_none() {
                return Ok(at);
            }
            at.marks = marks.offset;
        }
    }

    /// Calls `each` with each line and its range in its file, last line first, until `each` returns
    /// false.
    pub(super) fn lines_back(
        &self,
        mut each: impl FnMut(LogStream, Line<'_>, Range<u64>) -> bool,
    ) -> io::Result<()> {
        let mut back = BackwardLines { log: self, end: self.end, searched: self.end.main };
        let mut done = Ok(true);
        if let Some(marks) = &self.marks {
            lines_back(marks, 0..self.end.marks, |line, _| {
                if let Some(mark) = StderrMark::parse(line.bytes) {
                    done = back.to(mark, &mut each);
                }
                matches!(done, Ok(true))
            })?;
        }
        if done? {
            back.to(StderrMark { stderr: 0, output: 0 }, &mut each)?;
        }
        Ok(())
    }

    /// Returns the end of the line of the main file that contains this offset: the offset itself if
    /// a line begins there, `limit` if no line ends before it.
    fn line_end(&self, offset: u64, limit: u64) -> io::Result<u64> {
        let Some(file) = &self.main else { return Ok(limit) };
        if offset == 0 || offset >= limit {
            return Ok(offset);
        }
        // The byte before the offset shows whether a line begins there; usually one does.
        let (mut from, mut max) = (offset - 1, 1);
        while from < limit {
            let mut piece = vec![0; max.min(limit - from) as usize];
            file.read_exact_at(&mut piece, from)?;
            if let Some(at) = memchr::memchr(b'\n', &piece) {
                return Ok(from + at as u64 + 1);
            }
            from += piece.len() as u64;
            max = CHUNK_BYTES;
        }
        Ok(limit)
    }
}

/// Backward iteration through a log.
struct BackwardLines<'a> {
    log: &'a JobLog,
    /// End of the remaining part of each file.
    end: LogPosition,
    /// Offset of the last mark in the main file; the line there ends at the end of the remaining
    /// part.
    searched: u64,
}

impl BackwardLines<'_> {
    /// Calls `each` with the lines after this mark; returns false if `each` did.
    fn to(
        &mut self,
        mark: StderrMark,
        each: &mut impl FnMut(LogStream, Line<'_>, Range<u64>) -> bool,
    ) -> io::Result<bool> {
        let log = self.log;
        let mut stderr = mark.stderr.min(self.end.stderr);
        if let Some(file) = &log.stderr {
            stderr = end_of_last_line(file, 0..stderr)?.unwrap_or(0);
        }
        let output = mark.output.min(self.searched);
        let mut main = log.line_end(output, self.searched)?;
        if main >= self.searched {
            // The mark is in the same line as the mark after it, or at the same offset.
            main = self.end.main;
        }
        self.searched = output;
        for (stream, range) in
            [(LogStream::Stderr, stderr..self.end.stderr), (LogStream::Main, main..self.end.main)]
        {
            let mut end = range.end;
            let mut more = true;
            if let Some(file) = log.file(stream) {
                lines_back(file, range, |line, start| {
                    let line_range = start..end;
                    end = start;
                    more = each(stream, line, line_range);
                    more
                })?;
            }
            if !more {
                return Ok(false);
            }
        }
        self.end = LogPosition { main, stderr, ..self.end };
        Ok(true)
    }
}

/// Reads the marks of a part of `stderr.marks`.
struct MarkReader<'a> {
    lines: Option<LineReader<io::Take<&'a File>>>,
    /// Offset after the last mark that was returned.
    offset: u64,
}

impl<'a> MarkReader<'a> {
    fn from(file: Option<&'a File>, range: Range<u64>) -> io::Result<Self> {
        let Some(mut file) = file else { return Ok(Self { lines: None, offset: range.start }) };
        file.seek(SeekFrom::Start(range.start))?;
        let part = file.take(range.end.saturating_sub(range.start));
        let lines = LineReader::new(part, range.start, MAX_MARK_BYTES);
        Ok(Self { lines: Some(lines), offset: range.start })
    }

    /// Returns the next mark; skips invalid ones.
    fn next(&mut self) -> io::Result<Option<StderrMark>> {
        let Some(lines) = &mut self.lines else { return Ok(None) };
        while let Some(line) = lines.read_line()? {
            self.offset = line.end;
            let mark = StderrMark::parse(line.bytes);
            if mark.is_some() {
                return Ok(mark);
            }
        }
        Ok(None)
    }
}

/// Returns the length of stderr that came before output at this offset, by the last mark for it.
fn stderr_before(marks: &File, marks_end: u64, output: u64) -> io::Result<u64> {
    let mut stderr = 0;
    lines_back(marks, 0..marks_end, |line, _| match StderrMark::parse(line.bytes) {
        Some(mark) if mark.output <= output => {
            stderr = mark.stderr;
            false
        }
        _ => true,
    })?;
    Ok(stderr)
}

fn length_of(file: Option<&File>) -> io::Result<u64> {
    file.map_or(Ok(0), |file| Ok(file.metadata()?.len()))
}

/// Returns the end of the readable part of a file of this length.
fn readable_end(file: Option<&File>, length: u64, ended: bool) -> io::Result<u64> {
    match file {
        Some(file) if !ended => Ok(end_of_last_line(file, 0..length)?.unwrap_or(0)),
        _ => Ok(length),
    }
}
