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
    /// It does not wait for a limit of the API that another job has met.
    pub ignores_limit: bool,
    /// So many jobs of its group at once.
    pub group_limit: u32,
    /// Jobs of which only so many run at once: letters, digits, `-` and `_`.
    pub group: Option<String>,
    /// It runs at once or not at all.
    pub no_queue: bool,
}
