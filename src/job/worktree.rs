//! The git worktree of a job: the request for it, its place and its branch.

use serde::{Deserialize, Serialize};

use super::JobId;

/// Namespace of the branches of jobs.
pub(crate) const BRANCH_PREFIX: &str = "claudejob";

/// Number of digits of a commit in texts.
const SHORT_COMMIT: usize = 10;

/// Exit status with which the preparation of a job's directory fails. Claude does not use it.
pub(crate) const PREPARATION_FAILED: u8 = 113;

/// A git worktree in which a job works. The job's start decides where it is; the worker makes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Worktree {
    /// The options that asked for it.
    pub request: WorktreeRequest,
    /// The directory of the caller, in its own working tree.
    pub source_dir: String,
    /// Absolute path of the git directory that all worktrees of the repository share; empty until the
    /// start has found it.
    pub repository: String,
    /// Absolute path of the main working tree; `None` for a bare repository.
    pub main_dir: Option<String>,
    /// Absolute path of the worktree.
    pub path: String,
    /// Its branch, without `refs/heads/`.
    pub branch: String,
    /// The commit at which the branch begins.
    pub base: String,
    /// Full name of the ref that named this commit, such as `refs/heads/main`; `None` if none did.
    pub base_ref: Option<String>,
    /// It was there before the job was started (`--worktree=NAME`).
    pub existed: bool,
}

/// The options of `start` on a worktree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct WorktreeRequest {
    /// `--worktree=NAME`; `None` for the job's id.
    pub name: Option<String>,
    /// `--worktree-dir`, an absolute path.
    pub dir: Option<String>,
    /// `--worktree-base`; `None` for `HEAD`.
    pub base: Option<String>,
}

impl Worktree {
    /// Returns a worktree whose place the start has to decide.
    pub(crate) fn requested(request: WorktreeRequest) -> Self {
        Self { request, ..Self::default() }
    }

    /// Returns the name in its path and its branch.
    pub(crate) fn name<'a>(&'a self, id: &'a JobId) -> &'a str {
        self.request.name.as_deref().unwrap_or(id.as_str())
    }
}

/// A job's worktree as answers show it.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct WorktreeView {
    /// Absolute path of the worktree.
    pub path: String,
    /// Its branch.
    pub branch: String,
    /// The commit at which the branch began.
    pub base: String,
    /// Full name of the ref that named this commit, such as `refs/heads/main`; null if none did.
    pub base_ref: Option<String>,
    /// Number of commits since the base; null if the worktree is not there or git does not answer.
    pub commits: Option<usize>,
    /// Number of changed and untracked files, without unchanged copies of `.worktreeinclude`; null as
    /// `commits`.
    pub dirty: Option<usize>,
}

impl WorktreeView {
    /// Returns the view of a worktree that was not inspected.
    pub(crate) fn new(worktree: &Worktree) -> Self {
        Self {
            path: worktree.path.clone(),
            branch: worktree.branch.clone(),
            base: worktree.base.clone(),
            base_ref: worktree.base_ref.clone(),
            commits: None,
            dirty: None,
        }
    }

    /// Returns the short name of the ref at which the branch began, or else the commit.
    pub(crate) fn base_name(&self) -> &str {
        match &self.base_ref {
            Some(name) => {
                let short = name.strip_prefix("refs/heads/");
                short.or(name.strip_prefix("refs/")).unwrap_or(name)
            }
            None => &self.base[..self.base.len().min(SHORT_COMMIT)],
        }
    }
}

/// A file that a job has changed.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChangedFile {
    /// Path of the file from the top of the working tree.
    pub path: String,
    /// Its path before it was renamed; null if it was not.
    pub old_path: Option<String>,
    /// Number of added lines; null for a binary file.
    pub added: Option<u64>,
    /// Number of deleted lines; null for a binary file.
    pub deleted: Option<u64>,
}

/// Returns a name as a part of a branch's name. A name that is not valid there is changed and gets
/// a short hash, so that no other name becomes the same.
pub(crate) fn branch_part(name: &str) -> String {
    if is_valid_part(name) {
        return name.to_owned();
    }
    let mut part = String::new();
    for c in name.chars() {
        let follows_dot = part.ends_with('.');
        match c {
            '.' if follows_dot => {}
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => part.push(c),
            _ => part.push('-'),
        }
    }
    let stem = part.trim_matches('.');
    let stem = stem.strip_suffix(".lock").unwrap_or(stem);
    format!("{stem}-{:08x}", short_hash(name))
}

/// Returns whether git accepts the text as a part of a branch's name, by the rules of
/// git-check-ref-format(1) for the characters of a job's id.
fn is_valid_part(text: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    text.chars().all(is_allowed)
        && !text.is_empty()
        && !text.starts_with('.')
        && !text.ends_with('.')
        && !text.ends_with(".lock")
        && !text.contains("..")
}

/// Returns the 32-bit FNV-1a hash, which is the same in every version.
pub(crate) fn short_hash(text: &str) -> u32 {
    let mut hash = 0x811c_9dc5_u32;
    for byte in text.bytes() {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_branches_are_valid_and_differ() {
        for (name, part) in [
            ("fix-login", "fix-login"),
            ("v1.2_x", "v1.2_x"),
            ("a.locks", "a.locks"),
            ("a..b", "a.b-91beab8e"),
            ("a...b", "a.b-428020a0"),
            ("a.", "a-01248e26"),
            ("a.lock", "a-57980fd1"),
            ("a.lock.", "a-e3612e6d"),
            ("0..", "0-6b80d907"),
        ] {
            assert_eq!(branch_part(name), part, "{name}");
            assert!(is_valid_part(&branch_part(name)), "{name}");
        }
    }
}
