//! Reading the files of proc(5).

use std::fs::File;
use std::io::{self, Read};

/// Most of these files are shorter than this number of bytes.
const BUFFER_BYTES: usize = 4096;

/// Reads a file whose length the kernel does not report, into a buffer that is usually large enough
/// for all of it, where `std::fs::read` would begin with 32 bytes.
pub(super) fn read(path: &str) -> io::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(BUFFER_BYTES);
    // `take` only keeps `read_to_end` from asking for the file's length.
    File::open(path)?.take(u64::MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// Reads a file as [`read`] does, as UTF-8.
pub(super) fn read_text(path: &str) -> io::Result<String> {
    String::from_utf8(read(path)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
