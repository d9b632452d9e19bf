//! The entry for worktrees in a repository's list of ignored files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::repository::{WORKTREES_DIR, is_empty_directory};
use crate::job::Worktree;

/// How long another process may hold the lock of the file.
const LOCK_TIMEOUT: Duration = Duration::from_secs(20);
const LOCK_INTERVAL: Duration = Duration::from_millis(5);

/// Makes git ignore the directory of worktrees in the main working tree: adds it to
/// `info/exclude`, which is no part of a commit, unless it is there.
pub(super) fn exclude_worktrees(worktree: &Worktree) -> io::Result<()> {
    let Some(entry) = entry_for(worktree) else { return Ok(()) };
    let info = Path::new(&worktree.repository).join("info");
    fs::create_dir_all(&info)?;
    let mut options = OpenOptions::new();
    let mut file = options.read(true).append(true).create(true).open(info.join("exclude"))?;
    lock(&file);
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    if text.split(|byte| *byte == b'\n').any(|line| line == entry.as_bytes()) {
        return Ok(());
    }
    let before = if text.is_empty() || text.ends_with(b"\n") { "" } else { "\n" };
    file.write_all(format!("{before}{entry}\n").as_bytes())
}

/// Returns the entry for the directory in which the worktree is made; `None` if it is not below the
/// main working tree, or has files that are not of worktrees.
fn entry_for(worktree: &Worktree) -> Option<String> {
    let main = Path::new(worktree.main_dir.as_ref()?);
    let path = Path::new(&worktree.path);
    if path.starts_with(main.join(WORKTREES_DIR)) {
        return Some(format!("/{WORKTREES_DIR}/"));
    }
    let parent = path.parent()?.to_str()?;
    let below = Path::new(parent).strip_prefix(main).ok()?.to_str()?;
    if below.is_empty() || Path::new(parent).exists() && !is_empty_directory(parent) {
        return None;
    }
    let mut pattern = String::new();
    for c in below.chars() {
        if matches!(c, '*' | '?' | '[' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    Some(format!("/{pattern}/"))
}

/// Locks the file, so that only one of several jobs adds the entry. A second entry does no harm, so
/// that a lock that is not free in time is ignored.
fn lock(file: &File) {
    let until = Instant::now() + LOCK_TIMEOUT;
    while file.try_lock().is_err() && Instant::now() < until {
        sleep(LOCK_INTERVAL);
    }
}
