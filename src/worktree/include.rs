//! Copies the untracked files that `.worktreeinclude` names, such as `.env`, and finds the copies that
//! nobody has changed.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

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
    let Some(main) = source(worktree) else { return Ok(()) };
    for name in included_files(main, worktree, LIST_TIMEOUT)? {
        copy(main, Path::new(&worktree.path), &name)
            .map_err(|error| format!("could not copy {}: {error}", name.display()))?;
        fault_point("prepare:copied");
    }
    Ok(())
}

/// Returns the main working tree if files are copied from it.
fn source(worktree: &Worktree) -> Option<&Path> {
    let main = Path::new(worktree.main_dir.as_ref()?);
    if main.join(INCLUDE_FILE).is_file() { Some(main) } else { None }
}

/// Whether the worktree may have copies.
pub(super) fn has_copies(worktree: &Worktree) -> bool {
    source(worktree).is_some()
}

/// Returns the untracked files of the main working tree that match a pattern.
fn included_files(
    main: &Path,
    worktree: &Worktree,
    timeout: Duration,
) -> Result<Vec<PathBuf>, String> {
    let exclude = format!("--exclude-from={}", main.join(INCLUDE_FILE).display());
    // Without the directory of other worktrees: they are repositories of their own.
    let args = ["ls-files", "-z", "--others", "--ignored", &exclude];
    let answer = query_within(main, &args, timeout).map_err(|error| error.to_string())?;
    if !answer.is_success {
        return Err(format!("could not find the files of {INCLUDE_FILE}: {}", answer.message));
    }
    if answer.is_cut() {
        return Err(format!("{INCLUDE_FILE} matches too many files"));
    }
    let mut names = Vec::new();
    for name in answer.stdout.split(|byte| *byte == 0) {
        // A name with a slash at its end is a repository in the working tree.
        if name.is_empty() || name.ends_with(b"/") {
            continue;
        }
        let name = Path::new(OsStr::from_bytes(name));
        if !main.join(name).starts_with(&worktree.path) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Returns the copies among the changes that git shows (`?? NAME`) which are the same as the files
/// in the main working tree: they are no work of the job. Fails if that takes longer than `timeout`.
pub(super) fn unchanged_copies(
    worktree: &Worktree,
    changes: &[Vec<u8>],
    timeout: Duration,
) -> Result<Vec<PathBuf>, String> {
    let until = Instant::now() + timeout;
    let untracked: BTreeSet<&[u8]> =
        changes.iter().filter_map(|change| change.strip_prefix(b"?? ")).collect();
    let main = match source(worktree) {
        Some(main) if !untracked.is_empty() => main,
        _ => return Ok(Vec::new()),
    };
    let mut copies = included_files(main, worktree, timeout)?;
    copies.retain(|name| {
        untracked.contains(name.as_os_str().as_bytes())
            && is_unchanged(worktree, name, until).unwrap_or(false)
    });
    if Instant::now() < until { Ok(copies) } else { Err("it took too long".to_owned()) }
}

/// Removes a copy, if it is still the same as the file in the main working tree.
pub(super) fn remove_copy(worktree: &Worktree, name: &Path, timeout: Duration) -> io::Result<()> {
    if is_unchanged(worktree, name, Instant::now() + timeout)? {
        fs::remove_file(Path::new(&worktree.path).join(name))?;
    }
    Ok(())
}

/// Returns whether a copy is the same as the file in the main working tree.
fn is_unchanged(worktree: &Worktree, name: &Path, until: Instant) -> io::Result<bool> {
    let Some(main) = source(worktree) else { return Ok(false) };
    let (from, to) = (main.join(name), Path::new(&worktree.path).join(name));
    let (source, copy) = (from.symlink_metadata()?, to.symlink_metadata()?);
    if source.file_type() != copy.file_type() || source.len() != copy.len() {
        return Ok(false);
    }
    if source.is_symlink() {
        return Ok(fs::read_link(&from)? == fs::read_link(&to)?);
    }
    let has_same_mode = source.permissions().mode() == copy.permissions().mode();
    Ok(source.is_file() && has_same_mode && has_same_content(&from, &to, until)?)
}

fn has_same_content(a: &Path, b: &Path, until: Instant) -> io::Result<bool> {
    let (mut a, mut b) = (BufReader::new(File::open(a)?), BufReader::new(File::open(b)?));
    while Instant::now() < until {
        let (left, right) = (a.fill_buf()?, b.fill_buf()?);
        let count = left.len().min(right.len());
        if count == 0 {
            return Ok(left.is_empty() && right.is_empty());
        }
        if left[..count] != right[..count] {
            return Ok(false);
        }
        a.consume(count);
        b.consume(count);
    }
    Ok(false)
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
