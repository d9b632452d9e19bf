//! The jobs that are there: which are live, and what went stale. None of them is settled.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use super::{Check, Named};
use crate::job::{JobId, Record, Status, Timestamp};
use crate::queue::{Crowd, Limit, Queue};
use crate::store::{self, JobDir, LoadError, Store};
use crate::text::count;

/// How far ahead of the clock a date may lie.
const AHEAD: Duration = Duration::from_secs(24 * 3_600);

/// Looks at every job, and gives those that are dated too far ahead, too.
pub(super) fn checks(store: &Store, now: Timestamp) -> (Vec<Check>, Named) {
    let ids = match store.ids() {
        Ok(ids) => ids,
        Err(error) => return (vec![Check::unknown("records", error)], Named::default()),
    };
    let total = ids.len();
    let mut unreadable = Named::default();
    let mut lost = Named::default();
    let mut live = BTreeMap::new();
    let limit = SystemTime::now().checked_add(AHEAD);
    let mut ahead: BTreeSet<String> =
        limit.map(|limit| store.dated_after(limit)).unwrap_or_default().into_iter().collect();
    for id in sorted(ids) {
        let dir = store.job(&id);
        let (record, standing) = match stands(&dir) {
            Ok(seen) => seen,
            // Removed since its name was read.
            Err(LoadError::NotFound) => continue,
            Err(_) => {
                unreadable.add(id.as_str());
                continue;
            }
        };
        if [record.started_at, record.ended_at, record.last_event_at]
            .into_iter()
            .flatten()
            .any(|at| at > now.after(AHEAD))
        {
            ahead.insert(id.to_string());
        }
        match standing {
            Standing::Ended => {}
            Standing::Live => *live.entry(record.status).or_default() += 1,
            Standing::Lost => lost.add(id.as_str()),
        }
    }
    let queue = Queue::of(store.root());
    let limited_until = queue.limits().iter().filter_map(Limit::ends).max();
    let checks = vec![
        records(total, &unreadable),
        check_lost(&lost),
        leftovers(store),
        slots(&live, queue.crowd(), limited_until),
    ];
    let mut dated = Named::default();
    for name in ahead {
        dated.add(name);
    }
    (checks, dated)
}

fn sorted(mut ids: Vec<JobId>) -> Vec<JobId> {
    ids.sort_unstable();
    ids
}

enum Standing {
    Ended,
    Live,
    Lost,
}

/// The record held against the lock, as `status` does it, but without writing the end.
fn stands(dir: &JobDir) -> Result<(Record, Standing), LoadError> {
    let record = dir.load()?;
    if !record.status.is_live() {
        return Ok((record, Standing::Ended));
    }
    if record.version == 0 {
        // It has no lock; and whoever reads it sees what this says.
        let ended = store::legacy_is_dead(&record);
        return Ok((record, if ended { Standing::Ended } else { Standing::Live }));
    }
    if dir.is_held()? {
        return Ok((record, Standing::Live));
    }
    // It may have ended between the look at the record and the one at the lock.
    let record = dir.load()?;
    if dir.other_host(&record).is_some() {
        return Ok((record, Standing::Live));
    }
    let ended = !record.status.is_live();
    Ok((record, if ended { Standing::Ended } else { Standing::Lost }))
}

fn records(total: usize, unreadable: &Named) -> Check {
    let jobs = count(total, "job");
    if unreadable.count == 0 {
        return Check::ok("records", format!("{jobs}, all of them readable"));
    }
    let found = format!("{jobs}, of which {unreadable} cannot be read");
    let advice = "claudejob status ID says why; claudejob kill ID ends what is left of it; \
                  then its directory can be removed";
    Check::warning("records", found, advice)
}

fn check_lost(lost: &Named) -> Check {
    if lost.count == 0 {
        return Check::ok("lost", "no job has lost its worker");
    }
    let found = format!("{lost} recorded as live, but without a worker");
    let advice = "claudejob list settles them; claudejob recover --all then goes on with them";
    Check::warning("lost", found, advice)
}

fn leftovers(store: &Store) -> Check {
    match store.leftovers() {
        Ok(0) => Check::ok("leftovers", "none"),
        Ok(n) => {
            let found = format!(
                "{} in .new, left by a start or clean that died",
                count(n, "unfinished job")
            );
            Check::warning("leftovers", found, "the next start or clean removes them")
        }
        Err(error) => Check::unknown("leftovers", error),
    }
}

/// Who runs and who waits.
fn slots(live: &BTreeMap<Status, usize>, crowd: Crowd, limit: Option<Timestamp>) -> Check {
    let mut counts: Vec<String> = live.iter().map(|(status, n)| format!("{n} {status}")).collect();
    if counts.is_empty() {
        counts.push("no job is live".to_owned());
    }
    if crowd.waiting > 0 {
        let (taken, waiting) = (count(crowd.running, "slot"), crowd.waiting);
        counts.push(format!("{taken} taken, {waiting} in line"));
    }
    let Some(until) = limit else { return Check::ok("slots", counts.join(", ")) };
    counts.push(format!("a limit of the API lasts until {until}"));
    let advice =
        "queued jobs of its login wait for its end; --no-wait-for-reset starts one all the same";
    Check::warning("slots", counts.join(", "), advice)
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn live_jobs_are_counted_in_the_order_of_their_life() {
        let slots = |live: &BTreeMap<Status, usize>| slots(live, Crowd::default(), None);
        assert_eq!(slots(&BTreeMap::new()).found, "no job is live");
        let live = [(Status::Running, 2), (Status::Queued, 1), (Status::Blocked, 1)];
        assert_eq!(slots(&BTreeMap::from(live)).found, "1 queued, 2 running, 1 blocked");
    }

    #[test]
    fn what_went_stale_is_warned_of() {
        let (none, mut one) = (Named::default(), Named::default());
        one.add("a");
        for (check, level, found) in [
            (records(0, &none), Level::Ok, "0 jobs, all of them readable"),
            (records(2, &one), Level::Warning, "2 jobs, of which 1 (a) cannot be read"),
            (check_lost(&none), Level::Ok, "no job has lost its worker"),
            (check_lost(&one), Level::Warning, "1 (a) recorded as live, but without a worker"),
        ] {
            assert_eq!((check.level, check.found.as_str()), (level, found));
            assert_eq!(check.advice.is_some(), level != Level::Ok, "{found}");
        }
    }
}
