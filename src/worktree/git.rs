//! Running git.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::error::WorktreeError;
use crate::process;
use crate::text::{last_line, one_line};

/// The oldest supported version of git.
const MINIMUM: (u32, u32) = (2, 34);
/// Time limit for a question to git that a caller waits for.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Largest part of git's output that is read.
pub(super) const MAX_OUTPUT_BYTES: usize = 8 << 20;
/// Longest message of git in an error.
const MAX_MESSAGE_CHARS: usize = 300;
/// Number of lines in a complaint.
const MAX_COMPLAINT_LINES: usize = 5;

/// Variables by which git tells its hooks the repository. They would lead git, claude and the
/// setup command to another repository than that of their directory.
pub(crate) const REPOSITORY_VARIABLES: [&str; 12] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
];

/// Variables that change the meaning of the paths that git gets.
const PATH_VARIABLES: [&str; 4] =
    ["GIT_GLOB_PATHSPECS", "GIT_ICASE_PATHSPECS", "GIT_LITERAL_PATHSPECS", "GIT_NOGLOB_PATHSPECS"];

/// Where git is to work.
#[derive(Clone, Copy)]
pub(crate) enum Location<'a> {
    /// A directory, from which git finds the repository.
    Directory(&'a Path),
    /// A git directory that was found so before. Git does not check again whether it may be used:
    /// `safe.directory` names the working tree, and `safe.bareRepository` means others.
    Repository(&'a Path),
}

impl<'a> Location<'a> {
    pub(crate) fn path(self) -> &'a Path {
        match self {
            Self::Directory(path) | Self::Repository(path) => path,
        }
    }
}

impl<'a> From<&'a Path> for Location<'a> {
    fn from(path: &'a Path) -> Self {
        Self::Directory(path)
    }
}

/// What git has answered.
#[derive(Debug)]
pub(crate) struct GitOutput {
    pub stdout: Vec<u8>,
    /// The line of what it wrote to stderr that says why it failed.
    pub message: String,
    /// Everything that it wrote to stderr.
    pub stderr: String,
    pub is_success: bool,
}

impl GitOutput {
    /// Returns the output as a text without the end of its last line.
    pub(crate) fn text(&self) -> Result<String, WorktreeError> {
        match String::from_utf8(self.stdout.clone()) {
            Ok(text) => Ok(text.trim_end_matches('\n').to_owned()),
            Err(error) => {
                let text = String::from_utf8_lossy(error.as_bytes());
                Err(WorktreeError::BadPath(one_line(&text, 200), "it is not UTF-8".to_owned()))
            }
        }
    }
}

impl GitOutput {
    /// Returns whether the end of the output may be missing.
    pub(crate) fn is_cut(&self) -> bool {
        self.stdout.len() >= MAX_OUTPUT_BYTES
    }

    /// Returns the last lines of what git and its programs wrote to stderr: the last one alone may
    /// be about the end of a filter, whose own message says why it ended.
    pub(crate) fn complaint(&self) -> String {
        let mut lines = Vec::new();
        for line in self.stderr.lines() {
            let line = line.trim().trim_start_matches("fatal: ");
            if !line.is_empty() && !line.starts_with("Preparing worktree") {
                lines.push(line);
            }
        }
        let last = &lines[lines.len().saturating_sub(MAX_COMPLAINT_LINES)..];
        one_line(&last.join("; "), MAX_MESSAGE_CHARS)
    }

    /// Returns whether git failed because another git was changing the repository.
    pub(crate) fn is_conflict(&self) -> bool {
        let has = |text: &str| self.stderr.contains(text);
        let is_locked = (has("Unable to create") || has("cannot lock")) && has("File exists");
        // Git reads all entries of worktrees, also one that another git has just begun.
        let is_incomplete =
            has("worktrees/") && (has("No such file or directory") || has("commondir"));
        is_locked
            || is_incomplete
            || has("could not lock config file")
            || has("Another git process")
    }
}

/// Returns the command `git -C DIR`, which asks no questions and takes the repository from the
/// location alone.
pub(crate) fn git<'a>(location: impl Into<Location<'a>>) -> Command {
    let location = location.into();
    let mut command = Command::new("git");
    command.arg("-C").arg(location.path());
    if let Location::Repository(path) = location {
        command.arg("--git-dir").arg(path);
    }
    for name in REPOSITORY_VARIABLES.iter().chain(&PATH_VARIABLES) {
        command.env_remove(name);
    }
    // The messages in English, by which a lock of another git is recognized.
    command.env("GIT_TERMINAL_PROMPT", "0").env("LANGUAGE", "C");
    command
}

/// Asks git a question, which changes nothing, and waits at most for `timeout`.
pub(crate) fn query_within<'a>(
    location: impl Into<Location<'a>>,
    args: &[&str],
    timeout: Duration,
) -> Result<GitOutput, WorktreeError> {
    let mut command = git(location);
    command.env("GIT_OPTIONAL_LOCKS", "0").args(args);
    run(command, args.first().copied().unwrap_or_default(), timeout)
}

/// Asks git a question that a caller waits for.
pub(crate) fn query<'a>(
    location: impl Into<Location<'a>>,
    args: &[&str],
) -> Result<GitOutput, WorktreeError> {
    query_within(location, args, TIMEOUT)
}

/// Asks git a question whose failure means that the state is unknown.
pub(super) fn ask<'a>(location: impl Into<Location<'a>>, args: &[&str]) -> Result<Vec<u8>, String> {
    let location = location.into();
    let dir = location.path();
    let output = query(location, args).map_err(|error| error.to_string())?;
    if output.is_cut() {
        return Err(format!("git has too much to say about {}", dir.display()));
    }
    if output.is_success {
        return Ok(output.stdout);
    }
    Err(format!("git does not know the state of {}: {}", dir.display(), output.message))
}

/// Runs a command of git. `what`: its name in errors.
pub(crate) fn run(
    command: Command,
    what: &str,
    timeout: Duration,
) -> Result<GitOutput, WorktreeError> {
    let output = process::run_with_outputs(command, timeout, MAX_OUTPUT_BYTES)
        .map_err(|error| WorktreeError::NoGit(error.to_string()))?;
    let Some(exit) = output.exit else {
        let why = format!("it took longer than {}", humantime::format_duration(timeout));
        return Err(WorktreeError::GitFailed(what.to_owned(), why));
    };
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(GitOutput {
        stdout: output.stdout,
        message: one_line(cause(&stderr).trim_start_matches("fatal: "), MAX_MESSAGE_CHARS),
        stderr,
        is_success: exit.code == Some(0),
    })
}

/// Returns the line of git's complaint that says why it failed: the last one, except for a lock, about
/// which it ends with general advice.
fn cause(stderr: &str) -> &str {
    let is_lock = |line: &&str| line.contains("Unable to create '") && line.contains(".lock'");
    let lock = stderr.lines().find(is_lock);
    lock.map_or_else(|| last_line(stderr), |line| line.trim_start_matches("error: "))
}

/// Refuses a git that is too old.
pub(crate) fn check_version() -> Result<(), WorktreeError> {
    let output = query(Path::new("/"), &["--version"])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_whitespace().nth(2).unwrap_or_default();
    match parse_version(version) {
        Some(found) if found < MINIMUM => {
            let minimum = format!("{}.{}", MINIMUM.0, MINIMUM.1);
            Err(WorktreeError::GitTooOld(version.to_owned(), minimum))
        }
        _ => Ok(()),
    }
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_the_cause() {
        let locked = "error: cannot lock ref 'refs/heads/x': Unable to create '/r/x.lock': File exists.\n\n\
            Another git process seems to be running in this repository, e.g.\n\
            remove the file manually to continue.\n";
        let expected = "cannot lock ref 'refs/heads/x': Unable to create '/r/x.lock': File exists.";
        assert_eq!(cause(locked), expected);
        assert_eq!(cause("warning: x\nfatal: no\n"), "fatal: no");
        assert_eq!(cause(""), "");
    }

    #[test]
    fn reads_versions() {
        assert_eq!(parse_version("2.47.3"), Some((2, 47)));
        assert_eq!(parse_version("2.39.5.windows"), Some((2, 39)));
        assert_eq!(parse_version("unknown"), None);
        assert!(parse_version("2.9.0").unwrap() < MINIMUM);
    }
}
