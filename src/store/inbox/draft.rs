//! A message that is complete and durable, and not yet accepted.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::super::{Context, StoreError, files};
use super::{file_name, parse_number};

/// The end of a draft's name.
const SUFFIX: &str = ".tmp";
/// How often the drafts of an inbox are looked through while there are some to be revoked.
const MAX_REVOKE_ROUNDS: usize = 100;

/// A file in the inbox, removed with this value. A draft that was renamed to
/// `.<number>.<uuid>.tmp` has reserved the number. Whoever frees numbers or closes the inbox first
/// says so in the [state](super::state), and then removes the reservations.
#[derive(Debug)]
pub(super) struct Draft {
    inbox: PathBuf,
    uuid: String,
    path: PathBuf,
}

/// What became of a draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Published {
    /// It was accepted.
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

    /// Reserves a number instead of the one before; false if the draft was revoked. The number is
    /// certain only once the state has been read after this.
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

    /// Accepts the message under the number that it has reserved, in one step: link(2) replaces
    /// nothing, and fails if the reservation is gone.
    pub(super) fn publish(&self, number: u64) -> Result<Published, StoreError> {
        let path = self.inbox.join(file_name(number));
        match fs::hard_link(&self.path, &path) {
            Ok(()) => Ok(Published::Accepted),
            // The answer of a file server may get lost, and the call be repeated.
            Err(_) if self.has_second_name() => Ok(Published::Accepted),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Published::Taken),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Published::Revoked),
            Err(error) => Err(error).context("create", &path),
        }
    }

    fn has_second_name(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|about| about.nlink() == 2)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes the reservations of numbers up to `last`, and with `None` all drafts.
pub(super) fn revoke(inbox: &Path, last: Option<u64>) {
    for _ in 0..MAX_REVOKE_ROUNDS {
        let mut removed = false;
        for entry in fs::read_dir(inbox).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(draft) = name.to_str().and_then(draft_of) else { continue };
            let is_meant = match (last, draft) {
                (Some(last), Some(number)) => number <= last,
                (Some(_), None) => false,
                (None, _) => true,
            };
            if is_meant {
                removed |= fs::remove_file(entry.path()).is_ok();
            }
        }
        // A file system may leave out names while others are removed.
        if !removed {
            return;
        }
    }
}

/// Of the name of a draft, the number that it reserves, if it does; `None` for other names. The
/// drafts of earlier versions (`.<number>.tmp`) count as reservations.
fn draft_of(name: &str) -> Option<Option<u64>> {
    let name = name.strip_prefix('.')?.strip_suffix(SUFFIX)?;
    Some(parse_number(name.split('.').next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drafts_are_known_by_their_names() {
        for (name, draft) in [
            (".12.tmp", Some(Some(12))),
            (".12.c177b7b6-0000-4000-8000-000000000000.tmp", Some(Some(12))),
            (".c177b7b6-0000-4000-8000-000000000000.tmp", Some(None)),
            (".open", None),
            (".open.new", None),
            (".desk", None),
            ("0000000001.json", None),
        ] {
            assert_eq!(draft_of(name), draft, "{name}");
        }
    }
}
