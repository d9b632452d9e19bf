//! Processes of a job that could not be ended.

use serde::{Deserialize, Serialize};

use crate::text::harmless;

/// Number of processes that a warning names; it counts the others.
const MAX_NAMED: usize = 3;

/// A process of a job that could not be ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct LeftProcess {
    /// The process id.
    pub pid: i32,
    /// Start time in clock ticks since the boot: field 22 of `/proc/PID/stat`.
    pub start_time: u64,
    /// Id of the user that the process runs as.
    pub uid: u32,
    /// Name of its program, at most 15 bytes.
    pub name: String,
    /// Why the process could not be ended.
    pub why: LeftReason,
}

/// Why a process could not be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(crate) enum LeftReason {
    /// It runs as another user, whose processes may not be signalled.
    OtherUser,
    /// It waits in the kernel, where SIGKILL has no effect (state D).
    Uninterruptible,
    /// It, or a process that it started, had not ended in time after SIGKILL.
    #[serde(other)]
    NotEnded,
}

/// Processes of a job that are left after its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leftovers {
    pub processes: Vec<LeftProcess>,
    /// Why the job's processes could not be listed: some may be left.
    pub unlisted: Option<String>,
}

impl Leftovers {
    /// Returns whether it is certain that no process is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.processes.is_empty() && self.unlisted.is_none()
    }

    /// Returns one sentence for each reason.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for why in [LeftReason::OtherUser, LeftReason::Uninterruptible, LeftReason::NotEnded] {
            let left: Vec<&LeftProcess> =
                self.processes.iter().filter(|process| process.why == why).collect();
            if !left.is_empty() {
                warnings.push(warning(why, &left));
            }
        }
        if let Some(error) = &self.unlisted {
            warnings.push(format!(
                "processes of the job may be left: they could not be listed ({error})"
            ));
        }
        warnings
    }
}

fn warning(why: LeftReason, left: &[&LeftProcess]) -> String {
    let mut names: Vec<String> = Vec::new();
    for process in left.iter().take(MAX_NAMED) {
        let LeftProcess { pid, uid, name, .. } = process;
        let name = harmless(name);
        names.push(match why {
            LeftReason::OtherUser => format!("uid {uid}, pid {pid}, {name}"),
            LeftReason::Uninterruptible | LeftReason::NotEnded => format!("pid {pid}, {name}"),
        });
    }
    if left.len() > MAX_NAMED {
        names.push(format!("and {} more", left.len() - MAX_NAMED));
    }
    let processes = match left.len() {
        1 => "1 process",
        n => &format!("{n} processes"),
    };
    let names = names.join("; ");
    match why {
        LeftReason::OtherUser => {
            format!("{processes} of another user ({names}) could not be ended")
        }
        LeftReason::Uninterruptible => {
            format!("{processes} in uninterruptible sleep ({names}) could not be ended")
        }
        LeftReason::NotEnded => {
            format!("{processes} of the job ({names}) had not ended in time after SIGKILL")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, uid: u32, why: LeftReason) -> LeftProcess {
        LeftProcess { pid, start_time: 1, uid, name: "sleep".to_owned(), why }
    }

    #[test]
    fn warnings_count_processes_by_reason() {
        let none = Leftovers::default();
        assert!(none.is_empty() && none.warnings().is_empty());
        let mut processes = vec![process(123, 0, LeftReason::OtherUser)];
        let mut left = Leftovers { processes: processes.clone(), unlisted: None };
        let expected = "1 process of another user (uid 0, pid 123, sleep) could not be ended";
        assert_eq!(left.warnings(), [expected]);
        processes.extend((1..=5).map(|pid| process(pid, 7, LeftReason::Uninterruptible)));
        processes.push(process(9, 7, LeftReason::NotEnded));
        left = Leftovers { processes, unlisted: Some("could not read /proc".to_owned()) };
        assert_eq!(
            left.warnings(),
            [
                expected,
                "5 processes in uninterruptible sleep (pid 1, sleep; pid 2, sleep; pid 3, sleep; \
                 and 2 more) could not be ended",
                "1 process of the job (pid 9, sleep) had not ended in time after SIGKILL",
                "processes of the job may be left: they could not be listed (could not read /proc)",
            ]
        );
    }
}
