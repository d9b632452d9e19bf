//! The state of a job's worktree for answers.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::git::query_within;
use super::include::unchanged_copies;
use super::unsaved_work::{CHANGES, split_changes};
use crate::job::{Worktree, WorktreeView};

/// Time limit for both questions to git: a caller waits for the answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Set when git did not answer in time: then this process asks no more, so that an answer on many
/// jobs does not wait for each of them.
static TOO_SLOW: AtomicBool = AtomicBool::new(false);

/// Returns a worktree with the numbers of its commits and of its uncommitted changes.
pub(crate) fn inspect(worktree: &Worktree) -> WorktreeView {
    let mut view = WorktreeView::new(worktree);
    let path = Path::new(&worktree.path);
    // Without it, git would look for a repository in the directories above.
    if !path.join(".git").is_file() {
        return view;
    }
    let until = Instant::now() + TIMEOUT;
    let range = format!("{}..HEAD", worktree.base);
    let commits = ask(path, &["rev-list", "--count", &range], until);
    let changes = ask(path, &CHANGES, until);
    if let (Some(commits), Some(changes)) = (commits, changes) {
        let changes = split_changes(&changes);
        let rest = until.saturating_duration_since(Instant::now());
        if let Ok(copies) = unchanged_copies(worktree, &changes, rest) {
            view.commits = String::from_utf8_lossy(&commits).trim().parse().ok();
            view.dirty = Some(changes.len() - copies.len());
        }
    }
    view
}

fn ask(path: &Path, args: &[&str], until: Instant) -> Option<Vec<u8>> {
    if TOO_SLOW.load(Relaxed) {
        return None;
    }
    let output = query_within(path, args, until.saturating_duration_since(Instant::now()));
    if Instant::now() >= until {
        TOO_SLOW.store(true, Relaxed);
    }
    let output = output.ok()?;
    if output.is_success { Some(output.stdout) } else { None }
}
