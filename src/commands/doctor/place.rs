//! The jobs directory as a place: whether it is ours, what it lies on, and what room there is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::{Check, Level, hint};
use crate::error::Error;
use crate::process::machine::{self, Medium, Room};
use crate::store::{Probe, Store, StoreError, try_lock_in};

const MB: u64 = 1_000_000;
const GB: u64 = 1_000 * MB;
const ELSEWHERE: &str = "name another directory by --jobs-dir";

/// Looks at the jobs directory of this path. The store is `None` where it must not be used.
pub(super) fn checks(root: Result<&Path, &Error>) -> (Vec<Check>, Option<Store>) {
    let root = match root {
        Ok(root) => root,
        Err(error) => return (vec![Check::error("jobs_dir", error.to_string(), ELSEWHERE)], None),
    };
    let (directory, store, probe) = directory(root);
    let Some(standing) = root.ancestors().find(|path| path.is_dir()) else {
        return (vec![directory], store);
    };
    let room = machine::room(standing);
    let room = |name, check: fn(Room) -> Check| match &room {
        Ok(room) => check(*room),
        Err(error) => Check::unknown(name, error),
    };
    let checks = vec![
        directory,
        file_system(machine::file_system(standing)),
        locks(standing, probe.as_ref()),
        room("space", |room| space(room.bytes)),
        room("inodes", |room| inodes(room.files)),
    ];
    (checks, store)
}

fn directory(root: &Path) -> (Check, Option<Store>, Option<Probe>) {
    let error = |found: String| Check::error("jobs_dir", found, ELSEWHERE);
    let store = match Store::open(root) {
        Ok(store) => store,
        Err(refused) => return (refusal(refused), None, None),
    };
    let path = store.root().display().to_string();
    match fs::metadata(store.root()) {
        Ok(about) if !about.is_dir() => (error(format!("{path} is no directory")), None, None),
        Ok(_) => match store.probe() {
            Ok(probe) => (Check::ok("jobs_dir", path), Some(store), Some(probe)),
            Err(refused) => (refusal(refused), Some(store), None),
        },
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
            match creatable(store.root()) {
                Ok(()) => {
                    let found = format!("{path}, which the first start makes");
                    (Check::ok("jobs_dir", found), Some(store), None)
                }
                Err(why) => (error(format!("{path} cannot be made: {why}")), None, None),
            }
        }
        Err(why) => (error(format!("could not look at {path}: {why}")), None, None),
    }
}

fn refusal(error: StoreError) -> Check {
    let found = error.to_string();
    let advice = Error::from(error).hint();
    Check::error("jobs_dir", found, advice.as_deref().unwrap_or(ELSEWHERE))
}

/// Whether the directory, which is not there, could be made.
fn creatable(root: &Path) -> Result<(), String> {
    // A link that leads nowhere is in the way, too.
    let standing = root.ancestors().find(|path| fs::symlink_metadata(path).is_ok());
    let standing = standing.map_or_else(|| PathBuf::from("/"), Path::to_owned);
    if !standing.is_dir() {
        return Err(format!("{} is no directory", standing.display()));
    }
    let allowed = access(&standing, AccessFlags::W_OK | AccessFlags::X_OK);
    allowed.map_err(|errno| format!("{}: {}", standing.display(), errno.desc()))
}

fn file_system(name: io::Result<Option<String>>) -> Check {
    let (name, medium) = match name {
        Ok(Some(name)) => {
            let medium = Medium::of(&name);
            (name, medium)
        }
        Ok(None) => ("a file system".to_owned(), Medium::Unknown),
        Err(error) => return Check::unknown("file_system", error),
    };
    let warning =
        |what: &str, advice: &str| Check::warning("file_system", format!("{name}, {what}"), advice);
    let elsewhere = "name a directory on a local disk by --jobs-dir";
    match medium {
        Medium::Disk => Check::ok("file_system", format!("{name}, local")),
        Medium::Memory => warning(
            "local, in memory: a reboot takes the jobs and all that recover needs along",
            "name a directory on a disk by --jobs-dir",
        ),
        Medium::Network => warning(
            "of a network or another host: its locks may not hold between hosts, so jobs of other \
             hosts are left alone without --force-host",
            elsewhere,
        ),
        Medium::Program => warning(
            "served by a program (FUSE): it counts as a network's, so jobs of other hosts are left \
             alone without --force-host",
            elsewhere,
        ),
        Medium::Unknown => warning(
            "of a type that is not known here: it counts as a network's, so jobs of other hosts \
             are left alone without --force-host",
            elsewhere,
        ),
    }
}

fn locks(standing: &Path, probe: Option<&Probe>) -> Check {
    let tried = probe.map_or_else(|| try_lock_in(standing), Probe::lock);
    match tried {
        Ok(()) => Check::ok("locks", "they work"),
        Err(error) if error.is_without_locks() => {
            let found = error.to_string();
            Check::error("locks", found, hint(&Error::NoLocks(error)))
        }
        Err(error) => Check::unknown("locks", error),
    }
}

fn space(bytes: u64) -> Check {
    let level = match bytes {
        0..50_000_000 => Level::Error,
        50_000_000..GB => Level::Warning,
        _ => Level::Ok,
    };
    let advice = "free some space, or name another place by --jobs-dir";
    Check::at("space", level, format!("{} free", amount(bytes)), advice)
}

fn inodes(files: Option<u64>) -> Check {
    let Some(files) = files else { return Check::ok("inodes", "not limited") };
    // A job makes a dozen.
    let level = match files {
        0..100 => Level::Error,
        100..10_000 => Level::Warning,
        _ => Level::Ok,
    };
    let advice = "remove files that are not needed, or name another place by --jobs-dir";
    Check::at("inodes", level, format!("{files} free"), advice)
}

/// Bytes as people read them.
pub(super) fn amount(bytes: u64) -> String {
    match bytes {
        0..MB => format!("{} kB", bytes / 1_000),
        MB..GB => format!("{} MB", bytes / MB),
        _ => format!("{:.1} GB", bytes as f64 / GB as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scarce_room_is_told_in_time() {
        for (bytes, level, found) in [
            (0, Level::Error, "0 kB free"),
            (49_999_999, Level::Error, "49 MB free"),
            (50_000_000, Level::Warning, "50 MB free"),
            (999_999_999, Level::Warning, "999 MB free"),
            (1_000_000_000, Level::Ok, "1.0 GB free"),
            (u64::MAX, Level::Ok, "18446744073.7 GB free"),
        ] {
            let check = space(bytes);
            assert_eq!((check.level, check.found.as_str()), (level, found));
        }
        for (files, level) in [
            (Some(0), Level::Error),
            (Some(100), Level::Warning),
            (Some(10_000), Level::Ok),
            (None, Level::Ok),
        ] {
            assert_eq!(inodes(files).level, level, "{files:?}");
        }
    }

    #[test]
    fn what_a_reboot_or_a_network_can_take_is_warned_of() {
        for (name, of, level) in [
            ("ext4", Medium::Disk, Level::Ok),
            ("overlay", Medium::Disk, Level::Ok),
            ("apfs", Medium::Disk, Level::Ok),
            ("tmpfs", Medium::Memory, Level::Warning),
            ("nfs", Medium::Network, Level::Warning),
            ("9p", Medium::Network, Level::Warning),
            ("fuse", Medium::Program, Level::Warning),
            ("newfs", Medium::Unknown, Level::Warning),
        ] {
            assert_eq!(Medium::of(name), of);
            assert_eq!(file_system(Ok(Some(name.to_owned()))).level, level, "{name}");
        }
        assert_eq!(file_system(Ok(None)).level, Level::Warning);
        assert_eq!(file_system(Err(io::ErrorKind::NotFound.into())).level, Level::Warning);
    }
}
