//! Claude's stdout on its way into `output.log`.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Writes what claude wrote, byte for byte. Where the disk is full for a while, whole lines are
/// missing afterwards, and never a part of one.
#[derive(Default)]
pub(super) struct LogWriter {
    file: Option<File>,
    /// A write failed: everything up to the next line feed is left out.
    broken: bool,
    /// What was written last is no whole line.
    midway: bool,
    /// How long the file must be at least.
    length: u64,
}

impl LogWriter {
    /// Writes into this file, behind what is in it. A line that an earlier attempt left torn is
    /// ended first, so that the next one stands by itself.
    pub(super) fn into(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let mut last = [b'\n'];
        if length > 0 {
            file.read_exact_at(&mut last, length - 1)?;
        }
        let mut tee = Self { file: Some(file), broken: false, midway: false, length };
        if last != *b"\n" {
            tee.write(b"\n")?;
        }
        Ok(tee)
    }

    /// What comes up to the next line feed is left out.
    pub(super) fn skip(&mut self) {
        self.broken = true;
    }

    /// How long the file is as far as we wrote it.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Whether somebody else has made the file shorter.
    pub(super) fn is_cut(&self) -> bool {
        let about = self.file.as_ref().map(File::metadata);
        about.is_some_and(|about| about.is_ok_and(|about| about.len() < self.length))
    }

    /// What somebody else has done to the file of this path, which is the one written to; `None`
    /// if it is as it should be.
    pub(super) fn damage(&mut self, path: &Path) -> Option<LogDamage> {
        let about = self.file.as_ref()?.metadata().ok()?;
        let there = std::fs::symlink_metadata(path);
        if !there.is_ok_and(|there| there.ino() == about.ino() && there.dev() == about.dev()) {
            return Some(LogDamage::Gone);
        }
        let short = about.len() < self.length;
        self.length = about.len();
        short.then_some(LogDamage::Truncated)
    }

    /// Writes the next bytes; an error says that some are missing.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut rest = bytes;
        if self.broken {
            let Some(end) = memchr::memchr(b'\n', rest) else { return Ok(()) };
            // The torn line is ended first, so that the next one stands by itself.
            if self.midway {
                file.write_all(b"\n")?;
                self.length += 1;
                self.midway = false;
            }
            rest = &rest[end + 1..];
            self.broken = false;
        }
        while !rest.is_empty() {
            match file.write(rest) {
                Ok(0) => {
                    self.broken = true;
                    return Err(io::ErrorKind::WriteZero.into());
                }
                Ok(written) => {
                    self.midway = rest[written - 1] != b'\n';
                    self.length += written as u64;
                    rest = &rest[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.broken = true;
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

/// What can be done to a file that is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogDamage {
    /// It was removed, or moved away.
    Gone,
    /// It was made shorter.
    Truncated,
}
