//! Check of the existing jobs: lost workers. It finalizes no job.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use super::{Check, Named};
use crate::job::{Record, Timestamp};
use crate::store::{JobDir, Liveness, LoadError, Store};

/// Tolerated lead of a recorded time over the clock.
const MAX_LEAD: Duration = Duration::from_secs(24 * 3_600);

/// Checks every job. Also returns the jobs with times in the future.
pub(super) fn check(store: &Store, now: Timestamp) -> (Check, Named) {
    let mut ids = match store.ids() {
        Ok(ids) => ids,
        Err(error) => return (Check::unknown("lost", error), Named::default()),
    };
    ids.sort_unstable();
    let mut lost = Named::default();
    let mut future_dated: BTreeSet<String> = BTreeSet::new();
    if let Some(limit) = SystemTime::now().checked_add(MAX_LEAD) {
        future_dated.extend(store.files_newer_than(limit));
    }
    for id in ids {
        // The list of jobs shows a job whose record cannot be read.
        let Ok((record, liveness)) = check_liveness(&store.job(&id)) else { continue };
        let times = [record.times.started_at, record.times.ended_at, record.times.last_event_at];
        if times.into_iter().flatten().any(|at| at > now.after(MAX_LEAD)) {
            future_dated.insert(id.to_string());
        }
        if liveness == Liveness::Lost {
            lost.add(id.as_str());
        }
    }
    let mut named = Named::default();
    for name in future_dated {
        named.add(name);
    }
    (check_lost(&lost), named)
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

fn check_lost(lost: &Named) -> Check {
    if lost.count == 0 {
        return Check::ok("lost", "no job has lost its worker");
    }
    let detail = format!("{lost} recorded as live, but without a worker");
    let hint = "claudejob list records their end; claudejob recover --all then continues them";
    Check::warning("lost", detail, hint)
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn warns_about_lost_jobs() {
        let (none, mut one) = (Named::default(), Named::default());
        one.add("a");
        for (check, level, detail) in [
            (check_lost(&none), Level::Ok, "no job has lost its worker"),
            (check_lost(&one), Level::Warning, "1 (a) recorded as live, but without a worker"),
        ] {
            assert_eq!((check.level, check.detail.as_str()), (level, detail));
            assert_eq!(check.hint.is_some(), level != Level::Ok, "{detail}");
        }
    }
}
