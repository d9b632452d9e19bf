//! Reading the files of proc(5).

use std::fs::File;
use std::io::{self, Read};

/// Most of these files are shorter than this.
const USUAL: usize = 4096;

/// Reads a file whose length the kernel does not tell: with a buffer that mostly takes all of it,
/// where `std::fs::read` would begin with 32 bytes.
pub(super) fn read(path: &str) -> io::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(USUAL);
    // Limited only so that the length is not asked for.
    File::open(path)?.take(u64::MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// The same of a text.
pub(super) fn read_text(path: &str) -> io::Result<String> {
    String::from_utf8(read(path)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
