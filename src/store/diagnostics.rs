//! What can be learned of the jobs directory without changing what is in it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Context, Store, StoreError, files, staging};

/// Bytes that are written to see whether any can be.
const PROBE_CONTENT: [u8; 4096] = [b'x'; 4096];

/// A file of the jobs directory that has no name any more, opened twice.
#[derive(Debug)]
pub struct WriteProbe {
    path: PathBuf,
    files: [File; 2],
}

impl Store {
    /// Makes, writes and removes a file in the directory, which must exist.
    pub fn probe_writes(&self) -> Result<WriteProbe, StoreError> {
        let path = self.root().join(format!(".probe-{}", uuid::Uuid::new_v4().simple()));
        let open = |options: &mut OpenOptions| {
            files::open(&path, options.write(true).mode(0o600)).context("write", &path)
        };
        let mut first = open(OpenOptions::new().create_new(true))?;
        let second = open(&mut OpenOptions::new());
        // Gone before it is used, so that nothing of it is left whatever happens.
        fs::remove_file(&path).context("remove", &path)?;
        first.write_all(&PROBE_CONTENT).and_then(|()| first.sync_data()).context("write", &path)?;
        Ok(WriteProbe { path, files: [first, second?] })
    }

    /// How many unfinished jobs there are that nobody is making or removing any more.
    pub fn leftovers(&self) -> Result<usize, StoreError> {
        staging::leftovers(self.root())
    }

    /// What of the directory's entries, and of what lies in them, was written after `limit`: the
    /// entries' names.
    pub fn files_newer_than(&self, limit: SystemTime) -> Vec<String> {
        let is_later = |path: &Path| {
            let about = fs::symlink_metadata(path);
            about.and_then(|about| about.modified()).is_ok_and(|at| at > limit)
        };
        let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
        let dated = entries(self.root()).filter(|entry| {
            let path = entry.path();
            // A link is not followed: what it leads to is not ours.
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            is_later(&path) || is_folder && entries(&path).any(|inner| is_later(&inner.path()))
        });
        dated.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

impl WriteProbe {
    /// Whether a lock here keeps others out.
    pub fn lock(&self) -> Result<(), StoreError> {
        let [first, second] = &self.files;
        let locked = first.try_lock().map_err(io::Error::from);
        locked.context("lock", &self.path)?;
        match second.try_lock() {
            Err(TryLockError::WouldBlock) => Ok(()),
            Err(TryLockError::Error(error)) => Err(error).context("lock", &self.path),
            Ok(()) => {
                let error = io::Error::from_raw_os_error(nix::libc::ENOLCK);
                Err(error).context("lock", &self.path)
            }
        }
    }
}

/// Whether files where this directory is can be locked, tried on the directory itself and so that
/// it keeps no other reader out.
pub fn try_lock_in(directory: &Path) -> Result<(), StoreError> {
    let folder = File::open(directory).context("open", directory)?;
    match folder.try_lock_shared() {
        Ok(()) | Err(TryLockError::WouldBlock) => Ok(()),
        Err(TryLockError::Error(error)) => Err(error).context("lock", directory),
    }
}
