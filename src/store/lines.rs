//! The lines of a job's files: forward from an offset, and backward from the end.
//!
//! Claude's output can contain lines of any length. [`LineReader`] returns each line as it is, up to
//! a limit; [`each_line`] shortens long ones as the worker does, with bounded memory.

mod backward;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::iter;
use std::ops::Range;

use serde::de::DeserializeOwned;

use super::{Context, JobDir, StoreError};
use crate::json;
use crate::stream::{Line, LineSplitter};

pub(crate) use backward::{end_of_last_line, lines_back, start_of_last_lines};

/// Bytes read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// A line of a file.
pub(crate) struct FileLine<'a> {
    pub text: Line<'a>,
    /// Offset at which it begins.
    pub start: u64,
    /// Whether a line feed terminates it. Otherwise its writer may not have finished it.
    pub is_complete: bool,
}

impl FileLine<'_> {
    /// Returns the offset after the line.
    pub(crate) fn end(&self) -> u64 {
        self.start + self.text.length + u64::from(self.is_complete)
    }
}

/// Calls `each` with each line of a part of a file, long ones shortened, until it returns false.
pub(crate) fn each_line(
    mut file: &File,
    part: Range<u64>,
    mut each: impl FnMut(FileLine<'_>) -> bool,
) -> io::Result<()> {
    file.seek(SeekFrom::Start(part.start))?;
    let mut file = file.take(part.end.saturating_sub(part.start));
    let mut start = part.start;
    let mut is_wanted = true;
    let mut lines = LineSplitter::default();
    let mut buffer = vec![0; CHUNK_BYTES.min(file.limit() as usize)];
    while is_wanted {
        let length = match file.read(&mut buffer) {
            Ok(0) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            length => length?,
        };
        lines.push(&buffer[..length], |text| {
            let line = FileLine { text, start, is_complete: true };
            start = line.end();
            is_wanted = is_wanted && each(line);
        });
    }
    if is_wanted {
        lines.finish(|text| {
            each(FileLine { text, start, is_complete: false });
        });
    }
    Ok(())
}

/// Reads lines forward, each as a whole.
pub(crate) struct LineReader<R> {
    file: BufReader<R>,
    line: Vec<u8>,
    max_bytes: u64,
    offset: u64,
    has_ended: bool,
}

/// A line without its line feed.
pub(crate) struct WholeLine<'a> {
    pub bytes: &'a [u8],
    /// Offset after the line and its line feed.
    pub end: u64,
    /// Whether a line feed terminates it.
    pub is_complete: bool,
    /// Whether it is longer than the reader's limit, so that its end is missing.
    pub is_cut: bool,
}

impl<R: Read> LineReader<R> {
    /// Returns a reader of a file from the present offset on. Of each line at most `max_bytes` are
    /// kept.
    pub(crate) fn new(file: R, offset: u64, max_bytes: u64) -> Self {
        let file = BufReader::with_capacity(CHUNK_BYTES, file);
        Self { file, line: Vec::new(), max_bytes, offset, has_ended: false }
    }

    /// Reads the next line. The last one need not be complete.
    pub(crate) fn read_line(&mut self) -> io::Result<Option<WholeLine<'_>>> {
        if self.has_ended {
            return Ok(None);
        }
        self.line.clear();
        let mut length = 0;
        let mut is_complete = false;
        let mut rest = Vec::new();
        while !is_complete {
            // The part of a line beyond the limit is read, and not kept.
            let (buffer, max_bytes) = match self.line.is_empty() {
                true => (&mut self.line, self.max_bytes),
                false => (&mut rest, CHUNK_BYTES as u64),
            };
            buffer.clear();
            let read = self.file.by_ref().take(max_bytes).read_until(b'\n', buffer)?;
            is_complete = buffer.ends_with(b"\n");
            length += read as u64;
            if !is_complete && (read as u64) < max_bytes {
                self.has_ended = true;
                break;
            }
        }
        if length == 0 {
            return Ok(None);
        }
        self.offset += length;
        let bytes = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        let is_cut = length - u64::from(is_complete) > bytes.len() as u64;
        Ok(Some(WholeLine { bytes, end: self.offset, is_complete, is_cut }))
    }
}

/// Returns the values in a file of JSON lines. Other lines are skipped.
pub(super) fn json_lines<T: DeserializeOwned>(file: impl Read) -> impl Iterator<Item = T> {
    let mut lines = LineReader::new(file, 0, u64::MAX);
    iter::from_fn(move || {
        while let Ok(Some(line)) = lines.read_line() {
            if let Ok(value) = json::from_bytes(line.bytes) {
                return Some(value);
            }
        }
        None
    })
}

impl JobDir {
    /// Returns a reader of the lines of a file of the job from an offset on; `None` if it cannot be
    /// read.
    pub(crate) fn lines(
        &self,
        name: &str,
        offset: u64,
        max_bytes: u64,
    ) -> Option<LineReader<File>> {
        Some(LineReader::new(self.open_at(name, offset)?, offset, max_bytes))
    }

    /// Returns the values in a file of JSON lines of the job from an offset on; none if it cannot be
    /// read.
    pub(crate) fn json_lines<T: DeserializeOwned>(
        &self,
        name: &str,
        offset: u64,
    ) -> impl Iterator<Item = T> {
        self.open_at(name, offset).into_iter().flat_map(json_lines)
    }

    fn open_at(&self, name: &str, offset: u64) -> Option<File> {
        let mut file = self.open(name).ok()??;
        file.seek(SeekFrom::Start(offset)).ok()?;
        Some(file)
    }

    /// Returns the last complete line of a file of the job that `parse` accepts. Only the last
    /// `max_bytes` bytes are searched.
    pub(crate) fn last_line<T>(
        &self,
        name: &str,
        max_bytes: u64,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Option<T> {
        let tail = self.tail(name, 0, max_bytes);
        let end = memchr::memrchr(b'\n', &tail)?;
        tail[..end].rsplit(|&byte| byte == b'\n').find_map(parse)
    }

    /// Opens a file of lines of the job for appending. A line that a worker left incomplete when it
    /// died is ended with `terminator`.
    pub(crate) fn append_lines(&self, name: &str, terminator: &[u8]) -> Result<File, StoreError> {
        let mut file = self.append(name)?;
        let last = self.tail(name, 0, 1);
        if !last.is_empty() && last != b"\n" {
            file.write_all(terminator).context("write", &self.file(name))?;
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the lines of a text as a reader returns them: the text, and what is not usual.
    fn read(text: &str, max_bytes: u64) -> Vec<String> {
        let mut lines = LineReader::new(text.as_bytes(), 100, max_bytes);
        let (mut all, mut end) = (Vec::new(), 100);
        while let Some(line) = lines.read_line().unwrap() {
            let mut shown = String::from_utf8_lossy(line.bytes).into_owned();
            if line.is_cut {
                shown += " cut";
            }
            if !line.is_complete {
                shown += " open";
            }
            all.push(shown);
            end = line.end;
        }
        assert_eq!(end, 100 + text.len() as u64);
        all
    }

    #[test]
    fn returns_each_line_up_to_the_limit() {
        assert_eq!(read("", 4), [""; 0]);
        assert_eq!(read("a\n\nb\n", 4), ["a", "", "b"]);
        assert_eq!(read("a\nbc", 4), ["a", "bc open"]);
        assert_eq!(read("abc\nabcd\nabcde\na\n", 4), ["abc", "abcd", "abcd cut", "a"]);
        assert_eq!(read("abcd", 4), ["abcd open"]);
        assert_eq!(read("abcdefghi", 4), ["abcd cut open"]);
        let long = "x".repeat(3 * CHUNK_BYTES);
        assert_eq!(read(&format!("{long}\nb\n"), 1), ["x cut", "b"]);
    }
}
