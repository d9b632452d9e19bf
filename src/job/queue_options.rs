//! Conditions under which the queue admits a job.

use serde::{Deserialize, Serialize};

/// Conditions for starting a job's claude. The default has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct QueueOptions {
    /// Number of jobs of the directory that may run at once, this one included; 0 for any number.
    pub max_parallel: u32,
    /// From -1000 to 1000; higher goes first.
    pub priority: i32,
    /// Milliseconds that must have passed since the last admission.
    pub stagger_ms: u64,
    /// Milliseconds to wait at most for the end of an API limit that another job has met. If it
    /// ends later, the job finds out for itself. 0 for no wait.
    pub limit_wait_ms: u64,
    /// Number of jobs of the group that may run at once.
    pub group_limit: u32,
    /// Name of the group: letters, digits, `-` and `_`.
    pub group: Option<String>,
    /// The job fails instead of waiting for a slot.
    pub no_queue: bool,
}

/// A change of the conditions; `None` keeps a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct QueueChange {
    pub priority: Option<i32>,
    pub max_parallel: Option<u32>,
    pub group: Option<String>,
    pub group_limit: Option<u32>,
}

impl QueueChange {
    pub(crate) fn apply(self, options: &mut QueueOptions) {
        options.priority = self.priority.unwrap_or(options.priority);
        options.max_parallel = self.max_parallel.unwrap_or(options.max_parallel);
        options.group_limit = self.group_limit.unwrap_or(options.group_limit);
        if self.group.is_some() {
            options.group = self.group;
        }
    }
}

/// What a change of a job's conditions applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(crate) enum AppliedTo {
    /// The job's place in the queue.
    Queue,
    /// The next request for a slot.
    Later,
}

impl QueueOptions {
    /// Returns whether the job waits for an API limit that lasts for this many more milliseconds.
    pub(crate) fn waits_for_limit(&self, limited_for_ms: u64) -> bool {
        limited_for_ms > 0 && limited_for_ms <= self.limit_wait_ms
    }
}
