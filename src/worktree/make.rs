//! Making a worktree, also after a process was killed in the middle of it.

use std::io::{self, Write as _};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::exclude::exclude_worktrees;
use super::git::{self, GitOutput, Location, query};
use super::include::copy_included;
use super::repository::{WorktreeEntry, entry_of, is_empty_directory, remove_broken_entry};
use crate::error::WorktreeError;
use crate::fault_point::fault_point;
use crate::job::{JobId, Worktree};

/// Time limit for the checkout of a worktree. The job's own limits are usually shorter.
const ADD_TIMEOUT: Duration = Duration::from_secs(4 * 3600);
/// How long a lock of another git in the repository is awaited.
const LOCK_TIMEOUT: Duration = Duration::from_secs(20);
const MIN_PAUSE: Duration = Duration::from_millis(20);
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// Beginning of the reason for which a worktree is locked until it is complete.
pub(super) const MARK_START: &str = "claudejob prepares it for job ";

/// A worktree to make for a job.
pub(super) struct WorktreeDraft<'a> {
    pub worktree: &'a Worktree,
    /// Reason for which git locks the worktree until it is complete: it names this job. Only a
    /// worktree that is locked for this reason is removed to be made again.
    pub mark: String,
    /// It was completed for this job before: what is in it is kept.
    pub is_complete: bool,
}

impl WorktreeDraft<'_> {
    /// Makes the worktree unless it is there. `worker_in` returns the other job that works in it.
    pub(super) fn make(&self, worker_in: impl FnOnce(&str) -> Option<JobId>) -> Result<(), String> {
        let worktree = self.worktree;
        let repository = Path::new(&worktree.repository);
        let path = Path::new(&worktree.path);
        let entry = entry_of(repository, &worktree.path).map_err(text)?;
        let is_draft = entry.as_ref().is_some_and(|entry| self.is_draft(entry));
        if let Some(entry) = &entry
            && path.join(".git").exists()
            && !is_draft
        {
            if let Some(lock) = &entry.lock
                && lock.starts_with(MARK_START)
            {
                return Err(format!("the worktree {} is incomplete: {lock}", worktree.path));
            }
            let is_named = worktree.request.name.is_some() && entry.lock.is_none();
            let is_on_branch =
                entry.branch.as_deref() == Some(&format!("refs/heads/{}", worktree.branch));
            if self.has_content() || (is_named && is_on_branch) {
                return match worker_in(&worktree.path) {
                    Some(job) => Err(format!("job {job} works in the worktree {}", worktree.path)),
                    None => Ok(()),
                };
            }
            return Err(format!("another worktree was made in {}", worktree.path));
        }
        let has_files = path.exists() && !is_empty_directory(&worktree.path);
        if has_files && !is_draft {
            return Err(format!("{} is not a worktree of {}", worktree.path, worktree.repository));
        }
        let begins_with = first_commit(worktree, self.has_content())?;
        exclude_worktrees(worktree).map_err(|error| {
            format!("could not write info/exclude in {}: {error}", worktree.repository)
        })?;
        fault_point("prepare:adding");
        self.add(&begins_with)?;
        fault_point("prepare:added");
        copy_included(worktree)
    }

    /// Unlocks the worktree, which is recorded as complete.
    pub(super) fn finish(&self) -> Result<(), String> {
        let repository = Path::new(&self.worktree.repository);
        let entry = entry_of(repository, &self.worktree.path).map_err(text)?;
        if !entry.is_some_and(|entry| self.is_draft(&entry)) {
            return Ok(());
        }
        let output = change(repository, &["unlock", &self.worktree.path])?;
        if output.is_success { Ok(()) } else { Err(output.message) }
    }

    fn has_content(&self) -> bool {
        self.is_complete || self.worktree.existed
    }

    /// Returns whether the worktree was begun for this job, and not completed. Claude works only in
    /// one that was unlocked.
    fn is_draft(&self, entry: &WorktreeEntry) -> bool {
        entry.lock.as_deref() == Some(&self.mark)
    }

    /// Runs `git worktree add`, and again while another git has locked what it needs.
    fn add(&self, from: &FirstCommit) -> Result<(), String> {
        let worktree = self.worktree;
        let repository = Path::new(&worktree.repository);
        let until = Instant::now() + LOCK_TIMEOUT;
        let mut pause = MIN_PAUSE;
        loop {
            self.remove_incomplete()?;
            let mut command = git::git(Location::Repository(repository));
            command.args(["worktree", "add", "--lock", "--reason", &self.mark]);
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
                return Err(match output.complaint() {
                    why if why.is_empty() => "git could not make the worktree, without a message: \
                                              perhaps a hook failed"
                        .to_owned(),
                    why => format!("git could not make the worktree: {why}"),
                });
            }
            remove_broken_entry(repository, &output.stderr);
            sleep(pause);
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Removes what an interrupted `git worktree add` for this job has left, or the entry of a
    /// worktree whose folder was deleted.
    fn remove_incomplete(&self) -> Result<(), String> {
        let path = &self.worktree.path;
        let repository = Path::new(&self.worktree.repository);
        let Some(entry) = entry_of(repository, path).map_err(text)? else { return Ok(()) };
        let is_draft = self.is_draft(&entry);
        if !is_draft && Path::new(path).join(".git").exists() {
            return Err(format!("another worktree was made in {path}"));
        }
        if !is_draft && let Some(lock) = &entry.lock {
            return Err(format!("the worktree {path} is gone, but locked: {lock}"));
        }
        // `git worktree add` fails as long as git has an entry for the path.
        change(repository, &["remove", "--force", "--force", path])?;
        Ok(())
    }
}

/// Runs a command of `git worktree`, and again while another git changes the repository.
fn change(repository: &Path, args: &[&str]) -> Result<GitOutput, String> {
    let until = Instant::now() + LOCK_TIMEOUT;
    loop {
        let mut command = git::git(Location::Repository(repository));
        command.arg("worktree").args(args);
        let output = git::run(command, "change a worktree", ADD_TIMEOUT).map_err(text)?;
        if output.is_success || !output.is_conflict() || Instant::now() >= until {
            return Ok(output);
        }
        remove_broken_entry(repository, &output.stderr);
        sleep(MIN_PAUSE);
    }
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
    let args = ["rev-parse", "--verify", "--quiet", &name];
    let answer = query(Location::Repository(repository), &args).map_err(text)?;
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

fn has_branch(worktree: &Worktree) -> Result<bool, String> {
    super::repository::has_branch(Path::new(&worktree.repository), &worktree.branch).map_err(text)
}
