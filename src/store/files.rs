//! Files of the jobs directory. Anything may be found under their names, because other processes can
//! write there, too: links, pipes, devices.

use std::fs::{self, DirBuilder, DirEntry, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::libc;
use serde::Serialize;

use super::{Context, StoreError};
use crate::process::machine;

/// How often the opening of a file is repeated that is replaced meanwhile.
const MAX_OPEN_TRIES: usize = 100;
/// Time after which a renamed file is visible to all clients of a file server.
const REPLACE_DELAY: Duration = Duration::from_millis(1);

/// Opens a regular file; a file that is created gets the mode 0600. A link is not followed, and a
/// pipe or device is refused without waiting for it.
pub(crate) fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    open_with_metadata(path, options).map(|(file, _)| file)
}

/// Opens a regular file for reading.
pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true))
}

fn open_with_metadata(path: &Path, options: &mut OpenOptions) -> io::Result<(File, Metadata)> {
    options.mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = open_while_present(path, || options.open(path));
    let file = file.map_err(|error| match error.raw_os_error() {
        // The text of the errno of O_NOFOLLOW does not help people.
        Some(libc::ELOOP) => io::Error::new(io::ErrorKind::InvalidInput, "it is a symbolic link"),
        _ => error,
    })?;
    check_regular(file)
}

/// Repeats the opening of a file that was not found although it exists. On a network or FUSE file
/// system a file can be replaced between the lookup of its name and the opening.
fn open_while_present(path: &Path, mut open: impl FnMut() -> io::Result<File>) -> io::Result<File> {
    for _ in 0..MAX_OPEN_TRIES {
        match open() {
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESTALE))
                    && is_present(path) => {}
            opened => return opened,
        }
    }
    open()
}

/// Whether the path exists. On a shared file system the lookup can miss a file that is being
/// replaced, so it is repeated there.
fn is_present(path: &Path) -> bool {
    if exists(path) {
        return true;
    }
    let Some(parent) = path.parent() else { return false };
    if !parent.is_dir() || !machine::is_shared(parent) {
        return false;
    }
    for _ in 0..3 {
        thread::sleep(REPLACE_DELAY);
        if exists(path) {
            return true;
        }
    }
    false
}

/// Whether there is anything at the path, such as a link that leads nowhere.
pub(super) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Opens a directory. A link is not followed.
pub(super) fn open_directory(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW);
    options.open(path).map_err(|error| match error.raw_os_error() {
        // For a link the system returns one or the other.
        Some(libc::ELOOP | libc::ENOTDIR) => {
            io::Error::new(io::ErrorKind::NotADirectory, "it is not a directory")
        }
        _ => error,
    })
}

/// Returns the entries of a directory, as far as they can be read.
pub(super) fn entries(path: &Path) -> impl Iterator<Item = DirEntry> {
    fs::read_dir(path).into_iter().flatten().flatten()
}

/// Removes a file, or a directory with its contents. Of a link the link itself is removed.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => fs::remove_file(path),
        done => done,
    }
}

/// Returns a file and its metadata; fails if it is not a regular file.
fn check_regular(file: File) -> io::Result<(File, Metadata)> {
    let metadata = file.metadata()?;
    if metadata.is_file() {
        Ok((file, metadata))
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
    }
}

/// Reads a file, at most `max_bytes`.
pub(super) fn read_bounded(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    read_with_metadata(path, max_bytes).map(|(text, _)| text)
}

/// Reads a file, at most `max_bytes`, and returns its metadata, too.
pub(super) fn read_with_metadata(path: &Path, max_bytes: u64) -> io::Result<(Vec<u8>, Metadata)> {
    let (mut file, metadata) = open_with_metadata(path, OpenOptions::new().read(true))?;
    let length = usize::try_from(metadata.len().min(max_bytes)).unwrap_or(usize::MAX);
    // Only the length at the time of opening is read: no reader relies on a part that is appended
    // meanwhile. This saves a system call to find the end, which matters for ten thousand records.
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
    Ok((text, metadata))
}

/// Returns the length of a file, 0 if it is missing.
pub(super) fn length(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |metadata| metadata.len())
}

/// Creates a directory with mode 0700, with `parents` also those above it. It may exist already.
pub(crate) fn create_directory(path: &Path, parents: bool) -> Result<(), StoreError> {
    match DirBuilder::new().mode(0o700).recursive(parents).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        created => created.context("create", path),
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
    let file = open(path, options.write(true).create(true).truncate(true));
    let mut file = file.context("create", path)?;
    file.write_all(text).context("write", path)?;
    Ok(file)
}

/// Appends a line of JSON to a file, which is created if it is missing.
pub(super) fn append_line(path: &Path, line: &impl Serialize) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    let file = open(path, options.append(true).create(true));
    let mut file = file.context("open", path)?;
    // A line feed comes first: a process may have died while it wrote the line before.
    let text = format!("\n{}\n", serde_json::to_string(line).context("write", path)?);
    file.write_all(text.as_bytes()).context("write", path)?;
    Ok(file)
}

/// Makes created and renamed entries of a directory durable.
pub(super) fn sync_directory(path: &Path) -> Result<(), StoreError> {
    let directory = File::open(path).context("write", path)?;
    directory.sync_all().context("write", path)
}

#[cfg(test)]
mod tests {
    use std::iter;

    use super::*;

    #[test]
    fn reopens_a_file_that_is_replaced_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        let tries = |errors: &[i32]| {
            let mut answers = errors.iter().map(|&error| Some(error)).chain(iter::repeat(None));
            let mut tries = 0;
            let opened = open_while_present(&path, || {
                tries += 1;
                answers.next().flatten().map_or_else(
                    || File::open(&path),
                    |error| Err(io::Error::from_raw_os_error(error)),
                )
            });
            (opened.map(drop).map_err(|error| error.raw_os_error().unwrap()), tries)
        };
        assert_eq!(tries(&[]), (Err(libc::ENOENT), 1), "what is not there is not waited for");
        fs::write(&path, "").unwrap();
        assert_eq!(tries(&[libc::ENOENT, libc::ESTALE]), (Ok(()), 3));
        assert_eq!(tries(&[libc::EACCES]), (Err(libc::EACCES), 1));
        assert_eq!(tries(&[libc::ENOENT; 1_000]), (Err(libc::ENOENT), 1 + MAX_OPEN_TRIES));
    }
}
