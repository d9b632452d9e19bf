//! Appending claude's stdout to `output.log`.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Appends claude's output byte for byte. If the disk is full for a while, complete lines are
/// missing afterwards, never parts of a line.
#[derive(Default)]
pub(super) struct LogWriter {
    file: Option<File>,
    /// Everything up to the next line feed is skipped, because a write failed.
    is_skipping: bool,
    /// The last line that was written is incomplete.
    is_within_line: bool,
    /// Minimum length of the file in bytes.
    length: u64,
}

impl LogWriter {
    /// Appends to this file. An incomplete line of an earlier attempt gets a line feed first, so that
    /// the next line is a line of its own.
    pub(super) fn append_to(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let mut last = [b'\n'];
        if length > 0 {
            file.read_exact_at(&mut last, length - 1)?;
        }
        let mut writer =
            Self { file: Some(file), is_skipping: false, is_within_line: false, length };
        if last != *b"\n" {
            writer.write(b"\n")?;
        }
        Ok(writer)
    }

    /// Skips everything up to the next line feed.
    pub(super) fn skip_line(&mut self) {
        self.is_skipping = true;
    }

    /// Returns the length of the file in bytes after the last write.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Returns whether another process has truncated the file.
    pub(super) fn is_truncated(&self) -> bool {
        let metadata = self.file.as_ref().map(File::metadata);
        metadata.is_some_and(|metadata| metadata.is_ok_and(|metadata| metadata.len() < self.length))
    }

    /// Returns the damage that another process has done to this file, whose path is `path`; `None` if
    /// there is none.
    pub(super) fn damage(&mut self, path: &Path) -> Option<LogDamage> {
        let open = self.file.as_ref()?.metadata().ok()?;
        let found = std::fs::symlink_metadata(path);
        if !found.is_ok_and(|found| found.ino() == open.ino() && found.dev() == open.dev()) {
            return Some(LogDamage::Gone);
        }
        let is_shorter = open.len() < self.length;
        self.length = open.len();
        if is_shorter { Some(LogDamage::Truncated) } else { None }
    }

    /// Writes the next bytes. After an error some of them are missing.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut rest = bytes;
        if self.is_skipping {
            let Some(end) = memchr::memchr(b'\n', rest) else { return Ok(()) };
            // An incomplete line is ended first, so that the next line is a line of its own.
            if self.is_within_line {
                file.write_all(b"\n")?;
                self.length += 1;
                self.is_within_line = false;
            }
            rest = &rest[end + 1..];
            self.is_skipping = false;
        }
        while !rest.is_empty() {
            match file.write(rest) {
                Ok(0) => {
                    self.is_skipping = true;
                    return Err(io::ErrorKind::WriteZero.into());
                }
                Ok(written) => {
                    self.is_within_line = rest[written - 1] != b'\n';
                    self.length += written as u64;
                    rest = &rest[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.is_skipping = true;
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

/// Damage to the log by another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogDamage {
    /// The file was removed or moved.
    Gone,
    Truncated,
}
