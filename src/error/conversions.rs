//! Converts the errors of lower modules into those that a caller sees.

use std::io;
use std::path::Path;

use super::Error;
use crate::claude::ProfileError;
use crate::job::JobId;
use crate::launch::LaunchError;
use crate::own_file::UnusableFile;
use crate::store::{LoadError, StoreError};

impl Error {
    /// Converts an error of a file that must be the user's own.
    pub(crate) fn from_unusable_file(path: &Path, error: UnusableFile) -> Self {
        let hint = match error.hint {
            hint if hint.is_empty() => "correct the file, or ignore it with --no-config".to_owned(),
            hint => hint,
        };
        Self::BadConfig { place: path.display().to_string(), why: error.why, hint }
    }

    /// Converts an error of launching job `id`.
    pub(crate) fn from_launch_error(id: &JobId, error: &LaunchError) -> Self {
        Self::Launch { id: id.to_string(), why: error.to_string() }
    }
}

impl From<ProfileError> for Error {
    fn from(error: ProfileError) -> Self {
        match error {
            ProfileError::Unknown(name, known) if known.is_empty() => Self::NoProfiles(name),
            ProfileError::Unknown(name, known) => {
                Self::UnknownProfile { name, known: known.join(", ") }
            }
            ProfileError::BadFile(path, error) => Self::from_unusable_file(&path, error),
        }
    }
}

impl From<LoadError> for Error {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::NotFound(id) => Self::NotFound(id.to_string()),
            LoadError::Unreadable { id, why, .. } => Self::Unreadable(id.to_string(), why),
            LoadError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        use io::ErrorKind;
        if error.is_without_locks() {
            return Self::NoLocks(error);
        }
        match error.source.kind() {
            _ if error.is_full() => Self::NoSpace(error),
            ErrorKind::ResourceBusy if error.operation == "lock" => Self::Busy(error.to_string()),
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Self::Denied(error),
            _ => Self::Store(error),
        }
    }
}
