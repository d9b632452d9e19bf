//! A job's log as it is at one moment: one stream of claude, or both in the order in which they
//! came.
//!
//! That order is told by the marks in `stderr.marks`: "stderr.log up to here came before output.log
//! from there on". What no mark tells of came after all the output. Whatever the marks say, each
//! line of both streams comes once, whole, and after those before it in its own stream: a mark
//! within a line of the output counts for the end of that line, one within a line of stderr for its
//! beginning.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::tail;
use crate::store::{JobDir, OUTPUT, STDERR, STDERR_MARKS, StderrMark, StoreError};
use crate::stream::Line;

/// Bytes in which a line's end is looked for at once.
const PIECE: u64 = 64 << 10;
/// Bytes of a mark that are read at most; ours are far shorter.
const MARK_MOST: u64 = 64;

/// Which file of the log a line is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    /// The one that offsets count, which is claude's stdout unless stderr alone was asked for.
    Main,
    /// Claude's stderr beside its stdout.
    Stderr,
}

/// How far a log was read: an offset in each of its files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub main: u64,
    pub stderr: u64,
    pub marks: u64,
}

/// The files of a log, and where each of them ends.
#[derive(Debug)]
pub(super) struct Log {
    pub main: Option<File>,
    stderr: Option<File>,
    marks: Option<File>,
    /// The length of the main file.
    pub length: u64,
    /// Where what can be read ends: while the job lives behind the last whole line of each file.
    pub end: Position,
}

impl Log {
    /// The log of one file, of a job that has `ended` or may write more of it.
    pub(super) fn of(main: Option<File>, ended: bool) -> io::Result<Self> {
        let length = length_of(main.as_ref())?;
        let end = Position { main: end_of(main.as_ref(), length, ended)?, ..Position::default() };
        Ok(Self { main, stderr: None, marks: None, length, end })
    }

    /// The log of both streams.
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
        // In this order: the mark of what is in stderr by now is written before the output that
        // came after it.
        let stderr_length = length_of(stderr.as_ref())?;
        let log = Self::of(main, ended)?;
        let end = Position {
            stderr: end_of(stderr.as_ref(), stderr_length, ended)?,
            marks: end_of(marks.as_ref(), length_of(marks.as_ref())?, false)?,
            ..log.end
        };
        Ok(Self { stderr, marks, end, ..log })
    }

    /// The file of a stream.
    pub(super) fn file(&self, stream: Stream) -> Option<&File> {
        match stream {
            Stream::Main => self.main.as_ref(),
            Stream::Stderr => self.stderr.as_ref(),
        }
    }

    /// Gives the parts of the log from `from` on, each of one stream and up to the end of a line,
    /// until `each` takes less than it was given; it tells up to which offset. Returns how far the
    /// log was taken.
    ///
    /// While the main file ends within a line, stderr that came within or after it is left for
    /// later.
    pub(super) fn parts_from(
        &self,
        from: Position,
        mut each: impl FnMut(Stream, &File, Range<u64>) -> io::Result<u64>,
    ) -> io::Result<Position> {
        let mut at = from;
        let within_line = self.length > self.end.main;
        // Up to where stderr was searched for the end of a line, and the last one found.
        let (mut searched, mut whole) = (from.stderr, from.stderr);
        let mut take = |stream, offset: &mut u64, end| match self.file(stream) {
            Some(file) if *offset < end => {
                *offset = each(stream, file, *offset..end)?;
                io::Result::Ok(*offset >= end)
            }
            _ => Ok(true),
        };
        let mut marks = Marks::from(self.marks.as_ref(), from.marks..self.end.marks)?;
        loop {
            let mark = marks.next()?;
            let held = within_line && mark.is_none_or(|mark| mark.output > self.end.main);
            let (main, stderr) = match mark {
                _ if held => (self.end.main, at.stderr),
                None => (self.end.main, self.end.stderr),
                Some(mark) => {
                    let stderr = mark.stderr.min(self.end.stderr);
                    if let (Some(file), true) = (&self.stderr, searched < stderr) {
                        whole = tail::end_of_last_line(file, searched..stderr)?.unwrap_or(whole);
                        searched = stderr;
                    }
                    let main = mark.output.min(self.end.main).max(at.main);
                    (self.line_end(main, self.end.main)?, whole)
                }
            };
            if !take(Stream::Main, &mut at.main, main)?
                || !take(Stream::Stderr, &mut at.stderr, stderr)?
            {
                return Ok(at);
            }
            if held || mark.is_none() {
                return Ok(at);
            }
            at.marks = marks.offset;
        }
    }

    /// Gives each line and where it lies in its file, the last one first, until `each` says false.
    pub(super) fn lines_back(
        &self,
        mut each: impl FnMut(Stream, Line<'_>, Range<u64>) -> bool,
    ) -> io::Result<()> {
        let mut back = Back { log: self, end: self.end, searched: self.end.main };
        let mut done = Ok(true);
        if let Some(marks) = &self.marks {
            tail::lines_back(marks, 0..self.end.marks, |line, _| {
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

    /// Where the line of the main file ends that goes on at this offset; the offset itself where a
    /// line begins there, and `limit` where no line ends before.
    fn line_end(&self, offset: u64, limit: u64) -> io::Result<u64> {
        let Some(file) = &self.main else { return Ok(limit) };
        if offset == 0 || offset >= limit {
            return Ok(offset);
        }
        // The byte before it tells whether a line begins there; most often one does.
        let (mut from, mut most) = (offset - 1, 1);
        while from < limit {
            let mut piece = vec![0; most.min(limit - from) as usize];
            file.read_exact_at(&mut piece, from)?;
            if let Some(at) = memchr::memchr(b'\n', &piece) {
                return Ok(from + at as u64 + 1);
            }
            from += piece.len() as u64;
            most = PIECE;
        }
        Ok(limit)
    }
}

/// The way back through a log.
struct Back<'a> {
    log: &'a Log,
    /// How much of each file is left.
    end: Position,
    /// Where the last mark was in the main file; the line there ends where what is left ends.
    searched: u64,
}

impl Back<'_> {
    /// Gives what came after this mark; false: `each` wants no more.
    fn to(
        &mut self,
        mark: StderrMark,
        each: &mut impl FnMut(Stream, Line<'_>, Range<u64>) -> bool,
    ) -> io::Result<bool> {
        let log = self.log;
        let mut stderr = mark.stderr.min(self.end.stderr);
        if let Some(file) = &log.stderr {
            stderr = tail::end_of_last_line(file, 0..stderr)?.unwrap_or(0);
        }
        let output = mark.output.min(self.searched);
        let mut main = log.line_end(output, self.searched)?;
        if main >= self.searched {
            // It is within the line that a mark behind it was in, or at the same place.
            main = self.end.main;
        }
        self.searched = output;
        for (stream, range) in
            [(Stream::Stderr, stderr..self.end.stderr), (Stream::Main, main..self.end.main)]
        {
            let mut end = range.end;
            let mut wanted = true;
            if let Some(file) = log.file(stream) {
                tail::lines_back(file, range, |line, start| {
                    let place = start..end;
                    end = start;
                    wanted = each(stream, line, place);
                    wanted
                })?;
            }
            if !wanted {
                return Ok(false);
            }
        }
        self.end = Position { main, stderr, ..self.end };
        Ok(true)
    }
}

/// The marks of a part of `stderr.marks`, one after the other.
struct Marks<'a> {
    lines: Option<BufReader<io::Take<&'a File>>>,
    /// The offset behind the last one that was given.
    offset: u64,
}

impl<'a> Marks<'a> {
    fn from(file: Option<&'a File>, range: Range<u64>) -> io::Result<Self> {
        let Some(mut file) = file else { return Ok(Self { lines: None, offset: range.start }) };
        file.seek(SeekFrom::Start(range.start))?;
        let part = file.take(range.end.saturating_sub(range.start));
        Ok(Self { lines: Some(BufReader::new(part)), offset: range.start })
    }

    /// The next mark; what is none is passed over.
    fn next(&mut self) -> io::Result<Option<StderrMark>> {
        let Some(lines) = &mut self.lines else { return Ok(None) };
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = lines.take(MARK_MOST).read_until(b'\n', &mut line)?;
            if length == 0 {
                return Ok(None);
            }
            self.offset += length as u64;
            if let Some(mark) = StderrMark::parse(line.trim_ascii_end()) {
                return Ok(Some(mark));
            }
        }
    }
}

fn length_of(file: Option<&File>) -> io::Result<u64> {
    file.map_or(Ok(0), |file| Ok(file.metadata()?.len()))
}

/// Where what can be read of a file of this length ends.
fn end_of(file: Option<&File>, length: u64, ended: bool) -> io::Result<u64> {
    match file {
        Some(file) if !ended => Ok(tail::end_of_last_line(file, 0..length)?.unwrap_or(0)),
        _ => Ok(length),
    }
}
