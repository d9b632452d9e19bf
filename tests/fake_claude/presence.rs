//! How many fakes run at the same time, as they see it themselves.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use crate::append;

/// Counts the fakes that run and share this directory, this one included, and appends the number
/// to the file `counts` in it.
///
/// Each holds the lock of a file of its own until it ends, and counts the files that were there at
/// the same moment and are locked. The last one to start therefore counts all that run with it, and
/// none counts fakes that do not run at the same time.
pub(crate) fn count(directory: &Path) -> io::Result<()> {
    let members = directory.join("members");
    fs::create_dir_all(&members)?;
    let own = File::create(members.join(std::process::id().to_string()))?;
    own.lock()?;
    // Held until the process ends.
    std::mem::forget(own);
    let files: Vec<_> = fs::read_dir(&members)?.collect::<io::Result<_>>()?;
    let mut running = 0;
    for file in files {
        // A shared lock: two that count at the same time do not count each other's attempts.
        match File::open(file.path())?.try_lock_shared() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => running += 1,
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    append(&directory.join("counts"), &format!("{running}\n"))
}
