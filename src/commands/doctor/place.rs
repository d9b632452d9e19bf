//! Checks of the jobs directory: access, locks, free space.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::{Check, Level, hint_of};
use crate::error::Error;
use crate::process::machine::{self, Medium};
use crate::store::{Store, StoreError, WriteProbe, try_lock_in};
use crate::text::format_bytes;

const GB: u64 = 1_000_000_000;
const OTHER_DIR_HINT: &str = "use another directory with --jobs-dir";

/// Checks the jobs directory at `root`. The store is `None` if it must not be used.
pub(super) fn checks(root: Result<&Path, &Error>) -> (Vec<Check>, Option<Store>) {
    let root = match root {
        Ok(root) => root,
        Err(error) => {
            return (vec![Check::error("jobs_dir", error.to_string(), OTHER_DIR_HINT)], None);
        }
    };
    let (directory, store, probe) = directory(root);
    let Some(existing) = root.ancestors().find(|path| path.is_dir()) else {
        return (vec![directory], store);
    };
    let space = match machine::free_space(existing) {
        Ok(bytes) => space(bytes),
        Err(error) => Check::unknown("space", error),
    };
    let locks = match locks(existing, probe.as_ref()) {
        Some(check) => check,
        None => lock_reach(machine::file_system(existing)),
    };
    (vec![directory, locks, space], store)
}

fn directory(root: &Path) -> (Check, Option<Store>, Option<WriteProbe>) {
    let error = |detail: String| Check::error("jobs_dir", detail, OTHER_DIR_HINT);
    let store = match Store::open(root) {
        Ok(store) => store,
        Err(why) => return (unusable(why), None, None),
    };
    let path = store.root().display().to_string();
    match fs::metadata(store.root()) {
        Ok(about) if !about.is_dir() => (error(format!("not a directory: {path}")), None, None),
        Ok(_) => match store.probe_writes() {
            Ok(probe) => (Check::ok("jobs_dir", path), Some(store), Some(probe)),
            Err(why) => (unusable(why), Some(store), None),
        },
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
            match creatable(store.root()) {
                Ok(()) => {
                    let detail = format!("{path}, which the first start creates");
                    (Check::ok("jobs_dir", detail), Some(store), None)
                }
                Err(why) => (error(format!("cannot create {path}: {why}")), None, None),
            }
        }
        Err(why) => (error(format!("could not read {path}: {why}")), None, None),
    }
}

fn unusable(error: StoreError) -> Check {
    let detail = error.to_string();
    let hint = Error::from(error).hint();
    Check::error("jobs_dir", detail, hint.as_deref().unwrap_or(OTHER_DIR_HINT))
}

/// Checks that the missing directory can be created.
fn creatable(root: &Path) -> Result<(), String> {
    // A dangling symbolic link prevents creation as well, so links are not followed.
    let existing = root.ancestors().find(|path| fs::symlink_metadata(path).is_ok());
    let existing = existing.map_or_else(|| PathBuf::from("/"), Path::to_owned);
    if !existing.is_dir() {
        return Err(format!("not a directory: {}", existing.display()));
    }
    let allowed = access(&existing, AccessFlags::W_OK | AccessFlags::X_OK);
    allowed.map_err(|errno| format!("{}: {}", existing.display(), errno.desc()))
}

/// Checks on which machines the locks of a file system of this type are visible.
fn lock_reach(name: io::Result<Option<String>>) -> Check {
    let (name, medium) = match name {
        Ok(Some(name)) => {
            let medium = Medium::of(&name);
            (name, medium)
        }
        Ok(None) => ("a file system".to_owned(), Medium::Unknown),
        Err(error) => return Check::unknown("locks", error),
    };
    let warning = |what: &str, hint: &str| Check::warning("locks", format!("{name}, {what}"), hint);
    let local_hint = "use a directory on a local disk with --jobs-dir";
    match medium {
        Medium::Disk => Check::ok("locks", format!("supported by {name}, local")),
        Medium::Memory => warning(
            "in memory: a reboot removes the jobs, and recover cannot continue them",
            "use a directory on a disk with --jobs-dir",
        ),
        Medium::Network => warning(
            "a network file system: locks may not work between hosts, so jobs of other hosts are \
             left alone without --force-host",
            local_hint,
        ),
        Medium::Program => warning(
            "served by a program (FUSE) and treated as a network file system: jobs of other \
             hosts are left alone without --force-host",
            local_hint,
        ),
        Medium::Unknown => warning(
            "an unknown type, which is treated as a network file system: jobs of other hosts are \
             left alone without --force-host",
            local_hint,
        ),
    }
}

/// Returns what is wrong with locks in the directory; `None` if they work on this machine.
fn locks(dir: &Path, probe: Option<&WriteProbe>) -> Option<Check> {
    let result = match probe {
        Some(probe) => probe.lock(),
        None => try_lock_in(dir),
    };
    let error = result.err()?;
    if error.is_without_locks() {
        let detail = error.to_string();
        return Some(Check::error("locks", detail, hint_of(&Error::NoLocks(error))));
    }
    Some(Check::unknown("locks", error))
}

fn space(bytes: u64) -> Check {
    let level = match bytes {
        0..50_000_000 => Level::Error,
        50_000_000..GB => Level::Warning,
        _ => Level::Ok,
    };
    let hint = "free some space, or use another directory with --jobs-dir";
    Check::with_level("space", level, format!("{} free", format_bytes(bytes)), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_low_free_space() {
        for (bytes, level, detail) in [
            (0, Level::Error, "0 B free"),
            (49_999_999, Level::Error, "50.0 MB free"),
            (50_000_000, Level::Warning, "50.0 MB free"),
            (999_949_999, Level::Warning, "999.9 MB free"),
            (1_000_000_000, Level::Ok, "1.0 GB free"),
            (u64::MAX, Level::Ok, "18446744.1 TB free"),
        ] {
            let check = space(bytes);
            assert_eq!((check.level, check.detail.as_str()), (level, detail));
        }
    }

    #[test]
    fn warns_about_file_systems() {
        for (name, medium, level) in [
            ("ext4", Medium::Disk, Level::Ok),
            ("overlay", Medium::Disk, Level::Ok),
            ("apfs", Medium::Disk, Level::Ok),
            ("tmpfs", Medium::Memory, Level::Warning),
            ("nfs", Medium::Network, Level::Warning),
            ("9p", Medium::Network, Level::Warning),
            ("fuse", Medium::Program, Level::Warning),
            ("newfs", Medium::Unknown, Level::Warning),
        ] {
            assert_eq!(Medium::of(name), medium);
            assert_eq!(lock_reach(Ok(Some(name.to_owned()))).level, level, "{name}");
        }
        assert_eq!(lock_reach(Ok(None)).level, Level::Warning);
        assert_eq!(lock_reach(Err(io::ErrorKind::NotFound.into())).level, Level::Warning);
    }
}
