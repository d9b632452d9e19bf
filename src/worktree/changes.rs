//! What a job has changed, as git shows it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::git::{self, Location, MAX_OUTPUT_BYTES, query};
use super::include::{has_copies, unchanged_copies};
use super::repository::has_branch;
use super::unsaved_work;
use crate::error::WorktreeError;
use crate::job::{ChangedFile, Record, Status, Worktree};

/// Time limit for git to compare the files.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Number of names in the arguments of one git.
const MAX_NAMES: usize = 200;
/// Configuration that would make git write beside the temporary index, or run a program for it.
const PRIVATE_INDEX: [&str; 6] = [
    "-c",
    "core.splitIndex=false",
    "-c",
    "core.untrackedCache=false",
    "-c",
    "core.fsmonitor=false",
];
/// Options for output that does not depend on the user's configuration.
const PLAIN: [&str; 6] = [
    "--no-color",
    "--no-ext-diff",
    "--no-textconv",
    "--find-renames",
    "--src-prefix=a/",
    "--dst-prefix=b/",
];

/// How to show what a job has changed.
pub(crate) struct Changes {
    /// The directory in which git runs: with an index a working tree, else the git directory.
    dir: PathBuf,
    /// The part of the paths that `dir` lacks.
    folder: PathBuf,
    /// The commit at which the job began, or its last one that the branch still contains.
    pub(crate) base: String,
    /// The last commit of the job.
    pub(crate) head: String,
    /// A copy of the index in which the untracked files are entered; `None` if only commits are
    /// compared.
    index: Option<TemporaryIndex>,
    /// What the changes lack, or what else they contain.
    pub(crate) warnings: Vec<String>,
}

/// A form of the changes that git prints.
#[derive(Clone, Copy)]
pub(crate) enum ChangesForm {
    /// For people, as git is configured.
    Patch,
    /// A patch for `git apply`.
    Raw,
    /// A line for each file.
    Stat,
}

impl Changes {
    /// Finds what the job has changed.
    pub(crate) fn of(record: &Record) -> Result<Self, WorktreeError> {
        let unknown = |why: String| WorktreeError::NoChanges(record.job_id.to_string(), why);
        let cwd = Path::new(&record.spec.cwd);
        let Some(worktree) = &record.spec.worktree else {
            let Some(base) = &record.spec.start_commit else {
                return Err(unknown(format!(
                    "{} had no commit that could be read when the job was started",
                    record.spec.cwd
                )));
            };
            let mut changes = Self::in_directory(cwd, base).map_err(unknown)?;
            changes.warnings.push(
                "the job has no worktree of its own: these are all changes in its repository since \
                 it was started, with those that were uncommitted before it and those of others"
                    .to_owned(),
            );
            return Ok(changes);
        };
        let path = Path::new(&worktree.path);
        if path.join(".git").exists() {
            let dir = if cwd.is_dir() { cwd } else { path };
            let changes = Self::in_directory(dir, &worktree.base).map_err(unknown)?;
            if let Some(index) = &changes.index {
                index.remove_copies(worktree);
            }
            return Ok(changes);
        }
        if record.status == Status::Queued && !record.session.began {
            return Err(unknown("its worktree has not been made yet".to_owned()));
        }
        let mut changes = Self::of_branch(worktree).map_err(unknown)?;
        changes.folder = cwd.strip_prefix(path).unwrap_or(Path::new("")).to_owned();
        Ok(changes)
    }

    /// Compares the commit `base` with the files of a directory.
    fn in_directory(dir: &Path, base: &str) -> Result<Self, String> {
        let head = commit(Location::Directory(dir), "HEAD")?;
        let mut changes = Self {
            base: merge_base(Location::Directory(dir), base, &head)?,
            head,
            dir: dir.to_owned(),
            folder: PathBuf::new(),
            index: None,
            warnings: Vec::new(),
        };
        let index = TemporaryIndex::copy(dir)?;
        if let Err(why) = index.add_untracked(dir) {
            changes.warnings.push(format!("not all untracked files are included: {why}"));
        }
        changes.index = Some(index);
        Ok(changes)
    }

    /// Compares the base of a worktree that is gone with its branch.
    fn of_branch(worktree: &Worktree) -> Result<Self, String> {
        let repository = Path::new(&worktree.repository);
        if !has_branch(repository, &worktree.branch).map_err(|error| error.to_string())? {
            return Err(format!(
                "there is neither its worktree {} nor its branch {}",
                worktree.path, worktree.branch
            ));
        }
        let git_dir = Location::Repository(repository);
        let head = commit(git_dir, &format!("refs/heads/{}", worktree.branch))?;
        let why = format!("the worktree is gone: this is what its branch {} has", worktree.branch);
        Ok(Self {
            base: merge_base(git_dir, &worktree.base, &head)?,
            head,
            dir: repository.to_owned(),
            folder: PathBuf::new(),
            index: None,
            warnings: vec![why],
        })
    }

    /// Returns the changed files.
    pub(crate) fn files(&self, paths: &[OsString]) -> Result<Vec<ChangedFile>, String> {
        let output = self.read(&["--numstat", "-z"], paths)?;
        Ok(parse_numstat(&output))
    }

    /// Returns the patch, and whether it was cut because it is huge.
    pub(crate) fn patch(&self, paths: &[OsString]) -> Result<(String, bool), String> {
        let output = self.read(&["--patch"], paths)?;
        let is_cut = output.len() >= MAX_OUTPUT_BYTES;
        Ok((String::from_utf8_lossy(&output).into_owned(), is_cut))
    }

    fn read(&self, options: &[&str], paths: &[OsString]) -> Result<Vec<u8>, String> {
        let mut command = self.command(paths, &[&PLAIN, options].concat());
        command.env("GIT_OPTIONAL_LOCKS", "0");
        let output = git::run(command, "compare", TIMEOUT).map_err(|error| error.to_string())?;
        if output.is_success { Ok(output.stdout) } else { Err(output.message) }
    }

    /// Returns the command by which git prints the changes.
    pub(crate) fn printing(&self, form: ChangesForm, paths: &[OsString]) -> Command {
        match form {
            ChangesForm::Patch => self.command(paths, &["--patch"]),
            ChangesForm::Stat => self.command(paths, &["--stat"]),
            ChangesForm::Raw => {
                self.command(paths, &[&PLAIN[..], &["--binary", "--full-index"]].concat())
            }
        }
    }

    fn command(&self, paths: &[OsString], options: &[&str]) -> Command {
        let mut command;
        match &self.index {
            Some(index) => {
                command = git::git(self.dir.as_path());
                index.use_in(&mut command);
                command.arg("diff").args(options).arg(&self.base);
            }
            None => {
                command = git::git(Location::Repository(&self.dir));
                command.arg("diff").args(options).args([&self.base, &self.head]);
            }
        }
        command.arg("--");
        for path in paths {
            // Git's own prefixes, such as `:(top)`, are first.
            let is_magic = path.as_encoded_bytes().starts_with(b":");
            command.arg(if is_magic { PathBuf::from(path) } else { self.folder.join(path) });
        }
        command
    }
}

/// Returns the commit of a name.
fn commit(location: Location<'_>, name: &str) -> Result<String, String> {
    let wanted = format!("{name}^{{commit}}");
    let text = |error: WorktreeError| error.to_string();
    let answer = query(location, &["rev-parse", "--verify", &wanted]).map_err(text)?;
    if answer.is_success {
        answer.text().map_err(text)
    } else {
        Err(format!("{name} has no commit"))
    }
}

/// Returns the last commit of `base` that `head` contains; `base` if there is none.
fn merge_base(location: Location<'_>, base: &str, head: &str) -> Result<String, String> {
    let text = |error: WorktreeError| error.to_string();
    let answer = query(location, &["merge-base", base, head]).map_err(text)?;
    if answer.is_success { answer.text().map_err(text) } else { commit(location, base) }
}

/// A copy of a working tree's index, so that nothing changes in that.
struct TemporaryIndex {
    dir: PathBuf,
}

impl TemporaryIndex {
    fn copy(working_tree: &Path) -> Result<Self, String> {
        let text = |error: WorktreeError| error.to_string();
        let answer = query(working_tree, &["rev-parse", "--git-path", "index"]).map_err(text)?;
        let original = working_tree.join(answer.text().map_err(text)?);
        let dir = std::env::temp_dir().join(format!("claudejob-{}", uuid::Uuid::new_v4()));
        let failed = |error: io::Error| format!("could not copy the index of git: {error}");
        fs::DirBuilder::new().mode(0o700).create(&dir).map_err(failed)?;
        let copy = Self { dir };
        match copy_with_time(&original, &copy.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(copy),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.join("index")
    }

    fn use_in(&self, command: &mut Command) {
        command.env("GIT_INDEX_FILE", self.path()).args(PRIVATE_INDEX);
    }

    /// Enters the untracked files without their contents, so that git compares them, too.
    fn add_untracked(&self, dir: &Path) -> Result<(), String> {
        let mut command = git::git(dir);
        self.use_in(&mut command);
        command.args(["-c", "advice.addEmbeddedRepo=false"]);
        command.args(["add", "--intent-to-add", "--ignore-errors", "--", ":/"]);
        let output = git::run(command, "add", TIMEOUT).map_err(|error| error.to_string())?;
        if output.is_success { Ok(()) } else { Err(output.message) }
    }

    /// Removes the entries of files that were copied into the worktree and not changed. If that
    /// fails, the changes have more than those of the job.
    fn remove_copies(&self, worktree: &Worktree) {
        if !has_copies(worktree) {
            return;
        }
        let path = Path::new(&worktree.path);
        let Ok(changes) = unsaved_work::changes(path) else { return };
        let copies = unchanged_copies(worktree, &changes, TIMEOUT).unwrap_or_default();
        for names in copies.chunks(MAX_NAMES) {
            let mut command = git::git(path);
            self.use_in(&mut command);
            command.args(["update-index", "--force-remove", "--"]).args(names);
            let _ = git::run(command, "update-index", TIMEOUT);
        }
    }
}

impl Drop for TemporaryIndex {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Copies an index with the time of its last change: a file that was changed later, but in the same
/// second, would be unchanged for git if the index were younger.
fn copy_with_time(from: &Path, to: &Path) -> io::Result<()> {
    let modified = fs::metadata(from)?.modified()?;
    fs::copy(from, to)?;
    File::options().write(true).open(to)?.set_modified(modified)
}

/// Reads the output of `git diff --numstat -z`.
fn parse_numstat(output: &[u8]) -> Vec<ChangedFile> {
    let mut files = Vec::new();
    let mut fields = output.split(|byte| *byte == 0);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    while let Some(field) = fields.next() {
        let mut parts = field.splitn(3, |byte| *byte == b'\t');
        let (Some(added), Some(deleted), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let mut file = ChangedFile {
            path: text(path),
            old_path: None,
            added: text(added).parse().ok(),
            deleted: text(deleted).parse().ok(),
        };
        if path.is_empty() {
            file.old_path = fields.next().map(text);
            file.path = fields.next().map(text).unwrap_or_default();
        }
        files.push(file);
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_numbers_of_lines() {
        let output = b"1\t2\ta b\0-\t-\tpicture\x003\t0\t\0old\0new\0";
        let found: Vec<_> = parse_numstat(output)
            .into_iter()
            .map(|file| (file.path, file.old_path, file.added, file.deleted))
            .collect();
        assert_eq!(
            found,
            [
                ("a b".to_owned(), None, Some(1), Some(2)),
                ("picture".to_owned(), None, None, None),
                ("new".to_owned(), Some("old".to_owned()), Some(3), Some(0)),
            ]
        );
        assert!(parse_numstat(b"").is_empty());
    }
}
