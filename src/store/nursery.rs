//! Where a job is made before it gets its name, and unmade when it has lost it: out of sight, so
//! that it is complete whenever it is seen.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::ledger::Spent;
use super::{Context, CreateError, JobDir, META, StoreError, files};
use crate::checkpoint::checkpoint;
use crate::job::Record;

/// Its name in the jobs directory. No job's name: it begins with a dot.
const NAME: &str = ".new";

/// The nursery, in use: while anybody is in here, what lies in here stays.
pub(super) struct Nursery {
    path: PathBuf,
    _in_use: File,
}

impl Nursery {
    /// Enters the nursery of a jobs directory. Whoever finds it empty of others clears away what
    /// a `start` or `clean` that died has left.
    pub(super) fn enter(root: &Path) -> Result<Self, StoreError> {
        let path = root.join(NAME);
        files::make_directory(&path, false)?;
        let file = files::open_directory(&path).context("open", &path)?;
        let mut leftovers = fs::read_dir(&path).context("read", &path)?.peekable();
        if leftovers.peek().is_some() && file.try_lock().is_ok() {
            for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
                let _ = unmake(root, &entry.path());
            }
        }
        file.lock_shared().context("lock", &path)?;
        Ok(Self { path, _in_use: file })
    }

    /// A path in it that nobody uses.
    pub(super) fn room(&self) -> PathBuf {
        self.path.join(uuid::Uuid::new_v4().simple().to_string())
    }

    /// A new, empty directory in it.
    pub(super) fn cradle(&self) -> Result<PathBuf, StoreError> {
        let cradle = self.room();
        files::make_directory(&cradle, false)?;
        Ok(cradle)
    }
}

/// Removes something that lies in the nursery of a jobs directory. What it has cost is noted when
/// all but its record is gone, and then the record goes: so a full disk has room for the note, and
/// nothing is forgotten, whoever dies in between. If it cannot be noted the record stays, for
/// whoever comes next.
pub(super) fn unmake(root: &Path, entry: &Path) -> Result<(), StoreError> {
    if let Some(spent) = record(entry).and_then(Spent::of) {
        for part in fs::read_dir(entry).into_iter().flatten().flatten() {
            if part.file_name() != META {
                let _ = files::remove(&part.path());
            }
        }
        spent.note(root)?;
        checkpoint("discard:noted");
        // First, so that it is not noted again should anything else not go.
        let _ = files::remove(&entry.join(META));
    }
    // Should this fail whoever comes next clears it away.
    let _ = files::remove(entry);
    Ok(())
}

/// The records of those who lie in the nursery of a jobs directory.
pub(super) fn records(root: &Path) -> Vec<Record> {
    let path = root.join(NAME);
    let entries = files::open_directory(&path).and_then(|_| fs::read_dir(&path));
    entries.into_iter().flatten().flatten().filter_map(|entry| record(&entry.path())).collect()
}

fn record(entry: &Path) -> Option<Record> {
    let job = JobDir::at(entry.to_owned());
    job.check().and_then(|()| job.load()).ok()
}

/// How many unfinished jobs lie in the nursery of a jobs directory while nobody is in there.
pub(super) fn leftovers(root: &Path) -> Result<usize, StoreError> {
    let path = root.join(NAME);
    let file = match files::open_directory(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        file => file.context("open", &path)?,
    };
    let count = || Ok(fs::read_dir(&path).context("read", &path)?.count());
    if count()? == 0 {
        return Ok(0);
    }
    match file.try_lock() {
        Ok(()) => count(),
        Err(TryLockError::WouldBlock) => Ok(0),
        Err(TryLockError::Error(error)) => Err(error).context("lock", &path),
    }
}

/// Clears the nursery of a jobs directory, if there is one and nobody is in there.
pub(super) fn clear(root: &Path) -> Result<(), StoreError> {
    match fs::symlink_metadata(root.join(NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => Nursery::enter(root).map(drop),
    }
}

/// Gives the finished directory its name, unless the name is taken.
pub(super) fn publish(unborn: &Path, name: &Path) -> Result<(), CreateError> {
    #[cfg(target_os = "linux")]
    {
        use nix::errno::Errno;
        use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
        match renameat2(AT_FDCWD, unborn, AT_FDCWD, name, RenameFlags::RENAME_NOREPLACE) {
            Err(Errno::EEXIST) => return Err(CreateError::Exists),
            // Some file systems do not know the flag.
            Err(Errno::EINVAL | Errno::ENOSYS) => {}
            done => return Ok(done.context("create", name)?),
        }
    }
    // A rename replaces at most an empty directory, and a job's is never empty.
    match fs::rename(unborn, name) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Err(CreateError::Exists),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(CreateError::Exists),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err(CreateError::Exists),
        done => Ok(done.context("create", name)?),
    }
}
