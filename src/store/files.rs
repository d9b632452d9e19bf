//! Files of the jobs directory, opened and written with care: whatever stands under their names
//! may have been put there by somebody else.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::libc;
use serde::Serialize;

use super::{Context, StoreError};
use crate::process::machine;

/// How often a file may be replaced while it is opened.
const MAX_OPEN_TRIES: usize = 100;
/// How long a server of files takes from the change of a name until all see it.
const REPLACE_DELAY: Duration = Duration::from_millis(1);

/// Opens an ordinary file: no link is followed out of the directory, and a pipe or device under
/// this name is refused instead of being waited for.
pub fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    open_measured(path, options).map(|(file, _)| file)
}

fn open_measured(path: &Path, options: &mut OpenOptions) -> io::Result<(File, Metadata)> {
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = open_while_present(path, || options.open(path));
    let file = file.map_err(|error| match error.raw_os_error() {
        // What open(2) says of O_NOFOLLOW is no sentence for people.
        Some(libc::ELOOP) => io::Error::new(io::ErrorKind::InvalidInput, "it is a symbolic link"),
        _ => error,
    })?;
    measured(file)
}

/// Opens a file again that was not found although it is there. On a file system that a program or
/// a server keeps, a file that is replaced may go between the look-up of its name and the opening.
fn open_while_present(path: &Path, mut open: impl FnMut() -> io::Result<File>) -> io::Result<File> {
    let mut opened = open();
    for _ in 0..MAX_OPEN_TRIES {
        let is_gone =
            |error: &io::Error| matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESTALE));
        if !opened.as_ref().is_err_and(is_gone) || !is_present(path) {
            break;
        }
        opened = open();
    }
    opened
}

/// Whether something stands under the name. Where a file may go while it is replaced, the look-up
/// can miss it, too.
fn is_present(path: &Path) -> bool {
    let seen = || path.symlink_metadata().is_ok();
    let later = |_| {
        thread::sleep(REPLACE_DELAY);
        seen()
    };
    let is_shared = |parent: &Path| parent.is_dir() && machine::is_shared(parent);
    seen() || path.parent().is_some_and(is_shared) && (0..3).any(later)
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

/// The file and what is known of it, if it is an ordinary one.
fn measured(file: File) -> io::Result<(File, Metadata)> {
    let about = file.metadata()?;
    if about.is_file() {
        Ok((file, about))
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no ordinary file"))
    }
}

/// The first `most` bytes of a file.
pub(super) fn read_bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    read_measured(path, most).map(|(text, _)| text)
}

/// The same, and what is known of the file.
pub(super) fn read_measured(path: &Path, most: u64) -> io::Result<(Vec<u8>, Metadata)> {
    let (mut file, about) = open_measured(path, OpenOptions::new().read(true))?;
    let length = usize::try_from(about.len().min(most)).unwrap_or(usize::MAX);
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
    Ok((text, about))
}

/// Makes a directory for us alone, and with `parents` those above it; one that is there is as good.
pub fn create_directory(path: &Path, parents: bool) -> Result<(), StoreError> {
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

#[cfg(test)]
mod tests {
    use std::iter;

    use super::*;

    #[test]
    fn a_file_that_is_replaced_while_it_is_opened_is_opened_again() {
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
