//! Files that must be the user's own: others could change or read what they say.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::libc;

use crate::text::shell_quote;

/// Permissions of other users to change a file.
pub(crate) const WRITE_BY_OTHERS: u32 = 0o022;
/// All permissions of other users.
pub(crate) const ANY_BY_OTHERS: u32 = 0o077;

/// Maximum size of such a file in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// Why a file cannot be used, and the command that mends it; an empty hint is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnusableFile {
    pub why: String,
    pub hint: String,
}

impl UnusableFile {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), hint: String::new() }
    }
}

/// Reads a text file that belongs to the user or to root, and that gives others none of the
/// `forbidden` permissions. Returns `None` if there is no such file.
pub(crate) fn read(path: &Path, forbidden: u32) -> Result<Option<String>, UnusableFile> {
    // A FIFO must not block.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if is_missing(error.kind()) => return Ok(None),
        Err(error) => return Err(UnusableFile::new(error.to_string())),
    };
    // The open file is checked, not its name, which could lead to another file by now.
    let metadata = file.metadata().map_err(|error| UnusableFile::new(error.to_string()))?;
    if !metadata.is_file() {
        return Err(UnusableFile::new("not a regular file"));
    }
    let owner = metadata.uid();
    if owner != 0 && owner != nix::unistd::geteuid().as_raw() {
        return Err(UnusableFile::new(format!("it belongs to another user (uid {owner})")));
    }
    let mode = metadata.mode() & 0o777;
    if mode & forbidden != 0 {
        let can = if forbidden == ANY_BY_OTHERS { "access" } else { "change" };
        let rights = if forbidden == ANY_BY_OTHERS { "go=" } else { "go-w" };
        let path = shell_quote(&path.to_string_lossy());
        return Err(UnusableFile {
            why: format!("others can {can} it (mode {mode:o})"),
            hint: format!("chmod {rights} {path}"),
        });
    }
    let mut bytes = Vec::new();
    let read = file.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| UnusableFile::new(error.to_string()))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(UnusableFile::new(format!("it has more than {MAX_BYTES} bytes")));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(UnusableFile::new("it is not valid UTF-8")),
    }
}

fn is_missing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory)
}
