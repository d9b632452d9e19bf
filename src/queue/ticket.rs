//! Tickets: the queue's entries, which are encoded in the names of files.

use std::cmp::Ordering;

use crate::job::{JobId, Login, ModelFamily, QueueOptions};

/// Highest priority. File names contain the difference to it, so that smaller sorts first.
const MAX_PRIORITY: i32 = 1_000;
/// Stands for a missing group in a name; not a valid group.
const NO_GROUP: &str = "-";
/// Stands for a claude that does not run and for an unknown login in the content.
const NONE: &str = "-";
/// Stands for an unknown process id namespace in the content.
const UNKNOWN: &str = "unknown";

/// A job's entry in the queue, with everything on which the order depends, so that only names of
/// files have to be read.
///
/// The file's name is `RANK.LAST_NUMBER.MAX_PARALLEL.STAGGER.LIMIT_WAIT.GROUP_LIMIT.GROUP.JOB`, with
/// decimal numbers.
///
/// The content is `WORKER CLAUDE KEY MODEL NAMESPACE`: the process ids of the worker and of claude
/// (`-` if it does not run), the login's key and model, and the namespace of the process ids.
/// Earlier versions write only the first two or four words, and read no others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// From -1000 to 1000; higher goes first.
    pub priority: i32,
    /// Rank in the order in which jobs joined the queue.
    pub number: u64,
    /// Conditions under which the job is admitted.
    pub options: QueueOptions,
    pub job_id: JobId,
    /// Login whose limits apply to the job. Part of the content, not of the name.
    pub login: Login,
}

impl Ticket {
    pub(crate) fn name(&self) -> String {
        let QueueOptions { max_parallel, stagger_ms, limit_wait_ms, group_limit, group, .. } =
            &self.options;
        let rank = MAX_PRIORITY - self.priority;
        let group = group.as_deref().unwrap_or(NO_GROUP);
        let (number, job) = (self.number, &self.job_id);
        format!(
            "{rank:04}.{number:010}.{max_parallel}.{stagger_ms}.{limit_wait_ms}.{group_limit}.{group}.{job}"
        )
    }

    /// Parses a file name; `None` if it is not a ticket's.
    pub(crate) fn parse(name: &str) -> Option<Self> {
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
        let priority = MAX_PRIORITY - rank;
        let admission = QueueOptions {
            max_parallel,
            priority,
            stagger_ms,
            limit_wait_ms,
            group_limit,
            group,
            no_queue: false,
        };
        Some(Self { priority, number, options: admission, job_id, login: Login::default() })
    }

    /// Returns the file's content.
    pub(crate) fn content(&self, worker: i32, claude: Option<i32>) -> String {
        let claude = claude.map_or_else(|| NONE.to_owned(), |pid| pid.to_string());
        let key = self.login.key.as_deref().unwrap_or(NONE);
        format!("{worker} {claude} {key} {} {}\n", self.login.model_name(), own_namespace())
    }

    /// Returns whether the worker that wrote this content answers offers; those of earlier versions
    /// do not.
    pub(crate) fn answers_offers(content: &str) -> bool {
        content.split_whitespace().nth(4).is_some()
    }

    /// Returns whether the process ids in this content are of this process's namespace.
    pub(crate) fn is_in_own_pid_namespace(content: &str) -> bool {
        let namespace = content.split_whitespace().nth(4);
        namespace != Some(UNKNOWN) && namespace == Some(&own_namespace())
    }

    /// Parses the login in a file's content.
    pub(crate) fn parse_login(content: &str) -> Login {
        let mut words = content.lines().next().unwrap_or_default().split_whitespace().skip(2);
        let key = words.next().filter(|key| *key != NONE).map(str::to_owned);
        Login { key, model: words.next().and_then(ModelFamily::find_in) }
    }

    pub(crate) fn is_in_group(&self, group: &str) -> bool {
        self.options.group.as_deref() == Some(group)
    }
}

/// Returns the number of this process's process id namespace (pid_namespaces(7)).
fn own_namespace() -> String {
    use std::os::unix::fs::MetadataExt;
    let namespace = std::fs::metadata("/proc/self/ns/pid");
    namespace.map_or_else(|_| UNKNOWN.to_owned(), |metadata| metadata.ino().to_string())
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
    fn names_are_parsed_back() {
        let ticket = Ticket {
            priority: -3,
            number: 12,
            options: QueueOptions {
                max_parallel: 8,
                priority: -3,
                stagger_ms: 200,
                limit_wait_ms: 60_000,
                group_limit: 1,
                group: Some("my-app".to_owned()),
                no_queue: false,
            },
            job_id: JobId::parse("fix.login.1").unwrap(),
            login: Login::default(),
        };
        assert_eq!(ticket.name(), "1003.0000000012.8.200.60000.1.my-app.fix.login.1");
        assert_eq!(Ticket::parse(&ticket.name()), Some(ticket.clone()));
        let ungrouped =
            Ticket { options: QueueOptions { group: None, ..ticket.options }, ..ticket };
        assert_eq!(Ticket::parse(&ungrouped.name()), Some(ungrouped));
        for foreign in ["", ".tmp", "1003.12", "a.b.c.d.e.f.g.h", "1.2.3.4.0.6.g.-x"] {
            assert_eq!(Ticket::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn content_is_parsed_back() {
        let ticket = Ticket::parse("1000.0000000001.0.0.0.1.-.a").unwrap();
        let login = Login { key: Some("0123".to_owned()), model: Some(ModelFamily::Opus) };
        for login in [login.clone(), Login { model: None, ..login }, Login::default()] {
            let ticket = Ticket { login: login.clone(), ..ticket.clone() };
            for claude in [None, Some(7)] {
                let content = ticket.content(5, claude);
                assert_eq!(Ticket::parse_login(&content), login);
                // As an earlier version reads it.
                let mut pids = content.split_whitespace().map(|pid| pid.parse().ok());
                assert_eq!((pids.next().flatten(), pids.next().flatten()), (Some(5), claude));
            }
        }
        let content = ticket.content(5, None);
        assert!(Ticket::answers_offers(&content));
        assert_eq!(Ticket::is_in_own_pid_namespace(&content), cfg!(target_os = "linux"));
        assert!(!Ticket::is_in_own_pid_namespace("5 - - default 1\n"));
        for earlier in ["", "5\n", "5 7\n", "5 - - default\n"] {
            assert!(!Ticket::answers_offers(earlier), "{earlier}");
            assert_eq!(Ticket::parse_login(earlier), Login::default(), "{earlier}");
        }
    }
}
