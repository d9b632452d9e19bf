//! `.desk`: the lock of the inbox, and its state, as earlier versions of this program use them.
//!
//! They hold the lock while they post or close, and rename a message to its number, replacing any file
//! of that name. This version needs neither. It locks the file so that an old sender does not replace
//! its message and an old worker does not close the inbox meanwhile. It keeps the state up to date so
//! that an old sender finds the next number, and learns that the job has ended.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::flock::{LOCK_TIMEOUT, LockMode, holder_of, lock_bounded};
use super::super::{Context, StoreError, files};
use crate::json;

/// Name of the file. The name and the format are a protocol with earlier versions.
const LEGACY_LOCK: &str = ".desk";

/// The state as earlier versions read and write it.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct LegacyState {
    /// The number that was used last.
    pub(super) last: u64,
    /// Whether the job has ended.
    pub(super) closed: bool,
}

impl LegacyState {
    pub(super) fn read(inbox: &Path) -> Self {
        let text = files::read_bounded(&inbox.join(LEGACY_LOCK), 1_000).unwrap_or_default();
        json::from_bytes(&text).unwrap_or_default()
    }

    /// Overwrites the state in place, in one call and without the lock: a process that holds the lock
    /// must not delay the end of a job.
    pub(super) fn write(self, inbox: &Path) {
        let text = format!("{:<60}\n", serde_json::to_string(&self).unwrap_or_default());
        if let Ok(file) = open(inbox) {
            let _ = file.write_all_at(text.as_bytes(), 0);
        }
    }
}

/// Takes the lock. Senders of this version share it, which excludes those of earlier versions. Fails
/// as busy if its holder makes no progress: it may be stopped.
pub(super) fn lock(inbox: &Path, mode: LockMode) -> Result<File, StoreError> {
    let path = inbox.join(LEGACY_LOCK);
    let file = open(inbox).context("open", &path)?;
    lock_bounded(&file, &path, mode, LOCK_TIMEOUT, |file| {
        let modified = file.metadata().and_then(|metadata| metadata.modified());
        (holder_of(file), modified.ok())
    })?;
    Ok(file)
}

fn open(inbox: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true);
    files::open(&inbox.join(LEGACY_LOCK), &mut options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fails_as_busy_if_the_holder_makes_no_progress() {
        let inbox = tempfile::tempdir().unwrap();
        let held = lock(inbox.path(), LockMode::Shared).unwrap();
        lock(inbox.path(), LockMode::Shared).unwrap();
        let error = lock(inbox.path(), LockMode::Exclusive).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::ResourceBusy);
        if cfg!(target_os = "linux") {
            assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        }
        drop(held);
        lock(inbox.path(), LockMode::Exclusive).unwrap();
    }
}
