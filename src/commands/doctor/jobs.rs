//! Checks of the existing jobs: records, lost workers, leftovers, slots. They finalize no job.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use super::{Check, Named};
use crate::job::{JobId, Record, Status, Timestamp};
use crate::queue::{Limit, Queue, SlotUsage};
use crate::store::{JobDir, Liveness, LoadError, Store};
use crate::text::plural;

/// Tolerated lead of a recorded time over the clock.
const MAX_LEAD: Duration = Duration::from_secs(24 * 3_600);

/// Checks every job. Also returns the jobs with times in the future.
pub(super) fn checks(store: &Store, now: Timestamp) -> (Vec<Check>, Named) {
    let ids = match store.ids() {
        Ok(ids) => ids,
        Err(error) => return (vec![Check::unknown("records", error)], Named::default()),
    };
    let total = ids.len();
    let mut unreadable = Named::default();
    let mut lost = Named::default();
    let mut live = BTreeMap::new();
    let limit = SystemTime::now().checked_add(MAX_LEAD);
    let mut future_dated: BTreeSet<String> =
        limit.map(|limit| store.files_newer_than(limit)).unwrap_or_default().into_iter().collect();
    for id in sorted(ids) {
        let dir = store.job(&id);
        let (record, liveness) = match check_liveness(&dir) {
            Ok(checked) => checked,
            // The job was removed after the directory was listed.
            Err(LoadError::NotFound(_)) => continue,
            Err(_) => {
                unreadable.add(id.as_str());
                continue;
            }
        };
        if [record.started_at, record.ended_at, record.last_event_at]
            .into_iter()
            .flatten()
            .any(|at| at > now.after(MAX_LEAD))
        {
            future_dated.insert(id.to_string());
        }
        match liveness {
            Liveness::Ended => {}
            Liveness::Live | Liveness::OtherMachine(_) => {
                *live.entry(record.status).or_default() += 1;
            }
            Liveness::Lost => lost.add(id.as_str()),
        }
    }
    let queue = Queue::for_jobs_dir(store.root());
    let limited_until = queue.limits().iter().filter_map(Limit::ends_at).max();
    let checks = vec![
        records(total, &unreadable),
        check_lost(&lost),
        leftovers(store),
        slots(&live, queue.slot_usage(), limited_until),
    ];
    let mut named = Named::default();
    for name in future_dated {
        named.add(name);
    }
    (checks, named)
}

fn sorted(mut ids: Vec<JobId>) -> Vec<JobId> {
    ids.sort_unstable();
    ids
}

/// Compares the record with the lock, as `status` does, but without finalizing a lost job.
fn check_liveness(dir: &JobDir) -> Result<(Record, Liveness), LoadError> {
    let record = dir.load()?;
    let liveness = dir.liveness(&record)?;
    if liveness != Liveness::Lost {
        return Ok((record, liveness));
    }
    // The job may have ended after its record was read and before its lock was checked.
    let record = dir.load()?;
    let liveness = dir.liveness_if_unlocked(&record);
    Ok((record, liveness))
}

fn records(total: usize, unreadable: &Named) -> Check {
    let jobs = plural(total, "job");
    if unreadable.count == 0 {
        return Check::ok("records", format!("{jobs}, all readable"));
    }
    let detail = format!("{jobs}, {unreadable} unreadable");
    let hint = "claudejob status ID shows the error; claudejob kill ID ends remaining processes; \
                then the job's directory can be removed";
    Check::warning("records", detail, hint)
}

fn check_lost(lost: &Named) -> Check {
    if lost.count == 0 {
        return Check::ok("lost", "no job has lost its worker");
    }
    let detail = format!("{lost} recorded as live, but without a worker");
    let hint = "claudejob list records their end; claudejob recover --all then continues them";
    Check::warning("lost", detail, hint)
}

fn leftovers(store: &Store) -> Check {
    match store.leftovers() {
        Ok(0) => Check::ok("leftovers", "none"),
        Ok(n) => {
            let detail = format!(
                "{} in .new, left by a start or clean that did not finish",
                plural(n, "incomplete job")
            );
            Check::warning("leftovers", detail, "the next start or clean removes them")
        }
        Err(error) => Check::unknown("leftovers", error),
    }
}

/// Counts running and waiting jobs.
fn slots(live: &BTreeMap<Status, usize>, crowd: SlotUsage, limit: Option<Timestamp>) -> Check {
    let mut counts: Vec<String> = live.iter().map(|(status, n)| format!("{n} {status}")).collect();
    if counts.is_empty() {
        counts.push("no live job".to_owned());
    }
    if crowd.waiting > 0 {
        let (taken, waiting) = (plural(crowd.running, "slot"), crowd.waiting);
        counts.push(format!("{taken} taken, {waiting} queued"));
    }
    let Some(until) = limit else { return Check::ok("slots", counts.join(", ")) };
    counts.push(format!("an API limit lasts until {until}"));
    let hint = "queued jobs with the same login wait for its end; --no-wait-for-reset skips it";
    Check::warning("slots", counts.join(", "), hint)
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn counts_live_jobs_in_lifecycle_order() {
        let slots = |live: &BTreeMap<Status, usize>| slots(live, SlotUsage::default(), None);
        assert_eq!(slots(&BTreeMap::new()).detail, "no live job");
        let live = [(Status::Running, 2), (Status::Queued, 1), (Status::Blocked, 1)];
        assert_eq!(slots(&BTreeMap::from(live)).detail, "1 queued, 2 running, 1 blocked");
    }

    #[test]
    fn warns_about_unreadable_and_lost_jobs() {
        let (none, mut one) = (Named::default(), Named::default());
        one.add("a");
        for (check, level, detail) in [
            (records(0, &none), Level::Ok, "0 jobs, all readable"),
            (records(2, &one), Level::Warning, "2 jobs, 1 (a) unreadable"),
            (check_lost(&none), Level::Ok, "no job has lost its worker"),
            (check_lost(&one), Level::Warning, "1 (a) recorded as live, but without a worker"),
        ] {
            assert_eq!((check.level, check.detail.as_str()), (level, detail));
            assert_eq!(check.hint.is_some(), level != Level::Ok, "{detail}");
        }
    }
}
