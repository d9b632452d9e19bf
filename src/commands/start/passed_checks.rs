//! Checks of several requests, each made once for all requests to which it applies.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::Budget;
use super::worktree::NewWorktree;
use crate::claude::Env;
use crate::clock;
use crate::commands::launching::{check_arguments, check_program};
use crate::error::Error;
use crate::fault_point::fault_point;
use crate::job::{Filter, Spec};
use crate::store::Store;
use crate::text::{format_window, round_usd};

/// Checks that were passed.
#[derive(Default)]
pub(super) struct PassedChecks {
    /// The program by all that the check of it depends on.
    claudes: BTreeMap<String, String>,
    /// Budgets with the labels of the jobs to which they apply.
    budgets: BTreeSet<String>,
    /// What was found for a worktree by the directory and the request for it.
    worktrees: BTreeMap<String, Rc<NewWorktree>>,
}

impl PassedChecks {
    /// Checks that the job's claude can be run, and searches for it if the job names none.
    pub(super) fn check_claude(&mut self, spec: &mut Spec, env: &Env) -> Result<(), Error> {
        check_arguments(spec)?;
        if spec.replay.is_some() {
            return Ok(());
        }
        // The settings with the login may be those of the directory.
        let place = (&spec.claude, &spec.profile, &spec.cwd);
        let options =
            (&spec.options.permission_mode, &spec.options.settings, &spec.options.extra_args);
        let key = format!("{place:?} {options:?}");
        if let Some(claude) = self.claudes.get(&key) {
            spec.claude.clone_from(claude);
            return Ok(());
        }
        check_program(spec, env)?;
        self.claudes.insert(key, spec.claude.clone());
        Ok(())
    }

    /// Finds the repository for the worktree that the job asks for; `None` if it asks for none.
    pub(super) fn find_worktree(
        &mut self,
        spec: &mut Spec,
    ) -> Result<Option<Rc<NewWorktree>>, Error> {
        let request = spec.worktree.as_ref().map(|worktree| &worktree.request);
        let key = format!("{} {request:?}", spec.cwd);
        if let Some(found) = self.worktrees.get(&key) {
            return Ok(Some(Rc::clone(found)));
        }
        let Some(found) = NewWorktree::find(spec)? else { return Ok(None) };
        let found = Rc::new(found);
        self.worktrees.insert(key, Rc::clone(&found));
        Ok(Some(found))
    }

    /// Refuses the job if the jobs with its labels have spent the budget.
    pub(super) fn check_budget(
        &mut self,
        store: &Store,
        budget: Budget,
        spec: &Spec,
    ) -> Result<(), Error> {
        let key = format!("{budget:?} {:?}", spec.labels);
        if !self.budgets.contains(&key) {
            check_budget(store, budget, spec)?;
            self.budgets.insert(key);
        }
        Ok(())
    }
}

/// Refuses the job if the jobs with its labels have spent the budget.
fn check_budget(store: &Store, budget: Budget, spec: &Spec) -> Result<(), Error> {
    let since = clock::now().before(budget.over);
    let filter = Filter::for_labels(&spec.labels);
    let mut spent = 0.0;
    let mut present = BTreeSet::new();
    let (summaries, jobs) = store.summaries()?;
    for job in jobs {
        // Jobs that ended earlier do not count, removed ones included.
        let ended_at = job.ended.and_then(|ended| ended.ended_at);
        if ended_at.is_some_and(|at| at < since) {
            continue;
        }
        // The cost of a job whose record cannot be read is unknown.
        let Some(summary) = summaries.get_or_load(store, &job) else { continue };
        let counts = summary.status.is_live() || summary.ended_at.is_none_or(|at| at >= since);
        if counts && filter.matches(&summary) {
            spent += summary.cost_usd.unwrap_or_default();
        }
        present.insert((summary.job_id, summary.started_at));
    }
    fault_point("start:budget");
    spent = round_usd(spent + store.cost_of_removed(&present, &spec.labels, since));
    if spent < budget.usd {
        return Ok(());
    }
    let labels: Vec<String> = spec.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let by = match labels.as_slice() {
        [] => "all jobs".to_owned(),
        labels => format!("jobs with {}", labels.join(", ")),
    };
    let over = format_window(budget.over);
    Err(Error::BudgetExceeded { spent, budget: budget.usd, over, by })
}
