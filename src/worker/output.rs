//! Claude's stdout on its way into `output.log`.

use std::fs::File;
use std::io::{self, Write};

/// Writes what claude wrote, byte for byte. Where the disk is full for a while, whole lines are
/// missing afterwards, and never a part of one.
#[derive(Default)]
pub(super) struct Tee {
    file: Option<File>,
    /// A write failed: everything up to the next line feed is left out.
    broken: bool,
    /// What was written last is no whole line.
    midway: bool,
}

impl Tee {
    /// Writes into this file.
    pub(super) fn into(file: File) -> Self {
        Self { file: Some(file), broken: false, midway: false }
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
