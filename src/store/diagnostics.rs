//! Checks of the jobs directory that leave its contents unchanged.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

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
        let open = |options: &mut OpenOptions| {
            files::open(&path, options.write(true).mode(0o600)).context("write", &path)
        };
        let mut first = open(OpenOptions::new().create_new(true))?;
        let second = open(&mut OpenOptions::new());
        // Removed before it is used, so that it is never left behind.
        fs::remove_file(&path).context("remove", &path)?;
        first.write_all(&PROBE_CONTENT).and_then(|()| first.sync_data()).context("write", &path)?;
        Ok(WriteProbe { path, files: [first, second?] })
    }

    /// Returns the names of the entries that were modified after `limit`, or that contain such a
    /// file.
    pub(crate) fn files_newer_than(&self, limit: SystemTime) -> Vec<String> {
        let is_later = |path: &Path| {
            let metadata = fs::symlink_metadata(path);
            metadata.and_then(|metadata| metadata.modified()).is_ok_and(|at| at > limit)
        };
        let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
        let newer = entries(self.root()).filter(|entry| {
            let path = entry.path();
            // Links are not followed: they lead out of the directory.
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            is_later(&path) || is_folder && entries(&path).any(|inner| is_later(&inner.path()))
        });
        newer.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

impl WriteProbe {
    /// Checks that a lock excludes others.
    pub(crate) fn lock(&self) -> Result<(), StoreError> {
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

/// Checks that files on the file system of this directory can be locked. Takes a shared lock of the
/// directory itself, which excludes no other reader.
pub(crate) fn try_lock_in(directory: &Path) -> Result<(), StoreError> {
    let folder = File::open(directory).context("open", directory)?;
    match folder.try_lock_shared() {
        Ok(()) | Err(TryLockError::WouldBlock) => Ok(()),
        Err(TryLockError::Error(error)) => Err(error).context("lock", directory),
    }
}
