//! Errors of a job's worktree.

use std::fmt;

use super::Error;
use crate::text::shell_quote;

errors! {
    /// Why a worktree cannot be made.
    WorktreeError;
    /// Git cannot be run.
    NoGit(why: String) => code "git_not_found", message("could not run git: {why}"),
        hint("git --version  # install git, or omit --worktree");
    /// The version of git lacks options that this program uses.
    GitTooOld(version: String, minimum: String) => code "git_too_old",
        message("git {version} is too old for a worktree: it must be {minimum} or later"),
        hint("git --version  # install a newer git, or omit --worktree");
    /// Git gave no answer, or an unexpected one.
    GitFailed(what: String, why: String) => code "git_failed",
        message("git could not {what}: {why}"),
        hint("git --version  # or omit --worktree");
    /// The directory is not in a working tree of git.
    NotARepository(dir: String, why: String) => code "not_a_repository",
        message("--worktree needs a git repository, and '{}' is in none: {why}",
            dir.escape_debug()),
        hint("git -C {} status  # or omit --worktree", shell_quote(dir));
    /// Git refuses the repository of another user.
    UnsafeRepository(dir: String, advice: String) => code "unsafe_repository",
        message("git does not use the repository of '{}', which belongs to another user",
            dir.escape_debug()),
        hint("{advice}  # if you trust it, or omit --worktree");
    /// The repository has no working tree below which worktrees could be.
    BareRepository(dir: String) => code "bare_repository",
        message("the repository '{}' is bare: its worktrees have no usual place",
            dir.escape_debug()),
        hint("claudejob start --help  # set the place of worktrees with --worktree-dir");
    /// The repository has no commit at which a branch could begin.
    NoCommit(dir: String) => code "no_commit",
        message("the repository of '{}' has no commit at which a branch could begin",
            dir.escape_debug()),
        hint("git -C {} commit --allow-empty -m 'Begin'  # or omit --worktree", shell_quote(dir));
    /// No commit has this name.
    UnknownBase(base: String, dir: String) => code "unknown_base",
        message("no commit named '{}' for --worktree-base", base.escape_debug()),
        hint("git -C {} branch --all  # shows the branches", shell_quote(dir));
    /// The working directory does not exist in the commit at which the branch begins.
    FolderNotInBase(folder: String, base: String) => code "folder_not_in_base",
        message("the folder '{}' does not exist in the commit {base}, at which the worktree begins",
            folder.escape_debug()),
        hint("commit it, or set --cwd to a folder that is in that commit");
    /// The branch of the job exists.
    BranchExists(branch: String, dir: String) => code "branch_exists",
        message("the branch '{branch}' already exists"),
        hint("git -C {} log {branch}  # use another id or --worktree=NAME", shell_quote(dir));
    /// Something is in the place of the worktree.
    PathExists(path: String, why: String) => code "worktree_exists",
        message("the worktree cannot be made in '{}': {why}", path.escape_debug()),
        hint("ls -la {}  # use another id, --worktree=NAME or --worktree-dir", shell_quote(path));
    /// A live job works in the worktree.
    InUse(path: String, job: String) => code "worktree_in_use",
        message("job {job} works in the worktree '{}'", path.escape_debug()),
        hint("claudejob wait {job}  # or use another --worktree=NAME");
    /// The worktree was deleted, and cannot be made again.
    Gone(id: String, why: String) => code "worktree_gone",
        message("the worktree of job {id} could not be made again: {why}"),
        hint("claudejob rerun {id}  # does its task again, in a new worktree");
    /// The changes of a job are not known.
    NoChanges(id: String, why: String) => code "no_diff",
        message("the changes of job {id} are not known: {why}"), hint("claudejob logs {id}");
    /// The path of the repository or of the worktree is not supported.
    BadPath(path: String, why: String) => code "bad_worktree_path",
        message("the path '{}' cannot be used for a worktree: {why}", path.escape_debug()),
        hint("set --cwd or --worktree-dir to another directory");
}

impl From<WorktreeError> for Error {
    fn from(error: WorktreeError) -> Self {
        Self::Worktree(error)
    }
}
