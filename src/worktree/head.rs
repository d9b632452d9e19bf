//! The commit that is checked out in a directory, read from git's files: a start that needs no
//! worktree usually runs no git.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::git::query;

/// Largest part of a small file of git that is read.
const MAX_FILE_BYTES: u64 = 4 << 10;
/// Largest part of the file of packed refs that is read.
const MAX_REFS_BYTES: u64 = 32 << 20;

/// What HEAD has in a repository whose refs are in a table that only git reads.
const REFTABLE_HEAD: &str = "refs/heads/.invalid";

/// Returns the commit that is checked out in the working tree of this directory; `None` if there is
/// none.
pub(crate) fn head_commit(dir: &Path) -> Option<String> {
    let dir = fs::canonicalize(dir).ok()?;
    let own = dir.ancestors().find_map(git_dir)?;
    let head = first_line(&own.join("HEAD"))?;
    let Some(name) = head.strip_prefix("ref: ") else { return commit(&head) };
    if name == REFTABLE_HEAD {
        let answer = query(dir.as_path(), &["rev-parse", "--verify", "--quiet", "HEAD"]).ok()?;
        return commit(&answer.text().ok()?);
    }
    if !name.starts_with("refs/") || name.split('/').any(|part| part == "..") {
        return None;
    }
    let common = match first_line(&own.join("commondir")) {
        Some(path) => own.join(path),
        None => own.clone(),
    };
    if let Some(found) = first_line(&common.join(name)) {
        return commit(&found);
    }
    packed_ref(&common, name)
}

/// Returns the git directory of a working tree; `None` if this is not the top of one.
fn git_dir(top: &Path) -> Option<PathBuf> {
    let path = top.join(".git");
    if path.is_dir() {
        return Some(path);
    }
    let line = first_line(&path)?;
    Some(top.join(line.strip_prefix("gitdir: ")?))
}

fn first_line(path: &Path) -> Option<String> {
    // A FIFO would be waited for.
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_FILE_BYTES).read_to_string(&mut text).ok()?;
    Some(text.lines().next()?.to_owned())
}

/// Returns the text if it is the name of a commit, by SHA-1 or SHA-256.
fn commit(text: &str) -> Option<String> {
    let is_hash = matches!(text.len(), 40 | 64) && text.bytes().all(|c| c.is_ascii_hexdigit());
    if is_hash { Some(text.to_owned()) } else { None }
}

fn packed_ref(common: &Path, name: &str) -> Option<String> {
    let file = File::open(common.join("packed-refs")).ok()?;
    for line in BufReader::new(file.take(MAX_REFS_BYTES)).lines() {
        let line = line.ok()?;
        if let Some((hash, found)) = line.split_once(' ')
            && found == name
        {
            return commit(hash);
        }
    }
    None
}
