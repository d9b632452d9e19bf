//! Files of the jobs directory, opened and written with care: whatever stands under their names
//! may have been put there by somebody else.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use nix::libc;
use serde::Serialize;

use super::{Context, StoreError};

/// Opens an ordinary file: no link is followed out of the directory, and a pipe or device under
/// this name is refused instead of being waited for.
pub fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    open_measured(path, options).map(|(file, _)| file)
}

fn open_measured(path: &Path, options: &mut OpenOptions) -> io::Result<(File, u64)> {
    let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let file = file.map_err(|error| match error.raw_os_error() {
        // What open(2) says of O_NOFOLLOW is no sentence for people.
        Some(libc::ELOOP) => io::Error::new(io::ErrorKind::InvalidInput, "it is a symbolic link"),
        _ => error,
    })?;
    measured(file)
}

/// Opens a directory itself, and not one that a link under its name leads to.
pub(super) fn open_directory(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW);
    options.open(path).map_err(|error| match error.raw_os_error() {
        // Of a link the one or the other, by the system.
        Some(libc::ELOOP | libc::ENOTDIR) => {
            io::Error::new(io::ErrorKind::NotADirectory, "it is no directory")
        }
        _ => error,
    })
}

/// Removes a file, or a directory with all that is in it. Of a link it is the link that goes.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => fs::remove_file(path),
        done => done,
    }
}

/// The file with its length, if it is an ordinary one.
fn measured(file: File) -> io::Result<(File, u64)> {
    let about = file.metadata()?;
    if about.is_file() {
        Ok((file, about.len()))
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no ordinary file"))
    }
}

/// The first `most` bytes of a file.
pub(super) fn read_bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let (mut file, length) = open_measured(path, OpenOptions::new().read(true))?;
    let length = usize::try_from(length.min(most)).unwrap_or(usize::MAX);
    // What is appended meanwhile is not missed: nobody was told of it yet. So the end need not be
    // looked for, which matters where ten thousand records are read.
    let mut text = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file.read(&mut text[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    text.truncate(filled);
    Ok(text)
}

/// Makes a directory for us alone, and with `parents` those above it; one that is there is as good.
pub fn make_directory(path: &Path, parents: bool) -> Result<(), StoreError> {
    match DirBuilder::new().mode(0o700).recursive(parents).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.context("create", path),
    }
}

pub(super) fn write_durably(path: &Path, text: &[u8]) -> Result<(), StoreError> {
    let written = write(path, text).and_then(|file| file.sync_data().context("write", path));
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}

pub(super) fn write(path: &Path, text: &[u8]) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    let file = open(path, options.write(true).create(true).truncate(true).mode(0o600));
    let mut file = file.context("create", path)?;
    file.write_all(text).context("write", path)?;
    Ok(file)
}

/// Appends a line of JSON to a file, which is made where it is missing.
pub(super) fn append_line(path: &Path, line: &impl Serialize) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    let file = open(path, options.append(true).create(true).mode(0o600));
    let mut file = file.context("open", path)?;
    // Begun on a line of its own, should somebody have died within the one before.
    let text = format!("\n{}\n", serde_json::to_string(line).context("write", path)?);
    file.write_all(text.as_bytes()).context("write", path)?;
    Ok(file)
}

/// Makes what was created in or renamed into a directory durable.
pub(super) fn sync_directory(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|directory| directory.sync_all()).context("write", path)
}
