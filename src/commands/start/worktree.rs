//! The worktree of a new job.

use std::cell::LazyCell;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::arguments::{absolute, text};
use crate::error::Error;
use crate::job::{JobId, Record, Spec, Worktree, WorktreeRequest};
use crate::store::Store;
use crate::worktree::{Repository, awaited_by, head_commit, user_of};

/// The git worktree in which the job works, and what prepares it.
#[derive(Debug, Args)]
pub(super) struct WorktreeArgs {
    /// Work in a git worktree of its own [name: the job's id]
    ///
    /// It is made in .claude/worktrees of the repository, with the branch claudejob/NAME. Changes
    /// that are not committed stay where they are. An existing worktree of the given name is
    /// used again, unless a live job works in it.
    #[arg(
        long,
        value_name = "NAME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "",
        conflicts_with = "resume_job"
    )]
    worktree: Option<String>,
    /// Make the worktree in this directory instead
    #[arg(long, value_name = "DIR", requires = "worktree")]
    worktree_dir: Option<PathBuf>,
    /// Begin the branch of the worktree here [default: HEAD]
    #[arg(long, value_name = "REF", requires = "worktree")]
    worktree_base: Option<String>,
    /// Run a shell command in the job's directory before claude
    ///
    /// It runs once for each worktree that is made. Its output is in the log of stderr. If it
    /// fails, the job fails.
    #[arg(long, value_name = "CMD", allow_hyphen_values = true)]
    setup: Option<String>,
}

impl WorktreeArgs {
    /// Returns the requested worktree and the setup command.
    pub(super) fn into_parts(self) -> Result<(Option<Worktree>, Option<String>), Error> {
        let setup = self.setup.filter(|command| !command.trim().is_empty());
        let Some(name) = self.worktree else { return Ok((None, setup)) };
        let name = match name.as_str() {
            "" => None,
            name if JobId::parse(name).is_ok() => Some(name.to_owned()),
            name => {
                return Err(Error::Usage(format!(
                    "invalid name '{}' for --worktree: use a letter or digit, then at most 127 \
                     letters, digits, '.', '_' or '-'",
                    name.escape_debug()
                )));
            }
        };
        let dir = match &self.worktree_dir {
            Some(path) => Some(text(absolute(path)?)?),
            None => None,
        };
        let request = WorktreeRequest { name, dir, base: self.worktree_base };
        Ok((Some(Worktree::requested(request)), setup))
    }
}

/// A worktree that a new job will have.
pub(super) struct NewWorktree {
    repository: Repository,
    /// What it will not contain.
    pub warnings: Vec<String>,
}

impl NewWorktree {
    /// Finds the repository for the worktree that the job asks for; `None` if it asks for none.
    pub(super) fn find(spec: &mut Spec) -> Result<Option<Self>, Error> {
        let Some(worktree) = &spec.worktree else {
            spec.start_commit = head_commit(Path::new(&spec.cwd));
            return Ok(None);
        };
        spec.start_commit = None;
        let repository = Repository::find(worktree.request.clone(), &spec.cwd)?;
        let warnings = repository.warnings();
        Ok(Some(Self { repository, warnings }))
    }

    /// Decides the place of the worktree for the job with this id.
    pub(super) fn place(&self, store: &Store, id: &JobId, spec: &mut Spec) -> Result<(), Error> {
        // Only asked for a named worktree.
        let waits_for = LazyCell::new(|| awaited_by(store, spec));
        let in_use = |path: &str| {
            user_of(store, path, |record: &Record| !waits_for.contains(&record.job_id))
        };
        let awaited = |path: &str| {
            if waits_for.is_empty() {
                return None;
            }
            user_of(store, path, |record: &Record| waits_for.contains(&record.job_id))
        };
        let (worktree, cwd) = self.repository.place(id, in_use, awaited)?;
        spec.worktree = Some(worktree);
        spec.cwd = cwd;
        Ok(())
    }
}
