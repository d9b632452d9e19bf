//! Work in a worktree that its removal would lose.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::git::{Location, ask};
use crate::text::plural;

/// Arguments of git for the changed and untracked files.
pub(super) const CHANGES: [&str; 8] = [
    // A program that watches the files may be wrong.
    "-c",
    "core.fsmonitor=false",
    "status",
    "--porcelain",
    "-z",
    "--untracked-files=all",
    "--ignore-submodules=none",
    "--no-renames",
];

/// Returns the changed and untracked files, each with its state in two letters.
pub(super) fn changes(path: &Path) -> Result<Vec<Vec<u8>>, String> {
    Ok(split_changes(&ask(path, &CHANGES)?))
}

/// Splits git's answer to [`CHANGES`].
pub(super) fn split_changes(output: &[u8]) -> Vec<Vec<u8>> {
    let files = output.split(|byte| *byte == 0).filter(|file| !file.is_empty());
    files.map(<[u8]>::to_vec).collect()
}

/// Refuses a worktree with work that `git status` does not show.
pub(super) fn check(path: &Path) -> Result<(), String> {
    check_hidden_files(path)?;
    check_own_refs(path)?;
    check_ignored_repositories(path)
}

/// Refuses a worktree with refs that are removed with it, such as `refs/worktree/x`.
fn check_own_refs(path: &Path) -> Result<(), String> {
    let own = ["refs/worktree", "refs/bisect", "refs/rewritten"];
    let found = ask(path, &[&["for-each-ref", "--format=%(refname)"], &own[..]].concat())?;
    match String::from_utf8_lossy(&found).lines().next() {
        Some(name) => Err(format!("its worktree has a ref of its own, {name}")),
        None => Ok(()),
    }
}

/// Refuses a worktree whose HEAD was detached when commits were made, if no ref has them: only its
/// reflog does, which is removed with it. Other commits in that were replaced on purpose.
pub(super) fn check_detached(repository: Location<'_>, own_dir: &Path) -> Result<(), String> {
    let Ok(reflog) = fs::read(own_dir.join("logs/HEAD")) else { return Ok(()) };
    let mut left: BTreeSet<String> = BTreeSet::new();
    for line in reflog.split(|byte| *byte == b'\n') {
        left.extend(detached_head(&String::from_utf8_lossy(line)));
    }
    if left.is_empty() {
        return Ok(());
    }
    let mut args = vec!["rev-list", "--ignore-missing"];
    args.extend(left.iter().map(String::as_str));
    args.extend(["--not", "--all", "--"]);
    let lost = ask(repository, &args)?;
    let lost = String::from_utf8_lossy(&lost);
    let Some(last) = lost.lines().next() else { return Ok(()) };
    let count = plural(lost.lines().count(), "commit");
    Err(format!("no branch has {count} of its worktree, which git branch NAME {last:.10} keeps"))
}

/// Returns the commit of a detached HEAD that a checkout has left, by its line in the reflog.
fn detached_head(line: &str) -> Option<String> {
    let (_, message) = line.split_once('\t')?;
    let (from, _) = message.strip_prefix("checkout: moving from ")?.split_once(" to ")?;
    let is_commit = matches!(from.len(), 40 | 64) && from.bytes().all(|c| c.is_ascii_hexdigit());
    if is_commit { Some(from.to_owned()) } else { None }
}

/// Refuses files that git does not look at: those whose changes it was told to ignore, and those in
/// the directory of a submodule that is not checked out.
fn check_hidden_files(path: &Path) -> Result<(), String> {
    let output = ask(path, &["ls-files", "-v", "--stage", "-z"])?;
    for entry in output.split(|byte| *byte == 0) {
        // Such as "H 100644 HASH 0\tNAME".
        let Some(tab) = memchr::memchr(b'\t', entry) else { continue };
        let (tag, name) = (entry[0], &entry[tab + 1..]);
        let file = path.join(OsStr::from_bytes(name));
        let name = String::from_utf8_lossy(name);
        // Lower case: assume-unchanged. S: skip-worktree; a sparse checkout has no such file.
        if tag.is_ascii_lowercase() || tag == b'S' && file.symlink_metadata().is_ok() {
            return Err(format!("git ignores changes of {name} in its worktree"));
        }
        if entry[1..].starts_with(b" 160000 ")
            && !file.join(".git").exists()
            && fs::read_dir(&file).is_ok_and(|mut files| files.next().is_some())
        {
            return Err(format!("git ignores the files in {name}, an empty submodule"));
        }
    }
    Ok(())
}

/// Refuses repositories in ignored folders that have work which is nowhere else.
fn check_ignored_repositories(path: &Path) -> Result<(), String> {
    let args = ["ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "-z"];
    for name in ask(path, &args)?.split(|byte| *byte == 0) {
        if name.ends_with(b"/") {
            check_repositories_below(&path.join(OsStr::from_bytes(name)))?;
        }
    }
    Ok(())
}

fn check_repositories_below(folder: &Path) -> Result<(), String> {
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        // What cannot be read is not deleted either.
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            if entry.file_name() == ".git" {
                check_repository(&folder)?;
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
            }
        }
    }
    Ok(())
}

/// Refuses a repository with changes, or with commits that it has from nowhere else.
fn check_repository(path: &Path) -> Result<(), String> {
    let git_dir = path.join(".git");
    if git_dir.is_dir() && !git_dir.join("HEAD").exists() {
        // It only has the name of a repository.
        return Ok(());
    }
    let shown = path.display();
    if !changes(path)?.is_empty() {
        return Err(format!("the repository {shown}, which git ignores, has uncommitted changes"));
    }
    // The branches of another worktree or of a submodule are not in it.
    if git_dir.is_dir() {
        let args = [
            "rev-list",
            // There may be no commit yet.
            "--ignore-missing",
            "--max-count=1",
            "--branches",
            "refs/stash",
            "HEAD",
            "--not",
            "--remotes",
            "--tags",
            "--",
        ];
        if ask(Location::Repository(&git_dir), &args)?.is_empty() {
            return Ok(());
        }
        return Err(format!("the repository {shown}, which git ignores, has commits of its own"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_detached_heads_in_the_reflog() {
        let hash = "0123456789abcdef0123456789abcdef01234567";
        let line = |message: &str| format!("{hash} {hash} x <x@x> 1 +0000\t{message}");
        let moved =
            |from: &str| detached_head(&line(&format!("checkout: moving from {from} to x")));
        assert_eq!(moved(hash).as_deref(), Some(hash));
        assert_eq!(moved("main"), None);
        assert_eq!(detached_head(&line("commit: checkout: moving from")), None);
        assert_eq!(detached_head(""), None);
    }
}
