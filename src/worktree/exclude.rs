//! The entry for worktrees in a repository's list of ignored files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::repository::WORKTREES_DIR;
use crate::job::Worktree;

/// How long another process may hold the lock of the file.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
const LOCK_INTERVAL: Duration = Duration::from_millis(5);

/// Makes git ignore the usual directory of worktrees in the main working tree: adds it to
/// `info/exclude`, which is no part of a commit, unless it is there.
pub(super) fn exclude_worktrees(worktree: &Worktree) -> io::Result<()> {
    let Some(main) = &worktree.main_dir else { return Ok(()) };
    if !Path::new(&worktree.path).starts_with(Path::new(main).join(WORKTREES_DIR)) {
        return Ok(());
    }
    let info = Path::new(&worktree.repository).join("info");
    fs::create_dir_all(&info)?;
    let mut options = OpenOptions::new();
    let mut file = options.read(true).append(true).create(true).open(info.join("exclude"))?;
    lock(&file);
    let entry = format!("/{WORKTREES_DIR}/");
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    if text.split(|byte| *byte == b'\n').any(|line| line == entry.as_bytes()) {
        return Ok(());
    }
    let before = if text.is_empty() || text.ends_with(b"\n") { "" } else { "\n" };
    file.write_all(format!("{before}{entry}\n").as_bytes())
}

/// Locks the file, so that only one of several jobs adds the entry. A second entry does no harm, so
/// that a lock that is not free in time is ignored.
fn lock(file: &File) {
    let until = Instant::now() + LOCK_TIMEOUT;
    while file.try_lock().is_err() && Instant::now() < until {
        sleep(LOCK_INTERVAL);
    }
}
