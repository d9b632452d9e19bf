//! Copies the untracked files that `.worktreeinclude` names, such as `.env`.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use super::git::query_within;
use crate::fault_point::fault_point;
use crate::job::Worktree;

/// Name of the file, in the main working tree, with patterns as in `.gitignore`.
const INCLUDE_FILE: &str = ".worktreeinclude";

/// Time limit for the list of the untracked files. The job's own limits are usually shorter.
const LIST_TIMEOUT: Duration = Duration::from_secs(3600);

/// Copies the untracked files of the main working tree that match a pattern. Files that exist in the
/// worktree are kept.
pub(super) fn copy_included(worktree: &Worktree) -> Result<(), String> {
    let Some(main) = &worktree.main_dir else { return Ok(()) };
    let main = Path::new(main);
    let list = main.join(INCLUDE_FILE);
    if !list.is_file() {
        return Ok(());
    }
    let exclude = format!("--exclude-from={}", list.display());
    // Without the directory of other worktrees: they are repositories of their own.
    let args = ["ls-files", "-z", "--others", "--ignored", &exclude];
    let answer = query_within(main, &args, LIST_TIMEOUT).map_err(|error| error.to_string())?;
    if !answer.is_success {
        return Err(format!("could not find the files of {INCLUDE_FILE}: {}", answer.message));
    }
    if answer.is_cut() {
        return Err(format!("{INCLUDE_FILE} matches too many files"));
    }
    let target = Path::new(&worktree.path);
    for name in answer.stdout.split(|byte| *byte == 0) {
        // A name with a slash at its end is a repository in the working tree.
        if name.is_empty() || name.ends_with(b"/") {
            continue;
        }
        let name = Path::new(OsStr::from_bytes(name));
        if main.join(name).starts_with(target) {
            continue;
        }
        copy(main, target, name)
            .map_err(|error| format!("could not copy {}: {error}", name.display()))?;
        fault_point("prepare:copied");
    }
    Ok(())
}

fn copy(main: &Path, target: &Path, name: &Path) -> io::Result<()> {
    let (from, to) = (main.join(name), target.join(name));
    if to.symlink_metadata().is_ok() {
        return Ok(());
    }
    let Some(parent) = to.parent() else { return Ok(()) };
    fs::create_dir_all(parent)?;
    // A link in the commit could lead out of the worktree.
    if !fs::canonicalize(parent)?.starts_with(fs::canonicalize(target)?) {
        return Ok(());
    }
    let kind = from.symlink_metadata()?.file_type();
    if kind.is_symlink() {
        symlink(fs::read_link(&from)?, &to)
    } else if kind.is_file() {
        fs::copy(&from, &to).map(|_| ())
    } else {
        Ok(())
    }
}
