//! Checks of the jobs directory that leave its contents unchanged.

use std::fs::{self, DirEntry, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::flock::{LockMode, try_lock};
use super::{Context, Store, StoreError, files};

const PROBE_CONTENT: [u8; 4096] = [b'x'; 4096];

/// An unlinked file of the jobs directory, opened twice.
#[derive(Debug)]
pub(crate) struct WriteProbe {
    path: PathBuf,
    files: [File; 2],
}

impl Store {
    /// Creates, writes and removes a file in the directory, which must exist.
    pub(crate) fn probe_writes(&self) -> Result<WriteProbe, StoreError> {
        let path = self.root().join(format!(".probe-{}", uuid::Uuid::new_v4().simple()));
        let mut options = OpenOptions::new();
        let first = files::open(&path, options.write(true).create_new(true));
        let mut first = first.context("write", &path)?;
        let second = files::open(&path, OpenOptions::new().write(true));
        // Removed before it is used, so that it is never left behind.
        fs::remove_file(&path).context("remove", &path)?;
        first.write_all(&PROBE_CONTENT).context("write", &path)?;
        first.sync_data().context("write", &path)?;
        let second = second.context("write", &path)?;
        Ok(WriteProbe { path, files: [first, second] })
    }

    /// Returns the names of the entries that were modified after `limit`, or that contain such a
    /// file.
    pub(crate) fn files_newer_than(&self, limit: SystemTime) -> Vec<String> {
        let mut newer = Vec::new();
        for entry in files::entries(self.root()) {
            if is_newer(&entry, limit) || contains_newer(&entry, limit) {
                newer.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        newer
    }
}

impl WriteProbe {
    /// Checks that a lock excludes others.
    pub(crate) fn lock(&self) -> Result<(), StoreError> {
        let [first, second] = &self.files;
        let locked = first.try_lock().map_err(io::Error::from);
        locked.context("lock", &self.path)?;
        if try_lock(second, &self.path, LockMode::Exclusive)? {
            let error = io::Error::from_raw_os_error(nix::libc::ENOLCK);
            return Err(error).context("lock", &self.path);
        }
        Ok(())
    }
}

fn is_newer(entry: &DirEntry, limit: SystemTime) -> bool {
    let modified = entry.metadata().and_then(|metadata| metadata.modified());
    matches!(modified, Ok(at) if at > limit)
}

fn contains_newer(entry: &DirEntry, limit: SystemTime) -> bool {
    // Links are not followed: they lead out of the directory.
    matches!(entry.file_type(), Ok(kind) if kind.is_dir())
        && files::entries(&entry.path()).any(|inner| is_newer(&inner, limit))
}

/// Checks that files on the file system of this directory can be locked. Takes a shared lock of the
/// directory itself, which excludes no other reader.
pub(crate) fn try_lock_in(directory: &Path) -> Result<(), StoreError> {
    let folder = File::open(directory).context("open", directory)?;
    try_lock(&folder, directory, LockMode::Shared).map(drop)
}
