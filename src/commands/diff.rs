//! `diff`: shows what a job changed.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::unix::process::ExitStatusExt;

use clap::Args;
use serde::Serialize;

use super::Call;
use super::observe::observe;
use crate::arguments::JobName;
use crate::error::{Error, ExitStatus, WorktreeError};
use crate::job::{ChangedFile, JobId};
use crate::output::{print_note, push_warning};
use crate::process::run_in_foreground;
use crate::store::addressed;
use crate::text::json_length_of;
use crate::worktree::{Changes, ChangesForm};

/// Signal by which git ends if its reader has closed its output.
const SIGPIPE: i32 = 13;

/// Arguments of `diff`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  claudejob diff fix-login --stat\n  \
    claudejob diff fix-login -- src tests/login.rs\n  \
    claudejob diff fix-login --raw    a patch for git apply\n\n\
    Shown are the commits since the job began, its uncommitted changes, and its untracked files that \
    are not ignored. Without a worktree, these are all changes in the job's repository since the \
    commit at which it was started.")]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    target: JobName,
    /// Show the changed files alone
    #[arg(long, conflicts_with = "raw")]
    stat: bool,
    /// Print a patch for git apply, also to a program
    #[arg(long)]
    raw: bool,
    /// Only these paths, from the job's directory
    #[arg(last = true, value_name = "PATH")]
    paths: Vec<OsString>,
}

impl DiffArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let store = call.store()?;
        let id = call.job_or_last(&store, &self.target)?;
        let record = observe(&store, &id)?.record;
        let changes = Changes::of(&record)?;
        if self.raw || !call.printer.is_json() {
            return self.print(&id, &changes);
        }
        let failed = |why: String| WorktreeError::NoChanges(id.to_string(), why);
        let files = changes.files(&self.paths).map_err(failed)?;
        let (patch, is_cut) = if self.stat {
            (None, false)
        } else {
            let (patch, is_cut) = changes.patch(&self.paths).map_err(failed)?;
            (Some(patch), is_cut)
        };
        let mut answer = DiffAnswer {
            job_id: id.clone(),
            base: changes.base.clone(),
            head: changes.head.clone(),
            files,
            omitted_files: 0,
            patch,
            truncated: is_cut,
            warnings: changes.warnings.clone(),
            hint: None,
        };
        if let Some(bound) = call.bound() {
            answer.shorten(bound);
        }
        if answer.truncated {
            let hint = format!("claudejob diff {id} --raw");
            answer.hint = Some(addressed(store.root(), hint));
        }
        call.printer.print_json(&answer)?;
        Ok(ExitStatus::Done)
    }

    /// Lets git print the changes, with its pager if stdout is a terminal.
    fn print(&self, id: &JobId, changes: &Changes) -> Result<ExitStatus, Error> {
        let form = match (self.raw, self.stat) {
            (true, _) => ChangesForm::Raw,
            (_, true) => ChangesForm::Stat,
            _ => ChangesForm::Patch,
        };
        let mut note = String::new();
        for warning in &changes.warnings {
            push_warning(&mut note, warning);
        }
        print_note(&note);
        // Git would open its pager with nothing.
        if io::stdout().is_terminal()
            && changes.files(&self.paths).is_ok_and(|files| files.is_empty())
        {
            print_note("No changes.\n");
            return Ok(ExitStatus::Done);
        }
        let failed = |why: String| WorktreeError::NoChanges(id.to_string(), why);
        let status = run_in_foreground(&mut changes.printing(form, &self.paths))
            .map_err(|error| failed(error.to_string()))?;
        // The reader has seen enough.
        let was_left = status.signal() == Some(SIGPIPE) || status.code() == Some(128 + SIGPIPE);
        if status.success() || was_left { Ok(ExitStatus::Done) } else { Ok(ExitStatus::Failed) }
    }
}

/// What a job changed.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct DiffAnswer {
    /// The job's id.
    job_id: JobId,
    /// The commit with which its files are compared.
    base: String,
    /// Its last commit.
    head: String,
    /// The changed files, with the untracked ones.
    files: Vec<ChangedFile>,
    /// Number of further files, which `files` leaves out.
    omitted_files: usize,
    /// The changes as a patch; null with `--stat`.
    patch: Option<String>,
    /// The end of the patch, or a part of the files, is left out.
    truncated: bool,
    /// What the changes lack, or what else they contain.
    warnings: Vec<String>,
    /// The command that prints the whole patch; null if nothing is left out.
    hint: Option<String>,
}

/// Approximate length of the hint.
const HINT_CHARS: usize = 100;

impl DiffAnswer {
    /// Leaves out files and then the end of the patch, so that the answer has at most this many
    /// characters.
    fn shorten(&mut self, max_chars: usize) {
        if json_length_of(self) <= max_chars {
            return;
        }
        self.truncated = true;
        let patch = self.patch.take();
        let files = std::mem::take(&mut self.files);
        let mut rest = max_chars.saturating_sub(json_length_of(self) + HINT_CHARS);
        let for_files = if patch.is_some() { rest / 2 } else { rest };
        let mut used = 0;
        for file in &files {
            let length = json_length_of(file) + 1;
            if used + length > for_files {
                break;
            }
            used += length;
            self.files.push(file.clone());
        }
        self.omitted_files = files.len() - self.files.len();
        rest -= used;
        let Some(patch) = patch else { return };
        let mut shown = String::new();
        for line in patch.split_inclusive('\n') {
            // Without its quotes.
            let length = json_length_of(line).saturating_sub(2);
            if length > rest {
                break;
            }
            rest -= length;
            shown.push_str(line);
        }
        self.patch = Some(shown);
    }
}
