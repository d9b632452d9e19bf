//! Lines that another program writes to stdin.

use std::io::{BufRead, BufReader, ErrorKind};
use std::os::fd::AsFd;

use crate::process::{self, RawStdin};

/// The lines on stdin, of a program that also reads stdout.
pub(super) struct StdinLines {
    input: BufReader<RawStdin>,
    /// Maximum length of a line in bytes. More of it is never held in memory.
    max: usize,
}

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StdinRead {
    /// A line, without its line feed.
    Line(Vec<u8>),
    /// A line longer than the maximum, which was skipped.
    TooLong,
    /// The input has ended, or stdout has no reader.
    End,
}

impl StdinLines {
    pub(super) fn new(max: usize) -> Self {
        Self { input: BufReader::new(RawStdin), max }
    }

    /// Reads the next line. Available input is read first: a caller that exits may have written a
    /// request just before.
    pub(super) fn next(&mut self) -> StdinRead {
        let mut line = Vec::new();
        let mut is_too_long = false;
        loop {
            let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
            let is_empty = self.input.buffer().is_empty();
            if is_empty && process::wait_reader_closed(stdout.as_fd(), Some(stdin.as_fd())) {
                return StdinRead::End;
            }
            let (length, is_complete) = match self.input.fill_buf() {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) | Ok([]) if line.is_empty() => return StdinRead::End,
                Err(_) | Ok([]) => return StdinRead::Line(line),
                Ok(bytes) => {
                    let end = memchr::memchr(b'\n', bytes);
                    let content = &bytes[..end.unwrap_or(bytes.len())];
                    is_too_long |= line.len() + content.len() > self.max;
                    if is_too_long {
                        line = Vec::new();
                    } else {
                        line.extend_from_slice(content);
                    }
                    (content.len() + usize::from(end.is_some()), end.is_some())
                }
            };
            self.input.consume(length);
            if is_complete {
                return if is_too_long { StdinRead::TooLong } else { StdinRead::Line(line) };
            }
        }
    }
}
