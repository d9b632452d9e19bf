//! Making a worktree, also after a process was killed in the middle of it.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::exclude::exclude_worktrees;
use super::git::{self, query};
use super::include::copy_included;
use super::repository::{entry_of, is_empty_directory, remove_broken_entry};
use crate::error::WorktreeError;
use crate::fault_point::fault_point;
use crate::job::Worktree;

/// Time limit for the checkout of a worktree. The job's own limits are usually shorter.
const ADD_TIMEOUT: Duration = Duration::from_secs(4 * 3600);
/// How long a lock of another git in the repository is awaited.
const LOCK_TIMEOUT: Duration = Duration::from_secs(20);
const MIN_PAUSE: Duration = Duration::from_millis(20);
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// Makes a worktree unless it is there. `is_complete`: it was completed before, so that what is in
/// it is kept; a worktree that was not completed is made again.
pub(super) fn make(worktree: &Worktree, is_complete: bool) -> Result<(), String> {
    let has_content = is_complete || worktree.existed;
    let repository = Path::new(&worktree.repository);
    let entry = entry_of(repository, &worktree.path).map_err(text)?;
    let path = Path::new(&worktree.path);
    if has_content && entry.is_some() && path.join(".git").exists() {
        return Ok(());
    }
    let has_files = path.exists() && !is_empty_directory(&worktree.path);
    if has_files && (has_content || entry.is_none()) {
        return Err(format!("{} is not a worktree of {}", worktree.path, worktree.repository));
    }
    let branch = format!("refs/heads/{}", worktree.branch);
    if entry.is_some_and(|entry| entry.branch.is_some_and(|other| other != branch)) {
        return Err(format!("another worktree was made in {}", worktree.path));
    }
    let begins_with = first_commit(worktree, has_content)?;
    exclude_worktrees(worktree).map_err(|error| {
        format!("could not write info/exclude in {}: {error}", worktree.repository)
    })?;
    fault_point("prepare:adding");
    add(worktree, &begins_with)?;
    fault_point("prepare:added");
    copy_included(worktree)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn text(error: WorktreeError) -> String {
    error.to_string()
}

/// The commit that a worktree is made from.
enum FirstCommit {
    /// That of its branch, which exists.
    Branch,
    /// The base, at which its branch is made.
    Base,
}

fn first_commit(worktree: &Worktree, has_content: bool) -> Result<FirstCommit, String> {
    let repository = Path::new(&worktree.repository);
    let name = format!("refs/heads/{}", worktree.branch);
    let answer = query(repository, &["rev-parse", "--verify", "--quiet", &name]).map_err(text)?;
    match (answer.is_success, has_content) {
        (false, false) => Ok(FirstCommit::Base),
        (true, true) => Ok(FirstCommit::Branch),
        // An interrupted attempt has made it.
        (true, false) if answer.text().map_err(text)? == worktree.base => Ok(FirstCommit::Branch),
        (true, false) => Err(format!("the branch {} was made by another program", worktree.branch)),
        (false, true) => Err(format!(
            "the worktree {} is gone, and so is its branch {}",
            worktree.path, worktree.branch
        )),
    }
}

/// Runs `git worktree add`, and again while another git has locked what it needs.
fn add(worktree: &Worktree, from: &FirstCommit) -> Result<(), String> {
    let repository = Path::new(&worktree.repository);
    let until = Instant::now() + LOCK_TIMEOUT;
    let mut pause = MIN_PAUSE;
    loop {
        remove_incomplete(worktree)?;
        let mut command = git::git(repository);
        command.args(["worktree", "add"]);
        match from {
            FirstCommit::Base if !has_branch(worktree)? => {
                command.args(["--no-track", "-b", &worktree.branch]);
                command.args([&worktree.path, &worktree.base]);
            }
            _ => {
                command.args([&worktree.path, &worktree.branch]);
            }
        }
        let output = git::run(command, "add the worktree", ADD_TIMEOUT).map_err(text)?;
        let _ = io::stderr().write_all(&output.stdout);
        let _ = io::stderr().write_all(output.stderr.as_bytes());
        if output.is_success {
            return Ok(());
        }
        if !output.is_conflict() || Instant::now() >= until {
            return Err(format!("git could not make the worktree: {}", output.message));
        }
        remove_broken_entry(repository, &output.stderr);
        sleep(pause);
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

fn has_branch(worktree: &Worktree) -> Result<bool, String> {
    super::repository::has_branch(Path::new(&worktree.repository), &worktree.branch).map_err(text)
}

/// Removes what an interrupted `git worktree add` has left, or the entry of a worktree whose folder
/// was deleted. Claude has not worked in it.
fn remove_incomplete(worktree: &Worktree) -> Result<(), String> {
    let repository = Path::new(&worktree.repository);
    let is_known = || entry_of(repository, &worktree.path).map_err(text);
    if is_known()?.is_some() {
        let args = ["worktree", "remove", "--force", "--force", &worktree.path];
        let mut command = git::git(repository);
        command.args(args);
        git::run(command, "remove the incomplete worktree", ADD_TIMEOUT).map_err(text)?;
    }
    // Git does not list or remove an entry that is too incomplete.
    let name = Path::new(&worktree.path).file_name().unwrap_or_default();
    let admin = repository.join("worktrees").join(name);
    let owner = fs::read_to_string(admin.join("gitdir")).unwrap_or_default();
    let is_own = owner.trim().is_empty() || owner.trim() == format!("{}/.git", worktree.path);
    if admin.is_dir() && is_own {
        remove_all(&admin)?;
    }
    let _ = fs::remove_dir(&worktree.path);
    Ok(())
}

fn remove_all(path: &PathBuf) -> Result<(), String> {
    fs::remove_dir_all(path)
        .map_err(|error| format!("could not remove {}: {error}", path.display()))
}
