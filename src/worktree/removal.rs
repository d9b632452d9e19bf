//! Removing the worktree of an ended job, if nothing is lost by that.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::git::{self, GitOutput, Location, ask, query};
use super::include::{copy_included, remove_copy, unchanged_copies};
use super::repository::{is_empty_directory, list, resolved};
use super::unsaved_work::{self, changes};
use crate::error::WorktreeError;
use crate::fault_point::fault_point;
use crate::job::{Worktree, WorktreeView};
use crate::process;
use crate::text::plural;

/// File in the git directory of a worktree whose removal has begun: its last commit and the attempt
/// of its job. Files that are missing then were deleted by the removal.
const MARK: &str = "claudejob-removal";
/// Time limit for the deletion of a worktree.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(600);
/// Time limit for the comparison of copied files.
const COMPARE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a git in the worktree is awaited.
const GIT_TIMEOUT: Duration = Duration::from_secs(2);
const GIT_INTERVAL: Duration = Duration::from_millis(20);
/// Files in the git directory of a worktree while git has begun something and not ended it.
const UNFINISHED: [(&str, &str); 7] = [
    ("MERGE_HEAD", "a merge"),
    ("CHERRY_PICK_HEAD", "a cherry-pick"),
    ("REVERT_HEAD", "a revert"),
    ("BISECT_LOG", "a bisection"),
    ("rebase-merge", "a rebase"),
    ("rebase-apply", "a rebase"),
    ("sequencer", "a cherry-pick or revert"),
];

/// The removal of a worktree with its branch, which was checked: nothing is lost by it.
pub(crate) struct Removal<'a> {
    worktree: &'a Worktree,
    /// The git directory of the worktree; `None` if git does not know the worktree.
    own_dir: Option<PathBuf>,
    /// The last commit of the branch; `None` if there is no branch.
    tip: Option<String>,
    /// Copies of files that are the same in the main working tree, which git does not ignore.
    copies: Vec<PathBuf>,
    /// An earlier removal was cut off, and has deleted some files.
    was_cut_off: bool,
    /// The preparation was cut off, and has left its lock.
    has_own_lock: bool,
    /// The reason for which the preparation of the job locks its worktree.
    own_lock: &'a str,
    mark: String,
}

impl<'a> Removal<'a> {
    /// Checks that the worktree and its branch can be removed. `attempt` names the job and its last
    /// attempt, `own_lock` is the reason for which its preparation locks the worktree. Fails with
    /// the reason why they must stay.
    pub(crate) fn check(
        worktree: &'a Worktree,
        attempt: &str,
        own_lock: &'a str,
    ) -> Result<Self, String> {
        let repository = Path::new(&worktree.repository);
        if !repository.is_dir() {
            return Err(format!("its repository {} is gone", worktree.repository));
        }
        let tip = branch_tip(worktree)?;
        let mark = format!("{} {attempt}", tip.as_deref().unwrap_or_default());
        let mut removal = Self {
            worktree,
            own_dir: None,
            tip,
            copies: Vec::new(),
            was_cut_off: false,
            has_own_lock: false,
            own_lock,
            mark,
        };
        if removal.is_listed()? {
            let own_dir = removal.find_own_dir()?;
            removal.has_own_lock = check_state(&own_dir, own_lock)?;
            if removal.tip.is_none() {
                return Err(format!("its branch {} is gone", worktree.branch));
            }
            unsaved_work::check_detached(Location::Repository(repository), &own_dir)?;
            removal.check_files(&own_dir)?;
            removal.own_dir = Some(own_dir);
        }
        if let Some(tip) = &removal.tip {
            check_merged(worktree, tip)?;
        }
        if let Some((pid, name)) = process_in(Path::new(&worktree.path)) {
            return Err(format!("process {pid} ({name}) works in its worktree"));
        }
        Ok(removal)
    }

    /// Returns whether git lists the worktree, on its branch. Fails if the list says that it must
    /// stay.
    fn is_listed(&self) -> Result<bool, String> {
        let path = Path::new(&self.worktree.path);
        let branch = format!("branch refs/heads/{}", self.worktree.branch);
        let mut own = None;
        for block in list(Path::new(&self.worktree.repository)).map_err(text)?.split("\n\n") {
            let mut lines = block.lines();
            let first = lines.next().and_then(|line| line.strip_prefix("worktree "));
            let Some(other) = first else { continue };
            let is_on_branch = lines.any(|line| line == branch);
            let resolved = resolved(Path::new(other));
            if resolved == path {
                own = Some(is_on_branch);
            } else if resolved.starts_with(path) {
                return Err(format!("the worktree {other} is in it"));
            } else if is_on_branch {
                return Err(format!(
                    "its branch {} is checked out in {other}",
                    self.worktree.branch
                ));
            }
        }
        match own {
            Some(true) => Ok(true),
            // What git is about to do, such as a rebase, is the better reason.
            Some(false) => {
                check_state(&self.find_own_dir()?, self.own_lock)?;
                Err(format!("it is not on its branch {}", self.worktree.branch))
            }
            None if !path.exists() || is_empty_directory(&self.worktree.path) => Ok(false),
            None => Err(format!(
                "{} is no worktree of {}",
                self.worktree.path, self.worktree.repository
            )),
        }
    }

    /// Returns the git directory of the worktree.
    fn find_own_dir(&self) -> Result<PathBuf, String> {
        let missing = || format!("git has no directory for {}", self.worktree.path);
        let all = Path::new(&self.worktree.repository).join("worktrees");
        let wanted = Path::new(&self.worktree.path).join(".git");
        for entry in fs::read_dir(all).map_err(|_| missing())?.flatten() {
            let dir = entry.path();
            let link = fs::read_to_string(dir.join("gitdir")).unwrap_or_default();
            // The link may be relative.
            if !link.is_empty() && resolved(&dir.join(link.trim_end())) == wanted {
                return Ok(dir);
            }
        }
        Err(missing())
    }

    /// Checks that the files of the worktree are those of its last commit.
    fn check_files(&mut self, own_dir: &Path) -> Result<(), String> {
        let path = Path::new(&self.worktree.path);
        let is_marked = fs::read(own_dir.join(MARK)).is_ok_and(|mark| mark == self.mark.as_bytes());
        let link = path.join(".git");
        if !link.exists() {
            if !path.exists() || is_empty_directory(&self.worktree.path) {
                return Ok(());
            }
            if !is_marked {
                return Err(format!("{} is missing", link.display()));
            }
            let text = format!("gitdir: {}\n", own_dir.display());
            fs::write(&link, text)
                .map_err(|error| format!("could not write {}: {error}", link.display()))?;
        }
        let changes = changes(path)?;
        self.copies =
            unchanged_copies(self.worktree, &changes, COMPARE_TIMEOUT).unwrap_or_default();
        let count = changes.len() - self.copies.len();
        let deleted = changes.iter().filter(|change| change.starts_with(b" D")).count();
        if is_marked && deleted == count {
            self.was_cut_off = deleted > 0;
        } else if count > 0 {
            let changes = plural(count, "uncommitted change");
            return Err(format!("its worktree {} has {changes}", path.display()));
        }
        unsaved_work::check(path)
    }

    /// Removes the worktree and then its branch. If the process dies in the middle, another removal
    /// continues.
    pub(crate) fn carry_out(self) -> Result<(), String> {
        let path = &self.worktree.path;
        match &self.own_dir {
            Some(own_dir) => self.remove_worktree(own_dir)?,
            None => {
                // Nothing else is there than an empty directory.
                let _ = fs::remove_dir(path);
            }
        }
        fault_point("clean:worktree-removed");
        let Some(tip) = &self.tip else { return Ok(()) };
        let name = format!("refs/heads/{}", self.worktree.branch);
        let deleted = self.git(&["update-ref", "-d", &name, tip])?;
        if !deleted.is_success {
            let branch = &self.worktree.branch;
            return Err(format!("git could not delete the branch {branch}: {}", deleted.message));
        }
        fault_point("clean:branch-removed");
        // There is a section only if the job has pushed the branch.
        let section = format!("branch.{}", self.worktree.branch);
        let _ = self.git(&["config", "--local", "--remove-section", &section]);
        Ok(())
    }

    fn remove_worktree(&self, own_dir: &Path) -> Result<(), String> {
        let path = &self.worktree.path;
        let mark = own_dir.join(MARK);
        fs::write(&mark, &self.mark)
            .map_err(|error| format!("could not write {}: {error}", mark.display()))?;
        fault_point("clean:marked");
        if self.has_own_lock {
            self.git(&["worktree", "unlock", path])?;
        }
        for name in &self.copies {
            // Git refuses a worktree with a copy that stays.
            let _ = remove_copy(self.worktree, name, COMPARE_TIMEOUT);
        }
        fault_point("clean:copies-removed");
        // Without --force, git checks again that nothing is lost.
        let removed = if self.was_cut_off {
            self.git(&["worktree", "remove", "--force", path])?
        } else {
            self.git(&["worktree", "remove", path])?
        };
        if removed.is_success {
            return Ok(());
        }
        if changes(Path::new(path)).is_ok_and(|changes| changes.is_empty()) {
            // Nothing was removed.
            let _ = fs::remove_file(&mark);
        }
        if !self.copies.is_empty() {
            let _ = copy_included(self.worktree);
        }
        Err(format!("git could not remove its worktree {path}: {}", removed.message))
    }

    fn git(&self, args: &[&str]) -> Result<GitOutput, String> {
        let mut command = git::git(Location::Repository(Path::new(&self.worktree.repository)));
        command.args(args);
        git::run(command, args[0], REMOVAL_TIMEOUT).map_err(text)
    }
}

/// Returns a process that works in the worktree. A git that another command asks about the worktree
/// soon ends.
fn process_in(path: &Path) -> Option<(i32, String)> {
    let until = Instant::now() + GIT_TIMEOUT;
    loop {
        let found = process::process_in(path);
        match &found {
            Some((_, name)) if name == "git" && Instant::now() < until => sleep(GIT_INTERVAL),
            _ => return found,
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn text(error: WorktreeError) -> String {
    error.to_string()
}

/// Returns the last commit of the branch; `None` if there is no branch.
fn branch_tip(worktree: &Worktree) -> Result<Option<String>, String> {
    let name = format!("refs/heads/{}", worktree.branch);
    let format = "--format=%(objectname) %(refname)";
    let repository = Location::Repository(Path::new(&worktree.repository));
    let found = ask(repository, &["for-each-ref", format, &name])?;
    let found = String::from_utf8_lossy(&found);
    for line in found.lines() {
        if let Some((tip, found)) = line.split_once(' ')
            && found == name
        {
            return Ok(Some(tip.to_owned()));
        }
    }
    Ok(None)
}

/// Refuses a worktree that is locked, or in which git has begun something. Returns whether its lock
/// is that of its preparation, which has ended by now.
fn check_state(own_dir: &Path, own_lock: &str) -> Result<bool, String> {
    let mut has_own_lock = false;
    match fs::read_to_string(own_dir.join("locked")) {
        Ok(why) if why.trim() == own_lock => has_own_lock = true,
        Ok(why) if why.trim().is_empty() => return Err("its worktree is locked".to_owned()),
        Ok(why) => return Err(format!("its worktree is locked: {}", why.trim())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(format!("its worktree may be locked: {error}")),
    }
    for (name, what) in UNFINISHED {
        if own_dir.join(name).exists() {
            return Err(format!("{what} is in progress in its worktree"));
        }
    }
    Ok(has_own_lock)
}

/// Checks that every commit of the branch is in the base, as that is now, or in its upstream.
fn check_merged(worktree: &Worktree, tip: &str) -> Result<(), String> {
    let repository = Location::Repository(Path::new(&worktree.repository));
    let own = format!("refs/heads/{}", worktree.branch);
    let mut args = vec!["rev-list", "--count", tip, "--not"];
    let mut names = Vec::new();
    // Every commit of the branch is in the branch itself: that says nothing.
    let base = worktree.base_ref.as_deref().filter(|base| *base != own);
    let exclude = format!("--exclude={own}");
    if let Some(base) = base {
        let format = "--format=%(refname)%00%(upstream)";
        let found = ask(repository, &["for-each-ref", format, base])?;
        let found = String::from_utf8_lossy(&found).into_owned();
        for line in found.lines() {
            if let Some((name, upstream)) = line.split_once('\0')
                && name == base
            {
                names.push(name.to_owned());
                names.push(upstream.to_owned());
            }
        }
        // An upstream that is configured may not exist.
        names.retain(|name| !name.is_empty() && *name != own && exists(repository, name));
        if names.is_empty() {
            return Err(format!("the base of its branch {}, {base}, is gone", worktree.branch));
        }
        args.extend(names.iter().map(String::as_str));
    } else {
        // The HEAD of its own worktree is not to count.
        args.splice(1..1, ["--single-worktree"]);
        args.extend([exclude.as_str(), "--all"]);
    }
    // Files in the git directory have the names of refs.
    args.push("--");
    let count = ask(repository, &args)?;
    let count = String::from_utf8_lossy(&count).trim().parse::<usize>();
    match count {
        Ok(0) => Ok(()),
        Ok(count) => {
            let commits = plural(count, "commit");
            let view = WorktreeView::new(worktree);
            let base = if base.is_some() { view.base_name() } else { "every other branch" };
            Err(format!("{base} lacks {commits} of its branch {}", worktree.branch))
        }
        Err(_) => Err("git has not counted its commits".to_owned()),
    }
}

fn exists(repository: Location<'_>, name: &str) -> bool {
    query(repository, &["rev-parse", "--verify", "--quiet", name])
        .is_ok_and(|answer| answer.is_success)
}
