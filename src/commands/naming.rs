//! Finds the jobs that a caller names.
//!
//! A person on a terminal may name a job by the beginning of its id or of the word in it, by `@last`,
//! and for some verbs by nothing at all. Anyone else gives whole ids, so that a script never reaches
//! another job than it means.

use std::io::{self, Write};

use super::Call;
use crate::arguments::{JobName, SelectorArgs, parse_job_id};
use crate::error::Error;
use crate::job::JobId;
use crate::store::{Listed, Store};

/// Name of the job that was started last.
const LAST: &str = "@last";
/// Maximum number of ids that the hint of an ambiguous name contains.
const MAX_MATCHES: usize = 5;
/// Maximum number of ids that the hint of an unknown name contains.
const MAX_NEAREST: usize = 3;
/// Maximum number of characters in which an id may differ from a mistyped name.
const MAX_DISTANCE: usize = 2;

/// An action that cannot be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Kill,
    Remove,
}

impl Action {
    fn imperative(self) -> &'static str {
        match self {
            Self::Kill => "Kill",
            Self::Remove => "Remove",
        }
    }

    fn participle(self) -> &'static str {
        match self {
            Self::Kill => "killed",
            Self::Remove => "removed",
        }
    }
}

impl Call {
    /// Returns the job that the arguments name.
    pub(super) fn job(&self, store: &Store, target: &JobName) -> Result<JobId, Error> {
        match (&target.job_id, &target.id) {
            (Some(id), _) => whole_id(id),
            (None, Some(name)) => self.find_job(None, store, name),
            (None, None) => Err(no_job_given()),
        }
    }

    /// Returns the job that the arguments name: the last one if they name none.
    pub(super) fn job_or_last(&self, store: &Store, target: &JobName) -> Result<JobId, Error> {
        if target.id.is_none() && target.job_id.is_none() {
            return self.last_job(store);
        }
        self.job(store, target)
    }

    /// Returns the jobs that the arguments name, each once. Asks before it completes a name if an
    /// `action` is given: a job that is gone must not be taken for one with a longer id.
    pub(super) fn named_jobs(
        &self,
        action: Option<Action>,
        store: &Store,
        targets: &SelectorArgs,
    ) -> Result<Vec<JobId>, Error> {
        let mut ids = Vec::new();
        for name in &targets.ids {
            push_new(&mut ids, self.find_job(action, store, name)?);
        }
        for id in &targets.job_id {
            push_new(&mut ids, whole_id(id)?);
        }
        Ok(ids)
    }

    /// Returns the job that was started last.
    pub(super) fn last_job(&self, store: &Store) -> Result<JobId, Error> {
        if !self.is_by_person() {
            return Err(no_job_given());
        }
        let mut last = None;
        for Listed { id, ended, .. } in store.summaries()?.1 {
            let started_at = match ended {
                Some(ended) => ended.started_at,
                None => match store.job(&id).load() {
                    Ok(record) => record.times.started_at,
                    Err(_) => continue,
                },
            };
            last = last.max(Some((started_at, id)));
        }
        match last {
            Some((_, id)) => Ok(id),
            None => Err(Error::NoJob),
        }
    }

    /// Returns the job with this name. A name without a job is returned as an id, for the verb to
    /// report: some verbs can do something about a job whose directory is gone.
    fn find_job(&self, action: Option<Action>, store: &Store, name: &str) -> Result<JobId, Error> {
        let is_by_person = self.is_by_person();
        if is_by_person && name == LAST {
            return self.last_job(store);
        }
        let id = whole_id(name)?;
        if !is_by_person || store.job(&id).path().exists() {
            return Ok(id);
        }
        let mut found = store.ids()?;
        found.retain(|id| is_short_for(name, id));
        if found.len() > 1 {
            return Err(ambiguous_name(name, found));
        }
        let Some(found) = found.pop() else { return Ok(id) };
        if let Some(action) = action
            && !is_confirmed(&format!("{} job {found}?", action.imperative()))?
        {
            return Err(Error::Declined(action.participle()));
        }
        Ok(found)
    }
}

/// Returns what to do about the error. For an unknown job it contains the ids that are most like
/// the given one.
pub(super) fn hint(store: &Store, error: &Error) -> Option<String> {
    let hint = error.hint()?;
    let Error::NotFound(name) = error else { return Some(hint) };
    let near = nearest(name, store.ids().unwrap_or_default());
    if near.is_empty() {
        return Some(hint);
    }
    Some(format!("{hint}  # nearest: {}", joined(&near)))
}

/// Returns the error of a call that names no job.
pub(super) fn no_job_given() -> Error {
    Error::NoJobGiven
}

/// Returns the error for a name of several jobs, with the ids of the latest.
fn ambiguous_name(name: &str, mut found: Vec<JobId>) -> Error {
    let count = found.len();
    found.sort_unstable();
    found.reverse();
    found.truncate(MAX_MATCHES);
    let more = if count > MAX_MATCHES { ", …" } else { "" };
    Error::AmbiguousName(name.to_owned(), count, joined(&found) + more)
}

fn push_new(ids: &mut Vec<JobId>, id: JobId) {
    if !ids.contains(&id) {
        ids.push(id);
    }
}

fn whole_id(text: &str) -> Result<JobId, Error> {
    if text.is_empty() {
        return Err(Error::Usage("the job id is empty".to_owned()));
    }
    parse_job_id(text)
}

/// Returns whether the id, or the word in it, begins with the name.
fn is_short_for(name: &str, id: &JobId) -> bool {
    id.as_str().starts_with(name) || id.word().is_some_and(|word| word.starts_with(name))
}

/// Asks a question on the terminal.
pub(super) fn is_confirmed(question: &str) -> Result<bool, Error> {
    let mut line = String::new();
    write!(io::stderr(), "{question} [y/N] ").map_err(Error::Output)?;
    io::stdin().read_line(&mut line).map_err(Error::Output)?;
    Ok(matches!(line.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Returns the ids that the name may mean, the most similar first.
fn nearest(name: &str, ids: Vec<JobId>) -> Vec<JobId> {
    let mut near = Vec::new();
    for id in ids {
        let distance = distance(name, &id);
        if distance <= MAX_DISTANCE.min(name.len() / 3) {
            near.push((distance, id));
        }
    }
    near.sort();
    near.truncate(MAX_NEAREST);
    near.into_iter().map(|(_, id)| id).collect()
}

/// Returns the number of characters in which the name differs from the id or the word in it.
fn distance(name: &str, id: &JobId) -> usize {
    if is_short_for(name, id) {
        return 0;
    }
    let from_id = strsim::levenshtein(name, id.as_str());
    match id.word() {
        Some(word) => from_id.min(strsim::levenshtein(name, word)),
        None => from_id,
    }
}

fn joined(ids: &[JobId]) -> String {
    ids.iter().map(JobId::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_ids_are_near() {
        for (name, expected) in [
            ("fix", &["fix-login", "fix-logout"][..]),
            ("fix-logn", &["fix-login"]),
            ("fix-logit", &["fix-login", "fix-logout"]),
            ("popokk", &["261126-popokok"]),
            ("261126-popoka", &["261126-popokok"]),
            ("xy", &[]),
            ("nobody", &[]),
        ] {
            let ids = ["fix-login", "fix-logout", "b", "261126-popokok", "261126-popabar"];
            let ids = ids.map(|id| JobId::parse(id).unwrap()).to_vec();
            let near = nearest(name, ids);
            let near: Vec<&str> = near.iter().map(JobId::as_str).collect();
            assert_eq!(near, expected, "{name}");
        }
    }
}
