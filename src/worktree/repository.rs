//! The repository of a new job: where its worktree will be. Nothing is written here.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::git::{GitOutput, Location, check_version, query};
use crate::error::{Error, WorktreeError};
use crate::job::{BRANCH_PREFIX, JobId, Worktree, WorktreeRequest, branch_part};
use crate::text::plural;

/// Directory of the worktrees, in the main working tree.
pub(super) const WORKTREES_DIR: &str = ".claude/worktrees";
/// How long an incomplete entry in the list of worktrees is awaited.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);
const LIST_INTERVAL: Duration = Duration::from_millis(20);
/// Time in which a git that runs completes such an entry: it takes microseconds.
const MAX_ENTRY_TIME: Duration = Duration::from_secs(5);
/// Number of digits of a commit in texts.
const SHORT_COMMIT: usize = 10;

/// The repository in which a worktree is made, and what the new worktree has whatever its name is.
#[derive(Debug)]
pub(crate) struct Repository {
    worktree: Worktree,
    /// The directory of the worktrees.
    parent: PathBuf,
    /// The caller's directory, as a path from the top of its working tree; empty for the top.
    folder: String,
    /// Full names of the branches of jobs, and of one named as their namespace. They are read once for
    /// all jobs of a file; the preparation of a job refuses a branch that was made later.
    branches: OnceCell<BTreeSet<String>>,
}

impl Repository {
    /// Finds the repository of the directory `cwd` and the commit at which the branch begins.
    pub(crate) fn find(request: WorktreeRequest, cwd: &str) -> Result<Self, Error> {
        let caller = checked(fs::canonicalize(cwd).unwrap_or_else(|_| PathBuf::from(cwd)))?;
        let dir = Path::new(&caller);
        let place = Place::find(dir)?;
        let (base, base_ref) = commit(dir, &caller, request.base.as_deref())?;
        if !place.folder.is_empty() && !has_folder(dir, &base, &place.folder)? {
            let short = base[..base.len().min(SHORT_COMMIT)].to_owned();
            return Err(WorktreeError::FolderNotInBase(place.folder, short).into());
        }
        let parent = match (&request.dir, &place.main_dir) {
            (Some(dir), _) => resolved(Path::new(dir)),
            (None, Some(main)) => resolved(&Path::new(main).join(WORKTREES_DIR)),
            (None, None) => return Err(WorktreeError::BareRepository(place.repository).into()),
        };
        let worktree = Worktree {
            request,
            source_dir: caller,
            repository: place.repository,
            main_dir: place.main_dir,
            base,
            base_ref,
            ..Worktree::default()
        };
        Ok(Self { worktree, parent, folder: place.folder, branches: OnceCell::new() })
    }

    fn has_branch_of_job(&self, branch: &str) -> Result<bool, WorktreeError> {
        let name = format!("refs/heads/{branch}");
        if let Some(branches) = self.branches.get() {
            return Ok(branches.contains(&name));
        }
        let branches = branches_of_jobs(Path::new(&self.worktree.repository))?;
        Ok(self.branches.get_or_init(|| branches).contains(&name))
    }

    /// Decides path and branch for a job and checks that neither is in use. Returns the worktree and
    /// the directory in it in which the job works. `worker_in` returns the live job that works in a
    /// worktree, of those that the new job does not wait for; `awaited_in` one that it waits for.
    pub(crate) fn place(
        &self,
        id: &JobId,
        worker_in: impl Fn(&str) -> Option<JobId>,
        awaited_in: impl Fn(&str) -> Option<JobId>,
    ) -> Result<(Worktree, String), Error> {
        let name = self.worktree.name(id);
        let path = checked(self.parent.join(name))?;
        let repository = Path::new(&self.worktree.repository);
        let branch = if self.has_branch_of_job(BRANCH_PREFIX)? {
            // No ref can be below a branch of this name.
            format!("{BRANCH_PREFIX}-{}", branch_part(name))
        } else {
            format!("{BRANCH_PREFIX}/{}", branch_part(name))
        };
        let is_named = self.worktree.request.name.is_some();
        if is_named && let Some(job) = worker_in(&path) {
            return Err(WorktreeError::InUse(path, job.to_string()).into());
        }
        // The awaited job may be making the worktree at this moment.
        let is_awaited = is_named && awaited_in(&path).is_some();
        let existed = is_named && Path::new(&path).is_dir() && {
            let on = branch_of(repository, &path)?;
            on.is_some_and(|on| on == format!("refs/heads/{branch}"))
        };
        if !existed && !is_awaited {
            check_free(&path)?;
            if self.has_branch_of_job(&branch)? {
                let dir = self.worktree.source_dir.clone();
                return Err(WorktreeError::BranchExists(branch, dir).into());
            }
        }
        let cwd = match self.folder.as_str() {
            "" => path.clone(),
            folder => format!("{path}/{folder}"),
        };
        Ok((Worktree { path, branch, existed, ..self.worktree.clone() }, cwd))
    }

    /// Returns what the new worktree does not contain.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let dir = Path::new(&self.worktree.source_dir);
        let base = &self.worktree.base;
        let args = ["status", "--porcelain", "-z", "--no-renames"];
        if self.worktree.main_dir.is_some()
            && let Ok(status) = query(dir, &args)
            && status.is_success
        {
            let changes = memchr::memchr_iter(0, &status.stdout).count();
            if changes > 0 {
                let short = &base[..base.len().min(SHORT_COMMIT)];
                let changes = plural(changes, "uncommitted change");
                warnings.push(format!(
                    "{changes} of {} not in the worktree, which begins at commit {short}",
                    self.worktree.source_dir
                ));
            }
        }
        let modules = format!("{base}:.gitmodules");
        if query(dir, &["cat-file", "-e", &modules]).is_ok_and(|output| output.is_success) {
            warnings.push(
                "the submodules are empty in the worktree: fill them with \
                 --setup 'git submodule update --init'"
                    .to_owned(),
            );
        }
        warnings
    }
}

/// The place of a directory in its repository.
struct Place {
    repository: String,
    main_dir: Option<String>,
    folder: String,
}

impl Place {
    fn find(dir: &Path) -> Result<Self, WorktreeError> {
        let shown = || dir.display().to_string();
        let args = [
            "rev-parse",
            "--is-inside-work-tree",
            "--is-bare-repository",
            "--git-dir",
            "--git-common-dir",
        ];
        let answer = query(dir, &args)?;
        if !answer.is_success {
            check_version()?;
            return Err(refusal(shown(), answer));
        }
        let text = answer.text()?;
        let lines: Vec<&str> = text.lines().collect();
        let [inside, bare, own, common] = lines.as_slice() else {
            let why = "its git directory has a line break".to_owned();
            return Err(WorktreeError::BadPath(shown(), why));
        };
        check_version()?;
        let own = resolved(&dir.join(own));
        let repository = checked(resolved(&dir.join(common)))?;
        if *inside != "true" {
            if *bare == "true" {
                return Ok(Self { repository, main_dir: None, folder: String::new() });
            }
            let why = "it is inside the git directory".to_owned();
            return Err(WorktreeError::NotARepository(shown(), why));
        }
        let answer = query(dir, &["rev-parse", "--show-toplevel", "--show-prefix"])?.text()?;
        let mut lines = answer.lines();
        let top = lines.next().unwrap_or_default();
        let folder = lines.next().unwrap_or_default().trim_end_matches('/').to_owned();
        let main_dir = if own == Path::new(&repository) {
            Some(checked(resolved(Path::new(top)))?)
        } else {
            main_dir(Path::new(&repository))?
        };
        Ok(Self { repository, main_dir, folder })
    }
}

/// Returns why git finds no repository in a directory.
fn refusal(dir: String, answer: GitOutput) -> WorktreeError {
    const ADVICE: &str = "git config --global --add safe.directory ";
    match answer.stderr.lines().find_map(|line| line.trim().strip_prefix(ADVICE)) {
        Some(path) => WorktreeError::UnsafeRepository(dir, format!("{ADVICE}{path}")),
        None => WorktreeError::NotARepository(dir, answer.message),
    }
}

/// Returns the main working tree of a repository by its git directory; `None` if it has none.
fn main_dir(repository: &Path) -> Result<Option<String>, WorktreeError> {
    let git_dir = Location::Repository(repository);
    if query(git_dir, &["rev-parse", "--is-bare-repository"])?.stdout.starts_with(b"true") {
        return Ok(None);
    }
    if repository.file_name().is_some_and(|name| name == ".git")
        && let Some(parent) = repository.parent()
    {
        return Ok(Some(checked(parent.to_owned())?));
    }
    // That of a submodule is somewhere else, and its configuration names it.
    let answer = query(git_dir, &["config", "--get", "core.worktree"])?;
    let path = answer.text()?;
    if !answer.is_success || path.is_empty() {
        return Ok(None);
    }
    Ok(Some(checked(resolved(&repository.join(path)))?))
}

/// Returns the commit at which the branch begins, and the full name of the ref that names it.
fn commit(
    dir: &Path,
    caller: &str,
    base: Option<&str>,
) -> Result<(String, Option<String>), WorktreeError> {
    let name = base.unwrap_or("HEAD");
    let unknown = || WorktreeError::UnknownBase(name.to_owned(), caller.to_owned());
    if name.is_empty() || name.starts_with('-') {
        return Err(unknown());
    }
    let wanted = format!("{name}^{{commit}}");
    let answer = query(dir, &["rev-parse", "--verify", "--quiet", &wanted])?;
    if !answer.is_success {
        let head = query(dir, &["rev-parse", "--verify", "--quiet", "HEAD"])?;
        if name == "HEAD" && !head.is_success {
            return Err(WorktreeError::NoCommit(caller.to_owned()));
        }
        return Err(unknown());
    }
    let commit = answer.text()?;
    let full = query(dir, &["rev-parse", "--symbolic-full-name", name])?.text()?;
    let base_ref = if full.starts_with("refs/") { Some(full) } else { None };
    Ok((commit, base_ref))
}

fn has_folder(dir: &Path, commit: &str, folder: &str) -> Result<bool, WorktreeError> {
    let object = format!("{commit}:{folder}");
    Ok(query(dir, &["cat-file", "-t", &object])?.stdout.starts_with(b"tree"))
}

pub(super) fn has_branch(repository: &Path, branch: &str) -> Result<bool, WorktreeError> {
    let name = format!("refs/heads/{branch}");
    let args = ["show-ref", "--verify", "--quiet", &name];
    Ok(query(Location::Repository(repository), &args)?.is_success)
}

/// Returns the full names of the branches that jobs can have, and of one named as their namespace.
fn branches_of_jobs(repository: &Path) -> Result<BTreeSet<String>, WorktreeError> {
    let namespace = format!("refs/heads/{BRANCH_PREFIX}");
    let args = ["for-each-ref", "--format=%(refname)", &namespace, &format!("{namespace}-*")];
    let answer = query(Location::Repository(repository), &args)?;
    if !answer.is_success {
        return Err(WorktreeError::GitFailed("list the branches".to_owned(), answer.message));
    }
    let names = String::from_utf8_lossy(&answer.stdout);
    Ok(names.lines().map(str::to_owned).collect())
}

/// Returns the full name of the branch of a worktree. `None` if this path is not one of the
/// repository's worktrees, or has no branch.
pub(super) fn branch_of(repository: &Path, path: &str) -> Result<Option<String>, WorktreeError> {
    Ok(entry_of(repository, path)?.and_then(|entry| entry.branch))
}

/// An entry in git's list of worktrees.
#[derive(Debug, Default)]
pub(super) struct WorktreeEntry {
    /// Full name of its branch; `None` if its HEAD is detached.
    pub branch: Option<String>,
    /// Why it is locked; empty for no reason, `None` if it is not locked.
    pub lock: Option<String>,
}

/// Returns the entry of this path in the repository's list of worktrees.
pub(super) fn entry_of(
    repository: &Path,
    path: &str,
) -> Result<Option<WorktreeEntry>, WorktreeError> {
    let list = list(repository)?;
    for block in list.split("\n\n") {
        let mut entry = WorktreeEntry::default();
        let mut is_wanted = false;
        for line in block.lines() {
            match line.split_once(' ') {
                Some(("worktree", of)) => {
                    is_wanted = of == path || resolved(Path::new(of)) == Path::new(path);
                }
                None if line == "locked" => entry.lock = Some(String::new()),
                Some(("locked", why)) => entry.lock = Some(why.to_owned()),
                Some(("branch", branch)) => entry.branch = Some(branch.to_owned()),
                _ => {}
            }
        }
        if is_wanted {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

/// Returns git's list of worktrees. Git fails while another git is making one of them.
pub(super) fn list(repository: &Path) -> Result<String, WorktreeError> {
    let until = Instant::now() + LIST_TIMEOUT;
    loop {
        let list = query(Location::Repository(repository), &["worktree", "list", "--porcelain"])?;
        if list.is_success {
            return Ok(String::from_utf8_lossy(&list.stdout).into_owned());
        }
        if !list.is_conflict() || Instant::now() >= until {
            return Err(WorktreeError::GitFailed("list the worktrees".to_owned(), list.message));
        }
        remove_broken_entry(repository, &list.stderr);
        sleep(LIST_INTERVAL);
    }
}

/// Removes the entry of a worktree that git could not read for some time: a git that was killed has
/// left it, and no git can list or make worktrees as long as it is there.
pub(super) fn remove_broken_entry(repository: &Path, stderr: &str) {
    let Some((_, rest)) = stderr.split_once("worktrees/") else { return };
    let Some((name, _)) = rest.split_once("/commondir") else { return };
    let entry = repository.join("worktrees").join(name);
    let age = entry.metadata().and_then(|entry| entry.modified()).map(|at| at.elapsed());
    let is_old = matches!(age, Ok(Ok(age)) if age > MAX_ENTRY_TIME);
    let is_empty = fs::read(entry.join("commondir")).is_ok_and(|text| text.is_empty());
    if !name.contains('/') && is_old && is_empty {
        let _ = fs::remove_dir_all(entry);
    }
}

/// Refuses a path where something is, except for an empty directory.
fn check_free(path: &str) -> Result<(), WorktreeError> {
    let taken = |why: &str| Err(WorktreeError::PathExists(path.to_owned(), why.to_owned()));
    match fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        Ok(metadata) if !metadata.is_dir() => taken("it is not a directory"),
        Ok(_) if is_empty_directory(path) => Ok(()),
        Ok(_) => taken("it exists and is not empty"),
    }
}

pub(super) fn is_empty_directory(path: &str) -> bool {
    match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_none(),
        Err(_) => false,
    }
}

/// Resolves the links in a path. Its last parts need not exist.
pub(crate) fn resolved(path: &Path) -> PathBuf {
    if let Ok(path) = fs::canonicalize(path) {
        return path;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => resolved(parent).join(name),
        _ => path.to_owned(),
    }
}

/// Returns a path as a text. Refuses one that git's lists cannot show.
fn checked(path: PathBuf) -> Result<String, WorktreeError> {
    match path.into_os_string().into_string() {
        Ok(path) if path.contains(char::is_control) => Err(WorktreeError::BadPath(
            path,
            "it has a line break or a control character".to_owned(),
        )),
        Ok(path) => Ok(path),
        Err(path) => {
            let path = path.to_string_lossy().into_owned();
            Err(WorktreeError::BadPath(path, "it is not UTF-8".to_owned()))
        }
    }
}
