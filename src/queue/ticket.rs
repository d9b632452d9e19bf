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
        let parts: Vec<&str> = name.splitn(8, '.').collect();
        let [rank, number, max_parallel, stagger_ms, limit_wait_ms, group_limit, group, job] =
            parts[..]
        else {
            return None;
        };
        let priority = MAX_PRIORITY - rank.parse::<i32>().ok()?;
        let options = QueueOptions {
            max_parallel: max_parallel.parse().ok()?,
            priority,
            stagger_ms: stagger_ms.parse().ok()?,
            limit_wait_ms: limit_wait_ms.parse().ok()?,
            group_limit: group_limit.parse().ok()?,
            group: if group == NO_GROUP { None } else { Some(group.to_owned()) },
            no_queue: false,
        };
        let (number, job_id) = (number.parse().ok()?, JobId::parse(job).ok()?);
        Some(Self { priority, number, options, job_id, login: Login::default() })
    }

    /// Returns the file's content.
    pub(crate) fn content(&self, worker: i32, claude: Option<i32>) -> String {
        let claude = match claude {
            Some(pid) => pid.to_string(),
            None => NONE.to_owned(),
        };
        let key = self.login.key.as_deref().unwrap_or(NONE);
        format!("{worker} {claude} {key} {} {}\n", self.login.model_name(), own_namespace())
    }

    /// Returns whether both are the same entry in the queue.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.number == other.number && self.job_id == other.job_id
    }

    pub(crate) fn is_in_group(&self, group: &str) -> bool {
        self.options.group.as_deref() == Some(group)
    }
}

/// The content of a ticket's file.
#[derive(Debug)]
pub(super) struct TicketContent {
    pub worker: Option<i32>,
    pub claude: Option<i32>,
    pub login: Login,
    /// Namespace of the process ids; `None` in tickets of earlier versions.
    namespace: Option<String>,
}

impl TicketContent {
    /// Parses the content. What is missing or invalid is unknown.
    pub(super) fn parse(text: &str) -> Self {
        let line = text.lines().next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        let key = match words.get(2) {
            None | Some(&NONE) => None,
            Some(key) => Some((*key).to_owned()),
        };
        let model = ModelFamily::find_in(words.get(3).unwrap_or(&NONE));
        Self {
            worker: parse_pid(words.first()),
            claude: parse_pid(words.get(1)),
            login: Login { key, model },
            namespace: words.get(4).map(|word| (*word).to_owned()),
        }
    }

    /// Returns whether the worker that wrote this content answers offers; those of earlier versions
    /// do not.
    pub(super) fn answers_offers(&self) -> bool {
        self.namespace.is_some()
    }

    /// Returns whether the process ids are of this process's namespace.
    pub(super) fn is_in_own_pid_namespace(&self) -> bool {
        match &self.namespace {
            Some(namespace) => namespace != UNKNOWN && *namespace == own_namespace(),
            None => false,
        }
    }
}

fn parse_pid(word: Option<&&str>) -> Option<i32> {
    word?.parse().ok()
}

/// Returns the number of this process's process id namespace (pid_namespaces(7)).
fn own_namespace() -> String {
    use std::os::unix::fs::MetadataExt;
    match std::fs::metadata("/proc/self/ns/pid") {
        Ok(metadata) => metadata.ino().to_string(),
        Err(_) => UNKNOWN.to_owned(),
    }
}

impl Ord for Ticket {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = (other.priority, self.number, &self.job_id);
        key.cmp(&(self.priority, other.number, &other.job_id))
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
                let content = TicketContent::parse(&ticket.content(5, claude));
                assert_eq!(content.login, login);
                assert_eq!((content.worker, content.claude), (Some(5), claude));
            }
        }
        let content = TicketContent::parse(&ticket.content(5, None));
        assert!(content.answers_offers());
        assert_eq!(content.is_in_own_pid_namespace(), cfg!(target_os = "linux"));
        assert!(!TicketContent::parse("5 - - default 1\n").is_in_own_pid_namespace());
        for earlier in ["", "5\n", "5 7\n", "5 - - default\n"] {
            let content = TicketContent::parse(earlier);
            assert!(!content.answers_offers(), "{earlier}");
            assert_eq!(content.login, Login::default(), "{earlier}");
        }
    }
}
