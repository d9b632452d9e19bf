//! What a job is let in under: its share of the machine.

use serde::{Deserialize, Serialize};

/// What must hold before a job's claude is started. The default asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Admission {
    /// So many jobs of the directory at once, this one included; 0: any number.
    pub max_parallel: u32,
    /// From -1000 to 1000: higher goes first.
    pub priority: i32,
    /// Milliseconds since the one before was let in.
    pub stagger_ms: u64,
    /// Milliseconds that it waits at most for the end of a limit of the API that another job has
    /// met; if that lies further off it finds out for itself. 0: it does not wait.
    pub limit_wait_ms: u64,
    /// So many jobs of its group at once.
    pub group_limit: u32,
    /// Jobs of which only so many run at once: letters, digits, `-` and `_`.
    pub group: Option<String>,
    /// It runs at once or not at all.
    pub no_queue: bool,
}

impl Admission {
    /// Whether it waits where the API's limit lasts for so many milliseconds more.
    pub fn waits_for_limit(&self, limited_for_ms: u64) -> bool {
        limited_for_ms > 0 && limited_for_ms <= self.limit_wait_ms
    }
}
