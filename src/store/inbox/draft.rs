//! A message that is complete and durable, but not yet accepted.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::super::{Context, StoreError, files};
use super::{file_name, parse_number};

const SUFFIX: &str = ".tmp";
/// How often the inbox is read again after drafts were removed.
const MAX_REVOKE_ROUNDS: usize = 100;

/// A file in the inbox, removed with this value. A draft that was renamed to
/// `.<number>.<uuid>.tmp` has reserved the number. A process that frees numbers or closes the inbox
/// first writes that to the [state](super::state), and then removes the reservations.
#[derive(Debug)]
pub(super) struct Draft {
    inbox: PathBuf,
    uuid: String,
    path: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Published {
    Accepted,
    /// Another message has the number.
    Taken,
    /// The reservation was revoked.
    Revoked,
}

impl Draft {
    /// Writes a message, durably.
    pub(super) fn write(inbox: &Path, text: &[u8]) -> Result<Self, StoreError> {
        let uuid = uuid::Uuid::new_v4().to_string();
        let path = inbox.join(format!(".{uuid}{SUFFIX}"));
        files::write_durably(&path, text)?;
        Ok(Self { inbox: inbox.to_owned(), uuid, path })
    }

    /// Reserves a number instead of the previous one. Returns false if the draft was revoked. The
    /// number is certain only after the state has been read again.
    pub(super) fn reserve(&mut self, number: u64) -> Result<bool, StoreError> {
        let path = self.inbox.join(format!(".{number}.{}{SUFFIX}", self.uuid));
        match fs::rename(&self.path, &path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            renamed => {
                renamed.context("create", &path)?;
                self.path = path;
                Ok(true)
            }
        }
    }

    /// Accepts the message under its reserved number in one step: link(2) replaces no file, and fails
    /// if the reservation is gone.
    pub(super) fn publish(&self, number: u64) -> Result<Published, StoreError> {
        let path = self.inbox.join(file_name(number));
        match fs::hard_link(&self.path, &path) {
            Ok(()) => Ok(Published::Accepted),
            // The answer of a file server may get lost, and the call may be repeated.
            Err(_) if self.has_second_name() => Ok(Published::Accepted),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Published::Taken),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Published::Revoked),
            Err(error) => Err(error).context("create", &path),
        }
    }

    fn has_second_name(&self) -> bool {
        matches!(fs::symlink_metadata(&self.path), Ok(metadata) if metadata.nlink() == 2)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes the reservations of numbers up to `last`; with `None` all drafts.
pub(super) fn revoke(inbox: &Path, last: Option<u64>) {
    for _ in 0..MAX_REVOKE_ROUNDS {
        let mut removed = false;
        for entry in files::entries(inbox) {
            let Some(draft) = parse_draft_name(&entry.file_name().to_string_lossy()) else {
                continue;
            };
            let is_revoked = match (last, draft) {
                (Some(last), Some(number)) => number <= last,
                (Some(_), None) => false,
                (None, _) => true,
            };
            if is_revoked {
                removed |= fs::remove_file(entry.path()).is_ok();
            }
        }
        // A file system may omit names while others are removed.
        if !removed {
            return;
        }
    }
}

/// Parses the name of a draft into the number that it reserves, if any. Returns `None` for other
/// names. The drafts of earlier versions (`.<number>.tmp`) count as reservations.
fn parse_draft_name(name: &str) -> Option<Option<u64>> {
    let name = name.strip_prefix('.')?.strip_suffix(SUFFIX)?;
    Some(parse_number(name.split('.').next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognizes_drafts_by_their_names() {
        for (name, draft) in [
            (".12.tmp", Some(Some(12))),
            (".12.c177b7b6-0000-4000-8000-000000000000.tmp", Some(Some(12))),
            (".c177b7b6-0000-4000-8000-000000000000.tmp", Some(None)),
            (".open", None),
            (".open.new", None),
            (".desk", None),
            ("0000000001.json", None),
        ] {
            assert_eq!(parse_draft_name(name), draft, "{name}");
        }
    }
}
