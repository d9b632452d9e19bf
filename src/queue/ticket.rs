//! A job's place in the queue, as the name of a file.

use std::cmp::Ordering;

use crate::job::{Admission, JobId};

/// Priorities are shown in file names, where smaller sorts first.
const HIGHEST: i32 = 1_000;
/// What stands in place of a group where there is none: no group's name.
const NO_GROUP: &str = "-";

/// A job's place in the queue, with all that the choice of the next needs to know of it: nothing
/// but names has to be read for that.
///
/// As a name: `RANK.NUMBER.MOST.STAGGER.LIMITWAIT.GROUPMOST.GROUP.JOB`, the numbers in decimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// From -1000 to 1000: higher goes first.
    pub priority: i32,
    /// Its place in the order of asking.
    pub number: u64,
    /// What it was asked to be admitted under.
    pub admission: Admission,
    /// The job.
    pub job_id: JobId,
}

impl Ticket {
    /// The file's name.
    pub fn name(&self) -> String {
        let Admission { max_parallel, stagger_ms, limit_wait_ms, group_limit, group, .. } =
            &self.admission;
        let rank = HIGHEST - self.priority;
        let group = group.as_deref().unwrap_or(NO_GROUP);
        let (number, job) = (self.number, &self.job_id);
        format!(
            "{rank:04}.{number:010}.{max_parallel}.{stagger_ms}.{limit_wait_ms}.{group_limit}.{group}.{job}"
        )
    }

    /// The ticket of this name; `None` of any other file.
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.splitn(8, '.');
        let mut next = || parts.next();
        let rank: i32 = next()?.parse().ok()?;
        let number = next()?.parse().ok()?;
        let max_parallel = next()?.parse().ok()?;
        let stagger_ms = next()?.parse().ok()?;
        let limit_wait_ms = next()?.parse().ok()?;
        let group_limit = next()?.parse().ok()?;
        let group = Some(next()?).filter(|group| *group != NO_GROUP).map(str::to_owned);
        let job_id = JobId::parse(next()?).ok()?;
        let priority = HIGHEST - rank;
        let admission = Admission {
            max_parallel,
            priority,
            stagger_ms,
            limit_wait_ms,
            group_limit,
            group,
            no_queue: false,
        };
        Some(Self { priority, number, admission, job_id })
    }

    /// Whether it is one of this group.
    pub fn is_in(&self, group: &str) -> bool {
        self.admission.group.as_deref() == Some(group)
    }
}

impl Ord for Ticket {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_priority = other.priority.cmp(&self.priority);
        by_priority
            .then_with(|| self.number.cmp(&other.number))
            .then_with(|| self.job_id.cmp(&other.job_id))
    }
}

impl PartialOrd for Ticket {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_it_all() {
        let ticket = Ticket {
            priority: -3,
            number: 12,
            admission: Admission {
                max_parallel: 8,
                priority: -3,
                stagger_ms: 200,
                limit_wait_ms: 60_000,
                group_limit: 1,
                group: Some("my-app".to_owned()),
                no_queue: false,
            },
            job_id: JobId::parse("fix.login.1").unwrap(),
        };
        assert_eq!(ticket.name(), "1003.0000000012.8.200.60000.1.my-app.fix.login.1");
        assert_eq!(Ticket::parse(&ticket.name()), Some(ticket.clone()));
        let alone = Ticket { admission: Admission { group: None, ..ticket.admission }, ..ticket };
        assert_eq!(Ticket::parse(&alone.name()), Some(alone));
        for foreign in ["", ".tmp", "1003.12", "a.b.c.d.e.f.g.h", "1.2.3.4.0.6.g.-x"] {
            assert_eq!(Ticket::parse(foreign), None, "{foreign}");
        }
    }
}
