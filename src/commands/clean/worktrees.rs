//! The worktrees of the jobs to remove.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::{MAX_NAMED, RemovalError};
use crate::error::Error;
use crate::job::{JobId, Record, Summary};
use crate::store::{JobDir, Store};
use crate::worktree::{Removal, lock_reason, resolved};

/// A worktree that stays although its job was removed.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeptWorktree {
    /// The id of the removed job.
    pub job_id: JobId,
    /// Absolute path of the worktree.
    pub path: String,
    /// Its branch.
    pub branch: String,
}

/// Decides on the worktrees of the jobs to remove, and removes them.
#[derive(Default)]
pub(super) struct WorktreeRemoval {
    /// `--keep-worktree`.
    pub keeps: bool,
    /// Worktrees are removed until this time only.
    pub until: Option<Instant>,
    /// The jobs that have a worktree, by its path.
    users: BTreeMap<String, BTreeSet<JobId>>,
    live: Vec<JobId>,
    /// The directories in which the live jobs work, once a worktree is to be removed.
    live_dirs: Option<Vec<(JobId, PathBuf)>>,
    /// The worktrees that stay without their jobs.
    pub kept: Vec<KeptWorktree>,
}

impl WorktreeRemoval {
    /// Adds a job, which may need a worktree.
    pub(super) fn add_user(&mut self, job: &Summary) {
        if let Some(worktree) = &job.spec.worktree {
            let users = self.users.entry(worktree.path.clone()).or_default();
            users.insert(job.job_id.clone());
        }
        if job.status.is_live() {
            self.live.push(job.job_id.clone());
        }
    }

    /// Returns a live job, other than that of `dir`, that works in this worktree. Also a job that has
    /// no worktree of its own can do so.
    fn live_job_in(&mut self, worktree: &str, dir: &JobDir) -> Option<&JobId> {
        let dirs = self.live_dirs.get_or_insert_with(|| live_dirs(dir.root(), &self.live));
        let is_in = |(id, cwd): &&(JobId, PathBuf)| id != dir.id() && cwd.starts_with(worktree);
        dirs.iter().find(is_in).map(|(id, _)| id)
    }

    /// Removes the worktree of a job that is about to be removed; with `dry_run` only checks that.
    /// Refuses a worktree with work that would be lost. A worktree that another ended job uses stays
    /// with that one.
    pub(super) fn remove(
        &mut self,
        dir: &JobDir,
        record: &Record,
        dry_run: bool,
    ) -> Result<(), RemovalError> {
        let Some(worktree) = &record.spec.worktree else { return Ok(()) };
        let id = &record.job_id;
        if self.keeps {
            if self.kept.len() < MAX_NAMED {
                let (path, branch) = (worktree.path.clone(), worktree.branch.clone());
                self.kept.push(KeptWorktree { job_id: id.clone(), path, branch });
            }
            return Ok(());
        }
        if let Some(live) = self.live_job_in(&worktree.path, dir) {
            return Err(stays(id, &format!("job {live} works in its worktree")));
        }
        let users = self.users.entry(worktree.path.clone()).or_default();
        users.remove(id);
        if !users.is_empty() {
            return Ok(());
        }
        if self.until.is_some_and(|until| Instant::now() >= until) {
            return Err(stays(id, "there was no time to check its worktree"));
        }
        let attempt = format!("{id} {}", record.attempt.number);
        let removed = match Removal::check(worktree, &attempt, &lock_reason(dir, id)) {
            Ok(removal) if !dry_run => removal.carry_out(),
            checked => checked.map(|_| ()),
        };
        if let Err(why) = &removed {
            // It is still a user.
            self.users.entry(worktree.path.clone()).or_default().insert(id.clone());
            return Err(stays(id, why));
        }
        Ok(())
    }
}

/// Returns the directories in which these jobs work.
fn live_dirs(jobs_dir: &Path, live: &[JobId]) -> Vec<(JobId, PathBuf)> {
    let store = Store::at(jobs_dir.to_owned());
    let mut dirs = Vec::new();
    for id in live {
        if let Ok(record) = store.job(id).load() {
            dirs.push((record.job_id, resolved(Path::new(&record.spec.cwd))));
        }
    }
    dirs
}

fn stays(id: &JobId, why: &str) -> RemovalError {
    RemovalError::HasWorktree(Error::Kept {
        why: why.to_owned(),
        hint: format!(
            "claudejob diff {id} --stat  # claudejob rm {id} --keep-worktree removes the job alone"
        ),
    })
}

/// Returns the warning about jobs that stay because of their worktrees; `None` if there are none.
pub(super) fn warning(stay: &[(JobId, Error)], max_ids: usize) -> Option<String> {
    let (first, why) = stay.first()?;
    if stay.len() == 1 {
        return Some(format!("1 job stays because of its worktree: {first}: {why}"));
    }
    let count = stay.len();
    let mut ids: Vec<&str> = stay.iter().take(max_ids).map(|(id, _)| id.as_str()).collect();
    if count > max_ids {
        ids.push("…");
    }
    let ids = ids.join(", ");
    Some(format!("{count} jobs stay because of their worktrees: {ids}; of {first}: {why}"))
}
